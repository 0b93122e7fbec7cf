"""From content to document: which sections there are, in which order, and what each says."""

from __future__ import annotations

from collections.abc import Sequence

from specs_eval.analysis.report.content import Content, Measurement, RunFacts
from specs_eval.analysis.report.curves import Frame, Look, step_figure, training_figure
from specs_eval.analysis.report.document import Cell, Document, Section, Table
from specs_eval.analysis.report.exploration_sections import branching_section, solving_section
from specs_eval.analysis.report.findings import change_table, findings
from specs_eval.analysis.report.gf_section import gf_section
from specs_eval.analysis.report.maps import by_dimension, category_map
from specs_eval.analysis.report.palette import styles
from specs_eval.analysis.report.stuck_section import stuck_section
from specs_eval.analysis.report.wording import counted, estimate_cell, quantity_name

_NOT_METRICS = frozenset(
    {"pass@k", "unsolvable@k", "maj@k", "rbf", "rbf@samples", "entropy", "distinct", "effective", "id", "ood", "gf"}
    | {"wrong_mode", "persistence"}
)
"""Quantities that have sections of their own."""


def document(content: Content) -> Document:
    """Arrange the content as sections."""
    look = Look(styles(content.methods, content.base_series), content.base_series, content.starts)
    resampling = content.resampling
    built = (
        _summary(content),
        _scores(content, look),
        gf_section(content.pairs, look),
        solving_section(content, look),
        branching_section(content, look),
        stuck_section(content, look),
        _categories(content),
        _training(content, look),
        _provenance(content),
    )
    tasks = dict.fromkeys(run.task for run in content.runs)
    checkpoints = dict.fromkeys(run.checkpoint for run in content.runs)
    return Document(
        title="Does it generalize, and can it still explore?",
        subtitle=f"{counted(len(checkpoints), 'checkpoint')}, {counted(len(tasks), 'task')}, "
        f"{counted(sum(run.n_present for run in content.runs), 'rollout')}",
        version=content.version,
        methods=content.methods,
        base=content.base_series,
        sections=tuple(section for section in built if section is not None),
        facts={
            "Store": content.store,
            "Base": content.base or "none",
            "Intervals": f"{100 * resampling.level:g} %",
            "Bootstrap": f"{resampling.n_draws:,} draws, seed {resampling.seed}",
            "Written": content.created,
            "specs-eval": content.version,
        },
    )


def _summary(content: Content) -> Section:
    table = change_table(content)
    more = () if table is None else (table,)
    p = f"{1 - content.resampling.level:.3g}"
    lead = (
        "Last checkpoint of each method against the base, or against its first checkpoint where there is no base. Improved or "
        f"regressed: the interval leaves out 0, and p after Holm's correction over the tasks and metrics is below {p}."
    )
    lead = lead if content.changes else ""
    return Section("summary", "Summary", lead, more=more, notes=content.notes, findings=findings(content))


def _scores(content: Content, look: Look) -> Section:
    """The table; curves of the tasks that the section on GF does not draw."""
    metrics = [one for one in content.measurements if not one.dimension and one.quantity not in _NOT_METRICS]
    tasks = list(dict.fromkeys(one.task for one in metrics))
    in_pairs = {task for pair in content.pairs if pair.problem is None for task in (pair.id_task, pair.ood_task)}
    lead = (
        "Mean over samples of the mean over scored rollouts, percent, with intervals by Wilson at the effective sample "
        "size (clustered where the task has groups)."
    )
    figures = tuple(
        step_figure(
            Frame(f"score-{place}", f"Score: {task}", "score"),
            [one for one in metrics if one.task == task and one.quantity == "score"],
            look,
        )
        for place, task in enumerate(tasks)
        if task not in in_pairs
    )
    more = tuple(_metric_table(task, metrics) for task in tasks)
    return Section("scores", "Scores", lead, figures, (_score_table(metrics, tasks),), more)


def _score_table(metrics: Sequence[Measurement], tasks: Sequence[str]) -> Table:
    at = {(one.checkpoint, one.task): one for one in metrics if one.quantity == "score"}
    rows = []
    for checkpoint, label, series in dict.fromkeys((one.checkpoint, one.label, one.series) for one in metrics):
        cells = [_with_n(at.get((checkpoint, task))) for task in tasks]
        rows.append((Cell(label, method=series), *cells))
    return Table("Score of each checkpoint on each task, percent", ("Checkpoint", *tasks), tuple(rows))


def _with_n(one: Measurement | None) -> Cell:
    """Value, interval and n: the table has one column a task."""
    if one is None:
        return Cell("")
    cell = estimate_cell(one.estimate, one.quantity)
    unscored = f", {one.estimate.n_unscored:,} unscored" if one.estimate.n_unscored else ""
    return Cell(cell.text, f"{cell.detail} n {one.estimate.n_samples:,}{unscored}".strip())


def _metric_table(task: str, metrics: Sequence[Measurement]) -> Table:
    of_task = [one for one in metrics if one.task == task]
    names = sorted(dict.fromkeys(one.quantity for one in of_task), key=lambda name: name != "score")
    at = {(one.checkpoint, one.quantity): one.estimate for one in of_task}
    rows = []
    for checkpoint, label, series in dict.fromkeys((one.checkpoint, one.label, one.series) for one in of_task):
        score = at.get((checkpoint, "score"))
        cells = [estimate_cell(at.get((checkpoint, name)), name) for name in names]
        counts = (Cell(f"{score.n_samples:,}" if score else ""), Cell(f"{score.n_unscored:,}" if score else ""))
        rows.append((Cell(label, method=series), *cells, *counts))
    headings = ("Checkpoint", *(f"{quantity_name(name)} %" for name in names), "n", "Unscored")
    return Table(f"All metrics of {task}", headings, tuple(rows))


def _categories(content: Content) -> Section | None:
    figures = tuple(
        category_map(f"category-{place}", f"{task} by {dimension}", "score", ones)
        for place, ((task, dimension), ones) in enumerate(by_dimension(content.measurements).items())
    )
    if not figures:
        return None
    return Section("categories", "Categories", "Score by category and checkpoint, percent.", figures)


def _training(content: Content, look: Look) -> Section | None:
    figures = tuple(
        training_figure(
            Frame(f"training-{place}", quantity, "logged"),
            [curve for curve in content.training if curve.quantity == quantity],
            look,
        )
        for place, quantity in enumerate(dict.fromkeys(curve.quantity for curve in content.training))
    )
    if not figures:
        return None
    return Section("training", "Training", "As logged by the trainer beside the checkpoints.", figures)


def _provenance(content: Content) -> Section:
    lead = (
        "Every number above comes from these runs. A run is one checkpoint on one task under one sampling specification; "
        "the digits beside a checkpoint are the fingerprint of its weights, and a task version covers questions and scoring."
    )
    table = Table("Runs", _RUN_HEADINGS, tuple(map(_run_row, content.runs)))
    return Section("provenance", "Provenance", lead, tables=(table,))


_RUN_HEADINGS = ("Checkpoint", "Task", "Samples x rollouts", "Sampling", "Task version", "Run")


def _run_row(run: RunFacts) -> tuple[Cell, ...]:
    complete = "" if run.complete else "not complete"
    return (
        Cell(run.label, run.fingerprint, method=run.series),
        Cell(run.task, f"of {run.n_task_samples:,} samples"),
        Cell(f"{run.n_samples:,} x {run.n_rollouts}", complete, "open" if complete else ""),
        Cell(run.sampling, run.backend),
        Cell(run.task_version),
        Cell(run.run, f"started {run.started}"),
    )
