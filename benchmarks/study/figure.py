"""The figure of docs/study.md: ID, OOD and GF over steps for each method, mean over seeds with its interval."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from curves import mean_interval
from plotly.subplots import make_subplots

COLORS = {"sft": "#CC79A7", "dpo": "#0072B2", "dpo+sft": "#D55E00"}
PANELS = {"id": "ID, format followed %", "ood": "OOD, format followed %", "gf": "GF of the scores"}


def draw(curves: pd.DataFrame, settings: list[str], path: Path) -> None:
    """Write the figure, a row of panels for each setting; needs Chrome or Chromium (extra ``figures``)."""
    titles = [f"{setting}: {title}" for setting in settings for title in PANELS.values()]
    figure = make_subplots(rows=len(settings), cols=len(PANELS), subplot_titles=titles, vertical_spacing=0.12)
    for row, setting in enumerate(settings, 1):
        for column, quantity in enumerate(PANELS, 1):
            for method, color in COLORS.items():
                _curve(figure, curves[curves["setting"] == setting], method, quantity, color, (row, column))
    figure.update_layout(template="plotly_white", width=1200, height=360 * len(settings), margin={"t": 40, "b": 40})
    figure.update_xaxes(title_text="step", row=len(settings))
    figure.write_image(path)


def _curve(
    figure: go.Figure, curves: pd.DataFrame, method: str, quantity: str, color: str, place: tuple[int, int]
) -> None:
    # The base is the common start of all methods.
    of_method = curves[(curves["series"] == method) | (curves["series"] == "base")]
    steps, rows = [], []
    for step, group in of_method.groupby("step"):
        steps.append(step)
        rows.append([100 * value for value in mean_interval(group[quantity].to_numpy())])
    means, lows, highs = zip(*rows, strict=True)
    row, column = place
    band = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=steps, y=lows, **band, row=row, col=column)
    fill = f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:], 16)},0.15)"
    figure.add_scatter(x=steps, y=highs, **band, fill="tonexty", fillcolor=fill, row=row, col=column)
    look = {"mode": "lines+markers", "line": {"color": color}, "name": method, "showlegend": row == column == 1}
    figure.add_scatter(x=steps, y=means, **look, row=row, col=column)
