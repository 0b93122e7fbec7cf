"""Which runs `compare` sets side by side, and the refusal of those whose scores do not mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specs_eval.analysis.stored.selection import UNKNOWN, check_complete, one_run_each, runs_of_task, tasks_in
from specs_eval.analysis.stored.sides import REMEDIES, Side, check_settings, settings_of
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.splits import Split, parse_splits
from specs_eval.store import StoredRun


@dataclass(frozen=True, slots=True)
class RunPair:
    """The runs of a task, or of a part of it, by both checkpoints."""

    split: Split
    baseline: StoredRun
    candidate: StoredRun


def pair_runs(
    baseline: Side,
    candidate: Side,
    tasks: str | None,
    selects: Sequence[str],
    *,
    allow_incomplete: bool,
    overlap: bool,
) -> tuple[list[RunPair], list[str]]:
    """The runs to compare, by task as asked for, and notes on tasks that are left out.

    Args:
        baseline: one checkpoint.
        candidate: the other.
        tasks: as typed after ``--tasks``; None: all that both have.
        selects: as typed after ``--select``.
        allow_incomplete: whether runs that are not finished will do.
        overlap: whether the samples that both have will do.

    Raises:
        ConfigError: a task that one of them lacks, or a malformed selection.
        ComparisonError: no task in common, several runs of a task, incomplete runs, or runs that do not compare.
    """
    splits, notes = _splits(baseline, candidate, tasks)
    pairs = []
    for split in splits:
        chosen = [_one_run(side, split.task, selects) for side in (baseline, candidate)]
        check_complete(chosen, allow_incomplete)
        check_settings(*chosen, overlap=overlap)
        pairs.append(RunPair(split, *chosen))
    return pairs, [*notes, *_unknown_settings(pairs)]


def _splits(baseline: Side, candidate: Side, tasks: str | None) -> tuple[list[Split], list[str]]:
    """What to compare, and notes on what only one of the two has."""
    has = {side.key.name: tasks_in(side.runs) for side in (baseline, candidate)}
    if tasks is None:
        common = [task for task in tasks_in(baseline.runs) if task in tasks_in(candidate.runs)]
        if not common:
            listed = "; ".join(f"{name} has {', '.join(names)}" for name, names in has.items())
            raise ComparisonError(f"no task that both checkpoints ran ({listed}); run what is missing")
        notes = [
            f"{task} is left out: only {name} has it"
            for name, names in has.items()
            for task in names
            if task not in common
        ]
        return [Split(task) for task in common], notes
    splits = parse_splits(tasks)
    for side in (baseline, candidate):
        names = tasks_in(side.runs)
        for split in splits:
            if split.task not in names:
                raise ConfigError(f"{side.key.name} has no run of {split.task!r}; it has: {', '.join(names)}")
    return splits, []


def _one_run(side: Side, task: str, selects: Sequence[str]) -> StoredRun:
    runs = runs_of_task(side.runs, task, selects)
    return next(iter(one_run_each(runs).values()))


def _unknown_settings(pairs: Iterable[RunPair]) -> list[str]:
    """A note for each task in which a field could not be compared."""
    notes = []
    for pair in pairs:
        one, other = settings_of(pair.baseline), settings_of(pair.candidate)
        unknown = [field for field in REMEDIES if UNKNOWN in (one[field], other[field])]
        if unknown:
            notes.append(f"{pair.split.task}: an imported run does not know its {', '.join(unknown)}: not compared")
    return list(dict.fromkeys(notes))
