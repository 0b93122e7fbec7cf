"""Parts of one task from all its runs, cut by conditions that mean the same in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from specs_eval.analysis.samples import Rollouts, restrict
from specs_eval.analysis.stored.reading import read_metric
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.splits import Category, Split
from specs_eval.store import StoredRun


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One split, as the runs have it."""

    split: Split
    """With shortened names written out."""
    rollouts: dict[CheckpointKey, Rollouts]


def read_parts(runs: Mapping[CheckpointKey, StoredRun], metric: str, splits: Sequence[Split]) -> list[Part]:
    """One metric of several parts of one task; each run is read once.

    What a shortened name stands for is decided over the samples of all runs together, and then holds for each.

    Args:
        runs: of one task.
        metric: ``score`` or a further metric.
        splits: parts of that task.

    Raises:
        ConfigError: a run lacks the metric, or a split names a category that no sample has or leaves nothing.
        ComparisonError: the same sample has other categories in another run.
    """
    in_parts = any(split.conditions for split in splits)
    rollouts = {key: read_metric(run, metric, categories=in_parts) for key, run in runs.items()}
    return [_part(split, rollouts) for split in splits]


def check_disjoint(first: Part, second: Part, options: tuple[str, str]) -> None:
    """Refuse two parts of one task that share samples.

    Args:
        first: one part.
        second: another part, of the same or another task.
        options: what the two were asked for with, for the message.

    Raises:
        ConfigError: the message counts them and says what to write instead.
    """
    if first.split.task != second.split.task:
        return
    if first.split == second.split:
        raise ConfigError(
            f"{options[0]} and {options[1]} are both {first.split}; GF compares two tasks, or two parts of one"
        )
    for key, one in first.rollouts.items():
        other = second.rollouts.get(key)
        shared = set(one.sample_ids) & set(other.sample_ids) if other is not None else set()
        if shared:
            raise ConfigError(
                f"{options[0]} {first.split} and {options[1]} {second.split} share {len(shared):,} samples (such as "
                f"{min(shared)!r}): a sample cannot be in and out of distribution at once; write conditions that exclude "
                "each other, such as [format=json] and [format!=json]"
            )


def _part(split: Split, rollouts: Mapping[CheckpointKey, Rollouts]) -> Part:
    if not split.conditions:
        return Part(split, dict(rollouts))
    resolved = split.resolved(category for one in rollouts.values() for category in _different(one))
    kept = {key: _inside(resolved, one) for key, one in rollouts.items()}
    for key, ids in kept.items():
        if not ids:
            raise ConfigError(f"{key.name}: no sample of {split.task} meets all of {resolved}")
    _check_same_meaning(resolved, rollouts, kept)
    return Part(resolved, {key: restrict(one, kept[key]) for key, one in rollouts.items()})


def _different(rollouts: Rollouts) -> Iterator[Category]:
    """The categories of a run, each object once: many samples share one."""
    yield from {id(category): category for category in rollouts.categories}.values()


def _inside(split: Split, rollouts: Rollouts) -> frozenset[str]:
    holds = {id(category): split.holds(category) for category in _different(rollouts)}
    pairs = zip(rollouts.sample_ids, rollouts.categories, strict=True)
    return frozenset(sample_id for sample_id, category in pairs if holds[id(category)])


def _check_same_meaning(
    split: Split, rollouts: Mapping[CheckpointKey, Rollouts], kept: Mapping[CheckpointKey, AbstractSet[str]]
) -> None:
    first, *others = rollouts
    asked = set(rollouts[first].sample_ids)
    for key in others:
        moved = (kept[key] ^ kept[first]) & asked & set(rollouts[key].sample_ids)
        if moved:
            raise ComparisonError(
                f"{key.name} and {first.name} do not agree on which samples are in {split} (such as {min(moved)!r}): "
                "their runs store other categories; evaluate both with the same version of the task"
            )
