"""One spelling for what mathematics may spell in many ways: degrees, roots, fractions, pi, spaces."""

from __future__ import annotations

import re
from functools import lru_cache

_REPLACEMENTS = (
    ("−", "-"),
    ("–", "-"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("^{\\circ}", "°"),
    ("^\\circ", "°"),
    ("\\circ", "°"),
    (" degrees", "°"),
    (" degree", "°"),
    ("º", "°"),
    ("\\pi", "π"),
    (" pi ", "π "),
    ("\\sqrt", "√"),
    ("sqrt", "√"),
    ("\\times", "×"),
    ("\\cdot", "·"),
    ("\\text", ""),
    ("\\mathrm", ""),
)
_FRACTION = re.compile(r"\\frac ?\{([^{}]{1,40})\} ?\{([^{}]{1,40})\}")
_BRACED = re.compile(r"\( ?([\w.π√]{1,20}) ?\)")
_DROPPED = str.maketrans(" \t\r\n", "    ", '$*{}`"“”~')
_ZEROS = re.compile(r"(?<=\d)\.0{1,10}(?!\d)")


def canonical(text: str) -> str:
    r"""The text in lower case with one spelling for each mathematical form, and without spaces.

    Example:
        >>> canonical("$10 \\sqrt { 3 }$ m") == canonical("10√(3) m") == "10√3m"
        True
        >>> canonical("40.0 degrees")
        '40°'
    """
    return spaced(text).replace(" ", "")


def spaced(text: str) -> str:
    """`canonical` with the spaces left in."""
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    text = _FRACTION.sub(r"\1/\2", text).lower().translate(_DROPPED)
    return _ZEROS.sub("", _BRACED.sub(r"\1", text))


@lru_cache(maxsize=8192)
def canonical_choice(choice: str) -> str:
    """`canonical` of a choice; there are few of them and they come often."""
    return canonical(choice).rstrip(".")
