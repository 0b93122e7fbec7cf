"""The runs that a question names by task, part of a task and series; and the samples that they have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from specs_eval.analysis.samples import Rollouts, restrict
from specs_eval.analysis.stored.reading import read_categories
from specs_eval.analysis.stored.selection import (
    CheckpointKey,
    check_complete,
    check_series,
    find_checkpoint,
    runs_of_task,
    tasks_in,
)
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.splits import Split, parse_splits
from specs_eval.store import StoredRun

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs the user wants: the options that analysis commands share."""

    series: tuple[str, ...] = ()
    """Only these; empty: all."""
    selects: tuple[str, ...] = ()
    """As typed after ``--select``."""
    allow_incomplete: bool = False
    base: str | None = None
    """The model that training of every series started from, as typed after ``--base``; stays in whatever its series."""


def asked_splits(runs: Sequence[StoredRun], text: str | None) -> list[Split]:
    """The splits that ``--tasks`` names; None: every task of the store as a whole."""
    return [Split(task) for task in tasks_in(runs)] if text is None else parse_splits(text)


def chosen_runs(runs: Sequence[StoredRun], splits: Sequence[Split], choice: Choice) -> dict[Split, list[StoredRun]]:
    """The runs of each split, by series and step; the splits with their shortened names written out.

    What a shortened name stands for is decided over the samples of all its runs together, and then holds for each.

    Raises:
        ConfigError: a task, series or category that the store does not have, or a choice that leaves nothing.
        ComparisonError: some are not complete, and that was not allowed.
    """
    check_series(choice.series, (run.manifest.checkpoint.series for run in runs))
    base = base_of(runs, choice)
    chosen: dict[Split, list[StoredRun]] = {}
    for split in splits:
        found = runs_of_task(runs, split.task, choice.selects)
        keys = [CheckpointKey.of(run.manifest) for run in found]
        wanted = [not choice.series or key.series in choice.series or key == base for key in keys]
        kept = [run for run, want in zip(found, wanted, strict=True) if want]
        chosen[split] = sorted(kept, key=lambda run: (CheckpointKey.of(run.manifest), run.run_id))
    if not any(chosen.values()):
        raise ConfigError(f"no run of {', '.join(map(str, splits))} in series {', '.join(choice.series)}")
    check_complete([run for kept in chosen.values() for run in kept], choice.allow_incomplete)
    return {_written_out(split, kept): kept for split, kept in chosen.items()}


def _written_out(split: Split, runs: Sequence[StoredRun]) -> Split:
    known = [category for run in runs for category in read_categories(run)] if split.conditions else []
    return split.resolved(known) if known else split


def base_of(runs: Sequence[StoredRun], choice: Choice) -> CheckpointKey | None:
    """The base that the user named.

    Raises:
        ConfigError: it matches none or several.
    """
    if choice.base is None:
        return None
    return find_checkpoint([CheckpointKey.of(run.manifest) for run in runs], runs, choice.base, option="--base ")


def along_series(keys: Iterable[CheckpointKey], base: CheckpointKey | None) -> dict[str, list[CheckpointKey]]:
    """The checkpoints of each series in step order, with the base first in each; alone it is a series of its own."""
    known = sorted(keys)
    series: dict[str, list[CheckpointKey]] = {}
    for key in known:
        if key != base:
            series.setdefault(key.series, []).append(key)
    if base is None or base not in known:
        return series
    return {name: [base, *members] for name, members in series.items()} or {base.series: [base]}


def common_samples(
    rollouts: Mapping[Key, Mapping[str, Rollouts]], names: Mapping[Key, str], what: str, allow_incomplete: bool
) -> tuple[dict[Key, dict[str, Rollouts]], list[str]]:
    """All rollouts, cut to the samples that every checkpoint answered where that is allowed.

    Args:
        rollouts: by checkpoint and metric; all metrics of a checkpoint are over the same samples.
        names: of the checkpoints, for messages.
        what: the task or part of it, for messages.
        allow_incomplete: cut instead of refusing.

    Returns:
        The rollouts, and a note where samples were left out.

    Raises:
        ComparisonError: checkpoints answered different samples, and that was not allowed; or none is common.
    """
    sets: dict[Key, frozenset[str]] = {}
    seen: dict[tuple[str, ...], frozenset[str]] = {}
    for key, metrics in rollouts.items():
        ids = next(iter(metrics.values())).sample_ids
        sets[key] = seen.setdefault(ids, frozenset(ids))
    everything = list(dict.fromkeys(sets.values()))
    if len(everything) < 2:
        return {key: dict(metrics) for key, metrics in rollouts.items()}, []
    common, union = everything[0].intersection(*everything), everything[0].union(*everything)
    if not allow_incomplete:
        raise _different(sets, names, what, len(common))
    if not common:
        raise ComparisonError(f"the runs of {what} have no sample in common; evaluate them with the same --limit")
    cut = {key: {metric: restrict(one, common) for metric, one in metrics.items()} for key, metrics in rollouts.items()}
    return cut, [f"{what}: only the {len(common):,} samples that all checkpoints answered are used, of {len(union):,}"]


def _different(
    sets: Mapping[Key, frozenset[str]], names: Mapping[Key, str], what: str, n_common: int
) -> ComparisonError:
    first, *others = sets
    other = next(key for key in others if sets[key] != sets[first])
    return ComparisonError(
        f"{names[other]} and {names[first]} answered different samples of {what} ({len(sets[other])} and "
        f"{len(sets[first])}, {n_common} common to all checkpoints); evaluate all with the same --limit, or use the common "
        "ones with --allow-incomplete"
    )
