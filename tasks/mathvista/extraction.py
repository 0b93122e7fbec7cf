"""What stands in for the official GPT-4 step: the answer of a MathVista response, found by rules.

The official pipeline asks GPT-4 to type the answer that a response ends with. `specs_eval.tasks.answers.reading` reads
the same places; here is only what is particular to MathVista. README.md in this folder has the measured agreement.
"""

from __future__ import annotations

import re

from specs_eval.tasks.answers.reading import Found, read_choice, read_list, read_number, readable
from specs_eval.tasks.mathvista.scoring import Problem

_RESTART = re.compile(r"\n\s{0,4}(Hint|Question|Choices|问题)\s?[:：]")
_ASKS_YEAR = re.compile(r"\b[Ww](?:hich|hat) year\b|^When (?:did|does|do|was|were|is)\b")
_CONCLUDES = re.compile(r"Solution|Therefore|answer is|答案")
_ANSWERED = re.compile(r"\nAnswer: \([A-Z]\)[^\n]{0,400}")
_OPTIONS_LAST = re.compile(
    r"(?:^\(?[A-Z][.)][^\n]{0,300}\n{1,2}){2}\(?[A-Z][.)][^\n]{0,300}(?:\n{1,2}Please[^\n]{0,200})?\Z", re.MULTILINE
)
_UNFINISHED = re.compile(r"Choices:\n\(|Answer:")


def extract(response: str, problem: Problem) -> Found:
    """The answer that a response gives, in the words in which the official step would type it."""
    text = readable(response)
    if not text:
        return Found("", "empty", answered=False)
    last = _last_part(text)
    if last is not None:
        found = _read(last, problem, continued=True)
        if found.answered:
            return found
    return _read(own_part(text) or text, problem)


def own_part(text: str) -> str | None:
    """The text up to where the model goes on to ask itself the next question; None: it asks none."""
    text = readable(text)
    found = _RESTART.search(text)
    own = text[: found.start()] if found else ""
    return own if own.strip() else None


def _last_part(text: str) -> str | None:
    """The last question that the model asked itself, with its answer: the official step reads the end of a text."""
    starts = [found for found in _RESTART.finditer(text) if found.start()]
    if not starts or starts[0].group(1) == "Choices":
        return None
    answers = _ANSWERED.findall(text, starts[0].end())
    if answers:
        return str(answers[-1])
    if starts[0].group(1) == "Hint":
        return None
    part = text[[found for found in starts if found.group(1) == starts[0].group(1)][-1].end() :].strip()
    unanswered = _UNFINISHED.search(part) or _OPTIONS_LAST.search(part)
    return None if unanswered and not _CONCLUDES.search(part) else part or None


def _read(text: str, problem: Problem, *, continued: bool = False) -> Found:
    if problem.multiple_choice:
        return read_choice(text, problem.choices, continued=continued)
    if problem.answer_type == "list":
        return read_list(text)
    if problem.answer_type in ("integer", "float"):
        return read_number(text, asks_year=_ASKS_YEAR.search(problem.question) is not None)
    return Found(text, "whole response")
