"""GF along a training run: points in step order, over a base or not, with intervals that know the pairing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from specs_eval.analysis.best_checkpoint import BestCheckpoint, Contender, best_checkpoint
from specs_eval.analysis.checkpoint_scores import ROLES, CheckpointScores, Role, check_same_samples
from specs_eval.analysis.curve_area import CurveArea, curve_area, curve_of
from specs_eval.analysis.curve_draws import Reading, SeriesDraws, draw_curves
from specs_eval.analysis.generalization import (
    DEFAULT_BETA,
    Gain,
    check_beta,
    choose_gain,
    gain_over,
    generalization_factor,
)
from specs_eval.analysis.resampling import Resampling, percentile_interval
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import Estimate, Interval, summarize

SINGLE_CLUSTER = "a single cluster of samples cannot show how much results vary"


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
    area: CurveArea
    """Under the GF curve over the steps of this series, from the base on where there is one."""
    best: BestCheckpoint
    """The highest GF; the base is no candidate."""

    @property
    def trained(self) -> tuple[GeneralizationPoint, ...]:
        """The points without the base."""
        return tuple(point for point in self.points if not point.is_base)

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
    reading = Reading(choose_gain(gain, base is not None), beta, resampling or Resampling())
    everyone = with_base(checkpoints, base)
    check_same_samples(everyone)
    return series_of(series, everyone, base, reading, draw_curves([everyone], base, reading)[0])


def with_base(checkpoints: Sequence[CheckpointScores], base: CheckpointScores | None) -> list[CheckpointScores]:
    """The points of a curve: the base first, where there is one."""
    return [*([] if base is None else [base]), *checkpoints]


def series_of(
    series: str,
    everyone: Sequence[CheckpointScores],
    base: CheckpointScores | None,
    reading: Reading,
    draws: SeriesDraws,
) -> GeneralizationSeries:
    """A series from its resampled curves.

    Args:
        series: its name.
        everyone: see `with_base`.
        base: the same object that is first there.
        reading: gain, beta, resampling.
        draws: of everyone, see `draw_curves`.
    """
    level = reading.resampling.level
    floor = None if base is None else _Measured.of(base, level)
    points = tuple(
        _point(floor if floor and one is base else _Measured.of(one, level), floor, reading, drawn)
        for one, drawn in zip(everyone, draws.first.gf, strict=True)
    )
    no_interval = why_no_interval(points)
    curve = curve_of([p.step for p in points], [p.gf for p in points], draws.first.gf, no_interval)
    ranked = [number for number, point in enumerate(points) if point.gf is not None and not point.is_base]
    contenders = [
        Contender(point.checkpoint, point.step, point.gf, point.interval)
        for point in (points[number] for number in ranked)
        if point.gf is not None
    ]
    return GeneralizationSeries(
        series,
        reading.gain,
        reading.beta,
        base.checkpoint if base else None,
        reading.resampling,
        points,
        curve_area(curve, reading.resampling),
        best_checkpoint(contenders, draws.apart[ranked], level, no_interval),
    )


def why_no_interval(points: Sequence[GeneralizationPoint]) -> str | None:
    """Why resamples of these points show nothing; None: they do."""
    defined = [point for point in points if point.gf is not None]
    return SINGLE_CLUSTER if any(min(p.id.n_clusters, p.ood.n_clusters) < 2 for p in defined) else None


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


def _point(one: _Measured, base: _Measured | None, reading: Reading, draws: FloatArray) -> GeneralizationPoint:
    is_base = base is not None and one.scores is base.scores
    id_gain = _gain_value(one.id, base.id if base else None, reading.gain)
    ood_gain = _gain_value(one.ood, base.ood if base else None, reading.gain)
    gf, interval, reason = None, None, None
    if id_gain is None or ood_gain is None:
        reason = _why_undefined(one, base)
    else:
        gf = generalization_factor(id_gain, ood_gain, reading.beta)
        if is_base and reading.gain != "score":
            reason = "the base itself: its gain is 0 by definition"
        elif one.n_clusters < 2:
            reason = SINGLE_CLUSTER
        else:
            interval = percentile_interval(draws, gf, reading.resampling)
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
    if not one.scores.has_scores:
        return "no rollout was scored"
    if base is not None and not base.scores.has_scores:
        return "no rollout of the base was scored"
    return "the base is at 100 %: nothing is left to gain; use --gain difference"
