"""``specs-eval results``: what the store holds, as the tables that ``specs-eval run`` ends with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.run import STORE_OPTION

if TYPE_CHECKING:
    from rich.console import Console

    from specs_eval.cli.run_summary import RunSummary

CATEGORIES_OPTION = click.option(
    "--categories", is_flag=True, help="Also every category of the samples, with intervals, n and coverage."
)


@click.command()
@click.option("--tasks", "task_list", metavar="TASKS", help="Only these, or parts of them: TASK[DIMENSION=VALUE].")
@STORE_OPTION
@click.option("--series", multiple=True, metavar="NAME", help="Only this series; repeatable. Default: all.")
@click.option("--select", "selects", multiple=True, metavar="FIELD=VALUE", help="Only runs with this value.")
@click.option("--allow-incomplete", is_flag=True, help="Also show runs that are not finished.")
@CATEGORIES_OPTION
@click.option("--level", type=float, default=0.95, show_default=True, help="Coverage of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def results(
    task_list: str | None,
    store: Path,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    categories: bool,
    level: float,
    as_json: bool,
) -> None:
    """Show stored runs: scores, missing answers, and the tables of the benchmarks' papers.

    MathVista by task and skill, MMMU by domain, MEGA-Bench by application with its macro and micro means; with
    --categories everything else that the samples are categorized by.

    \b
    specs-eval results --tasks mmmu,megabench
    specs-eval results --tasks easyvqa --categories
    """
    from specs_eval.analysis.stored.reading import stored_runs
    from specs_eval.cli.charts import results_console
    from specs_eval.cli.chosen_runs import Choice, asked_splits, chosen_runs
    from specs_eval.cli.run_summary import RunSummary

    runs = stored_runs(store)
    choice = Choice(series, selects, allow_incomplete)
    chosen = chosen_runs(runs, asked_splits(runs, task_list), choice)
    summaries = [RunSummary(run, split, level) for split, kept in chosen.items() for run in kept]
    if as_json:
        facts = results_facts(summaries, everything=categories, level=level)
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    show_summaries(summaries, results_console(), categories=categories, level=level)


def results_facts(
    summaries: Sequence[RunSummary], *, everything: bool = False, level: float = 0.95
) -> dict[str, list[dict[str, Any]]]:
    """Runs, and benchmarks over several of them, as plain JSON types."""
    from specs_eval.cli.run_summary import pooled_means, run_facts

    return {
        "runs": [run_facts(summary, everything=everything) for summary in summaries],
        "benchmarks": [mean.to_dict() for mean in pooled_means(summaries, level)],
    }


def show_summaries(
    summaries: Sequence[RunSummary], console: Console, *, categories: bool = False, level: float = 0.95
) -> None:
    """Score table, answers and coverage, the papers' tables; with `categories` each run by everything."""
    from rich.text import Text

    from specs_eval.cli.category_tables import answers_table, category_tables, headline_tables, pooled_table
    from specs_eval.cli.charts import printable
    from specs_eval.cli.result_tables import ScoreRow, score_table
    from specs_eval.cli.run_summary import pooled_means

    if not summaries:
        return
    rows = [
        ScoreRow(one.run.manifest.checkpoint.name, str(one.split), one.run.manifest.n_rollouts, one.metrics)
        for one in summaries
    ]
    console.print(score_table(rows, console))
    console.print(f"Percent with {100 * level:g} % intervals (clustered where samples share an image).")
    macro = dict.fromkeys(str(one.split) for one in summaries if one.macro_over)
    if macro:
        tasks = printable(", ".join(macro))
        console.print(Text(f"{tasks}: the mean over queries (micro); the published score, the macro mean, is below."))
    answers = answers_table(summaries, console)
    if answers is not None:
        console.print()
        console.print(answers[0])
        for sentence in answers[1]:
            console.print(Text(sentence, "dim"))
    for title, table in headline_tables(summaries, console):
        console.print()
        console.print(Text(f"{title}, %", "bold"))
        console.print(table)
    overall = pooled_table(pooled_means(summaries, level), console)
    if overall is not None:
        console.print()
        console.print(Text("Whole benchmarks", "bold"))
        console.print(overall)
    for summary in summaries if categories else ():
        for metric in summary.tabulated:
            for dimension, table in category_tables(summary, metric, console):
                name = f"{summary.run.manifest.checkpoint.name} on {summary.split}: {metric} by {dimension}"
                console.print()
                console.print(Text(printable(name), "bold"))
                console.print(table)
