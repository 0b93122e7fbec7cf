"""One look per method, the same in every figure: colour, dash and marker, so that no difference hangs on colour alone.

Colours: Okabe and Ito's palette, distinguishable under the common colour deficiencies, in an order that keeps the first
ones legible on white and on dark ground. The base is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BASE_COLOUR = "#767676"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

STUCK_COLOUR, FREE_COLOUR = "#9333EA", "#9A9A45"
"""Of samples that are stuck and of those that got free; patterns say how. Neither is near the colour of a method, also under
colour deficiencies: a bar must not look as if it belonged to one."""


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn."""

    colour: str
    marker: str
    dash: str

    def faint(self, opacity: float) -> str:
        """The colour as ``rgba`` for areas."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity:g})"


def styles(methods: Sequence[str], base: str | None) -> dict[str, Style]:
    """A style for each method in the order given; after six, colours repeat with another dash and marker.

    Args:
        methods: names of the series, each once.
        base: the series that is the base model, if any.
    """
    found = {}
    number = 0
    for method in methods:
        if method == base:
            found[method] = Style(BASE_COLOUR, "star", "dot")
            continue
        turn, place = divmod(number, len(_COLOURS))
        shift = (place + turn) % len(_MARKERS)
        found[method] = Style(_COLOURS[place], _MARKERS[shift], _DASHES[turn % len(_DASHES)])
        number += 1
    return found
