"""Scores by category as the benchmarks' papers print them, and what is known about missing answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.categories import CategoryMean
from specs_eval.cli.cells import fitting, name_cell, percent_cell, result_table, unscored_cells, value_cell
from specs_eval.cli.charts import printable
from specs_eval.cli.run_summary import COVERAGE, PooledMean, RunSummary
from specs_eval.tasks.paper_tables import PaperTable

_LEGEND = {
    "no_answer": "No answer: rollouts in which none was found.",
    "free_credit": "Free credit: points in the score that the official rules give without an answer.",
    "chance_credit": "Chance credit: points, not in the score, that the official random draw adds on average.",
    COVERAGE: "Coverage: share of the answer fields that could be scored; the rest left the mean.",
}


def answers_table(summaries: Sequence[RunSummary], console: Console) -> tuple[Table, list[str]] | None:
    """Missing answers, what the official rules credit for them, and coverage; None where no task says anything.

    Returns:
        The table and the sentences that explain its columns.
    """
    counts = [summary.answers for summary in summaries]
    covers = [one.all_metrics.get(COVERAGE) is not None for one in summaries]
    named = [name for name in _LEGEND if any(name in one for one in counts) or (name == COVERAGE and any(covers))]
    if not named:
        return None
    headings = [printable(_LEGEND[name].partition(":")[0]) + (" %" if name == COVERAGE else "") for name in named]
    table = result_table(console, ["Checkpoint", "Task"], headings)
    for summary, found, covered in zip(summaries, counts, covers, strict=True):
        if not found and not covered:
            continue
        cells = []
        for name in named:
            if name == COVERAGE:
                cells.append(_share(summary.overall().coverage) if covered else Text(""))
            elif name not in found:
                cells.append(Text(""))
            elif name == "no_answer":
                one = found[name]
                share = 100 * one.total / one.n_rollouts if one.n_rollouts else 0.0
                cells.append(Text(f"{one.total:,.0f} ({share:.1f} %)"))
            else:
                cells.append(value_cell(found[name].mean, None, False, 100, 2, signed=True))
        table.add_row(name_cell(_checkpoint(summary)), name_cell(str(summary.split)), *cells)
    return table, [_LEGEND[name] for name in named]


def headline_tables(summaries: Sequence[RunSummary], console: Console) -> list[tuple[str, Table]]:
    """The papers' tables, one a task: a row a run, a column a category, with the title of each."""
    groups: dict[tuple[PaperTable, str], list[RunSummary]] = {}
    for summary in summaries:
        for paper in summary.paper.headline if summary.paper else ():
            if any(value in summary.by_value("score", paper.dimension) for value in paper.columns):
                groups.setdefault((paper, str(summary.split)), []).append(summary)
    several = len({task for _, task in groups}) > 1
    return [
        (paper.title + (f": {task}" if several else ""), _headline(paper, group, console))
        for (paper, task), group in groups.items()
    ]


def _headline(paper: PaperTable, summaries: Sequence[RunSummary], console: Console) -> Table:
    rows = [(summary, metric) for summary in summaries for metric in summary.tabulated]
    several = len({metric for _, metric in rows}) > 1
    means = [(summary.overall(metric), summary.by_value(metric, paper.dimension)) for summary, metric in rows]
    macro = any(overall.macro is not None for overall, _ in means)

    def build(compact: bool) -> Table:
        left = ["Checkpoint", *(["Metric"] if several else [])]
        table = result_table(console, left, [*(["Macro", "Micro"] if macro else ["All"]), *paper.columns.values()])
        for (summary, metric), (overall, by_value) in zip(rows, means, strict=True):
            shown = [overall.macro, overall.micro] if macro else [overall.micro]
            shown += [by_value[value].headline if value in by_value else None for value in paper.columns]
            cells = (
                value_cell(one.value, None if compact else one.interval, True, 100, 1) if one else Text("")
                for one in shown
            )
            names = (_checkpoint(summary), *([metric] if several else []))
            table.add_row(*map(name_cell, names), *cells)
        return table

    return fitting(build, console)


def pooled_table(means: Sequence[PooledMean], console: Console) -> Table | None:
    """The overall score of benchmarks that consist of several tasks; None where no checkpoint ran all of them."""
    if not means:
        return None

    def build(compact: bool) -> Table:
        table = result_table(console, ["Checkpoint", "Benchmark"], ["Macro %", "Micro %", "Tasks", "n", "Coverage %"])
        for one in means:
            mean = one.mean
            table.add_row(
                name_cell(one.checkpoint),
                name_cell(" + ".join(one.tasks)),
                percent_cell(mean.macro, compact),
                percent_cell(mean.micro, compact),
                Text(f"{mean.n_tasks:,}"),
                Text(f"{mean.n_samples:,}"),
                _share(mean.coverage),
            )
        return table

    return fitting(build, console)


def category_tables(summary: RunSummary, metric: str, console: Console) -> list[tuple[str, Table]]:
    """Everything that a run can be broken down by: a table a dimension, with n, intervals, unscored and coverage."""
    tables = []
    for dimension in summary.dimensions(everything=True):
        means = summary.by_value(metric, dimension)
        tables.append((dimension, category_table(dimension, means, console)))
    return tables


def category_table(dimension: str, means: Mapping[str, CategoryMean], console: Console) -> Table:
    """The values of one dimension, a row each."""
    macro = any(mean.macro is not None for mean in means.values())
    failed = any(mean.n_unscored for mean in means.values())

    def build(compact: bool) -> Table:
        scores = ["Macro %", "Micro %"] if macro else ["%"]
        counts = [*(["Tasks"] if macro else []), "n", *(["Unscored"] if failed else []), "Coverage %"]
        table = result_table(console, [printable(dimension)], [*scores, *counts])
        for value, mean in means.items():
            estimates = [mean.macro, mean.micro] if macro else [mean.micro]
            tasks = [Text(f"{mean.n_tasks:,}")] if macro else []
            table.add_row(
                name_cell(value),
                *(percent_cell(one, compact) for one in estimates),
                *tasks,
                Text(f"{mean.n_samples:,}"),
                *unscored_cells(mean.n_unscored, failed),
                _share(mean.coverage),
            )
        return table

    return fitting(build, console)


def _checkpoint(summary: RunSummary) -> str:
    return summary.run.manifest.checkpoint.name


def _share(value: float | None) -> Text:
    return Text("-", "dim") if value is None else Text(f"{100 * value:.1f}")
