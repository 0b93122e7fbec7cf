"""How exploration moves along a training run: from the first checkpoint to the last, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from specs_eval.analysis.differences import Pair, differences, share_side
from specs_eval.analysis.exploration import Exploration, ExplorationSpec, MeasuredRun, describe_runs
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.solving import complement
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.errors import ComparisonError

Moving = Literal["pass_at_1", "pass_at_n", "unsolvable_at_n", "rbf", "entropy", "distinct", "effective"]

_SOLVING: tuple[Moving, Moving] = ("pass_at_1", "pass_at_n")
_MEANS: tuple[Moving, ...] = ("rbf", "entropy", "distinct", "effective")

OTHER_ROLLOUTS = (
    "the two have different numbers of rollouts a sample, and more rollouts give more answers; evaluate both with the "
    "same --rollouts"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity at two checkpoints."""

    quantity: Moving
    first: Estimate
    last: Estimate
    difference: Estimate
    """Last minus first, with a paired bootstrap interval."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What changed between two checkpoints of a series."""

    series: str
    task: str
    """The task, or the part of it."""
    first: str
    """Names of the two checkpoints, and their steps."""
    last: str
    first_step: int | None
    last_step: int | None
    k: int
    """The n of pass@n: scored rollouts that both have of their samples."""
    n_samples: int
    """Samples that both answered."""
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """The movement as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRun:
    """A run with its numbers, and where it stands."""

    checkpoint: str
    step: int | None
    measured: MeasuredRun
    result: Exploration | None = None
    """Its numbers, where they are there already; None: computed when needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Two checkpoints of a series on one task."""

    series: str
    task: str
    first: PlacedRun
    last: PlacedRun

    @property
    def k(self) -> int:
        """The n of pass@n: scored rollouts that samples of both have."""
        return min(self.first.measured.counts.most, self.last.measured.counts.most)


def check_same_samples(move: Move) -> None:
    """Refuse a movement between different samples.

    Raises:
        ComparisonError: the two checkpoints answered different samples.
    """
    first, last = (set(one.measured.counts.samples.sample_ids) for one in (move.first, move.last))
    if first != last:
        raise ComparisonError(
            f"{move.first.checkpoint} and {move.last.checkpoint} answered different samples ({len(first)} and "
            f"{len(last)}, {len(first & last)} in common); evaluate both with the same --limit, or use the common ones with "
            "--allow-incomplete"
        )


def movement(
    series: str, task: str, first: PlacedRun, last: PlacedRun, resampling: Resampling | None = None
) -> Movement:
    """The changes from one checkpoint to another (see `movements`)."""
    return movements([Move(series, task, first, last)], resampling)[0]


def movements(moves: Sequence[Move], resampling: Resampling | None = None) -> list[Movement]:
    """The changes from one checkpoint to another, for many series and tasks.

    Args:
        moves: each over the same samples at both ends (`check_same_samples`).
        resampling: draws, level and seed; samples (or their groups) are drawn for both ends together.

    Raises:
        ComparisonError: see `check_same_samples`.
    """
    spec = resampling or Resampling()
    for move in moves:
        check_same_samples(move)
    opened = [_solving(move, spec.level) + _means(move, spec) for move in moves]
    drawn = iter(differences([one.sides for row in opened for one in row if one.sides is not None], spec))
    return [
        Movement(
            series=move.series,
            task=move.task,
            first=move.first.checkpoint,
            last=move.last.checkpoint,
            first_step=move.first.step,
            last_step=move.last.step,
            k=move.k,
            n_samples=len(move.first.measured.counts.samples.sample_ids),
            changes=_closed([one.change if one.sides is None else one.drawn(next(drawn)) for one in row]),
        )
        for move, row in zip(moves, opened, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A change whose difference is still to be drawn; without sides it stays as it is."""

    change: Change
    sides: Pair | None

    def drawn(self, difference: Estimate) -> Change:
        return replace(self.change, difference=difference)


def _solving(move: Move, level: float) -> list[_Open]:
    """pass@1 and pass@k."""
    if not move.k:
        nothing = undefined("no rollout was scored")
        return [_Open(Change(name, nothing, nothing, nothing), None) for name in _SOLVING]
    rows = []
    for name, k in zip(_SOLVING, (1, move.k), strict=True):
        before, after = (one.measured.counts.passed(k) for one in (move.first, move.last))
        change = Change(name, summarize(before, level), summarize(after, level), undefined("not drawn yet"))
        rows.append(_Open(change, (share_side(before), share_side(after))))
    return rows


def _means(move: Move, spec: Resampling) -> list[_Open]:
    """Branching, entropy and variety."""
    results = [one.result or _described(one.measured, spec) for one in (move.first, move.last)]
    other_rollouts = move.first.measured.counts.most != move.last.measured.counts.most
    rows = []
    for name, first, last in zip(_MEANS, move.first.measured.means, move.last.measured.means, strict=True):
        reason = first.reason or last.reason
        if reason is None and other_rollouts and name in ("distinct", "effective"):
            reason = OTHER_ROLLOUTS
        before, after = (getattr(result, name) for result in results)
        sides = None if reason or first.totals is None or last.totals is None else (first.totals, last.totals)
        rows.append(_Open(Change(name, before, after, undefined(reason or "not drawn yet")), sides))
    return rows


def _described(run: MeasuredRun, spec: Resampling) -> Exploration:
    """The means of a run; what is at k is not asked for here."""
    return describe_runs([run], ExplorationSpec(ks=(), rbf_samples=(), resampling=spec))[0]


def _closed(changes: list[Change]) -> tuple[Change, ...]:
    """The changes, and beside pass@n the unsolvable share, which moves against it."""
    one, many, *means = changes
    rest = Change("unsolvable_at_n", complement(many.first), complement(many.last), _negative(many.difference))
    return (one, many, rest, *means)


def _negative(difference: Estimate) -> Estimate:
    """The same movement, of one minus the share."""
    if difference.value is None:
        return difference
    ends = difference.interval
    return replace(difference, value=-difference.value, interval=ends and replace(ends, low=-ends.high, high=-ends.low))
