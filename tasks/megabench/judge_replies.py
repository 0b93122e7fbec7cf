"""What a judge's reply is worth: a score out of ten, or yes or no; never a guess and never 0 for want of an answer."""

from __future__ import annotations

import re

from specs_eval.errors import ScoringError

_NUMBER = r"(\d{1,9})(?![.,]?\d)(?:\s{0,3}/\s{0,3}(\d{1,9}))?"
_OFFICIAL_MARK = re.compile(rf"\*\*Score\*\*\s{{0,20}}:\s{{0,20}}{_NUMBER}")
"""The official code reads the digits after the first ``**Score**:``."""
_PLAIN_MARK = re.compile(
    rf"^[\s*_#>-]{{0,12}}(?:(?:final|overall|total)\s)?score[\s*_]{{0,6}}[:=][\s*_]{{0,6}}{_NUMBER}",
    re.IGNORECASE | re.MULTILINE,
)
_ANY_MARK = re.compile(r"score[\s*_]{0,6}:", re.IGNORECASE)
_FIRST_WORD = re.compile(r"\W{0,9}(yes|no)\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def score_in(reply: str) -> float:
    """The share of ten points that a reply gives, in [0, 1].

    ``**Score**: 8`` as the official prompts ask for; where there is none, ``Score: 8`` or ``Score: 8/10`` at the start of
    a line.

    Raises:
        ScoringError: no score, several different ones, one beyond ten, a fraction of a point, or another scale.
    """
    found = set(_OFFICIAL_MARK.findall(reply)) or set(_PLAIN_MARK.findall(reply))
    if not found:
        raise ScoringError("the judge gave no score")
    if any(scale and int(scale) != 10 for _, scale in found):
        raise ScoringError("the judge gave a score on another scale than 10")
    points = {int(number) for number, _ in found}
    if len(points) > 1:
        raise ScoringError(f"the judge gave several scores: {', '.join(map(str, sorted(points)[:5]))}")
    (value,) = points
    if value > 10:
        raise ScoringError(f"the judge gave a score of {value} out of 10")
    return value / 10.0


def yes_or_no(reply: str) -> float:
    """1 for yes and 0 for no: the reply's first word, or the only one of the two that occurs.

    Raises:
        ScoringError: neither, or both.
    """
    first = _FIRST_WORD.match(reply)
    words = {first.group(1).lower()} if first else {word.lower() for word in _YES_OR_NO.findall(reply)}
    if len(words) != 1:
        raise ScoringError("the judge said neither yes nor no" if not words else "the judge said both yes and no")
    return float(words == {"yes"})


def holds_score_mark(answer: str) -> bool:
    """Whether an answer writes what only the judge should: a mark such as ``**Score**:``."""
    return _ANY_MARK.search(answer) is not None
