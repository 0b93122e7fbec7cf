"""Two training methods beside each other: what one is ahead by at each step that both have, and over both curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.curve_area import Curve, CurveArea, curve_area, curve_of, trapezoid_weights
from specs_eval.analysis.curve_draws import CurveDraws
from specs_eval.analysis.resampling import Resampling, percentile_interval
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, paired over the same questions."""

    value: float | None
    """In [-1, 1]; None: undefined, see `reason`."""
    interval: Interval | None
    p_value: float | None
    """Two-sided, by the same draws; never below 2 / (n_draws + 1)."""
    reason: str | None = None
    """Why value, or its interval, is None."""

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval leaves out 0; None without an interval."""
        return None if self.interval is None else not self.interval.low <= 0 <= self.interval.high

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain JSON types."""
        return {**asdict(self), "excludes_zero": self.excludes_zero}


@dataclass(frozen=True, slots=True)
class StepDifference:
    """Two series at one step."""

    step: int | None
    """None: both have one checkpoint without a step."""
    first: str
    """Checkpoint of the first series."""
    second: str
    id: Difference
    """Of performance (shares), whatever the gain."""
    ood: Difference
    gf: Difference

    def to_dict(self) -> dict[str, Any]:
        """The differences as plain JSON types."""
        facts: dict[str, Any] = {"step": self.step, "first": self.first, "second": self.second}
        return facts | {"id": self.id.to_dict(), "ood": self.ood.to_dict(), "gf": self.gf.to_dict()}


@dataclass(frozen=True, slots=True)
class SeriesDifference:
    """Two series at each step that both have, and over the range of steps that both cover."""

    first: str
    second: str
    steps: tuple[StepDifference, ...]
    """In step order; the base is left out."""
    only_first: tuple[int, ...]
    """Steps that the second series does not have."""
    only_second: tuple[int, ...]
    first_area: CurveArea
    """Area under the GF curve over the common range of steps."""
    second_area: CurveArea
    area: Difference
    reason: str | None = None
    """Why the series do not compare at all."""

    def to_dict(self) -> dict[str, Any]:
        """The differences as plain JSON types."""
        return {
            "first": self.first,
            "second": self.second,
            "steps": [one.to_dict() for one in self.steps],
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "first_area": self.first_area.to_dict(),
            "second_area": self.second_area.to_dict(),
            "area": self.area.to_dict(),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One series, ready to be compared: points in step order, the base first where there is one."""

    series: str
    checkpoints: tuple[str, ...]
    steps: tuple[int | None, ...]
    is_base: tuple[bool, ...]
    id: tuple[float | None, ...]
    ood: tuple[float | None, ...]
    gf: tuple[float | None, ...]
    draws: CurveDraws
    no_interval: str | None
    """Why draws are not to be believed; None: they are."""

    def by_step(self) -> dict[int | None, int]:
        """Position of the trained checkpoint at each step; a step that several have is left out."""
        trained = [i for i, base in enumerate(self.is_base) if not base]
        found = [self.steps[i] for i in trained]
        return {self.steps[i]: i for i in trained if found.count(self.steps[i]) == 1}

    def curve(self) -> Curve:
        """GF over steps."""
        return curve_of(self.steps, self.gf, self.draws.gf, self.no_interval)


def series_difference(first: Side, second: Side, resampling: Resampling) -> SeriesDifference:
    """First minus second: ID, OOD and GF at each common step, and the area under the GF curve over the common range.

    Args:
        first: draws of one series.
        second: of another over the same resampled questions, with pseudo-observations of its own.
        resampling: what the draws were made with.
    """
    ours, theirs = first.by_step(), second.by_step()
    common = sorted(ours.keys() & theirs.keys(), key=lambda step: -1 if step is None else step)
    steps = tuple(_at_step(step, (first, ours[step]), (second, theirs[step]), resampling) for step in common)
    first_area, second_area, area = _areas(first.curve(), second.curve(), resampling)
    return SeriesDifference(
        first.series,
        second.series,
        steps,
        _without(ours, theirs),
        _without(theirs, ours),
        first_area,
        second_area,
        area,
    )


def paired_difference(first: FloatArray, second: FloatArray, value: float, resampling: Resampling) -> Difference:
    """A difference from its estimate and resamples over the same questions.

    The p value doubles the smaller share of draws at or beyond 0, with one draw added to either side so that it is
    never 0; it inverts the percentile interval.

    Args:
        first: resampled values, shape (n_draws,).
        second: over the same questions, same shape.
        value: the estimated difference.
        resampling: what the draws were made with.
    """
    drawn = first - second
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(2 * (beyond + 1) / (len(drawn) + 1), 1.0)
    return Difference(value, percentile_interval(drawn, value, resampling), p_value)


def _at_step(
    step: int | None, first: tuple[Side, int], second: tuple[Side, int], resampling: Resampling
) -> StepDifference:
    (one, i), (other, j) = first, second
    no_interval = one.no_interval or other.no_interval

    def difference(name: str) -> Difference:
        ours, theirs = getattr(one, name)[i], getattr(other, name)[j]
        if ours is None or theirs is None:
            missing = one.checkpoints[i] if ours is None else other.checkpoints[j]
            return Difference(None, None, None, f"{name.upper()} of {missing} is undefined")
        if no_interval is not None:
            return Difference(ours - theirs, None, None, no_interval)
        draws: tuple[FloatArray, FloatArray] = getattr(one.draws, name)[i], getattr(other.draws, name)[j]
        if np.isnan(draws[0]).any() or np.isnan(draws[1]).any():
            return Difference(ours - theirs, None, None, "one of the two has no score in the other role: not resampled")
        return paired_difference(*draws, ours - theirs, resampling)

    return StepDifference(
        step, one.checkpoints[i], other.checkpoints[j], difference("id"), difference("ood"), difference("gf")
    )


def _areas(first: Curve, second: Curve, resampling: Resampling) -> tuple[CurveArea, CurveArea, Difference]:
    """Both areas over the common range of steps, and their difference."""
    curves = (first, second)
    reason = first.reason or second.reason
    if reason is None:
        start, end = max(first.span[0], second.span[0]), min(first.span[1], second.span[1])
        if start < end:
            areas = [curve_area(curve, resampling, (start, end)) for curve in curves]
            return areas[0], areas[1], _area_difference(curves, (start, end), resampling)
        reason = "the two series have no range of steps in common"
    nothing = [CurveArea(None, None, None, None, len(curve.steps), reason) for curve in curves]
    return nothing[0], nothing[1], Difference(None, None, None, reason)


def _area_difference(curves: Sequence[Curve], span: tuple[int, int], resampling: Resampling) -> Difference:
    weights = [trapezoid_weights(curve.steps, *span) for curve in curves]
    values = [float(weight @ curve.values) for weight, curve in zip(weights, curves, strict=True)]
    no_interval = curves[0].no_interval or curves[1].no_interval
    if no_interval is not None:
        return Difference(values[0] - values[1], None, None, no_interval)
    draws = [weight @ curve.draws for weight, curve in zip(weights, curves, strict=True)]
    return paired_difference(draws[0], draws[1], values[0] - values[1], resampling)


def _without(ours: dict[int | None, int], theirs: dict[int | None, int]) -> tuple[int, ...]:
    return tuple(sorted(step for step in ours if step is not None and step not in theirs))
