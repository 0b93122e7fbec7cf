"""The choice nearest to a text by Levenshtein distance: exact for texts of any length, and fast for all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

SHORT_TEXT_CHARS = 2_000
"""Up to here the bit-parallel recurrence walks over the text; beyond, `str.find` does (see `_fewest_losses`)."""


def nearest_index(text: str, choices: Sequence[str]) -> int:
    """Position of the choice with the smallest Levenshtein distance to the text; the first of equals.

    Args:
        text: any text; megabytes are fine.
        choices: at least one.

    Returns:
        An index into `choices`.

    Example:
        >>> nearest_index("3.0", ["4", "3", "2"])
        1
    """
    best, fewest = 0, distance(text, choices[0])
    for index in range(1, len(choices)):
        choice = choices[index]
        # The distance is at least the difference in length: a choice that cannot win is not looked at.
        if abs(len(text) - len(choice)) < fewest:
            edits = distance(text, choice)
            if edits < fewest:
                best, fewest = index, edits
    return best


def distance(text: str, choice: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and replacements of characters."""
    if text == choice:
        return 0
    if not text or not choice:
        return len(text) or len(choice)
    if len(text) <= SHORT_TEXT_CHARS:
        return _bit_parallel(text, choice)
    return len(text) - len(choice) + _fewest_losses(text, choice)


@lru_cache(maxsize=4096)
def _positions(choice: str) -> dict[str, int]:
    """Character -> bit vector of where it stands in the choice."""
    positions: dict[str, int] = {}
    for index, character in enumerate(choice):
        positions[character] = positions.get(character, 0) | (1 << index)
    return positions


def _bit_parallel(text: str, choice: str) -> int:
    """One step a character of the text; bit i stands for the first i + 1 characters of the choice.

    Reference: Myers 1999 (doi 10.1145/316542.316550) in the form of Hyyro 2003.
    """
    find = _positions(choice).get
    edits = len(choice)
    full, last = (1 << edits) - 1, 1 << (edits - 1)
    rises, falls = full, 0
    for character in text:
        match = find(character, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        up = falls | ~(diagonal | rises)
        down = rises & diagonal
        if up & last:
            edits += 1
        elif down & last:
            edits -= 1
        up = (up << 1) | 1
        rises = ((down << 1) | ~(diagonal | up)) & full
        falls = up & diagonal & full
    return edits


def _fewest_losses(text: str, choice: str) -> int:
    """Smallest loss of an alignment, where a character of the choice loses 0 matched, 1 replaced, 2 inserted.

    The distance is len(text) - len(choice) + that loss. `ends[i]` is the earliest place in the text at which the
    first i characters of the choice can be aligned with the loss at hand. In a long text few losses are needed, and
    a step is one `find`: time is linear in the text.
    """
    find = _Finder(text).end_after
    beyond = len(text) + 1
    one_less: list[int] = []
    two_less: list[int] = []
    for loss in range(2 * len(choice) + 1):
        ends = [0 if loss == 0 else beyond]
        for index, character in enumerate(choice):
            end = find(character, ends[index])
            if loss >= 1:
                end = min(end, one_less[index] + 1)
            if loss >= 2:
                end = min(end, two_less[index])
            ends.append(min(end, beyond))
        if ends[-1] < beyond:
            return loss
        one_less, two_less = ends, one_less
    raise AssertionError("inserting every character is an alignment")


class _Finder:
    """`str.find` for single characters that scans no stretch of the text twice for the same character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[str, tuple[list[int], list[int]]] = {}

    def end_after(self, character: str, start: int) -> int:
        """End of the first occurrence at or after `start`; len(text) + 1 when there is none."""
        starts, ends = self._known.setdefault(character, ([], []))
        at = bisect_right(starts, start)
        if at and start < ends[at - 1]:
            return ends[at - 1]
        known = at < len(starts)
        found = self._text.find(character, start, starts[at] if known else len(self._text))
        end = found + 1 if found >= 0 else ends[at] if known else len(self._text) + 1
        starts.insert(at, start)
        ends.insert(at, end)
        return end
