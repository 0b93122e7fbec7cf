"""What tables of results are made of: cells with intervals, and a layout that fits the console."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.statistics import Estimate, Interval
from specs_eval.cli.charts import has_unicode, printable

_UNBOUNDED = 10_000
"""Columns: what a table is measured against."""


def fitting(build: Callable[[bool], Table], console: Console) -> Table:
    """The wide layout, ``build(False)``, where the console has room for it, else the compact one."""
    table = build(False)
    needed = Measurement.get(console, console.options.update(width=_UNBOUNDED), table).maximum
    return build(True) if needed > console.width else table


def result_table(console: Console, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with columns of names at the left and of numbers at the right."""
    style = box.SIMPLE_HEAD if has_unicode(console) else box.ASCII2
    table = Table(box=style, pad_edge=False, collapse_padding=True)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def name_cell(text: str) -> Text:
    """A name from outside."""
    return Text(printable(text))


def percent_cell(estimate: Estimate | None, compact: bool) -> Text:
    """A share as percent with its interval; a dash where it is undefined, nothing where there is none."""
    return Text("") if estimate is None else value_cell(estimate.value, estimate.interval, compact, 100, 1)


def number_cell(estimate: Estimate, compact: bool) -> Text:
    """A quantity with its interval; a dash where it is undefined."""
    return value_cell(estimate.value, estimate.interval, compact, 1, 2)


def value_cell(
    value: float | None, interval: Interval | None, compact: bool, scale: int, digits: int, *, signed: bool = False
) -> Text:
    """A number times `scale` with its interval; a dash where it is undefined."""
    if value is None:
        return Text("-", "dim")
    sign = "+" if signed else ""
    text = Text()
    text.append(f"{value * scale:{sign}.{digits}f}", "bold")
    if interval is not None:
        low, high = (f"{end * scale:{sign}.{digits}f}" for end in (interval.low, interval.high))
        text.append(f"{spacer(compact)}[{low}, {high}]", "dim")
    return text


def spacer(compact: bool) -> str:
    """Between a number and what belongs to it: beside it, or below."""
    return "\n" if compact else " "


def unscored_cells(n: int, shown: bool) -> list[Text]:
    """The number of rollouts without a score, in a column that is there only when some run has any."""
    return [Text(f"{n:,}", "bold red" if n else "dim")] if shown else []
