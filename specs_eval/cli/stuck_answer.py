"""From a store to stuckness along its series: which runs, what is refused, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.stored.reading import read_correctness, read_targets, stored_runs
from specs_eval.analysis.stored.selection import CheckpointKey, check_comparable, one_run_each
from specs_eval.analysis.stuck_gaps import StuckGap, stuck_gaps
from specs_eval.analysis.stuck_series import (
    CheckpointRollouts,
    MeasuredSeries,
    StuckSeries,
    measure_series,
    stuck_series,
)
from specs_eval.analysis.stuckness import StuckRule
from specs_eval.cli.chosen_runs import Choice, along_series, asked_splits, base_of, chosen_runs, common_samples
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.splits import Split, parse_split
from specs_eval.store import StoredRun

_FORMAT_METRICS = ("lock_in", "format")

Runs = dict[CheckpointKey, StoredRun]


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked. Either `id_task` and `ood_task`, or `tasks`, or none of them: every task of the store."""

    store: Path
    tasks: str | None = None
    id_task: str | None = None
    ood_task: str | None = None
    metric: str | None = None
    """What makes a rollout correct; None: accuracy where there is one, else score."""
    rule: StuckRule = field(default_factory=StuckRule)
    choice: Choice = field(default_factory=Choice)
    resampling: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    series: tuple[StuckSeries, ...]
    """By task, then by series."""
    gaps: tuple[StuckGap, ...]
    """ID against OOD; empty unless both were named."""
    id_task: str | None
    ood_task: str | None
    base: str | None
    """The checkpoint that every series starts with, at step 0."""
    rule: StuckRule
    resampling: Resampling
    notes: tuple[str, ...]
    """What is missing or was left out, one sentence each."""

    def explanation(self) -> str:
        """What the words mean."""
        percent = f"{100 * self.rule.mode_share:g} %"
        return (
            f"Stuck: one wrong answer holds at least {percent} of a sample's rollouts (a rollout without an answer counts, "
            "and agrees with none). Wrong-mode share: share of samples that are stuck. Persistence: of the samples stuck at "
            "a checkpoint, the share stuck at the next in the same answer. Lock-in: share of prompts that ask for a changed "
            "format and are answered in the trained one."
        )

    def provenance(self) -> str:
        """Where the intervals come from."""
        spec = self.resampling
        text = f"{100 * spec.level:g} % intervals: Wilson at the effective sample size"
        if self.gaps:
            text += (
                f"; differences by a bootstrap over samples, paired between ID and OOD ({spec.n_draws:,} draws, "
                f"seed {spec.seed})"
            )
        return text + "."

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        return {
            "command": "stuck",
            "id_task": self.id_task,
            "ood_task": self.ood_task,
            "base": self.base,
            "mode_share": self.rule.mode_share,
            "threshold": self.rule.threshold,
            "level": self.resampling.level,
            "n_draws": self.resampling.n_draws,
            "seed": self.resampling.seed,
            "explanation": self.explanation(),
            "series": [one.to_dict() for one in self.series],
            "gaps": [one.to_dict() for one in self.gaps],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One split of the store, read."""

    split: Split
    metric: str
    series: tuple[MeasuredSeries, ...]


def answer_stuck(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a task, series, metric or option that does not exist.
        ComparisonError: runs that are incomplete or do not compare; no checkpoint with both ID and OOD.
    """
    stored = stored_runs(question.store)
    asked = _splits(question, stored)
    chosen = chosen_runs(stored, asked, question.choice)
    splits = list(chosen)
    if len(splits) < len(asked) and question.id_task is not None:
        raise _same_part(splits[0])
    base = base_of(stored, question.choice)
    runs = {split: one_run_each(found) for split, found in chosen.items() if found}
    notes: list[str] = []
    paired = question.id_task is not None
    if paired:
        notes += _keep_pairs(runs, splits)
        check_comparable([*runs[splits[0]].values()], [*runs[splits[1]].values()])
    else:
        for found in runs.values():
            check_comparable([*found.values()], [])
    measured: list[_Measured] = []
    for split, found in runs.items():
        one, more = _measure(split, found, base, question)
        measured.append(one)
        notes += [*more, *_run_notes(split, found, one)]
    if paired:
        _check_disjoint(*measured)
    level = question.resampling.level
    return Answer(
        series=tuple(
            stuck_series(series, str(one.split), one.metric, level) for one in measured for series in one.series
        ),
        gaps=stuck_gaps(measured[0].series, measured[1].series, question.resampling) if paired else (),
        id_task=str(measured[0].split) if paired else None,
        ood_task=str(measured[1].split) if paired else None,
        base=None if base is None else base.name,
        rule=question.rule,
        resampling=question.resampling,
        notes=tuple(notes),
    )


def _splits(question: Question, stored: Sequence[StoredRun]) -> list[Split]:
    named = [text for text in (question.id_task, question.ood_task) if text is not None]
    if not named:
        return asked_splits(stored, question.tasks)
    if len(named) == 1 or question.tasks is not None:
        raise ConfigError("name both --id and --ood, or --tasks alone")
    pair = [parse_split(text) for text in named]
    if pair[0] == pair[1]:
        raise _same_part(pair[0])
    return pair


def _same_part(split: Split) -> ConfigError:
    return ConfigError(f"--id and --ood are both {split}; the gap is between two tasks, or two parts of one")


def _keep_pairs(runs: dict[Split, Runs], splits: Sequence[Split]) -> list[str]:
    """Leave checkpoints with one of the two tasks only out, in place; says so."""
    one, other = (runs.get(split, {}) for split in splits)
    both = one.keys() & other.keys()
    notes = [
        f"{key.name} is left out: it has no run of {splits[1] if key in one else splits[0]}"
        for key in sorted(one.keys() ^ other.keys())
    ]
    if not both:
        raise ComparisonError(f"no checkpoint with runs of both {splits[0]} and {splits[1]}; run what is missing")
    for split in splits:
        runs[split] = {key: run for key, run in runs[split].items() if key in both}
    return notes


def _check_disjoint(one: _Measured, other: _Measured) -> None:
    """Refuse two parts of one task that share samples: such a sample would be in and out of distribution at once."""
    if one.split.task != other.split.task:
        return
    shared = set(one.series[0].sample_ids) & set(other.series[0].sample_ids)
    if shared:
        raise ConfigError(
            f"--id {one.split} and --ood {other.split} share {len(shared):,} samples (such as {min(shared)!r}); write "
            "conditions that exclude each other, such as [format=json] and [format!=json]"
        )


def _measure(split: Split, runs: Runs, base: CheckpointKey | None, question: Question) -> tuple[_Measured, list[str]]:
    """Read the runs of a split and find what every sample is stuck in."""
    read: dict[CheckpointKey, dict[str, Rollouts]] = {}
    metric = ""
    for key, run in runs.items():
        metric, read[key] = read_correctness(run, question.metric, _FORMAT_METRICS, split=split)
    allowed = question.choice.allow_incomplete
    read, notes = common_samples(read, {key: key.name for key in read}, str(split), allowed)
    targets = read_targets(next(iter(runs.values())))
    points = {key: _checkpoint(key, runs[key], found, metric, targets) for key, found in read.items()}
    if base in points:
        # Shown at step 0 whatever its own step was: training of every series started there.
        points[base] = replace(points[base], step=0)
    elif base is not None:
        notes.append(f"{base.name}, the base, has no run of {split}")
    series = tuple(
        measure_series(name, [points[key] for key in keys], question.rule)
        for name, keys in along_series(points, base).items()
    )
    return _Measured(split, metric, series), notes


def _checkpoint(
    key: CheckpointKey, run: StoredRun, found: Mapping[str, Rollouts], metric: str, targets: Mapping[str, str]
) -> CheckpointRollouts:
    one = CheckpointRollouts(key.name, key.step, found[metric], run=run.run_id, targets=targets)
    formats = {name: found[name].by_sample() for name in _FORMAT_METRICS if name in found}
    asked = formats.get("format")
    # A task that measures format following and no lock-in asks for the trained format itself.
    return replace(one, trained_format=formats.get("lock_in", asked), asked_format=asked)


def _run_notes(split: Split, runs: Runs, measured: _Measured) -> list[str]:
    notes = []
    if any(run.manifest.sampling.temperature == 0 for run in runs.values()):
        notes.append(
            f"{split}: temperature 0: all rollouts of a sample are the same, so every wrong answer counts as stuck; "
            "use --temperature 1"
        )
    counts = {int(modes.n_scored.max(initial=0)) for series in measured.series for modes in series.modes}
    if len(counts) > 1:
        notes.append(
            f"{split}: checkpoints have {min(counts)} to {max(counts)} rollouts a sample; fewer agree more easily, so "
            "their wrong-mode shares do not compare well"
        )
    return notes
