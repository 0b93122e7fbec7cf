"""How ``specs-eval score`` shows its totals: as JSON, as a table, and by category."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.charts import printable, results_console

if TYPE_CHECKING:
    from rich.console import Console

    from specs_eval.analysis.categories import CategoryMean
    from specs_eval.cli.score_totals import TaskRows, Totals
    from specs_eval.tasks.breakdowns import Breakdown, Total

MAX_SHOWN_PROBLEMS = 10


def summary(totals: Totals, output: Path, source: str, profile: str) -> dict[str, Any]:
    """Totals by benchmark and model as plain JSON types."""
    return {
        "output": str(output),
        "profile": profile,
        "from": source,
        "n_rows": totals.n_rows,
        "n_unscored": len(totals.problems),
        "problems": totals.problems[:1000],
        "models": [
            {
                "benchmark": benchmark,
                "model": model,
                **_total(group.overall),
                "metrics": {name: _total(total) for name, total in group.metrics.items()},
                "categories": {
                    dimension: {value: _total(total) for value, total in totals_by_value.items()}
                    for dimension, totals_by_value in group.sorted_parts()
                },
                **_tasks(totals.tasks.get((benchmark, model))),
            }
            for (benchmark, model), group in sorted(totals.groups.items())
        ],
    }


def _total(total: Total) -> dict[str, Any]:
    from specs_eval.analysis.statistics import share_interval

    mean = total.mean
    facts: dict[str, Any] = {"mean": mean, "sum": total.score, "n": total.n, "n_unscored": total.n_unscored}
    facts["coverage"] = total.n / (total.n + total.n_unscored) if total.n + total.n_unscored else None
    if mean is not None and 0 <= mean <= 1 and total.n > 1:
        stderr = (mean * (1 - mean) / (total.n - 1)) ** 0.5
        interval = share_interval(mean, stderr, total.n)
        facts["interval"] = [interval.low, interval.high]
    return facts


def _tasks(rows: TaskRows | None) -> dict[str, Any]:
    """Means over tasks, for a benchmark that consists of tasks."""
    if rows is None:
        return {}
    means = rows.means()
    return {
        "overall": means.overall().to_dict(),
        "categories": {
            dimension: {value: mean.to_dict() for value, mean in means.by_value(dimension).items()}
            for dimension in _dimensions()
        },
    }


def _dimensions() -> tuple[str, ...]:
    """What MEGA-Bench is broken down by, in its paper's order; core and open tasks first."""
    from specs_eval.tasks.paper_tables import paper_tables

    paper = paper_tables("megabench")
    return ("kind", *(paper.dimensions if paper is not None else ()))


def show(totals: Totals, output: Path, profile: str, *, with_categories: bool) -> None:
    """Print the table, on request the categories, and the first rows without a score."""
    from rich.table import Table

    console = results_console()
    table = Table(title=f"profile {profile}", title_justify="left", box=None, header_style="bold")
    for name in ("Benchmark", "Model", "Score %", "n", "No answer", "Free credit", "Chance credit", "Unscored"):
        table.add_column(name, justify="left" if name in ("Benchmark", "Model") else "right", overflow="fold")
    for (benchmark, model), group in sorted(totals.groups.items()):
        total = group.overall
        counts = [_count(group, name) for name in ("no_answer", "free_credit", "chance_credit")]
        cells = [_percent(total.mean), f"{total.n:,}", *counts, str(total.n_unscored) if total.n_unscored else ""]
        table.add_row(benchmark, model, *cells)
    console.print(table)
    if with_categories:
        _show_categories(totals, console)
    console.print(f"\n{totals.n_rows:,} rows -> {output}", highlight=False, markup=False)
    for problem in totals.problems[:MAX_SHOWN_PROBLEMS]:
        click.echo(f"unscored: {problem}", err=True)
    if len(totals.problems) > MAX_SHOWN_PROBLEMS:
        click.echo(f"... and {len(totals.problems) - MAX_SHOWN_PROBLEMS:,} more without a score", err=True)


def _show_categories(totals: Totals, console: Console) -> None:
    for key, group in sorted(totals.groups.items()):
        name = printable(" ".join(key))
        for dimension, values in group.sorted_parts():
            console.print(f"\n{name}: {dimension}", highlight=False, markup=False)
            for value, total in values.items():
                console.print(f"  {value:<44} {_line(total)}", highlight=False, markup=False)
        if key in totals.tasks:
            from specs_eval.cli.category_tables import category_table

            for dimension, means in _shown_means(totals.tasks[key]):
                console.print(f"\n{name}: {dimension}", highlight=False, markup=False)
                console.print(category_table(dimension, means, console))


def _shown_means(rows: TaskRows) -> Iterator[tuple[str, dict[str, CategoryMean]]]:
    """The dimensions with their values, without those that have too many for a terminal (the single tasks)."""
    from specs_eval.cli.run_summary import MAX_LISTED

    means = rows.means()
    yield "all tasks", {"all": means.overall()}
    for dimension in _dimensions():
        by_value = means.by_value(dimension)
        if dimension != "task" and 0 < len(by_value) <= MAX_LISTED:
            yield dimension, by_value


def _line(total: Total) -> str:
    """Mean, interval, n and what has no score."""
    facts = _total(total)
    interval = facts.get("interval")
    bounds = f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    unscored = f", {total.n_unscored} unscored" if total.n_unscored else ""
    return f"{_percent(total.mean):>6} {bounds:<14} n {total.n}{unscored}"


def _count(group: Breakdown, name: str) -> str:
    total = group.metrics.get(name)
    return f"{total.score:,.4g}" if total is not None else ""


def _percent(mean: float | None) -> str:
    return "-" if mean is None else f"{100 * mean:.2f}"
