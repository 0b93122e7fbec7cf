"""From a store to the comparison of two checkpoints: differences by task and category, flips, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from specs_eval.analysis.comparison import ComparisonSpec, Outcome, PairedComparison, compare_family
from specs_eval.analysis.flips import DEFAULT_FLIP, Flips, find_flips
from specs_eval.analysis.pairs import PairedValues, pair_samples
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.stored.reading import metric_names, read_rollouts, stored_runs
from specs_eval.analysis.stored.sides import IMPORTED, Side, check_questions, find_side
from specs_eval.cli.compare_flips import FlipDetails, read_flips
from specs_eval.cli.compare_runs import RunPair, pair_runs
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.splits import Category, category_values, values_by_dimension


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    baseline: str
    """A checkpoint: name, path, series/step, series or start of its fingerprint."""
    candidate: str
    tasks: str | None = None
    """As typed after ``--tasks``; None: all that both have."""
    metric: str = "score"
    categories: bool = False
    """Also by category, in all dimensions."""
    dimensions: tuple[str, ...] = ()
    """Also by category, in these."""
    selects: tuple[str, ...] = ()
    allow_incomplete: bool = False
    overlap: bool = False
    """Use the samples that both have, where they differ."""
    spec: ComparisonSpec = field(default_factory=ComparisonSpec)
    flip_threshold: float = DEFAULT_FLIP
    n_listed: int | None = 0
    """Flips each way to read prompts and answers of; None: all."""


@dataclass(frozen=True, slots=True)
class CategoryComparison:
    """The samples of one category."""

    dimension: str
    value: str
    result: PairedComparison

    def to_dict(self) -> dict[str, object]:
        """The comparison as plain JSON types."""
        return {"dimension": self.dimension, "value": self.value, **self.result.to_dict()}


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """One task, or a part of one."""

    task: str
    baseline_run: str
    candidate_run: str
    n_rollouts: int
    """Rollouts a sample."""
    result: PairedComparison
    categories: tuple[CategoryComparison, ...]
    """Corrected among themselves; a sample may be in several."""
    flips: Flips
    details: FlipDetails

    def to_dict(self) -> dict[str, object]:
        """The comparison as plain JSON types."""
        details = {one.flip: one for one in (*self.details.gained, *self.details.lost)}
        flips = {
            way: [(details.get(flip) or flip).to_dict() for flip in found]
            for way, found in (("gained", self.flips.gained), ("lost", self.flips.lost))
        }
        return {
            "task": self.task,
            "baseline_run": self.baseline_run,
            "candidate_run": self.candidate_run,
            "n_rollouts": self.n_rollouts,
            **self.result.to_dict(),
            "categories": [one.to_dict() for one in self.categories],
            "flips": {"threshold": self.flips.threshold, **flips},
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    baseline: Side
    candidate: Side
    metric: str
    spec: ComparisonSpec
    tasks: tuple[TaskComparison, ...]
    notes: tuple[str, ...]
    """What is missing, was left out or is worth knowing, one sentence each."""

    def of_outcome(self, outcome: Outcome) -> list[str]:
        """The tasks with an outcome."""
        return [one.task for one in self.tasks if one.result.outcome == outcome]

    def summary(self) -> str:
        """The outcomes in one sentence."""
        outcomes: tuple[Outcome, ...] = ("improved", "regressed", "undecided")
        named = [(outcome, self.of_outcome(outcome)) for outcome in outcomes]
        parts = [f"{len(tasks)} {outcome} ({', '.join(tasks)})" for outcome, tasks in named if tasks]
        return f"{self.candidate.key.name} against {self.baseline.key.name}: {', '.join(parts)}"

    def explanation(self) -> str:
        """How the numbers come about."""
        spec = self.spec
        return (
            f"Difference: candidate minus baseline, paired by sample, of the metric {self.metric}, in points. p: exact McNemar "
            f"for yes/no pairs that stand alone, else sign flips of whole groups (all, or {spec.n_draws:,} drawn, seed "
            f"{spec.seed}). Holm's correction over the tasks; the categories of a task are a family of their own. improved or "
            f"regressed: adjusted p below {spec.alpha:g} and an interval without 0."
        )

    def provenance(self) -> str:
        """Where the intervals and the detectable effect come from."""
        spec = self.spec
        return (
            f"{100 * spec.level:g} % intervals by Tango's score method at the effective number of pairs, each for itself. "
            f"Detectable: the true difference that as many samples show with {100 * spec.power:g} % probability at a "
            f"two-sided level of {spec.alpha:g}, before correction."
        )

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        return {
            "command": "compare",
            "baseline": self.baseline.to_dict(),
            "candidate": self.candidate.to_dict(),
            "metric": self.metric,
            "level": self.spec.level,
            "power": self.spec.power,
            "n_draws": self.spec.n_draws,
            "seed": self.spec.seed,
            "summary": self.summary(),
            "explanation": self.explanation(),
            "provenance": self.provenance(),
            "tasks": [one.to_dict() for one in self.tasks],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A pair of runs with its arrays."""

    runs: RunPair
    pairs: PairedValues
    categories: tuple[Category, ...]
    """Of each pair's sample; empty: not read."""


def answer_compare(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a checkpoint, task, category, metric or option that does not exist.
        ComparisonError: runs that are incomplete, do not compare or have other samples.
    """
    if question.n_listed is not None and question.n_listed < 0:
        raise ConfigError(f"--list takes a number of samples >= 0, not {question.n_listed}")
    runs = stored_runs(question.store)
    baseline, candidate = find_side(runs, question.baseline), find_side(runs, question.candidate)
    run_pairs, notes = pair_runs(
        baseline,
        candidate,
        question.tasks,
        question.selects,
        allow_incomplete=question.allow_incomplete,
        overlap=question.overlap,
    )
    notes = [*_same_weights(baseline, candidate, run_pairs), *notes]
    read: list[_Read] = []
    for pair in run_pairs:
        one, more = _read(pair, question)
        read += [one] if one is not None else []
        notes += more
    if not read:
        raise ConfigError(f"no task has the metric {question.metric!r} in both runs; {'; '.join(notes)}")
    _check_dimensions(read, question.dimensions)
    results = compare_family([one.pairs for one in read], question.spec)
    tasks = tuple(_task(one, result, question) for one, result in zip(read, results, strict=True))
    return Answer(
        baseline, candidate, question.metric, question.spec, tasks, tuple(dict.fromkeys([*notes, *_remarks(tasks)]))
    )


def _same_weights(baseline: Side, candidate: Side, pairs: Sequence[RunPair]) -> list[str]:
    if all(pair.baseline.run_id == pair.candidate.run_id for pair in pairs):
        return ["baseline and candidate are the same runs: nothing can differ"]
    if baseline.fingerprint == candidate.fingerprint and not baseline.fingerprint.startswith(IMPORTED):
        return [
            f"baseline and candidate are the same weights (fingerprint {baseline.fingerprint[:16]}): what differs is chance"
        ]
    return []


def _read(pair: RunPair, question: Question) -> tuple[_Read | None, list[str]]:
    """The arrays of a pair of runs and notes; None where a task that was not asked for by name lacks the metric."""
    found = []
    for run in (pair.baseline, pair.candidate):
        rollouts = read_rollouts(run, [question.metric], split=pair.split, categories=_by_category(question))
        if question.metric not in rollouts:
            name = f"{run.manifest.checkpoint.name} on {pair.split.task}"
            lacking = f"{name} has no metric {question.metric!r}; it has: {', '.join(metric_names(run))}"
            if question.tasks is not None:
                raise ConfigError(lacking)
            return None, [f"{pair.split.task} is left out: {lacking}"]
        found.append(rollouts[question.metric])
    try:
        paired = pair_samples(*found, overlap=question.overlap)
    except ComparisonError as error:
        raise ComparisonError(f"{pair.split}: {error}") from error
    unknown = check_questions(pair.baseline, pair.candidate)
    notes = [*_pairing_notes(pair, found, paired), *([unknown] if unknown else [])]
    by_id = dict(zip(found[0].sample_ids, found[0].categories, strict=True)) if found[0].categories else {}
    return _Read(pair, paired, tuple(by_id[key] for key in paired.sample_ids) if by_id else ()), notes


def _by_category(question: Question) -> bool:
    return question.categories or bool(question.dimensions)


def _pairing_notes(pair: RunPair, found: Sequence[Rollouts], paired: PairedValues) -> list[str]:
    notes = []
    union = len(set(found[0].sample_ids) | set(found[1].sample_ids))
    if union > len(paired.sample_ids):
        notes.append(
            f"{pair.split}: only the {len(paired.sample_ids):,} samples that both answered are used, of {union:,}"
        )
    if paired.n_left_out:
        failed = paired.n_unscored.sum(axis=1).tolist()
        notes.append(
            f"{pair.split}: {paired.n_left_out:,} of {len(paired.sample_ids):,} samples are left out, without a score on one "
            f"side or both ({failed[0]:,} rollouts of the baseline and {failed[1]:,} of the candidate are unscored)"
        )
    seeds = [run.manifest.sampling.seed for run in (pair.baseline, pair.candidate)]
    if seeds[0] != seeds[1] and None not in seeds:
        notes.append(f"{pair.split}: sampled with different seeds ({seeds[0]} and {seeds[1]})")
    return notes


def _task(read: _Read, result: PairedComparison, question: Question) -> TaskComparison:
    pair = read.runs
    flips = find_flips(read.pairs, question.flip_threshold)
    details = FlipDetails()
    if question.n_listed != 0:
        details = read_flips(pair.baseline, pair.candidate, flips, question.n_listed)
    return TaskComparison(
        task=str(pair.split),
        baseline_run=pair.baseline.run_id,
        candidate_run=pair.candidate.run_id,
        n_rollouts=pair.baseline.manifest.n_rollouts,
        result=result,
        categories=tuple(_categories(read, question)) if _by_category(question) else (),
        flips=flips,
        details=details,
    )


def _categories(read: _Read, question: Question) -> list[CategoryComparison]:
    """The categories of a task, corrected among themselves."""
    found = {
        (dimension, value): chosen
        for dimension in values_by_dimension(read.categories)
        if question.categories or dimension in question.dimensions
        for value, chosen in sorted(_members(read.categories, dimension).items())
    }
    parts = [read.pairs.part(np.array(chosen, dtype=np.int64)) for chosen in found.values()]
    return [
        CategoryComparison(dimension, value, result)
        for (dimension, value), result in zip(found, compare_family(parts, question.spec), strict=True)
    ]


def _check_dimensions(read: Sequence[_Read], dimensions: Sequence[str]) -> None:
    """Refuse dimensions that no task has."""
    known = {dimension for one in read for dimension in values_by_dimension(one.categories)} if dimensions else set()
    for dimension in dimensions:
        if dimension not in known:
            raise ConfigError(
                f"no task that is compared has a dimension {dimension!r}; they have: {', '.join(sorted(known)) or 'none'}"
            )


def _members(categories: Sequence[Category], dimension: str) -> dict[str, list[int]]:
    """The samples that have each value of a dimension, by position."""
    found: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        for value in category_values(category, dimension):
            found.setdefault(value, []).append(index)
    return found


def _remarks(tasks: Sequence[TaskComparison]) -> list[str]:
    """Why numbers are missing, and where the draws cannot show what the correction asks for."""
    notes = []
    results = [(one.task, one.result) for one in tasks]
    results += [(f"{one.task}[{part.dimension}={part.value}]", part.result) for one in tasks for part in one.categories]
    for name, result in results:
        if result.difference.reason is not None:
            missing = "difference" if result.difference.value is None else "interval"
            notes.append(f"{name}: no {missing}: {result.difference.reason}")
    drawn = [result for _, result in results if result.test is not None and result.test.n_draws is not None]
    for result in drawn:
        draws = result.test.n_draws if result.test else None
        if draws and result.n_family / (draws + 1) >= result.power.alpha:
            notes.append(
                f"{result.n_family:,} tests in a family: {draws:,} sign flips cannot bring a p value below the corrected "
                f"level; raise --permutations beyond {int(result.n_family / result.power.alpha):,}"
            )
            break
    return notes
