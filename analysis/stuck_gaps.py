"""Stuckness in distribution against out of distribution, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from specs_eval.analysis.differences import share_differences
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.analysis.stuck_series import CheckpointRollouts, MeasuredSeries
from specs_eval.analysis.stuckness import persistence

StuckMeasure = Literal["wrong_mode", "persistence", "trained_format"]
"""What ID and OOD are compared in; `trained_format` is format following on ID and lock-in on OOD."""


@dataclass(frozen=True, slots=True)
class StuckGap:
    """ID against OOD in one measure at one checkpoint."""

    series: str
    checkpoint: str
    step: int | None
    measure: StuckMeasure
    id: Estimate
    ood: Estimate
    difference: Estimate
    """OOD minus ID, with a paired bootstrap interval; above 0: more stuck out of distribution."""

    def to_dict(self) -> dict[str, Any]:
        """The gap as plain JSON types."""
        return asdict(self)


def stuck_gaps(
    id_series: Sequence[MeasuredSeries], ood_series: Sequence[MeasuredSeries], resampling: Resampling | None = None
) -> tuple[StuckGap, ...]:
    """ID against OOD at every checkpoint that has both, in all three measures.

    Resampled over clusters (the same question or image), ID and OOD together where they have clusters in common.
    Persistence stands at the earlier of its two checkpoints.
    """
    spec = resampling or Resampling()
    partners = {one.series: one for one in ood_series}
    sides = [row for one in id_series if one.series in partners for row in _sides(one, partners[one.series])]
    found = [row.gap(spec.level) for row in sides]
    drawn = share_differences([(row.id, row.ood) for row in sides], spec)
    return tuple(
        replace(gap, difference=_explained(difference, gap)) for gap, difference in zip(found, drawn, strict=True)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """What is compared at one checkpoint."""

    series: str
    checkpoint: CheckpointRollouts
    measure: StuckMeasure
    id: SampleValues
    ood: SampleValues
    why: tuple[str | None, str | None] = (None, None)
    """Why ID or OOD has no value, where that is known."""

    def gap(self, level: float) -> StuckGap:
        """The two estimates; their difference is still open."""
        estimates = []
        for side, reason in zip((self.id, self.ood), self.why, strict=True):
            one = persistence([side], level) if self.measure == "persistence" else summarize(side, level)
            estimates.append(replace(one, reason=reason or one.reason) if one.value is None else one)
        place = (self.series, self.checkpoint.checkpoint, self.checkpoint.step)
        return StuckGap(*place, self.measure, estimates[0], estimates[1], undefined("not drawn yet"))


def _sides(one: MeasuredSeries, other: MeasuredSeries) -> list[_Sides]:
    """ID and OOD of a series, wherever both have something."""
    rows: list[_Sides] = []
    places = {checkpoint.checkpoint: number for number, checkpoint in enumerate(other.checkpoints)}
    for number, checkpoint in enumerate(one.checkpoints):
        place = places.get(checkpoint.checkpoint)
        if place is None:
            continue
        id_modes, ood_modes = one.modes[number], other.modes[place]
        why = (id_modes.reason, ood_modes.reason)
        rows.append(_Sides(one.series, checkpoint, "wrong_mode", id_modes.samples, ood_modes.samples, why))
        kept = one.persisting(number), other.persisting(place)
        if kept[0] is not None and kept[1] is not None:
            rows.append(_Sides(one.series, checkpoint, "persistence", kept[0], kept[1], why))
        trained = checkpoint.trained_format, other.checkpoints[place].trained_format
        if trained[0] is not None and trained[1] is not None:
            rows.append(_Sides(one.series, checkpoint, "trained_format", trained[0], trained[1]))
    return rows


def _explained(difference: Estimate, gap: StuckGap) -> Estimate:
    """An undefined difference with the reason of the side that is missing."""
    if difference.value is not None:
        return difference
    reasons = [f"{role}: {side.reason}" for role, side in (("ID", gap.id), ("OOD", gap.ood)) if side.value is None]
    return replace(difference, reason="; ".join(reasons) or difference.reason)
