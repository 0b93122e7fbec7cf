"""A comparison as rich tables: differences with outcome, what could have been seen, and the samples that flipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.comparison import Outcome, PairedComparison
from specs_eval.cli.cells import fitting, name_cell, percent_cell, result_table, value_cell
from specs_eval.cli.charts import printable
from specs_eval.cli.compare_answer import Answer, TaskComparison
from specs_eval.cli.compare_flips import AnswerCount, FlipDetail

_STYLES: dict[Outcome, str] = {"improved": "bold green", "regressed": "bold red", "undecided": "dim"}


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """What the tables say about a task or a category."""

    name: str
    result: PairedComparison


def task_rows(answer: Answer) -> list[ComparisonRow]:
    """A row a task."""
    return [ComparisonRow(one.task, one.result) for one in answer.tasks]


def category_rows(task: TaskComparison) -> list[ComparisonRow]:
    """A row a category of a task."""
    return [ComparisonRow(f"{one.dimension}={one.value}", one.result) for one in task.categories]


def difference_table(heading: str, rows: Sequence[ComparisonRow], console: Console) -> Table:
    """Means, difference with interval, p values and outcome."""
    left_out = any(row.result.n_left_out for row in rows)

    def build(compact: bool) -> Table:
        numbers = ["Baseline %", "Candidate %", "Difference"]
        tests = ["p (Holm)"] if compact else ["p", "p (Holm)"]
        counts = [] if compact else ["n", *(["Left out"] if left_out else [])]
        table = result_table(console, [heading], [*numbers, *tests, "Outcome", *counts])
        for row in rows:
            one = row.result
            raw = [] if compact else [_p(None if one.test is None else one.test.p)]
            n = [Text(f"{one.difference.n_samples:,}"), *([Text(f"{one.n_left_out:,}")] if left_out else [])]
            table.add_row(
                name_cell(row.name),
                value_cell(one.baseline.value, None, compact, 100, 1)
                if compact
                else percent_cell(one.baseline, compact),
                value_cell(one.candidate.value, None, compact, 100, 1)
                if compact
                else percent_cell(one.candidate, compact),
                value_cell(one.difference.value, one.difference.interval, compact, 100, 2, signed=True),
                *raw,
                _p(one.p_adjusted),
                Text(one.outcome, _STYLES[one.outcome]),
                *([] if compact else n),
            )
        return table

    return fitting(build, console)


def power_table(tasks: Sequence[TaskComparison], console: Console) -> Table:
    """What each task could see, what it would take, and how many samples flipped."""

    def build(compact: bool) -> Table:
        headings = ["Detectable", "Effect", "Samples for it", "n", *([] if compact else ["Groups"]), "Gained", "Lost"]
        table = result_table(console, ["Task"], headings)
        for task in tasks:
            one, power = task.result, task.result.power
            table.add_row(
                name_cell(task.task),
                value_cell(power.minimum_effect, None, compact, 100, 2),
                value_cell(power.effect, None, compact, 100, 2),
                Text("-", "dim") if power.n_samples is None else Text(f"{power.n_samples:,}"),
                Text(f"{one.difference.n_samples:,} x {task.n_rollouts}"),
                *([] if compact else [Text(f"{one.difference.n_clusters:,}")]),
                Text(f"{len(task.flips.gained):,}"),
                Text(f"{len(task.flips.lost):,}"),
            )
        return table

    return fitting(build, console)


def flip_lines(task: TaskComparison) -> Iterator[Text]:
    """The samples that flipped, as far as they were read: question, target, both answers with their rules."""
    ways = (
        ("gained", "+", "green", task.flips.gained, task.details.gained),
        ("lost", "-", "red", task.flips.lost, task.details.lost),
    )
    for way, mark, style, flips, details in ways:
        shown = f", {len(details):,} shown" if len(details) < len(flips) else ""
        what = f"{len(flips):,} {way} (a change of at least {task.flips.threshold:g}{shown})"
        yield Text(printable(f"{task.task}: {what}"), "bold")
        for detail in details:
            yield from _detail_lines(detail, mark, style)


def _detail_lines(detail: FlipDetail, mark: str, style: str) -> Iterator[Text]:
    flip = detail.flip
    yield Text(printable(f"  {mark} {flip.sample_id}  {flip.baseline:.2f} -> {flip.candidate:.2f}"), style)
    yield Text(f"      prompt     {_shown(detail.prompt)}")
    yield Text(f"      target     {_shown(detail.target)}")
    yield Text(f"      baseline   {_answers(detail.baseline)}")
    yield Text(f"      candidate  {_answers(detail.candidate)}")


def _answers(answers: Iterable[AnswerCount]) -> str:
    """The different answers of a sample on one line: how often, what, how scored."""
    parts = []
    for one in answers:
        times = f"{one.count} x " if one.count > 1 else ""
        answer = "no answer" if one.answer is None else repr(printable(one.answer))
        scored = f"unscored: {one.reason}" if one.score is None else f"{one.score:g}"
        parts.append(printable(f"{times}{answer} ({scored}{f', {one.rule}' if one.rule else ''})"))
    return "; ".join(parts) or "-"


def _shown(text: str | None) -> str:
    return "not stored" if text is None else printable(text)


def _p(p: float | None) -> Text:
    if p is None:
        return Text("-", "dim")
    return Text(f"{p:.3f}" if p >= 0.001 else f"{p:.1e}")
