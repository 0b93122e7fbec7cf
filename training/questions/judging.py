r"""Is an answer right? Rules by the kind of the gold answer; pure, bounded, and safe on any text.

choice   the choice that the answer means, by its letter, its text or as a reader finds it, without guessing
letter   the letter alone, or the one that the answer states
number   values are compared: in digits, as a fraction or in LaTeX (``\frac{1}{2}``, ``2\sqrt{3}``); units are not
text     equal in case-free mathematical spelling (`specs_eval.tasks.answers.canonical`), or expressions of the same value
"""

from __future__ import annotations

import math
import re

from specs_eval.task import Score
from specs_eval.tasks.answers.canonical import canonical
from specs_eval.tasks.answers.choices import lone_letter, named_letter
from specs_eval.tasks.answers.numbers import numbers_in
from specs_eval.tasks.answers.reading import match_choice, read_number, readable
from specs_eval.tasks.formats.styles import closing_brace
from specs_eval.tasks.judge_questions import shortened
from specs_eval.tasks.megabench.latex.grammar import parse
from specs_eval.tasks.megabench.latex.refute import VALUE_ERRORS, differ, has_value, real_value
from specs_eval.training.questions.question import Question

MAX_ANSWER_CHARS = 2_000
"""Longer answers are cut before they are compared."""
MAX_READ_CHARS = 400
"""Of a longer answer the beginning and the end are read: reading takes time, and an answer is short."""
MAX_VALUE_CHARS = 120
"""A longer text is not read as the value of a number."""
RELATIVE_TOLERANCE = 1e-6
"""Of numbers that are compared exactly: what is lost by spelling them in digits."""
NO_ANSWER = "no answer"
BOX = "\\boxed{"

_STATED = ("number: stated", "number: bold", "number: after =")
"""Rules that find the one number that is given as the answer; else "4 or 5" is no answer."""
_EDGES = " \t\r\n.,;:!?\"'`*()[]{}"
_PLAIN = re.compile(r"[+-]?(?:(?:\d{1,3}(?:,\d{3}){1,8}|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?")
_PI = re.compile(r"\\pi(?![A-Za-z])|π")
_FRACTION = re.compile(r"([+-]?\d{1,15})\s?/\s?(\d{1,15})")
_UNIT = re.compile(
    r"\s?(?:%|\\%|°|\^\\circ|\^\{\\circ\}|degrees?"
    r"|(?:[cmkd]?m|k?g|mg|m?[sLlVA]|[NJWKCFh]|kJ|kW|Pa|kPa|Hz|min|mol|rad|deg|ft|in|[µμ][gms]|Ω"
    r"|(?<=\s)[A-Za-z]{2,12}(?:\s[A-Za-z]{2,12}){0,2})[²³]?(?:\^\{?[23]\}?)?)$"
)
"""A variable is no unit: ``2x`` has no value. Words are units where a space stands before them."""
_NAMED = re.compile(r"[A-Za-z]\w{0,5}\s?=\s?")
_WORDS = re.compile(r"(?<!\\)(?<![A-Za-z\\])[A-Za-z]{3,}")
_FUNCTIONS = frozenset(("sin", "cos", "tan", "log", "exp", "sqrt"))
_DOLLARS = re.compile(r"\\[()\[\]]|\\text\{([^{}]{0,40})\}|\\mathrm\{([^{}]{0,40})\}|[$€£]|\\[,;! ]")


def judge_answer(question: Question, answer: str) -> Score:
    """1 when the answer is right, else 0, by the rules above; never None, never raises."""
    if not answer.strip():
        return Score(0.0, None, NO_ANSWER, NO_ANSWER)
    if question.kind == "text":
        said = plain(answer[:MAX_ANSWER_CHARS])
        if said == plain(question.answer):
            return Score(1.0, said, "text: equal")
        return Score(float(_same_expression(question.answer, answer)), said, "text: expression")
    judge = {"choice": _choice, "letter": _letter, "number": _number}[question.kind]
    return judge(question, shortened(answer, MAX_READ_CHARS))


def plain(text: str) -> str:
    """A short answer in one spelling: without case, spaces, markup, and punctuation at its edges."""
    return canonical(unboxed(text).replace("\\{", "{").replace("\\}", "}").strip(_EDGES))


def unboxed(text: str) -> str:
    r"""What stands in the last ``\boxed{}`` of a gold answer or answer; the text itself where there is none."""
    start = text.rfind(BOX)
    end = closing_brace(text, start + len(BOX)) if start >= 0 else None
    return text if end is None else text[start + len(BOX) : end]


def _choice(question: Question, answer: str) -> Score:
    match = match_choice(answer, question.choices)
    if match.index is None:
        reason = NO_ANSWER if not match.answered else "the answer is none of the choices"
        return Score(0.0, None, f"choice: {match.rule}", reason)
    said = question.choices[match.index]
    return Score(float(said == question.answer), said, f"choice: {match.rule}")


def _letter(question: Question, answer: str) -> Score:
    gold, text = question.answer.strip(_EDGES).upper(), readable(unboxed(answer))
    letter = lone_letter(text) if len(text) <= 12 else None
    if letter is None:
        named = named_letter(text, 26)
        letter = None if named is None or named.several else named.letter
    if letter is None:
        return Score(0.0, None, "letter", NO_ANSWER)
    return Score(float(letter == gold), letter, "letter")


def _number(question: Question, answer: str) -> Score:
    value = value_of(answer)
    rule = "number: value"
    if value is None and any(map(str.isspace, answer.strip())):
        found = read_number(readable(answer))
        value = value_of(found.text) if found.answered and not found.guessed else None
        rule = f"number: {found.rule}"
        if found.rule not in _STATED and len({number.text for number in numbers_in(answer)}) > 1:
            return Score(0.0, None, "number: several", NO_ANSWER)
    if value is None:
        return Score(0.0, None, rule, NO_ANSWER)
    return Score(float(equals_gold(question, value)), f"{value:.12g}", rule)


def equals_gold(question: Question, value: float) -> bool:
    """Whether a value is the gold number: at its decimal places where it has any, else but for rounding errors."""
    gold = value_of(question.answer)
    if gold is None or not math.isfinite(value):
        return False
    decimals = question.decimals if question.decimals is not None else _decimals(question.answer) or None
    if decimals is not None and abs(value) < 1e15:
        return round(value, decimals) == round(gold, decimals)
    return abs(value - gold) <= RELATIVE_TOLERANCE * max(1.0, abs(gold))


def _same_expression(gold: str, answer: str) -> bool:
    """Whether two texts are expressions that have the same value wherever it was looked (`refute.differ`)."""
    texts = [_DOLLARS.sub(" ", unboxed(text)).strip(" \t\r\n.") for text in (gold, answer[:MAX_VALUE_CHARS])]
    if not all(map(_is_expression, texts)):
        return False
    try:
        left, right = (parse(text) for text in texts)
        return has_value(left) and has_value(right) and not differ(left, right)
    except (*VALUE_ERRORS, TypeError, RecursionError):
        return False


def _is_expression(text: str) -> bool:
    """Whether a text is mathematics: it computes something, and has no words (as products of letters words commute)."""
    computes = any(mark in text for mark in "0123456789+-*/^\\")
    return len(text) < MAX_VALUE_CHARS and computes and _FUNCTIONS.issuperset(_WORDS.findall(text))


def _decimals(gold: str) -> int:
    found = re.search(r"\d\.(\d{1,15})(?!\d)", gold) if "\\" not in gold else None
    return len(found.group(1)) if found else 0


def value_of(text: str) -> float | None:
    r"""The value of a text that is a number and nothing else but a unit; None: it is not.

    Example:
        >>> [value_of(text) for text in ("1,200", "\\boxed{17^\\circ}", "3/4", "$2\\sqrt{4}$ cm", "no")]
        [1200.0, 17.0, 0.75, 4.0, None]
    """
    text = unboxed(text)
    if len(text) > MAX_VALUE_CHARS or not (any(map(str.isdigit, text)) or "π" in text or "\\pi" in text):
        return None
    inner = _DOLLARS.sub(lambda found: f" {found.group(1) or found.group(2) or ''}", text)
    bare = _NAMED.sub("", inner.replace("−", "-").strip(" \t\r\n*:").rstrip(".,;"), count=1)
    for candidate in (bare, _UNIT.sub("", bare).strip()):
        value = _read_value(candidate)
        if value is not None:
            return value
    return None


def _read_value(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        plainly = float(text.replace(",", ""))
        return plainly if math.isfinite(plainly) else None
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        return int(fraction.group(1)) / int(fraction.group(2)) if int(fraction.group(2)) else None
    if not any(mark in text for mark in ("\\", "^", "√", "π", "*", "+")):
        return None
    try:
        value = real_value(parse(_PI.sub(f"({math.pi})", text.replace("√", "\\sqrt "))))
    except (*VALUE_ERRORS, TypeError, RecursionError):
        return None
    return value if math.isfinite(value) else None
