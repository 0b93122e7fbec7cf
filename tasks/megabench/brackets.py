"""Finding bracketed stretches of text in linear time.

The official code searches with a recursive pattern: a brace group must hold balanced braces; a bracket group may hold
any square brackets and balanced brace groups, and reaches as far as it can. That search is exponential in the number
of brackets and is cut off by a clock; what it means can be read off the brackets in one pass.
"""

from __future__ import annotations

import re

_BRACKET = re.compile(r"[\[\]{}]")


def bracketed(text: str) -> list[str]:
    """All outermost bracket groups from left to right, as the official pattern finds them when it is given time."""
    marks = [(match.start(), match.group()) for match in _BRACKET.finditer(text)]
    partner = _partners(marks)
    reach = _reaches(marks, partner)
    groups, index = [], 0
    while index < len(marks):
        position, kind = marks[index]
        end = partner[index] if kind == "{" else reach[index + 1] if kind == "[" else -1
        if end < 0:
            index += 1
            continue
        groups.append(text[position : marks[end][0] + 1])
        index = end + 1
    return groups


def _partners(marks: list[tuple[int, str]]) -> list[int]:
    """For each opening brace the index of the brace that closes it; -1 for none and for all other marks."""
    partner, open_braces = [-1] * len(marks), []
    for index, (_, kind) in enumerate(marks):
        if kind == "{":
            open_braces.append(index)
        elif kind == "}" and open_braces:
            partner[open_braces.pop()] = index
    return partner


def _reaches(marks: list[tuple[int, str]], partner: list[int]) -> list[int]:
    """From each mark on, the last closing bracket that lies at the same brace depth before a brace bars the way."""
    reach = [-1] * (len(marks) + 1)
    for index in range(len(marks) - 1, -1, -1):
        kind = marks[index][1]
        if kind == "{":
            reach[index] = reach[partner[index] + 1] if partner[index] >= 0 else -1
        elif kind != "}":
            further = reach[index + 1]
            reach[index] = index if further < 0 and kind == "]" else further
    return reach
