"""Heat maps of categories and what became of stuck samples, as plotly figures in plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs_eval.analysis.report.content import Measurement
from specs_eval.analysis.report.curves import Trace, base_layout
from specs_eval.analysis.report.document import Cell, Figure, KeyItem, Table
from specs_eval.analysis.report.embedding import figure_text
from specs_eval.analysis.report.palette import FREE_COLOUR, STUCK_COLOUR
from specs_eval.analysis.report.wording import estimate_cell, number
from specs_eval.analysis.stuckness import Transition

_SCALE = [[0.0, "#f7fbff"], [0.25, "#c6dbef"], [0.5, "#6baed6"], [0.75, "#2171b5"], [1.0, "#08306b"]]
"""One hue from light to dark: order survives colour deficiencies and a black-and-white printer."""
_MAX_NUMBERS = 400
"""Cells up to which the number stands in each."""


@dataclass(frozen=True, slots=True)
class _Fate:
    """What can become of a sample between two checkpoints, and how its bar looks."""

    field: str
    """Of a transition."""
    words: str
    pattern: str
    """In plotly's names; empty: filled."""
    stuck: bool
    """Drawn above the line; else below it."""

    @property
    def colour(self) -> str:
        return STUCK_COLOUR if self.stuck else FREE_COLOUR


_FATES = (
    _Fate("stuck_same", "stuck in the same answer", "", stuck=True),
    _Fate("stuck_other", "stuck in another answer", "/", stuck=True),
    _Fate("newly_stuck", "newly stuck", ".", stuck=True),
    _Fate("unstuck_solved", "free: solved", "", stuck=False),
    _Fate("unstuck_other", "free: not solved", "\\", stuck=False),
)

FATE_KEY = tuple(KeyItem(fate.words, fate.colour, fate.pattern) for fate in _FATES)
"""The legend of `flow_figure`."""


def category_map(name: str, title: str, quantity: str, points: Sequence[Measurement]) -> Figure:
    """A share by category value (rows) and checkpoint (columns, in the order of the points).

    Args:
        name: of the figure.
        title: of the figure.
        quantity: the share.
        points: of one task and dimension, with `value`.
    """
    columns = list(dict.fromkeys(point.label for point in points))
    rows = list(dict.fromkeys(point.value for point in points))
    at = {(point.value, point.label): point for point in points}
    grid = [[at.get((row, column)) for column in columns] for row in rows]
    shares = [[_percent(one) for one in line] for line in grid]
    numbers = len(rows) * len(columns) <= _MAX_NUMBERS and len(columns) <= 24
    trace: Trace = {
        "type": "heatmap",
        "x": [figure_text(column) for column in columns],
        "y": [figure_text(row) for row in rows],
        "z": shares,
        "zmin": 0,
        "zmax": 100,
        "colorscale": _SCALE,
        "xgap": 1,
        "ygap": 1,
        "text": [["" if share is None else f"{share:.0f}" for share in line] for line in shares],
        "texttemplate": "%{text}" if numbers else "",
        "customdata": [[_detail(one, quantity) for one in line] for line in grid],
        "hovertemplate": "<b>%{y}</b>, %{x}<br>%{customdata}<extra></extra>",
        "colorbar": {"title": {"text": "%", "side": "right"}, "thickness": 10, "outlinewidth": 0, "len": 0.9},
    }
    layout = base_layout(height=min(900, 110 + 26 * len(rows)))
    layout["xaxis"] |= {"type": "category", "tickangle": -45, "showgrid": False, "ticks": ""}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""}
    headings = ("Category", *columns, "n")
    table_rows = tuple(
        (Cell(row), *(estimate_cell(None if one is None else one.estimate, quantity) for one in line), Cell(_n(line)))
        for row, line in zip(rows, grid, strict=True)
    )
    alt = f"{title}: {len(rows)} categories by {len(columns)} checkpoints; the table has the numbers."
    return Figure(name, title, alt, (trace,), layout, Table(title, headings, table_rows), wide=True)


def flow_figure(name: str, title: str, transitions: Sequence[Transition]) -> Figure:
    """What became of stuck samples from checkpoint to checkpoint: stuck now above the line, free again below it."""
    steps = [one.after if one.after_step is None else f"{one.after_step:,}" for one in transitions]
    traces: list[Trace] = []
    for fate in _FATES:
        counts = [getattr(one, fate.field) for one in transitions]
        traces.append(
            {
                "type": "bar",
                "name": fate.words,
                "x": [figure_text(step) for step in steps],
                "y": counts if fate.stuck else [-count for count in counts],
                "customdata": counts,
                "marker": {"color": fate.colour, "pattern": {"shape": fate.pattern, "solidity": 0.25}},
                "hovertemplate": f"step %{{x}}<br>{fate.words}: %{{customdata}}<extra></extra>",
            }
        )
    highest, lowest = max(map(_stuck_now, transitions), default=0), max(map(_free_now, transitions), default=0)
    layout = base_layout() | {"barmode": "relative", "bargap": 0.35}
    layout["xaxis"] |= {"type": "category", "title": {"text": "step", "standoff": 4}}
    layout["yaxis"] |= {"title": {"text": "samples", "standoff": 6}, "zeroline": True, "zerolinecolor": "#888888"}
    layout["yaxis"] |= _count_ticks(-lowest, highest)
    said = [f"{one.after}: {_stuck_now(one)} stuck" for one in transitions]
    return Figure(name, title, f"{title}: {'; '.join(said)}.", tuple(traces), layout, _flow_table(title, transitions))


def _count_ticks(lowest: int, highest: int) -> dict[str, list[int] | list[str]]:
    """Ticks of an axis that counts both ways from 0: whole numbers, without a sign, at most seven of them."""
    span = max(highest - lowest, 1)
    step = next(size * 10**power for power in range(12) for size in (1, 2, 5) if span <= 6 * size * 10**power)
    values = list(range(-(-lowest // step) * step, highest + 1, step))
    return {"tickvals": values, "ticktext": [f"{abs(value):,}" for value in values]}


def _stuck_now(one: Transition) -> int:
    return one.stuck_same + one.stuck_other + one.newly_stuck


def _free_now(one: Transition) -> int:
    return one.unstuck_solved + one.unstuck_other


def _flow_table(title: str, transitions: Sequence[Transition]) -> Table:
    headings = ("From", "To", *(fate.words.capitalize() for fate in _FATES), "Never stuck", "Persistence %", "n")
    rows = tuple(
        (
            Cell(one.before),
            Cell(one.after),
            *(Cell(f"{getattr(one, fate.field):,}") for fate in _FATES),
            Cell(f"{one.never:,}"),
            estimate_cell(one.persistence, "persistence"),
            Cell(f"{one.persistence.n_samples:,}"),
        )
        for one in transitions
    )
    return Table(f"Transitions: {title}", headings, rows)


def _percent(point: Measurement | None) -> float | None:
    return None if point is None or point.estimate.value is None else round(100 * point.estimate.value, 2)


def _detail(point: Measurement | None, quantity: str) -> str:
    if point is None or point.estimate.value is None:
        return "no value"
    cell = estimate_cell(point.estimate, quantity)
    return f"{number(point.estimate.value, quantity)} % {cell.detail}, n = {point.estimate.n_samples:,}"


def _n(points: Sequence[Measurement | None]) -> str:
    counts = {one.estimate.n_samples for one in points if one is not None}
    return f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}" if counts else "0"


def by_dimension(points: Sequence[Measurement]) -> Mapping[tuple[str, str], list[Measurement]]:
    """Points of parts, by task and dimension."""
    found: dict[tuple[str, str], list[Measurement]] = {}
    for point in points:
        if point.dimension:
            found.setdefault((point.task, point.dimension), []).append(point)
    return found
