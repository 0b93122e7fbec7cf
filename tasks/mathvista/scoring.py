"""MathVista's rules: extraction by rule, normalisation, equality. Pure functions of text.

``official`` does what extract_answer.py and calculate_score.py of github.com/lupantech/MathVista (commit 53d5258) do,
quirks included; where they ask GPT-4, the caller brings the extraction (recorded, from a judge, or from
`specs_eval.tasks.mathvista.extraction`). ``reasoning`` judges an answer that was found already and gives nothing for
an answer that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs_eval.tasks.mathvista.nearest import nearest_index
from specs_eval.tasks.profiles import UnusableRecordError

NEAREST = "nearest choice"
"""The official last resort, whatever the extraction says."""

_BRACKETED_LETTER = re.compile(r"\(([a-zA-Z])\)")


@dataclass(frozen=True, slots=True)
class Problem:
    """What scoring needs to know of a question."""

    question_type: str
    """``multi_choice`` or ``free_form``."""
    answer_type: str
    """``text``, ``integer``, ``float`` or ``list``."""
    gold: object
    """The right answer: for a multiple-choice question the text of the choice."""
    choices: tuple[str, ...] = ()
    precision: float | None = None
    """Decimal places of a float answer."""
    question: str = ""
    unit: str | None = None

    @property
    def multiple_choice(self) -> bool:
        """Whether one of `choices` is the answer."""
        return self.question_type == "multi_choice"


@dataclass(frozen=True, slots=True)
class Decision:
    """A prediction and how it came to be."""

    correct: bool
    prediction: str | None
    """The normalised extraction; None: it is not of the answer's type."""
    rule: str
    unread: bool = False
    """The extraction is no letter, choice or number: the choice nearest to it was taken, or nothing."""


@dataclass(frozen=True, slots=True)
class QuickExtraction:
    """What the official code extracts without asking a model."""

    text: str
    rule: str


def quick_extraction(response: str, problem: Problem) -> QuickExtraction | None:
    """The official extraction where it is a rule; None where the official code asks GPT-4.

    Order: empty response, a response that is a choice, `int`, `float`. What Python reads as a number counts, so
    ``1_000`` and surrounding white space do too, and integers beyond 4,300 digits do not.
    """
    if response == "":
        return QuickExtraction("", "empty")
    if problem.multiple_choice:
        return QuickExtraction(response, "choice") if response in problem.choices else None
    try:
        if problem.answer_type == "integer":
            return QuickExtraction(str(int(response)), "int")
        if problem.answer_type == "float":
            return QuickExtraction(str(float(response)), "float")
    except ValueError:
        return None
    return None


def normalise(extraction: object, problem: Problem) -> tuple[str | None, str]:
    """The official normalisation of an extraction, and the rule that it went by.

    Args:
        extraction: what was extracted; a string, or whatever a recorded file holds.
        problem: the question.

    Returns:
        (prediction, rule). The prediction is None when the extraction is not a number where one is asked for.

    Example:
        >>> normalise("(b) because", Problem("multi_choice", "text", "y", ("x", "y")))
        ('y', 'letter')
        >>> normalise("3.7", Problem("free_form", "integer", "3"))
        ('3', 'integer')
    """
    if problem.multiple_choice:
        return _normalise_choice(extraction, problem.choices)
    if problem.answer_type == "integer":
        return _integer_text(extraction), "integer"
    if problem.answer_type == "float":
        return _float_text(extraction, problem.precision), "float"
    return plain_text(extraction), "list" if problem.answer_type == "list" else "text"


def _normalise_choice(extraction: object, choices: Sequence[str]) -> tuple[str | None, str]:
    if not choices:
        return None, "no choices"
    text = extraction.strip() if isinstance(extraction, str) else plain_text(extraction) or ""
    found = _BRACKETED_LETTER.search(text)
    letter = found.group(1).upper() if found else text
    if len(letter) == 1 and 0 <= ord(letter) - 65 < len(choices):
        return choices[ord(letter) - 65], "letter"
    if letter in choices:
        return letter, "choice"
    return choices[nearest_index(letter, choices)], NEAREST


def _integer_text(extraction: object) -> str | None:
    """The integer part, as Python reads a float: ``3.7`` is 3 (official), infinity and NaN are nothing."""
    try:
        return str(int(float(extraction)))  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return None


def _float_text(extraction: object, precision: float | None) -> str | None:
    """Rounded as Python rounds and prints; `precision` is a float on the hub."""
    try:
        return str(round(float(extraction), int(precision)))  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return None


def plain_text(value: object) -> str | None:
    """`str`, unless that is refused (integers beyond 4,300 digits)."""
    try:
        return str(value)
    except ValueError:
        return None


def decide(extraction: object, problem: Problem) -> Decision:
    """The official decision on an extraction: normalise, then plain equality with the gold."""
    prediction, rule = normalise(extraction, problem)
    correct = prediction is not None and prediction == problem.gold
    return Decision(correct, prediction, rule, unread=prediction is None or rule == NEAREST)


def parse_problem(facts: Mapping[str, object]) -> Problem:
    """A problem from a record's fields: hub row, official JSON, or a row of stored outputs.

    Raises:
        UnusableRecordError: a field is missing or of the wrong kind; the text says which.
    """
    question_type, answer_type = facts.get("question_type"), facts.get("answer_type")
    if question_type not in ("multi_choice", "free_form"):
        raise UnusableRecordError(f"question_type must be multi_choice or free_form, not {question_type!r:.80}")
    if not isinstance(answer_type, str):
        raise UnusableRecordError(f"answer_type must be a string, not {answer_type!r:.80}")
    listed = facts.get("choices")
    choices = tuple(map(str, listed)) if isinstance(listed, (list, tuple)) else ()
    if question_type == "multi_choice" and not choices:
        raise UnusableRecordError("a multi_choice question needs a list of choices")
    precision = facts.get("precision")
    if precision is not None and not isinstance(precision, (int, float)):
        raise UnusableRecordError(f"precision must be a number or null, not {precision!r:.80}")
    unit = facts.get("unit")
    return Problem(
        question_type=question_type,
        answer_type=answer_type,
        gold=facts["gold"] if "gold" in facts else facts.get("answer"),
        choices=choices,
        precision=precision,
        question=str(facts.get("question") or ""),
        unit=unit if isinstance(unit, str) and unit else None,
    )
