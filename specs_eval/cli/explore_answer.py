"""From a store to the exploration numbers of its runs, and how they move along each series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from specs_eval.analysis.exploration import Exploration, ExplorationSpec, MeasuredRun, describe_runs, measure_run
from specs_eval.analysis.movement import Move, Movement, PlacedRun, check_same_samples, movements
from specs_eval.analysis.positions import NOT_STORED, PositionBin, over_positions
from specs_eval.analysis.samples import restrict
from specs_eval.analysis.stored.reading import read_correctness, read_positions, stored_runs
from specs_eval.analysis.stored.selection import CheckpointKey, check_comparable, several_runs
from specs_eval.cli.chosen_runs import Choice, along_series, asked_splits, base_of, chosen_runs
from specs_eval.errors import ComparisonError
from specs_eval.splits import Split
from specs_eval.store import StoredRun


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    tasks: str | None = None
    """Tasks or parts of them, as typed; None: every task of the store."""
    metric: str | None = None
    """What makes a rollout correct; None: accuracy where there is one, else score."""
    spec: ExplorationSpec = field(default_factory=ExplorationSpec)
    over_position: bool = False
    """Also entropy and nucleus size over the position in the response."""
    choice: Choice = field(default_factory=Choice)


@dataclass(frozen=True, slots=True)
class Explored:
    """The exploration of one run."""

    checkpoint: str
    series: str
    step: int | None
    task: str
    """The task, or the part of it."""
    metric: str
    """What decides whether a rollout is correct."""
    temperature: float | None
    run: str
    result: Exploration
    positions: tuple[PositionBin, ...]
    """Empty: not asked for, or not stored."""

    def label(self) -> str:
        """Series and step, or the name where there is no step."""
        return self.checkpoint if self.step is None else f"{self.series} {self.step}"

    def to_dict(self) -> dict[str, object]:
        """The numbers as plain JSON types."""
        return {
            "checkpoint": self.checkpoint,
            "series": self.series,
            "step": self.step,
            "task": self.task,
            "metric": self.metric,
            "temperature": self.temperature,
            "run": self.run,
            **self.result.to_dict(),
            "positions": [one.to_dict() for one in self.positions],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    runs: tuple[Explored, ...]
    """By task as asked for, then by series and step."""
    movements: tuple[Movement, ...]
    """From the first to the last checkpoint of each series with several, by task."""
    spec: ExplorationSpec
    notes: tuple[str, ...]
    """What is missing or was left out, one sentence each."""

    def explanation(self) -> str:
        """What the words mean."""
        return (
            "pass@k: a share of samples that one of k rollouts solves (unbiased); unsolvable@k: those that none solves; "
            "maj@k: those that the majority solves. RBF: tokens in the 95 % nucleus, averaged over positions; RBF@m: had "
            "only m samples been evaluated."
        )

    def provenance(self) -> str:
        """Where the intervals come from."""
        drawn = self.spec.resampling
        return (
            f"{100 * drawn.level:g} % intervals: shares by Wilson at the effective sample size; RBF@m by an m-out-of-n "
            f"bootstrap; the rest, and changes (paired), by a cluster bootstrap ({drawn.n_draws:,} draws, seed "
            f"{drawn.seed})."
        )

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        drawn = self.spec.resampling
        return {
            "command": "explore",
            "level": drawn.level,
            "n_draws": drawn.n_draws,
            "seed": drawn.seed,
            "explanation": self.explanation(),
            "runs": [one.to_dict() for one in self.runs],
            "movements": [one.to_dict() for one in self.movements],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """One run of one split, reduced to arrays."""

    split: Split
    run: StoredRun
    metric: str
    measured: MeasuredRun
    positions: tuple[PositionBin, ...]

    @property
    def key(self) -> CheckpointKey:
        return CheckpointKey.of(self.run.manifest)

    def placed(self, result: Exploration) -> PlacedRun:
        """The run with its checkpoint's name and step."""
        return PlacedRun(self.key.name, self.key.step, self.measured, result)


def answer_explore(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a task, series, metric or option that does not exist.
        ComparisonError: runs that are incomplete, unless allowed.
    """
    stored = stored_runs(question.store)
    chosen = chosen_runs(stored, asked_splits(stored, question.tasks), question.choice)
    read = [_read(split, run, question) for split, runs in chosen.items() for run in runs]
    results = describe_runs([one.measured for one in read], question.spec)
    explored = [_explored(one, result) for one, result in zip(read, results, strict=True)]
    notes = [sentence for runs in chosen.values() for sentence in several_runs(runs)]
    moves, more = _moves(read, results, base_of(stored, question.choice), question)
    return Answer(
        runs=tuple(explored),
        movements=tuple(movements(moves, question.spec.resampling)),
        spec=question.spec,
        notes=(*dict.fromkeys([*notes, *more]), *_notes(explored, question.over_position)),
    )


def _read(split: Split, run: StoredRun, question: Question) -> _Read:
    name, found = read_correctness(run, question.metric, split=split, statistics=True)
    bins: tuple[PositionBin, ...] = ()
    if question.over_position:
        statistics = read_positions(run, split)
        bins = () if statistics is None else over_positions(statistics, question.spec.resampling)
    return _Read(split, run, name, measure_run(found[name], question.spec.threshold), bins)


def _explored(one: _Read, result: Exploration) -> Explored:
    manifest = one.run.manifest
    return Explored(
        checkpoint=manifest.checkpoint.name,
        series=manifest.checkpoint.series,
        step=manifest.checkpoint.step,
        task=str(one.split),
        metric=one.metric,
        temperature=manifest.sampling.temperature,
        run=one.run.run_id,
        result=result,
        positions=one.positions,
    )


def _moves(
    read: Sequence[_Read], results: Sequence[Exploration], base: CheckpointKey | None, question: Question
) -> tuple[list[Move], list[str]]:
    """First (or base) and last checkpoint of each series, and why a series has no movement.

    A task of which some checkpoint has several runs is left out: `several_runs` says how to choose.
    """
    by_split: dict[Split, list[tuple[_Read, Exploration]]] = {}
    for one, result in zip(read, results, strict=True):
        by_split.setdefault(one.split, []).append((one, result))
    moves, notes = [], []
    for split, members in by_split.items():
        found = {one.key: (one, result) for one, result in members}
        if base is not None and base not in found:
            notes.append(f"{base.name}, the base, has no run of {split}")
        for series, keys in along_series(found, base).items():
            several = len(keys) < sum(one.key in keys for one, _ in members)
            if len(keys) < 2 or several:
                continue
            try:
                moves.append(_move(series, [found[key] for key in keys], question))
            except ComparisonError as error:
                notes.append(f"no movement of {series} on {split}: {error}")
    return moves, notes


def _move(series: str, group: Sequence[tuple[_Read, Exploration]], question: Question) -> Move:
    check_comparable([one.run for one, _ in group], [])
    ends = [group[0], group[-1]]
    names = [set(one.measured.counts.samples.sample_ids) for one, _ in ends]
    if names[0] != names[1] and question.choice.allow_incomplete:
        ends = [_cut(one, names[0] & names[1], question) for one, _ in ends]
    first, last = (one.placed(result) for one, result in ends)
    move = Move(series, str(ends[0][0].split), first, last)
    check_same_samples(move)
    return move


def _cut(one: _Read, kept: set[str], question: Question) -> tuple[_Read, Exploration]:
    """The run over some of its samples only, read again."""
    if not kept:
        raise ComparisonError("its first and last checkpoint have no sample in common")
    _, found = read_correctness(one.run, one.metric, split=one.split, statistics=True)
    measured = measure_run(restrict(found[one.metric], kept), question.spec.threshold)
    return replace(one, measured=measured), describe_runs([measured], question.spec)[0]


def _notes(explored: Sequence[Explored], over_position: bool) -> list[str]:
    """What is missing and how to get it, each sentence once, with the runs that it is about."""
    about: dict[str, list[str]] = {}
    for one in explored:
        reasons = _missing(one)
        if over_position and not one.positions:
            reasons.append(f"nothing over position: {NOT_STORED}")
        for reason in reasons:
            about.setdefault(reason, []).append(f"{one.checkpoint} on {one.task}")
    return [f"{reason} ({_some(names)})" for reason, names in about.items()]


def _missing(one: Explored) -> list[str]:
    result = one.result
    reasons = []
    for what, estimate in (
        ("RBF", result.rbf),
        ("entropy", result.entropy),
        ("distinct answers", result.distinct),
        *((f"pass@{at.k}", at.pass_at_k) for at in result.at_k),
        *((f"maj@{at.k}", at.majority) for at in result.at_k),
        *((f"RBF@{at.n_samples}", at.rbf) for at in result.rbf_at if result.rbf.value is not None),
    ):
        if estimate.value is None and estimate.reason is not None:
            reasons.append(f"no {what}: {estimate.reason}")
    if one.temperature == 0 and result.most_rollouts > 1:
        reasons.append("temperature 0: all rollouts of a sample are the same; use --temperature 1 to see exploration")
    if result.fewest_rollouts != result.most_rollouts:
        reasons.append("samples differ in scored rollouts; each pass@k is over the samples that have k")
    return reasons


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
