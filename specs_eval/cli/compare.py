"""``specs-eval compare``: is a checkpoint better than another, on which tasks, and how sure is that?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from specs_eval.analysis.comparison import ComparisonSpec
from specs_eval.analysis.flips import DEFAULT_FLIP
from specs_eval.cli.analysis_options import comparison_options
from specs_eval.cli.charts import printable, results_console
from specs_eval.cli.compare_answer import Answer, Question, answer_compare
from specs_eval.cli.compare_tables import category_rows, difference_table, flip_lines, power_table, task_rows
from specs_eval.errors import EXIT_INCOMPLETE


@click.command()
@click.argument("baseline")
@click.argument("candidate")
@click.option(
    "--tasks", metavar="TASK,...", help="Tasks or parts, such as mathvista[grade=college]. Default: all common."
)
@click.option("--metric", default="score", show_default=True, help="score, or a further metric such as accuracy.")
@click.option("--categories", is_flag=True, help="Also by category, in all dimensions.")
@click.option(
    "--by", "dimensions", multiple=True, metavar="DIM", help="Also by category of this dimension; repeatable."
)
@click.option(
    "--effect",
    type=float,
    metavar="SHARE",
    help="Samples needed for this difference (0.02: two points), not the observed.",
)
@click.option("--power", type=float, default=0.8, show_default=True, help="Power of the detectable effect.")
@click.option(
    "--flip",
    "flip_threshold",
    type=float,
    default=DEFAULT_FLIP,
    show_default=True,
    help="Change from which on a sample flips.",
)
@click.option("--list", "n_listed", type=int, default=0, metavar="N", help="Show N samples that flipped each way.")
@click.option("--overlap", is_flag=True, help="Use the samples that both answered, where they differ.")
@click.option(
    "--permutations", type=int, default=10_000, show_default=True, metavar="N", help="Draws of the permutation test."
)
@comparison_options
def compare(
    baseline: str,
    candidate: str,
    tasks: str | None,
    metric: str,
    categories: bool,
    dimensions: tuple[str, ...],
    effect: float | None,
    power: float,
    flip_threshold: float,
    n_listed: int,
    overlap: bool,
    permutations: int,
    store: Path,
    selects: tuple[str, ...],
    allow_incomplete: bool,
    level: float,
    seed: int,
    as_json: bool,
) -> None:
    """CANDIDATE against BASELINE: paired differences, tests, what could have been seen, samples that flipped.

    A checkpoint is named by name, path, series and step (dpo/20), series, or the start of its fingerprint. Exits with 0
    whatever the outcome; with 3 where nothing can be compared.

    \b
    specs-eval compare base dpo/20 --tasks formats_ood --by format --list 5
    """
    question = Question(
        store=store,
        baseline=baseline,
        candidate=candidate,
        tasks=tasks,
        metric=metric,
        categories=categories,
        dimensions=dimensions,
        selects=selects,
        allow_incomplete=allow_incomplete,
        overlap=overlap,
        spec=ComparisonSpec(level, permutations, seed, power, effect),
        flip_threshold=flip_threshold,
        n_listed=None if as_json else n_listed,
    )
    answer = answer_compare(question)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        show(answer, results_console())
    if all(one.result.difference.value is None for one in answer.tasks):
        sys.exit(EXIT_INCOMPLETE)


def show(answer: Answer, console: Console) -> None:
    """The summary, the tables, the samples that flipped, and what the numbers mean."""
    console.print(Text(printable(answer.summary()), "bold"))
    console.print()
    console.print(difference_table("Task", task_rows(answer), console))
    for task in answer.tasks:
        if task.categories:
            console.print(Text(printable(f"Categories of {task.task}"), "bold"))
            console.print(difference_table("Category", category_rows(task), console))
    console.print(power_table(answer.tasks, console))
    for task in answer.tasks:
        if task.details.gained or task.details.lost:
            for line in flip_lines(task):
                console.print(line)
            console.print()
    console.print(Text(printable(answer.explanation())))
    console.print(Text(answer.provenance(), "dim"))
    for note in answer.notes:
        console.print(Text(f"Note: {printable(note)}", "yellow"))
