"""What GF needs from a store: which runs, what is refused, what is left out, and their scores by series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.stored.selection import (
    CheckpointKey,
    check_comparable,
    check_complete,
    check_series,
    find_base,
    one_run_each,
    runs_of_task,
)
from specs_eval.cli.chosen_runs import common_samples
from specs_eval.cli.split_reading import Part, check_disjoint, read_parts
from specs_eval.errors import ComparisonError
from specs_eval.splits import Split
from specs_eval.store import StoredRun

Runs = dict[CheckpointKey, StoredRun]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which runs a question is about."""

    id_split: Split
    ood_split: Split
    base: str | None
    series: tuple[str, ...]
    metric: str
    selects: tuple[str, ...]
    allow_incomplete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the store has."""

    id_split: Split
    """With shortened names written out."""
    ood_split: Split
    base: CheckpointScores | None
    """At step 0, whatever its own step was: training of the series started there."""
    methods: dict[str, list[CheckpointScores]]
    """Series -> checkpoints in step order, without the base."""
    notes: tuple[str, ...]


def read_scores(runs: Sequence[StoredRun], asked: Asked) -> Scores:
    """Choose the runs, refuse what does not compare, and read.

    Raises:
        ConfigError: a task, category, series, base or metric that does not exist; ID and OOD that share samples.
        ComparisonError: runs that are incomplete or do not compare; checkpoints without both tasks.
    """
    id_runs = runs_of_task(runs, asked.id_split.task, asked.selects)
    ood_runs = runs_of_task(runs, asked.ood_split.task, asked.selects)
    base = None
    if asked.base is not None:
        base = find_base(_keys(id_runs) & _keys(ood_runs), [*id_runs, *ood_runs], asked.base)
    wanted, notes = _wanted_keys(id_runs, ood_runs, base, asked.series)
    picked_id = one_run_each([run for run in id_runs if CheckpointKey.of(run.manifest) in wanted])
    picked_ood = one_run_each([run for run in ood_runs if CheckpointKey.of(run.manifest) in wanted])
    check_complete([*picked_id.values(), *picked_ood.values()], asked.allow_incomplete)
    check_comparable([*picked_id.values()], [*picked_ood.values()])
    id_part, ood_part = _read(picked_id, picked_ood, asked)
    if asked.allow_incomplete:
        id_part, id_notes = keep_common(id_part, "ID")
        ood_part, ood_notes = keep_common(ood_part, "OOD")
        notes = [*notes, *id_notes, *ood_notes]
    scores = {key: _scores(key, (id_part, ood_part), (run, picked_ood[key])) for key, run in picked_id.items()}
    methods: dict[str, list[CheckpointScores]] = {}
    for key, one in scores.items():
        if key != base:
            methods.setdefault(key.series, []).append(one)
    floor = None if base is None else replace(scores[base], step=0)
    return Scores(id_part.split, ood_part.split, floor, methods, tuple(notes))


def keep_common(part: Part, role: str) -> tuple[Part, list[str]]:
    """Cut all runs to the samples that all have; says so where that takes something away."""
    rollouts = {key: {"": one} for key, one in part.rollouts.items()}
    cut, notes = common_samples(rollouts, {key: key.name for key in rollouts}, role, True)
    return replace(part, rollouts={key: one[""] for key, one in cut.items()}), notes


def _read(id_runs: Runs, ood_runs: Runs, asked: Asked) -> tuple[Part, Part]:
    """The metric of all runs in both splits, which share no sample."""
    if asked.id_split.task == asked.ood_split.task:
        id_part, ood_part = read_parts(id_runs, asked.metric, [asked.id_split, asked.ood_split])
    else:
        (id_part,) = read_parts(id_runs, asked.metric, [asked.id_split])
        (ood_part,) = read_parts(ood_runs, asked.metric, [asked.ood_split])
    check_disjoint(id_part, ood_part, ("--id", "--ood"))
    return id_part, ood_part


def _scores(key: CheckpointKey, parts: tuple[Part, Part], runs: tuple[StoredRun, StoredRun]) -> CheckpointScores:
    values: list[Rollouts] = [part.rollouts[key] for part in parts]
    return CheckpointScores(
        checkpoint=key.name,
        step=key.step,
        id=values[0].by_sample(),
        ood=values[1].by_sample(),
        id_run=runs[0].run_id,
        ood_run=runs[1].run_id,
    )


def _keys(runs: Sequence[StoredRun]) -> set[CheckpointKey]:
    return {CheckpointKey.of(run.manifest) for run in runs}


def _wanted_keys(
    id_runs: Sequence[StoredRun], ood_runs: Sequence[StoredRun], base: CheckpointKey | None, series: Sequence[str]
) -> tuple[set[CheckpointKey], list[str]]:
    """Checkpoints to show, the base among them, and notes on those that lack one of the tasks."""
    id_keys, ood_keys = _keys(id_runs), _keys(ood_runs)
    tasks = (id_runs[0].manifest.task, ood_runs[0].manifest.task)
    check_series(series, (key.series for key in id_keys | ood_keys))
    asked = {key for key in id_keys | ood_keys if not series or key.series in series}
    both = asked & id_keys & ood_keys
    notes = [
        f"{key.name} is left out: it has no run of {tasks[1] if key in id_keys else tasks[0]}"
        for key in sorted(asked - both)
        if key != base
    ]
    if not both - {base}:
        found = "; ".join(notes) or "only the base model has"
        raise ComparisonError(
            f"no checkpoint with runs of both {tasks[0]} and {tasks[1]} ({found}); run what is missing"
        )
    return both | ({base} if base else set()), notes
