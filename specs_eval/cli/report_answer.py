"""From a store to what a report shows: which runs, all numbers, what is missing, and the samples worth looking at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from specs_eval.analysis.comparison import ComparisonSpec, PairedComparison, compare_family
from specs_eval.analysis.generalization import DEFAULT_BETA, Gain
from specs_eval.analysis.report.content import Change, Content, Measurement, Pair
from specs_eval.analysis.report.gf_section import gf_measurements
from specs_eval.analysis.report.wording import checkpoint_label, signed
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.stored.reading import stored_runs
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.analysis.stuck_gaps import stuck_gaps
from specs_eval.cli.chosen_runs import Choice
from specs_eval.cli.gf_answer import Question as GfQuestion
from specs_eval.cli.gf_answer import answer_gf_of
from specs_eval.cli.gf_final import FinalQuestion
from specs_eval.cli.report_runs import ShownRuns, format_pairs, run_facts, shown_runs
from specs_eval.cli.report_tasks import ComparedPair, TaskNumbers, measure_task
from specs_eval.cli.report_training import training_curves
from specs_eval.errors import ConfigError, SpecsEvalError
from specs_eval.splits import parse_split

_METHODS_FOR_A_LINE = 3


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    pairs: tuple[tuple[str, str], ...] = ()
    """ID and OOD tasks or parts of them; empty: those that the names tell."""
    base: str | None = None
    tasks: str | None = None
    gain: Gain | None = None
    beta: float = DEFAULT_BETA
    choice: Choice = field(default_factory=Choice)
    resampling: Resampling = field(default_factory=Resampling)
    final: str | None = None
    """Tasks that GF is set against; None: those outside the pairs, where there are three methods for a line."""
    training: tuple[Path, ...] = ()
    """Folders of training runs beside those that the runs name."""
    starts: tuple[str, ...] = ()
    """SERIES=CHECKPOINT, for series that did not start from the base."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    content: Content
    shown: ShownRuns
    tasks: tuple[TaskNumbers, ...]


def answer_report(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a task, series, base or option that does not exist, or nothing to show.
    """
    shown = shown_runs(stored_runs(question.store), question.tasks, question.base, question.choice)
    compared = compared_pairs(shown)
    tasks = tuple(
        measure_task(task, runs, compared, shown.base, question.resampling) for task, runs in shown.by_task.items()
    )
    names = question.pairs or tuple(format_pairs(shown.by_task))
    final = question.final or _final_tasks(shown, names)
    pairs = tuple(_pair(shown, one, question, final) for one in names)
    measurements = [one for numbers in tasks for one in numbers.measurements]
    measurements += [one for pair in pairs for one in gf_measurements(pair)]
    curves, training_notes = training_curves(shown, question.training)
    content = Content(
        store=question.store.name or str(question.store),
        version=metadata.version("specs-eval"),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        resampling=question.resampling,
        methods=tuple(shown.methods),
        base=None if shown.base is None else shown.base.name,
        base_series=shown.base_series,
        runs=tuple(map(run_facts, shown.runs)),
        measurements=tuple(_base_first(measurements, shown)),
        pairs=pairs,
        changes=tuple(_changes(tasks, compared, question.resampling)),
        stuck=tuple(one for numbers in tasks for one in numbers.stuckness),
        movements=tuple(one for numbers in tasks for one in numbers.movements),
        gaps=tuple(_gaps(pairs, tasks, question.resampling)),
        training=tuple(curves),
        starts=_starts(shown, question.starts),
        correctness={numbers.task: numbers.correctness for numbers in tasks},
        notes=(*shown.notes, *(note for numbers in tasks for note in numbers.notes), *training_notes),
    )
    return Answer(content, shown, tasks)


def _starts(shown: ShownRuns, texts: Sequence[str]) -> dict[str, str]:
    """What each series started from, checked against what is shown."""
    names = [key.name for key in shown.keys]
    found = {}
    for text in texts:
        series, mark, checkpoint = text.partition("=")
        if not mark or series not in shown.methods or checkpoint not in names:
            raise ConfigError(
                f"--start {text}: give SERIES=CHECKPOINT; series: {', '.join(shown.methods)}; checkpoints: {', '.join(names)}"
            )
        found[series] = checkpoint
    return found


def compared_pairs(shown: ShownRuns) -> list[ComparedPair]:
    """The last checkpoint of each series with the base, or with the first of its series where there is no base."""
    found = []
    for method in shown.methods:
        keys = [key for key in shown.keys if key.series == method and key != shown.base]
        against = shown.base or (keys[0] if keys else None)
        if keys and against is not None and keys[-1] != against:
            found.append(ComparedPair(keys[-1], against))
    return found


def _final_tasks(shown: ShownRuns, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Tasks outside the pairs, where there are enough methods for a line."""
    inside = {parse_split(name).task for pair in pairs for name in pair}
    tasks = [task for task in shown.by_task if task not in inside]
    methods = [method for method in shown.methods if method != shown.base_series]
    return ",".join(tasks) if tasks and len(methods) >= _METHODS_FOR_A_LINE else None


def _pair(shown: ShownRuns, names: tuple[str, str], question: Question, final: str | None) -> Pair:
    """GF of one pair of tasks; where there is none, why."""
    gf = GfQuestion(
        store=question.store,
        id_task=names[0],
        ood_task=names[1],
        base=None if shown.base is None else shown.base.name,
        series=(),
        metric="score",
        gain=question.gain,
        beta=question.beta,
        selects=(),
        allow_incomplete=question.choice.allow_incomplete,
        resampling=question.resampling,
        final=None if final is None else FinalQuestion(final),
    )
    notes: list[str] = []
    try:
        try:
            answer = answer_gf_of(shown.runs, gf)
        except SpecsEvalError as error:
            if gf.final is None:
                raise
            notes.append(f"GF is not set against final performance: {error}")
            answer = answer_gf_of(shown.runs, replace(gf, final=None))
    except SpecsEvalError as error:
        return Pair(*names, problem=str(error))
    return Pair(
        answer.id_task,
        answer.ood_task,
        answer.metric,
        answer.gain,
        answer.base,
        answer.series,
        answer.differences,
        answer.final,
        answer.explanation(),
        answer.provenance(),
        (*answer.notes, *notes),
    )


def _changes(tasks: Sequence[TaskNumbers], compared: Sequence[ComparedPair], resampling: Resampling) -> list[Change]:
    """Each compared pair over all tasks and metrics: one family for Holm's correction."""
    spec = ComparisonSpec(level=resampling.level, n_draws=max(10_000, resampling.n_draws), seed=resampling.seed)
    found = []
    for pair in compared:
        family = [
            (numbers, metric, values)
            for numbers in tasks
            for (one, metric), values in numbers.pairs.items()
            if one == pair
        ]
        compared_values = compare_family([values for _, _, values in family], spec) if family else []
        for (numbers, metric, _), result in zip(family, compared_values, strict=True):
            flips = numbers.flips.get(pair) if metric == "score" else None
            found.append(
                Change(
                    series=pair.checkpoint.series,
                    task=numbers.task,
                    metric=metric,
                    checkpoint=_label(pair.checkpoint),
                    against=_label(pair.against),
                    difference=result.difference,
                    verdict=result.outcome,
                    detail=_test(result),
                    gained=None if flips is None else len(flips.gained),
                    lost=None if flips is None else len(flips.lost),
                )
            )
    return found


def _label(key: CheckpointKey) -> str:
    return checkpoint_label(key.name, key.series, key.step)


def _test(result: PairedComparison) -> str:
    """Which test, with which correction, and what it could have seen."""
    if result.test is None:
        return result.difference.reason or "no test"
    text = f"p {_p(result.test.p)} ({result.test.method})"
    if result.p_adjusted is not None:
        text += f", {_p(result.p_adjusted)} after Holm over {result.n_family}"
    effect = result.power.minimum_effect
    return text if effect is None else f"{text}; detectable from {signed(effect, 'difference').lstrip('+')} points on"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _gaps(pairs: Sequence[Pair], tasks: Sequence[TaskNumbers], resampling: Resampling) -> list[Measurement]:
    """OOD minus ID of each measure of stuckness at each checkpoint, for pairs of whole tasks."""
    by_task = {numbers.task: numbers for numbers in tasks}
    found: list[Measurement] = []
    for pair in pairs:
        one, other = by_task.get(pair.id_task), by_task.get(pair.ood_task)
        if one is None or other is None:
            continue
        names = f"{pair.id_task} / {pair.ood_task}"
        gaps = {
            (gap.checkpoint, gap.measure): Measurement(
                f"{gap.measure} gap", names, gap.checkpoint, gap.series, gap.step, gap.difference, ()
            )
            # The base is in every series, and its gap is one number: that of the first.
            for gap in reversed(stuck_gaps(one.measured, other.measured, resampling))
        }
        found += reversed(gaps.values())
    return found


def _base_first(measurements: Sequence[Measurement], shown: ShownRuns) -> list[Measurement]:
    """By method in the order of the page, the base first; otherwise as they come."""
    place = {method: number for number, method in enumerate(shown.methods)}
    return sorted(measurements, key=lambda one: place.get(one.series, len(place)))
