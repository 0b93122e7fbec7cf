"""Single numbers written as text, LaTeX or Python arithmetic, compared within one percent."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

from specs_eval.tasks.megabench.latex.arithmetic import number_of
from specs_eval.tasks.megabench.metrics.strings import as_text, simple

TOLERANCE = 0.01
_ASSIGNED = re.compile(r"(?:=|≈|\\approx)\s*(.+)")
_LONE_PI = re.compile(r"(?<![\d}])\\?π")
_COUNTED_PI = re.compile(r"(\d)\\?π")
_BRACED_PI = re.compile(r"\{\\?π\}")
_UNITS = (("%", "/100"), ("$", ""), ("¥", ""), ("°C", ""), (" C", ""), ("°", ""))
_BOX = "\\boxed{"
_BRACE = re.compile(r"[{}]")
SEARCH_BITS = 27
"""Doublings of the official search for the end of a box after which it runs into its ten-second alarm."""


def general(response: Any, gold: Any) -> float:
    """Equality of numbers within 1 % of the gold; `simple` equality where either is no number."""
    answer, wanted = _cleaned(as_text(response)), _cleaned(gold)
    value, target = number_of(_without_units(answer)), _gold_number(_without_units(wanted))
    if value is None or target is None:
        return simple(answer, wanted)
    if isinstance(value, list) and isinstance(target, list):
        return float(_same_numbers(value, target))
    if isinstance(value, tuple) and isinstance(target, tuple):
        return 0.0  # quirk: only lists are compared item by item
    return float(_close(value, target))


def boxed(response: Any, gold: Any) -> float:
    r"""`general` on what stands in the first ``\boxed{}``; the whole text without one."""
    text = as_text(response)
    found = box_content(text)
    return simple(text, gold) if found is None else general(found, box_content(gold) or gold)


def box_content(text: str) -> str | None:
    """The content of the first box with braces nested at most once; the text itself without one.

    Returns:
        None where the official search would not end in time (a long box that is never closed).
    """
    start = text.find(_BOX)
    while start >= 0:
        start += len(_BOX)
        end, doublings = _box_end(text, start)
        if end >= 0:
            return text[start:end]
        if doublings >= SEARCH_BITS:
            return None
        start = text.find(_BOX, start)
    return text


def _box_end(text: str, start: int) -> tuple[int, int]:
    """Where the closing brace stands (-1: nowhere) and how often the official search doubles before it gives up."""
    doublings, position, inside = 0, start, False
    for match in _BRACE.finditer(text, start):
        if not inside:
            doublings += max(0, match.start() - position - 1)
        position = match.end()
        if match.group() == "{":
            if inside:
                return -1, doublings
            inside = True
        elif inside:
            inside = False
        else:
            return match.start(), doublings
    return -1, doublings + (0 if inside else max(0, len(text) - position - 1))


@lru_cache(maxsize=4096)
def _gold_number(text: str) -> Any:
    return number_of(text)


def _cleaned(text: str) -> str:
    text = _unwrapped(_unwrapped(text, "\\(", "\\)"), "\\[", "\\]")
    match = _ASSIGNED.search(text)
    return match.group(1).strip() if match else text


def _unwrapped(text: str, opening: str, closing: str) -> str:
    """Remove pairs of delimiters that stand on one line, keeping what is between them."""
    if opening not in text:
        return text
    return "\n".join(_unwrapped_line(line, opening, closing) for line in text.split("\n"))


def _unwrapped_line(line: str, opening: str, closing: str) -> str:
    pieces, kept = [], 0
    start = line.find(opening)
    while start >= 0:
        end = line.find(closing, start + len(opening))
        if end < 0:
            break
        pieces += [line[kept:start], line[start + len(opening) : end]]
        kept = end + len(closing)
        start = line.find(opening, kept)
    return "".join([*pieces, line[kept:]])


def _without_units(text: str) -> str:
    text = text.replace("\\pi", "π")
    if "π" in text:
        text = _COUNTED_PI.sub(r"\1*3.14", _LONE_PI.sub("3.14", text))
        text = _BRACED_PI.sub("3.14", text)
    for unit, replacement in _UNITS:
        text = text.replace(unit, replacement)
    return text


def _same_numbers(values: list[Any], targets: list[Any]) -> bool:
    if len(values) != len(targets) or not all(isinstance(value, (int, float)) for value in values):
        return False
    return all(map(_close, sorted(values), sorted(targets)))


def _close(value: Any, target: Any) -> bool:
    try:
        if math.isnan(value):
            return False
        margin = abs(target) * TOLERANCE
        return bool(target - margin <= value <= target + margin)
    except (TypeError, ValueError, OverflowError):
        return False
