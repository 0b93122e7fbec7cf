"""GF along a training run: points in step order, over a base or not, with intervals that know the pairing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from specs_eval.analysis.generalization import (
    DEFAULT_BETA,
    Gain,
    check_beta,
    choose_gain,
    gain_over,
    generalization_factor,
)
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios, percentile_interval, share_totals
from specs_eval.analysis.samples import FloatArray, SampleValues
from specs_eval.analysis.statistics import Estimate, Interval, summarize
from specs_eval.errors import ComparisonError

Role = Literal["id", "ood"]
ROLES: tuple[Role, Role] = ("id", "ood")


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointScores:
    """One checkpoint's metric on the ID and the OOD task."""

    checkpoint: str
    step: int | None
    id: SampleValues
    ood: SampleValues
    id_run: str = ""
    """Label of the run that the values come from; goes to the result as it is."""
    ood_run: str = ""


@dataclass(frozen=True, slots=True)
class GeneralizationPoint:
    """GF of one checkpoint."""

    checkpoint: str
    step: int | None
    is_base: bool
    id: Estimate
    """Performance on the ID task (share)."""
    ood: Estimate
    id_gain: float | None
    """Gain in the reading of the series; may be negative."""
    ood_gain: float | None
    gf: float | None
    """In [0, 1]; None: undefined, see `reason`."""
    interval: Interval | None
    regressed: tuple[Role, ...]
    """Where the gain is negative; GF is 0 then."""
    reason: str | None
    """Why gf, or its interval, is None."""
    id_run: str
    ood_run: str


@dataclass(frozen=True, slots=True)
class GeneralizationSeries:
    """GF along the checkpoints of one training run."""

    series: str
    gain: Gain
    """How performance was read."""
    beta: float
    base: str | None
    resampling: Resampling
    points: tuple[GeneralizationPoint, ...]
    """In step order; the base first, when there is one."""

    def to_dict(self) -> dict[str, Any]:
        """The series as plain JSON types."""
        return asdict(self)


def generalization_series(
    series: str,
    checkpoints: Sequence[CheckpointScores],
    base: CheckpointScores | None = None,
    *,
    gain: Gain | None = None,
    beta: float = DEFAULT_BETA,
    resampling: Resampling | None = None,
) -> GeneralizationSeries:
    """GF of each checkpoint of a series, with intervals from a paired bootstrap over samples.

    ID, OOD and base are resampled together wherever they share clusters (the same question or image), so that what is
    hard for all of them moves all of them; roles without a common cluster are resampled independently.

    Args:
        series: its name.
        checkpoints: in step order, without the base.
        base: the model that training started from.
        gain: the reading; None: see `choose_gain`.
        beta: weight of OOD.
        resampling: draws, level and seed.

    Raises:
        ConfigError: a reading without its base, beta out of range, a metric that is not a share.
        ComparisonError: checkpoints that answered different samples.
    """
    check_beta(beta)
    reading = choose_gain(gain, base is not None)
    spec = resampling or Resampling()
    everyone = [*([base] if base else []), *checkpoints]
    _check_same_samples(everyone)
    draws = _gf_draws(everyone, base, reading, beta, spec)
    floor = None if base is None else _Measured.of(base, spec.level)
    points = [
        _point(_Measured.of(one, spec.level), floor, reading, beta, drawn, spec)
        for one, drawn in zip(everyone, draws, strict=True)
    ]
    return GeneralizationSeries(series, reading, beta, base.checkpoint if base else None, spec, tuple(points))


@dataclass(frozen=True, slots=True)
class _Measured:
    """A checkpoint with its estimates, made once."""

    scores: CheckpointScores
    id: Estimate
    ood: Estimate

    @classmethod
    def of(cls, scores: CheckpointScores, level: float) -> _Measured:
        return cls(scores, summarize(scores.id, level), summarize(scores.ood, level))

    @property
    def n_clusters(self) -> int:
        return min(self.id.n_clusters, self.ood.n_clusters)


def _check_same_samples(checkpoints: Sequence[CheckpointScores]) -> None:
    for role in ROLES:
        first: SampleValues = getattr(checkpoints[0], role)
        for one in checkpoints[1:]:
            other: SampleValues = getattr(one, role)
            if set(other.sample_ids) != set(first.sample_ids):
                common = len(set(other.sample_ids) & set(first.sample_ids))
                raise ComparisonError(
                    f"{one.checkpoint} and {checkpoints[0].checkpoint} answered different {role.upper()} samples "
                    f"({len(other.sample_ids)} and {len(first.sample_ids)}, {common} in common); evaluate both with the "
                    "same --limit, or use the common ones with --allow-incomplete"
                )
            if _groups(other) != _groups(first):
                raise ComparisonError(
                    f"{one.checkpoint} and {checkpoints[0].checkpoint} group the same {role.upper()} samples differently; "
                    "evaluate both with the same version of the task"
                )


def _groups(samples: SampleValues) -> dict[str, str]:
    return dict(zip(samples.sample_ids, samples.clusters, strict=True))


def _gf_draws(
    checkpoints: Sequence[CheckpointScores],
    base: CheckpointScores | None,
    gain: Gain,
    beta: float,
    resampling: Resampling,
) -> list[FloatArray | None]:
    """Resampled GF of each checkpoint, shape (n_draws,); None where nothing was scored."""
    floor = None if gain == "score" else base
    drawn: list[FloatArray | None] = [None] * len(checkpoints)
    usable = [number for number, one in enumerate(checkpoints) if _has_scores(one)]
    if not usable or (floor is not None and not _has_scores(floor)):
        return drawn
    floor_roles = [] if floor is None else [share_totals(floor.id), share_totals(floor.ood)]
    rows = [[share_totals(checkpoints[i].id), share_totals(checkpoints[i].ood), *floor_roles] for i in usable]
    for number, shares in zip(usable, bootstrap_ratios(rows, resampling.n_draws, resampling.generator()), strict=True):
        gains = gain_over(shares[:2], None if floor is None else shares[2:], gain)
        # NaN is a base drawn at 100 %: nothing to gain there.
        id_gain, ood_gain = np.nan_to_num(gains, nan=0.0)
        drawn[number] = generalization_factor(id_gain, ood_gain, beta)
    return drawn


def _has_scores(one: CheckpointScores) -> bool:
    return not (np.isnan(one.id.values).all() or np.isnan(one.ood.values).all())


def _point(
    one: _Measured,
    base: _Measured | None,
    gain: Gain,
    beta: float,
    draws: FloatArray | None,
    resampling: Resampling,
) -> GeneralizationPoint:
    is_base = base is not None and one.scores is base.scores
    id_gain = _gain_value(one.id, base.id if base else None, gain)
    ood_gain = _gain_value(one.ood, base.ood if base else None, gain)
    gf, interval, reason = None, None, None
    if id_gain is None or ood_gain is None:
        reason = _why_undefined(one, base)
    else:
        gf = generalization_factor(id_gain, ood_gain, beta)
        if is_base and gain != "score":
            reason = "the base itself: its gain is 0 by definition"
        elif draws is None or one.n_clusters < 2:
            reason = "a single cluster of samples cannot show how much results vary"
        else:
            interval = percentile_interval(draws, gf, resampling)
    return GeneralizationPoint(
        checkpoint=one.scores.checkpoint,
        step=one.scores.step,
        is_base=is_base,
        id=one.id,
        ood=one.ood,
        id_gain=id_gain,
        ood_gain=ood_gain,
        gf=gf,
        interval=interval,
        regressed=tuple(role for role, value in zip(ROLES, (id_gain, ood_gain), strict=True) if (value or 0.0) < 0),
        reason=reason,
        id_run=one.scores.id_run,
        ood_run=one.scores.ood_run,
    )


def _gain_value(performance: Estimate, base: Estimate | None, gain: Gain) -> float | None:
    """The gain in one role; None where it is undefined."""
    floor = None if base is None else base.value
    if performance.value is None or (gain != "score" and floor is None):
        return None
    value = float(gain_over(performance.value, floor, gain))
    return None if math.isnan(value) else value


def _why_undefined(one: _Measured, base: _Measured | None) -> str:
    if not _has_scores(one.scores):
        return "no rollout was scored"
    if base is not None and not _has_scores(base.scores):
        return "no rollout of the base was scored"
    return "the base is at 100 %: nothing is left to gain; use --gain difference"
