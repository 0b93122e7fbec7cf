"""How exploration moves along a training run: from the first checkpoint to the last, on the same samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from specs_eval.analysis.differences import differences, share_differences
from specs_eval.analysis.exploration import ExplorationSpec, MeasuredRun, Quantity, describe_runs
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.solving import solved_at
from specs_eval.analysis.statistics import Estimate, undefined
from specs_eval.errors import ComparisonError

Moving = Literal["pass_at_1", "pass_at_n", "unsolvable_at_n", "rbf", "entropy", "distinct", "effective"]

_SOLVING: tuple[Moving, ...] = ("pass_at_1", "pass_at_n", "unsolvable_at_n")
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
    """A measured run and where it stands."""

    checkpoint: str
    step: int | None
    run: MeasuredRun


def movement(
    series: str, task: str, first: PlacedRun, last: PlacedRun, resampling: Resampling | None = None
) -> Movement:
    """The changes from one checkpoint to another.

    Args:
        series: its name, for the result.
        task: its name, for the result.
        first: the earlier checkpoint.
        last: the later one, on the same samples.
        resampling: draws, level and seed; samples (or their groups) are drawn for both checkpoints together.

    Raises:
        ComparisonError: the two answered different samples.
    """
    spec = resampling or Resampling()
    before, after = first.run.counts, last.run.counts
    if set(before.samples.sample_ids) != set(after.samples.sample_ids):
        raise ComparisonError(
            f"{first.checkpoint} and {last.checkpoint} answered different samples; evaluate both with the same --limit, or "
            "use the common ones with --allow-incomplete"
        )
    k = min(before.most, after.most)
    changes = [*_solving(first.run, last.run, k, spec), *_means(first.run, last.run, spec)]
    return Movement(
        series=series,
        task=task,
        first=first.checkpoint,
        last=last.checkpoint,
        first_step=first.step,
        last_step=last.step,
        k=k,
        n_samples=len(before.samples.sample_ids),
        changes=tuple(changes),
    )


def _solving(first: MeasuredRun, last: MeasuredRun, k: int, spec: Resampling) -> list[Change]:
    """pass@1, pass@k and the unsolvable share, which moves against it."""
    if not k:
        nothing = undefined("no rollout was scored")
        return [Change(name, nothing, nothing, nothing) for name in _SOLVING]
    drawn = share_differences([(first.counts.passed(j), last.counts.passed(j)) for j in (1, k)], spec)
    before, after = (solved_at(run.counts, (1, k), spec.level) for run in (first, last))
    one = Change("pass_at_1", before[0].pass_at_k, after[0].pass_at_k, drawn[0])
    many = Change("pass_at_n", before[1].pass_at_k, after[1].pass_at_k, drawn[1])
    rest = Change("unsolvable_at_n", before[1].unsolvable, after[1].unsolvable, _negative(drawn[1]))
    return [one, many, rest]


def _means(first: MeasuredRun, last: MeasuredRun, spec: Resampling) -> list[Change]:
    described = describe_runs([first, last], ExplorationSpec(ks=(), rbf_samples=(), resampling=spec))
    changes: list[Change] = []
    pairs = []
    for name, one, other in zip(_MEANS, first.means, last.means, strict=True):
        before, after = (getattr(side, name) for side in described)
        reason = _why_not(name, one, other, first.counts.most != last.counts.most)
        changes.append(Change(name, before, after, undefined(reason or "")))
        if reason is None:
            assert one.totals is not None and other.totals is not None, "both sides have it"
            pairs.append((one.totals, other.totals))
    drawn = iter(differences(pairs, spec))
    return [one if one.difference.reason else replace(one, difference=next(drawn)) for one in changes]


def _why_not(name: Moving, first: Quantity, last: Quantity, other_rollouts: bool) -> str | None:
    for one in (first, last):
        if one.totals is None:
            return one.reason
    return OTHER_ROLLOUTS if other_rollouts and name in ("distinct", "effective") else None


def _negative(difference: Estimate) -> Estimate:
    """The same movement, of one minus the share."""
    if difference.value is None:
        return difference
    ends = difference.interval
    return replace(difference, value=-difference.value, interval=ends and replace(ends, low=-ends.high, high=-ends.low))
