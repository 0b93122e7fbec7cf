"""Finding the answer in a response that may or may not be in the format that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from specs_eval.tasks.formats.styles import FORMATS, MAX_RESPONSE_CHARS, AnswerFormat, closing_brace

MAX_BARE_ANSWER_CHARS = 200
"""A response without any mark counts as an answer by itself only up to this length."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer and the rule that found it; answer None: no rule applied."""

    answer: str | None
    rule: str


def extract_answer(response: str, asked: AnswerFormat | None = None) -> Extracted:
    r"""The final answer of a response, by the first rule that applies.

    Order: the asked format (strict), any other known format (strict), loose marks (the last ``<answer>``, the last
    ``\boxed{``, the last ``Final answer:`` or ``Answer:``), the whole response when it is short and unmarked.

    Args:
        response: what the model wrote; any text.
        asked: the format that the prompt asked for.
    """
    if len(response) > MAX_RESPONSE_CHARS:
        response = response[-MAX_RESPONSE_CHARS:]
    styles = [asked] if asked is not None else []
    styles += [style for style in FORMATS.values() if style is not asked]
    for style in styles:
        parsed = style.parse(response)
        if parsed.answer is not None:
            return Extracted(parsed.answer, f"format:{style.name}")
    return _loose(response)


def _loose(response: str) -> Extracted:
    for rule, find in (("loose:answer tag", _answer_tag), ("loose:boxed", _boxed), ("loose:answer mark", _answer_mark)):
        answer = find(response)
        if answer:
            return Extracted(answer, rule)
    bare = response.strip()
    marked = any(mark in bare for mark in ("<think>", "</think>", "<answer>", "<reason>"))
    if bare and not marked and len(bare) <= MAX_BARE_ANSWER_CHARS:
        return Extracted(bare, "whole response")
    return Extracted(None, "no answer found")


def _answer_tag(text: str) -> str | None:
    start = text.rfind("<answer>")
    if start < 0:
        return None
    start += len("<answer>")
    end = text.find("<", start)
    return text[start : end if end >= 0 else len(text)].strip() or None


def _boxed(text: str) -> str | None:
    mark = "\\boxed{"
    start = text.rfind(mark)
    if start < 0:
        return None
    end = closing_brace(text, start + len(mark))
    return text[start + len(mark) : end].strip() or None if end is not None else None


def _answer_mark(text: str) -> str | None:
    start = text.lower().rfind("answer:")
    if start < 0:
        return None
    return text[start + len("answer:") :].strip().split("\n", 1)[0].strip(" *") or None
