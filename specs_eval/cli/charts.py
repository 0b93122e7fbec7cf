"""Curves as characters: braille dots in a terminal that has them, plain ASCII elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

_PIPED_WIDTH = 200
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a braille character, by row and column."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_LABELS = 6
"""Columns left of the plot."""
_WIDEST, _NARROWEST = 64, 20
"""Columns of the plot itself."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of shares over steps."""

    mark: str
    """One letter, drawn at each point: the curve is told apart without colour."""
    name: str
    style: str
    points: tuple[tuple[float, float], ...]
    """(step, share in [0, 1]), in step order."""


def results_console() -> Console:
    """Where results go: stdout. Piped, it is plain text without escape codes, wide enough for any table of ours."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(file=sys.stdout, highlight=False, width=_PIPED_WIDTH, no_color=True, force_terminal=False)


def has_unicode(console: Console) -> bool:
    """Whether the output can carry more than ASCII."""
    return console.encoding.lower().startswith("utf")


def printable(text: str) -> str:
    """Text from outside, without control characters: names must not drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def curve_chart(lines: Sequence[Line], *, width: int = _WIDEST, height: int = 11, unicode: bool = True) -> Text:
    """Curves of shares over steps, 0 to 100 percent, with their marks named below.

    Args:
        lines: later ones are drawn over earlier ones.
        width: columns of the plot itself.
        height: its rows, at least 3.
        unicode: braille dots between the points; else full stops.
    """
    steps = [step for line in lines for step, _ in line.points]
    canvas = _Canvas(width, height, min(steps), max(steps), unicode)
    for line in lines:
        for start, end in zip(line.points, line.points[1:], strict=False):
            canvas.connect(start, end, line.style)
    for line in lines:
        for point in line.points:
            canvas.mark(point, line.mark, line.style)
    text = canvas.rows()
    text.append(_step_axis(steps, width))
    text.append(" " * _LABELS)
    for line in lines:
        text.append(f" {line.mark}", line.style)
        text.append(f" {line.name}  ")
    return text


def print_chart(lines: Sequence[Line], console: Console) -> None:
    """Print `curve_chart` of the lines that have points, no wider than the console; nothing where there are no two steps."""
    drawn = [line for line in lines if line.points]
    if len({step for line in drawn for step, _ in line.points}) > 1:
        width = min(max(console.width - _LABELS, _NARROWEST), _WIDEST)
        console.print(curve_chart(drawn, width=width, unicode=has_unicode(console)))


def sparkline(values: Sequence[float | None], *, unicode: bool = True) -> str:
    """A course in one line, lowest to highest value; a space where there is none.

    Args:
        values: any numbers, in order.
        unicode: eighth blocks; else the digits 1 to 8.
    """
    levels = _BLOCKS if unicode else "12345678"
    known = [value for value in values if value is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    return "".join(
        " " if value is None else levels[round((value - low) / span * 7) if span > 0 else 3] for value in values
    )


class _Canvas:
    """A grid of characters with a finer grid of dots inside each."""

    def __init__(self, width: int, height: int, first: float, last: float, unicode: bool) -> None:
        self._width, self._height = width, height
        self._first, self._span = first, (last - first) or 1.0
        self._unicode = unicode
        self._dots: dict[tuple[int, int], int] = {}
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}

    def connect(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """A straight line of dots."""
        n = 4 * max(self._width, self._height)
        for i in range(n + 1):
            step = start[0] + (end[0] - start[0]) * i / n
            share = start[1] + (end[1] - start[1]) * i / n
            self._dot(step, share, style)

    def mark(self, point: tuple[float, float], mark: str, style: str) -> None:
        """A letter at a point."""
        x, y = self._position(*point, columns=self._width, rows=self._height)
        self._cells[y, x] = (mark, style)

    def rows(self) -> Text:
        """All rows, with percentages at the left."""
        text = Text()
        for y in range(self._height):
            percent = round(100 * (1 - y / (self._height - 1)))
            shown = y in (0, self._height - 1) or y == (self._height - 1) // 2
            text.append(f"{percent:>4} " if shown else " " * (_LABELS - 1))
            text.append("│" if self._unicode else "|")
            for x in range(self._width):
                text.append(*self._cells.get((y, x), (" ", "")))
            text.append("\n")
        return text

    def _dot(self, step: float, share: float, style: str) -> None:
        x, y = self._position(step, share, columns=2 * self._width, rows=4 * self._height)
        cell = (y // 4, x // 2)
        self._dots[cell] = self._dots.get(cell, 0) | _DOTS[y % 4][x % 2]
        self._cells[cell] = (chr(_BRAILLE + self._dots[cell]) if self._unicode else ".", style)

    def _position(self, step: float, share: float, *, columns: int, rows: int) -> tuple[int, int]:
        x = round((step - self._first) / self._span * (columns - 1))
        y = round((1 - min(max(share, 0.0), 1.0)) * (rows - 1))
        return x, y


def _step_axis(steps: Sequence[float], width: int) -> str:
    """Each step under its point, as far as there is room; the last one always."""
    first, last = min(steps), max(steps)
    row = [" "] * (width + _LABELS)
    free = _LABELS - 2
    for step in sorted(set(steps)):
        label = f"{step:g}"
        column = _LABELS + round((step - first) / ((last - first) or 1.0) * (width - 1)) - len(label) // 2
        column = min(column, len(row) - len(label))
        if step == last and column < free:
            row[column - 1 :] = " " * (len(row) - column + 1)
        elif column < free:
            continue
        row[column : column + len(label)] = label
        free = column + len(label) + 1
    return "step" + "".join(row)[4:].rstrip() + "\n"
