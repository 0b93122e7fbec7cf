"""Curves as plotly figures, as plain data: plotly itself is needed only where a figure is shown or exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from specs_eval.analysis.report.content import Measurement, TrainingCurve
from specs_eval.analysis.report.document import Cell, Figure, Table
from specs_eval.analysis.report.embedding import figure_text, label
from specs_eval.analysis.report.palette import BASE_COLOUR, Style
from specs_eval.analysis.report.wording import (
    PLAIN_QUANTITIES,
    estimate_cell,
    interval_text,
    listed,
    number,
    quantity_name,
)
from specs_eval.analysis.statistics import Estimate

Trace = dict[str, Any]

_FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
_GRID = "rgba(128,128,128,0.22)"
_FEW_METHODS = 4
_MAX_TICKS = 7
"""Steps up to which each has its tick."""
_MAX_LOGGED = 400
"""Points of one training curve that are drawn."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the methods of a report are drawn."""

    styles: Mapping[str, Style]
    base: str | None
    starts: Mapping[str, str] = field(default_factory=dict)
    """Series -> the checkpoint that it started from, where that is not the base."""

    @property
    def band_opacity(self) -> float:
        """Of the areas of intervals: fainter the more methods lie over each other."""
        return 0.16 if len(self.styles) <= _FEW_METHODS else 0.07


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a figure."""

    name: str
    title: str
    quantity: str
    x_title: str = "step"
    y_title: str | None = None
    axis: Literal["auto", "zero", "share"] = "auto"
    """The y axis fits the curves, starts at 0, or runs from 0 to 100 %."""


def step_figure(frame: Frame, points: Sequence[Measurement], look: Look) -> Figure:
    """One quantity along the steps of each method, with its intervals; the base as a line across.

    Where no checkpoint has a step, each stands on its own with an error bar.
    """
    drawn = [point for point in points if point.estimate.value is not None]
    by_series: dict[str, list[Measurement]] = {}
    for point in drawn:
        by_series.setdefault(point.series, []).append(point)
    stepped = [point.step for point in drawn if point.step is not None and point.series != look.base]
    traces: list[Trace] = []
    for series, ones in by_series.items():
        style = look.styles[series]
        if not stepped:
            traces.append(_bars(series, ones, frame.quantity, style))
        elif series == look.base or ones[0].step is None:
            traces += [_across(one, frame.quantity, style, stepped) for one in ones]
        else:
            traces += _curve(series, ones, frame.quantity, style, look.band_opacity)
    layout = _layout(frame, category=not stepped)
    ticks = sorted({0, *stepped} if look.base in by_series else set(stepped))
    if 0 < len(ticks) <= _MAX_TICKS:
        layout["xaxis"]["tickvals"] = ticks
    return Figure(frame.name, frame.title, _alt(frame, by_series), tuple(traces), layout, _points_table(frame, points))


def at_k_figure(frame: Frame, points: Sequence[Measurement], look: Look, dotted: frozenset[str]) -> Figure:
    """A quantity at k against k, a line a checkpoint.

    Args:
        frame: what stands around it.
        points: with `k`.
        look: of the methods.
        dotted: labels of checkpoints that are drawn in dots (the first of a series, where the last is shown too).
    """
    lines: dict[tuple[str, str], list[Measurement]] = {}
    for point in points:
        if point.estimate.value is not None:
            lines.setdefault((point.series, point.label), []).append(point)
    traces: list[Trace] = []
    for (series, checkpoint), ones in lines.items():
        style, ordered = look.styles[series], sorted(ones, key=lambda one: one.k or 0)
        xs = [one.k for one in ordered]
        traces.append(
            _band(series, xs, [one.estimate for one in ordered], frame.quantity, style, look.band_opacity / 2)
        )
        if checkpoint in dotted:
            style = replace(style, dash="dot", marker=f"{style.marker}-open")
        traces.append(_line(series, xs, ordered, frame.quantity, style) | {"name": figure_text(checkpoint)})
    ks = sorted({one.k for one in points if one.k is not None})
    layout = _layout(frame, category=False)
    layout["xaxis"] |= {"type": "log", "tickvals": ks, "ticktext": [str(k) for k in ks], "minor": {"ticks": ""}}
    alt = f"{frame.title}: {listed([checkpoint for _, checkpoint in lines])} against the number of rollouts k."
    return Figure(frame.name, frame.title, alt, tuple(traces), layout, _at_k_table(frame, lines, ks))


def training_figure(frame: Frame, curves: Sequence[TrainingCurve], look: Look) -> Figure:
    """A logged quantity of each training run against its step."""
    traces: list[Trace] = []
    rows = []
    for curve in curves:
        style = look.styles.get(curve.series, Style(BASE_COLOUR, "circle", "solid"))
        stride = -(-len(curve.steps) // _MAX_LOGGED) or 1
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": figure_text(curve.series),
                "legendgroup": label(curve.series),
                "x": list(curve.steps[::stride]),
                "y": list(curve.values[::stride]),
                "line": {"color": style.colour, "width": 1.6, "dash": style.dash},
                "hovertemplate": f"{figure_text(curve.series)}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
            }
        )
        every = max(1, len(curve.steps) // 12)
        kept = sorted({*range(0, len(curve.steps), every), len(curve.steps) - 1})
        rows += [
            (Cell(curve.series, method=curve.series), Cell(f"{curve.steps[i]:g}"), Cell(f"{curve.values[i]:.4g}"))
            for i in kept
        ]
    caption = f"{frame.title}, thinned out; read from {listed([curve.source for curve in curves])}"
    table = Table(caption, ("Method", "Step", frame.title), tuple(rows))
    alt = f"{frame.title} over training steps of {listed([curve.series for curve in curves])}."
    return Figure(frame.name, frame.title, alt, tuple(traces), _layout(frame, category=False), table)


def base_layout(height: int = 280) -> dict[str, Any]:
    """What all figures share: quiet grid, no fill, fonts of the page."""
    axis = {"gridcolor": _GRID, "linecolor": _GRID, "zeroline": False, "automargin": True, "ticks": "outside"}
    return {
        "height": height,
        "margin": {"l": 46, "r": 12, "t": 10, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12, "color": "#444444"},
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#999999", "activecolor": "#555555"},
        "xaxis": axis | {"tickcolor": _GRID, "ticklen": 4},
        "yaxis": axis | {"tickcolor": _GRID, "ticklen": 4},
    }


def _layout(frame: Frame, *, category: bool) -> dict[str, Any]:
    layout = base_layout()
    percent = frame.quantity not in PLAIN_QUANTITIES and frame.quantity != "logged"
    title = frame.y_title or (f"{quantity_name(frame.quantity)} %" if percent else quantity_name(frame.quantity))
    if frame.quantity == "logged":
        title = frame.title
        layout["yaxis"]["exponentformat"] = "power"
    layout["yaxis"] |= {"title": {"text": figure_text(title), "standoff": 6}}
    if frame.axis == "zero":
        layout["yaxis"]["rangemode"] = "tozero"
    if frame.axis == "share":
        layout["yaxis"]["range"] = [-2, 102]
    layout["xaxis"] |= {"title": {"text": figure_text("" if category else frame.x_title), "standoff": 6}}
    if category:
        layout["xaxis"]["type"] = "category"
    return layout


def _scaled(value: float | None, quantity: str) -> float | None:
    """On the axis of its quantity: percent, or plain."""
    if value is None:
        return None
    return round(value if quantity in PLAIN_QUANTITIES else 100 * value, 4)


def _curve(series: str, points: Sequence[Measurement], quantity: str, style: Style, opacity: float) -> list[Trace]:
    ordered = sorted(points, key=lambda one: one.step or 0)
    if len(ordered) == 1:
        return [_bars(series, ordered, quantity, style, x=[ordered[0].step])]
    xs = [one.step for one in ordered]
    band = _band(series, xs, [one.estimate for one in ordered], quantity, style, opacity)
    return [band, _line(series, xs, ordered, quantity, style)]


def _line(series: str, xs: Sequence[Any], points: Sequence[Measurement], quantity: str, style: Style) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": figure_text(series),
        "legendgroup": label(series),
        "x": list(xs),
        "y": [_scaled(one.estimate.value, quantity) for one in points],
        "text": [_hover(one, quantity) for one in points],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": style.colour, "width": 2, "dash": style.dash},
        "marker": {"color": style.colour, "symbol": style.marker, "size": 7},
    }


def _band(
    series: str, xs: Sequence[Any], estimates: Sequence[Estimate], quantity: str, style: Style, opacity: float
) -> Trace:
    """The area between the ends of the intervals; where there is none, the area closes on the value."""
    lows = [_end(one, quantity, low=True) for one in estimates]
    highs = [_end(one, quantity, low=False) for one in estimates]
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": label(series),
        "x": [*xs, *reversed(xs)],
        "y": [*highs, *reversed(lows)],
        "fill": "toself",
        "fillcolor": style.faint(opacity),
        "line": {"width": 0, "color": style.colour},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _end(estimate: Estimate, quantity: str, *, low: bool) -> float | None:
    interval = estimate.interval
    return _scaled(estimate.value if interval is None else interval.low if low else interval.high, quantity)


def _bars(
    series: str, points: Sequence[Measurement], quantity: str, style: Style, x: Sequence[Any] | None = None
) -> Trace:
    """Markers with error bars: for checkpoints that are no curve."""
    trace = _line(series, [figure_text(one.label) for one in points] if x is None else x, points, quantity, style)
    values = [_scaled(one.estimate.value, quantity) or 0.0 for one in points]
    highs = [_end(one.estimate, quantity, low=False) or 0.0 for one in points]
    lows = [_end(one.estimate, quantity, low=True) or 0.0 for one in points]
    trace["mode"] = "markers"
    trace["error_y"] = {
        "type": "data",
        "symmetric": False,
        "array": [high - value for high, value in zip(highs, values, strict=True)],
        "arrayminus": [value - low for low, value in zip(lows, values, strict=True)],
        "color": style.colour,
        "thickness": 1.5,
        "width": 4,
    }
    return trace


def _across(point: Measurement, quantity: str, style: Style, steps: Sequence[int]) -> Trace:
    """A checkpoint without a step as a line across all steps, from 0 on."""
    trace = _line(point.series, [0, max(steps)], [point, point], quantity, style)
    trace["line"] = {"color": style.colour, "width": 1.5, "dash": "dot"}
    trace["marker"] = {"color": style.colour, "symbol": style.marker, "size": [8, 0.1]}
    return trace


def _hover(point: Measurement, quantity: str) -> str:
    estimate = point.estimate
    assert estimate.value is not None, "only defined points are drawn"
    at = f" at k = {point.k}" if point.k is not None else ""
    unit = "" if quantity in PLAIN_QUANTITIES or quantity == "gf" else " %"
    lines = [
        f"<b>{figure_text(point.label)}</b>{at}",
        f"{number(estimate.value, quantity)}{unit} {interval_text(estimate.interval, quantity)}".rstrip(),
        f"n = {estimate.n_samples:,}",
    ]
    return "<br>".join(lines)


def _alt(frame: Frame, by_series: Mapping[str, Sequence[Measurement]]) -> str:
    """First and last value of each method: what the picture says, in a sentence."""
    said = []
    for series, points in by_series.items():
        first, last = points[0].estimate.value, points[-1].estimate.value
        assert first is not None and last is not None, "only defined points are drawn"
        start, end = number(first, frame.quantity), number(last, frame.quantity)
        said.append(f"{series} {end}" if len(points) == 1 else f"{series} from {start} to {end}")
    return f"{frame.title} along training: {'; '.join(said) or 'nothing was measured'}."


def _points_table(frame: Frame, points: Sequence[Measurement]) -> Table:
    rows = tuple(
        (
            Cell(point.label, method=point.series),
            estimate_cell(point.estimate, frame.quantity),
            Cell(f"{point.estimate.n_samples:,}"),
        )
        for point in points
    )
    unit = "" if frame.quantity in PLAIN_QUANTITIES else " %"
    return Table(frame.title, ("Checkpoint", f"{quantity_name(frame.quantity)}{unit}", "n"), rows)


def _at_k_table(frame: Frame, lines: Mapping[tuple[str, str], Sequence[Measurement]], ks: Sequence[int]) -> Table:
    rows = []
    for (series, checkpoint), ones in lines.items():
        at = {one.k: one.estimate for one in ones}
        cells = [estimate_cell(at.get(k), frame.quantity) for k in ks]
        rows.append((Cell(checkpoint, method=series), *cells, Cell(f"{ones[0].estimate.n_samples:,}")))
    headings = ("Checkpoint", *(f"{quantity_name(frame.quantity, k)} %" for k in ks), "n")
    return Table(frame.title, headings, tuple(rows))
