"""GF against final performance: a point a method, and the line through them, as in the SPECS paper's figure."""

from __future__ import annotations

from specs_eval.analysis.final_performance import FinalPerformance, FinalPoint
from specs_eval.analysis.regression_line import RegressionLine
from specs_eval.analysis.report.curves import Look, Trace, base_layout
from specs_eval.analysis.report.document import Cell, Figure, Table
from specs_eval.analysis.report.embedding import figure_text, label
from specs_eval.analysis.report.wording import (
    checkpoint_label,
    estimate_cell,
    interval_text,
    listed,
    number,
)


def final_figure(name: str, final: FinalPerformance, look: Look) -> Figure:
    """A point a method with the intervals of both numbers; the line where there are enough points."""
    traces = [_line(final)] if final.line.slope is not None else []
    traces += [_point(point, look) for point in final.points]
    layout = base_layout()
    layout["xaxis"] |= {"title": {"text": "GF", "standoff": 6}}
    layout["yaxis"] |= {"title": {"text": "final performance %", "standoff": 6}}
    said = _said(final.line)
    title = f"GF against final performance ({said})"
    alt = f"Final performance on {listed(final.tasks)} over GF, {len(final.points)} methods; {said}."
    return Figure(name, title, alt, tuple(traces), layout, _table(final, said))


def _said(line: RegressionLine) -> str:
    if line.r_squared is None:
        return f"no line: {line.reason}"
    return f"R\u00b2 = {line.r_squared:.3f}, {line.n_points} points"


def _line(final: FinalPerformance) -> Trace:
    xs = [min(one.gf for one in final.points), max(one.gf for one in final.points)]
    intercept, slope = final.line.intercept or 0.0, final.line.slope or 0.0
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [100 * x for x in xs],
        "y": [100 * (intercept + slope * x) for x in xs],
        "line": {"color": "#888888", "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _point(one: FinalPoint, look: Look) -> Trace:
    style = look.styles[one.series]
    value = one.final.value
    across, up = one.gf_interval, one.final.interval
    text = f"<b>{figure_text(one.series)}</b><br>GF {number(one.gf, 'gf')} {interval_text(across, 'gf')}"
    text += f"<br>final {'–' if value is None else number(value, 'score')} % {interval_text(up, 'score')}"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": figure_text(one.series),
        "legendgroup": label(one.series),
        "x": [100 * one.gf],
        "y": [None if value is None else 100 * value],
        "text": [text],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.colour},
        "marker": {"color": style.colour, "symbol": style.marker, "size": 10},
        "error_x": _bars(one.gf, None if across is None else (across.low, across.high), style.colour),
        "error_y": _bars(value or 0.0, None if up is None else (up.low, up.high), style.colour),
    }


def _bars(value: float, ends: tuple[float, float] | None, colour: str) -> Trace:
    low, high = ends or (value, value)
    both = {"array": [100 * (high - value)], "arrayminus": [100 * (value - low)]}
    return {"type": "data", "symmetric": False, **both, "color": colour, "thickness": 1.2, "width": 3}


def _table(final: FinalPerformance, said: str) -> Table:
    rows = tuple(
        (
            Cell(checkpoint_label(one.checkpoint, one.series, one.step), method=one.series),
            Cell(number(one.gf, "gf"), interval_text(one.gf_interval, "gf")),
            estimate_cell(one.final, "score"),
            Cell(f"{one.final.n_samples:,}"),
        )
        for one in final.points
    )
    caption = f"GF of the {final.at} checkpoint against the mean of {listed(final.tasks)}: {said}"
    return Table(caption, ("Checkpoint", "GF", "Final %", "n"), rows)
