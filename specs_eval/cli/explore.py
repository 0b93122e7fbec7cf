"""``specs-eval explore``: how much room to explore is left in each checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from specs_eval.analysis.exploration import Exploration, ExplorationSpec
from specs_eval.analysis.movement import Movement, Moving
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.statistics import Estimate
from specs_eval.cli.analysis_options import analysis_options
from specs_eval.cli.charts import Line, print_chart, printable, results_console
from specs_eval.cli.chosen_runs import Choice
from specs_eval.cli.explore_answer import Answer, Explored, Question, answer_explore
from specs_eval.cli.explore_tables import (
    ExplorationRow,
    movement_table,
    position_table,
    rbf_table,
    solving_table,
    variety_table,
)
from specs_eval.errors import ConfigError


@click.command()
@click.option("--tasks", "task_list", metavar="TASK,...", help="Tasks or parts: task[dimension=value]. Default: all.")
@click.option("--base", metavar="CKPT", help="Model that training started from: the first point of every series.")
@click.option("--metric", help="What makes a rollout correct. Default: accuracy where there is one, else score.")
@click.option("--threshold", type=float, default=1.0, show_default=True, help="Correct from this value of it on.")
@click.option("--k", "k_list", metavar="K,...", help="Default: 1, 2, 4 ... up to the rollouts a sample.")
@click.option("--rbf-samples", metavar="M,...", help="RBF at so many samples. Default: 120, 240, 480 where there are.")
@click.option("--over-position", is_flag=True, help="Entropy and nucleus by position (needs: run --per-position).")
@analysis_options
def explore(
    task_list: str | None,
    base: str | None,
    metric: str | None,
    threshold: float,
    k_list: str | None,
    rbf_samples: str | None,
    over_position: bool,
    store: Path,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    bootstrap: int,
    level: float,
    seed: int,
    as_json: bool,
) -> None:
    """pass@k, unsolvable share, majority vote, branching, entropy and variety of answers, and how they move.

    \b
    specs-eval explore --tasks formats_ood --series dpo
    specs-eval explore --tasks 'mathvista[skill=algebra]' --rbf-samples 120,240,480
    """
    spec = ExplorationSpec(
        ks=_numbers("--k", k_list, 1),
        rbf_samples=_numbers("--rbf-samples", rbf_samples, 2),
        threshold=threshold,
        resampling=Resampling(bootstrap, level, seed),
    )
    choice = Choice(series, selects, allow_incomplete, base)
    answer = answer_explore(Question(store, task_list, metric, spec, over_position, choice))
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        show(answer, results_console())


def show(answer: Answer, console: Console) -> None:
    """What is solved and how varied the rollouts are, by task; then how each series moves."""
    groups: dict[tuple[str, str, float | None], list[Explored]] = {}
    for one in answer.runs:
        groups.setdefault((one.task, one.metric, one.temperature), []).append(one)
    for (task, metric, temperature), members in groups.items():
        console.print()
        correct = f"correct = {metric} >= {members[0].result.threshold:g}"
        drawn = "temperature not known" if temperature is None else f"temperature {temperature:g}"
        console.print(Text(printable(f"{task}  ({correct}, {drawn})"), "bold"))
        rows = [ExplorationRow(one.label(), one.result) for one in members]
        console.print(solving_table(rows, console))
        console.print(variety_table(rows, console))
        at_samples = rbf_table(rows, console)
        if at_samples is not None:
            console.print(at_samples)
        stored = [(one.label(), one.positions) for one in members if one.positions]
        if stored:
            console.print(position_table(stored, console))
    for one_movement in answer.movements:
        _show_movement(one_movement, answer, console)
    console.print()
    console.print(Text(answer.explanation()))
    console.print(Text(answer.provenance(), "dim"))
    for note in answer.notes:
        console.print(Text(f"Note: {printable(note)}", "yellow"))


def _show_movement(one: Movement, answer: Answer, console: Console) -> None:
    """First to last with the course between them, and pass@k as a curve."""
    same_task = [run for run in answer.runs if run.task == one.task]
    first = [run for run in same_task if run.checkpoint == one.first]
    # The first may be the base, which stands before the steps of the series whatever its own is.
    runs = first + [run for run in same_task if run.series == one.series and run.checkpoint != one.first]
    console.print()
    span = f"{one.first} to {one.last}, {one.n_samples:,} samples"
    console.print(Text(printable(f"{one.task}, series {one.series}: {span}"), "bold"))
    curves = {quantity: [_value(take(run.result, one.k)) for run in runs] for quantity, take in _TAKE.items()}
    console.print(movement_table(one, curves, console))
    lines = [Line(mark, name, style, _points(runs, curves[quantity])) for mark, name, style, quantity in _drawn(one.k)]
    print_chart(lines, console)


def _drawn(k: int) -> list[tuple[str, str, str, Moving]]:
    many: list[tuple[str, str, str, Moving]] = [("n", f"pass@{k} %", "cyan", "pass_at_n")] if k > 1 else []
    return [*many, ("1", "pass@1 %", "green", "pass_at_1")]


def _points(runs: Sequence[Explored], values: Sequence[float | None]) -> tuple[tuple[float, float], ...]:
    """(step, value); the base, and whatever comes first without a step, at 0."""
    base = runs[0].series != runs[-1].series or runs[0].step is None
    steps = [0 if number == 0 and base else run.step for number, run in enumerate(runs)]
    return tuple(
        (float(step), value)
        for step, value in zip(steps, values, strict=True)
        if step is not None and value is not None
    )


def _at(result: Exploration, k: int) -> tuple[Estimate | None, Estimate | None]:
    """pass@k and unsolvable@k; None where they were not asked for."""
    return next(((at.pass_at_k, at.unsolvable) for at in result.at_k if at.k == k), (None, None))


_TAKE: dict[Moving, Callable[[Exploration, int], Estimate | None]] = {
    "pass_at_1": lambda result, k: _at(result, 1)[0],
    "pass_at_n": lambda result, k: _at(result, k)[0],
    "unsolvable_at_n": lambda result, k: _at(result, k)[1],
    "rbf": lambda result, k: result.rbf,
    "entropy": lambda result, k: result.entropy,
    "distinct": lambda result, k: result.distinct,
    "effective": lambda result, k: result.effective,
}


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _numbers(option: str, text: str | None, least: int) -> tuple[int, ...] | None:
    """A list of whole numbers as typed, ascending, each once."""
    if text is None:
        return None
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise ConfigError(f"{option} takes whole numbers such as 2,4,8, not {text!r}") from error
    if not numbers or numbers[0] < least:
        raise ConfigError(f"{option} takes numbers from {least} on, not {text!r}")
    return numbers
