"""Figures for a paper: the figures of the page as PNG or SVG files, drawn by plotly in a browser that is here."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

from specs_eval.analysis.report.document import Document, Figure
from specs_eval.analysis.report.embedding import figure_text
from specs_eval.analysis.report.page import all_figures
from specs_eval.errors import ConfigError

WIDTH, HEIGHT = 520, 360
"""Pixels of a figure; two of them fill a page's width."""
_WIDE = 1040
_PNG_SCALE = 3
"""Pixels of a PNG for each of those: about 300 dpi in a column."""
_HOW = "install the extra with: pip install 'specs-eval[figures]', and Chrome or Chromium; SVG and PNG are drawn in it"


def check_exporter() -> None:
    """Make sure that figures can be exported here.

    Raises:
        ConfigError: kaleido or a Chromium browser is missing; the message says how to get it.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise ConfigError(f"exporting figures needs the package kaleido: {_HOW}")
    from choreographer.browsers.chromium import Chromium

    if Chromium.find_browser(skip_local=False) is None:
        raise ConfigError(f"exporting figures needs Chrome or Chromium, and none was found: {_HOW}")


def export_figures(document: Document, folder: Path, kind: str) -> list[Path]:
    """Write every figure of a document into a folder.

    Args:
        document: with figures.
        folder: made when it does not exist; files of the same name are replaced.
        kind: ``png`` or ``svg``.

    Returns:
        Files written, in the order of the document.

    Raises:
        ConfigError: the folder cannot be written, or the browser did not draw.
    """
    import kaleido

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from error
    jobs = [
        {"fig": paper_figure(figure), "path": folder / f"{figure.name}.{kind}", "opts": _options(figure, kind)}
        for figure in all_figures(document.sections)
    ]
    logging.getLogger("kaleido").setLevel(logging.ERROR)
    try:
        # Without mathjax=False kaleido would fetch MathJax from the network.
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except Exception as error:
        raise ConfigError(f"the browser did not draw the figures: {type(error).__name__}: {error}; {_HOW}") from error
    return [Path(str(job["path"])) for job in jobs]


def paper_figure(figure: Figure) -> dict[str, Any]:
    """A figure as it stands alone: title and legend inside, on white."""
    layout = dict(figure.layout)
    named = sum("name" in trace and trace.get("showlegend", True) for trace in figure.traces)
    layout |= {
        "title": {"text": figure_text(figure.title), "font": {"size": 15}, "x": 0.02, "xanchor": "left"},
        "margin": {**layout["margin"], "t": 46},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {**layout["font"], "color": "#1b1b1b"},
        "showlegend": named > 1,
        "template": None,
    }
    return {"data": list(figure.traces), "layout": layout}


def _options(figure: Figure, kind: str) -> dict[str, Any]:
    size = {"width": _WIDE if figure.wide else WIDTH, "height": max(HEIGHT, int(figure.layout["height"]))}
    return {"format": kind, **size, "scale": _PNG_SCALE if kind == "png" else 1}
