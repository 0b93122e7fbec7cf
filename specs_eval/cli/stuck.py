"""``specs-eval stuck``: which samples a checkpoint answers wrongly in the same way every time, and whether it gets unstuck."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.statistics import Estimate
from specs_eval.analysis.stuck_series import StuckSeries
from specs_eval.analysis.stuckness import DEFAULT_MODE_SHARE, StuckRule
from specs_eval.cli.analysis_options import analysis_options
from specs_eval.cli.charts import Line, print_chart, printable, results_console
from specs_eval.cli.chosen_runs import Choice
from specs_eval.cli.stuck_answer import Answer, Question, answer_stuck
from specs_eval.cli.stuck_tables import gap_table, sample_table, stuck_table, transition_of_steps, transition_table
from specs_eval.errors import EXIT_INCOMPLETE


@click.command()
@click.option("--id", "id_task", metavar="TASK", help="In-distribution task, or a part of one: task[dimension=value].")
@click.option("--ood", "ood_task", metavar="TASK", help="Out-of-distribution task, or a part of one.")
@click.option("--tasks", "task_list", metavar="TASK,...", help="Instead of --id and --ood. Default: all in the store.")
@click.option("--base", metavar="CKPT", help="Model that training started from: the first point of every series.")
@click.option("--metric", help="What makes a rollout correct. Default: accuracy where there is one, else score.")
@click.option("--threshold", type=float, default=1.0, show_default=True, help="Correct from this value of it on.")
@click.option(
    "--mode-share",
    type=float,
    default=DEFAULT_MODE_SHARE,
    show_default=True,
    help="Stuck when one wrong answer holds this share of a sample's rollouts.",
)
@click.option("--list", "n_listed", type=click.IntRange(0), default=10, show_default=True, metavar="N",
              help="Stuck samples to show of each series' last checkpoint; --json has all of all.")  # fmt: skip
@analysis_options
def stuck(
    id_task: str | None,
    ood_task: str | None,
    task_list: str | None,
    base: str | None,
    metric: str | None,
    threshold: float,
    mode_share: float,
    n_listed: int,
    store: Path,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    bootstrap: int,
    level: float,
    seed: int,
    as_json: bool,
) -> None:
    """Wrong-mode share, format lock-in, persistence between checkpoints, and ID against OOD.

    \b
    specs-eval stuck --id formats_id --ood formats_ood --base base
    specs-eval stuck --tasks 'mathvista[skill=algebra]' --list 20
    """
    question = Question(
        store=store,
        tasks=task_list,
        id_task=id_task,
        ood_task=ood_task,
        metric=metric,
        rule=StuckRule(mode_share, threshold),
        choice=Choice(series, selects, allow_incomplete, base),
        resampling=Resampling(bootstrap, level, seed),
    )
    answer = answer_stuck(question)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        show(answer, n_listed, results_console())
    if all(point.wrong_mode.value is None and point.lock_in is None for one in answer.series for point in one.points):
        sys.exit(EXIT_INCOMPLETE)


def show(answer: Answer, n_listed: int, console: Console) -> None:
    """Tables, curves, lists and what they mean."""
    for series in answer.series:
        _show_series(series, answer, n_listed, console)
    for name in dict.fromkeys(gap.series for gap in answer.gaps):
        console.print()
        console.print(Text(printable(f"ID {answer.id_task} against OOD {answer.ood_task}, series {name}"), "bold"))
        console.print(gap_table([gap for gap in answer.gaps if gap.series == name], console))
    console.print()
    console.print(Text(answer.explanation()))
    console.print(Text(answer.provenance(), "dim"))
    for note in (*answer.notes, *_reasons(answer)):
        console.print(Text(f"Note: {printable(note)}", "yellow"))


def _show_series(series: StuckSeries, answer: Answer, n_listed: int, console: Console) -> None:
    console.print()
    correct = f"correct = {series.metric} >= {answer.rule.threshold:g}"
    start = "" if answer.base is None else f" from {answer.base} (step 0)"
    console.print(Text(printable(f"{series.task}, series {series.series}{start}  ({correct})"), "bold"))
    console.print(stuck_table(series, console))
    if series.transitions:
        console.print(transition_table(series, console))
        console.print(Text("Persistence over all: " + _in_words(series.persistence)))
    print_chart(_curves(series), console)
    last = series.points[-1]
    shown = last.samples[:n_listed]
    if shown:
        console.print(Text(printable(f"Stuck at {last.checkpoint}: {len(shown):,} of {len(last.samples):,}"), "bold"))
        console.print(sample_table(shown, console))


def _in_words(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"- ({estimate.reason})"
    text = f"{100 * estimate.value:.1f} %"
    if estimate.interval is not None:
        text += f" [{100 * estimate.interval.low:.1f}, {100 * estimate.interval.high:.1f}]"
    return f"{text} of {estimate.n_samples:,} stuck samples stay in the same answer"


def _curves(series: StuckSeries) -> list[Line]:
    """Wrong-mode share, persistence and format against step."""
    stepped = [(float(point.step), point) for point in series.points if point.step is not None]
    wrong = tuple((step, point.wrong_mode.value) for step, point in stepped if point.wrong_mode.value is not None)
    locked = tuple(
        (step, point.lock_in.trained.value)
        for step, point in stepped
        if point.lock_in is not None and point.lock_in.trained.value is not None
    )
    kept = tuple(pair for pair in map(transition_of_steps, series.transitions) if pair is not None)
    return [
        Line("F", "trained format %", "cyan", locked),
        Line("P", "persistence %", "magenta", kept),
        Line("W", "wrong mode %", "bold red", wrong),
    ]


def _reasons(answer: Answer) -> list[str]:
    """Why a wrong-mode share is missing, each sentence once."""
    found: dict[str, list[str]] = {}
    for series in answer.series:
        for point in series.points:
            if point.wrong_mode.value is None and point.wrong_mode.reason is not None:
                found.setdefault(f"{series.task}: no wrong-mode share: {point.wrong_mode.reason}", []).append(
                    point.checkpoint
                )
    return [f"{reason} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" for reason, names in found.items()]
