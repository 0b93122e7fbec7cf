"""Resampled GF curves: every checkpoint of every series over the same resampled questions, from one bootstrap.

The counts of a resample are common to all checkpoints: that pairs them. The pseudo-observations (see
`specs_eval.analysis.resampling.share_totals`) stand for what the data cannot show at 0 and 1, and there are three ways
to share them, each cautious for its purpose:

- within one curve all checkpoints share them, so that an area does not average them away;
- the second of two series has its own, so that two shares of 0 of n are not certain to be equal;
- to tell checkpoints of one series apart, each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.cluster_totals import share_totals
from specs_eval.analysis.generalization import DEFAULT_BETA, Gain, gain_over, generalization_factor
from specs_eval.analysis.resampling import ResampledSums, Resampling, pseudo_observations, resample_sums
from specs_eval.analysis.samples import FloatArray


@dataclass(frozen=True, slots=True)
class Reading:
    """How performance becomes GF, and how intervals are drawn."""

    gain: Gain = "score"
    beta: float = DEFAULT_BETA
    resampling: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True, slots=True, eq=False)
class CurveDraws:
    """Resampled curves of one series, each of shape (n_points, n_draws); NaN rows where nothing was scored."""

    id: FloatArray
    """Performance (share), whatever the gain."""
    ood: FloatArray
    gf: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SeriesDraws:
    """The resampled curves of one series, three times over the same questions (see above)."""

    first: CurveDraws
    """With the pseudo-observations that all checkpoints share."""
    second: CurveDraws
    """With other ones: for the second series of a difference."""
    apart: FloatArray
    """GF with other ones for each checkpoint, shape (n_points, n_draws)."""


def draw_curves(
    series: Sequence[Sequence[CheckpointScores]], base: CheckpointScores | None, reading: Reading
) -> list[SeriesDraws]:
    """Resample the curves of several series together.

    Args:
        series: checkpoints of each; all have the same samples. `base` may be among them (the same object): its GF is
            then 0 in all draws, unless performance itself is read.
        base: the model that gains are over.
        reading: gain, beta, and the resampling.

    Raises:
        ConfigError: the metric is not a share.
    """
    spec = reading.resampling
    everyone = [one for checkpoints in series for one in checkpoints]
    floor = None if reading.gain == "score" else base
    usable = [number for number, one in enumerate(everyone) if one.has_scores]
    if not usable or (floor is not None and not floor.has_scores):
        return [_nothing(len(checkpoints), spec.n_draws) for checkpoints in series]
    generator = spec.generator()
    sums = _sums([everyone[number] for number in usable], floor, spec, generator)
    n_roles = sums.totals.shape[1]
    first = pseudo_observations(n_roles, spec.n_draws, generator)
    second = pseudo_observations(n_roles, spec.n_draws, np.random.default_rng([spec.seed, 1]))
    # The base is one and the same model in both series of a difference, so it keeps what it got.
    second[:, :, 2:] = first[:, :, 2:]
    positions = [place for checkpoints in series for place in range(len(checkpoints))]
    apart = _pseudo_by_place(max(positions) + 1, first, spec)[:, [positions[number] for number in usable]]
    is_floor = np.array([everyone[number] is floor for number in usable])
    curves = [
        _filled(_curve(sums.ratios(pseudo), is_floor, reading), usable, len(everyone))
        for pseudo in (first, second, apart)
    ]
    ends = np.cumsum([len(checkpoints) for checkpoints in series])
    starts = np.r_[0, ends[:-1]]
    return [
        SeriesDraws(_rows(curves[0], start, end), _rows(curves[1], start, end), curves[2].gf[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]


def _sums(
    checkpoints: Sequence[CheckpointScores],
    floor: CheckpointScores | None,
    spec: Resampling,
    generator: np.random.Generator,
) -> ResampledSums:
    floor_roles = [] if floor is None else [share_totals(floor.id), share_totals(floor.ood)]
    rows = [[share_totals(one.id), share_totals(one.ood), *floor_roles] for one in checkpoints]
    return resample_sums(rows, spec.n_draws, generator)


def _pseudo_by_place(n_places: int, first: FloatArray, spec: Resampling) -> FloatArray:
    """Pseudo-observations of their own for each place in a series, shape (2, n_places, n_roles, n_draws)."""
    generator = np.random.default_rng([spec.seed, 2])
    # Place by place, so that what a checkpoint gets does not depend on how many follow.
    own = [pseudo_observations(2, spec.n_draws, generator) for _ in range(n_places)]
    trained = np.concatenate(own, axis=1)
    floor = np.broadcast_to(first[:, :, 2:], (2, n_places, first.shape[2] - 2, spec.n_draws))
    return np.concatenate([trained, floor], axis=2)


def _curve(shares: FloatArray, is_floor: np.ndarray, reading: Reading) -> CurveDraws:
    """Curves from shares of shape (n_rows, 2 or 4 roles, n_draws)."""
    gains = gain_over(shares[:, :2], shares[:, 2:] if shares.shape[1] > 2 else None, reading.gain)
    # NaN is a base drawn at 100 %: nothing to gain there.
    gains = np.nan_to_num(gains, nan=0.0)
    factor = generalization_factor(gains[:, 0], gains[:, 1], reading.beta)
    factor[is_floor] = 0.0
    return CurveDraws(shares[:, 0], shares[:, 1], factor)


def _filled(curve: CurveDraws, usable: Sequence[int], n_points: int) -> CurveDraws:
    """The same curves with a row of NaN for each point that is not usable."""

    def spread(rows: FloatArray) -> FloatArray:
        out = np.full((n_points, rows.shape[1]), np.nan)
        out[usable] = rows
        return out

    return CurveDraws(spread(curve.id), spread(curve.ood), spread(curve.gf))


def _rows(curve: CurveDraws, start: int, end: int) -> CurveDraws:
    return CurveDraws(curve.id[start:end], curve.ood[start:end], curve.gf[start:end])


def _nothing(n_points: int, n_draws: int) -> SeriesDraws:
    empty = np.full((n_points, n_draws), np.nan)
    curve = CurveDraws(empty, empty, empty)
    return SeriesDraws(curve, curve, empty)
