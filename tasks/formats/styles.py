"""The answer formats: what is asked of the model, the strict parser that holds it to that, and an ideal response.

A parser accepts exactly what its instruction asks for: every part once, in order, not empty, and nothing but white
space around it. Parsers walk the text with `str.find`; their time is linear whatever the model wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_RESPONSE_CHARS = 1_000_000
"""Longer responses are not in any format; the limit bounds the time of every parser."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a strict parser found."""

    answer: str | None
    """The answer part, stripped; None: the response is not in the format."""
    reasoning: str | None = None
    problem: str | None = None
    """The first rule that the response breaks; None when it is in the format."""

    @property
    def ok(self) -> bool:
        """Whether the response is in the format."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """One way to ask for reasoning and an answer."""

    name: str
    instruction: str
    """Appended to the question, on a line of its own."""
    parse: Callable[[str], Parsed]
    render: Callable[[str, str], str]
    """(reasoning, answer) -> a response that `parse` accepts."""


def _bad(problem: str) -> Parsed:
    return Parsed(answer=None, problem=problem)


def _sequence(text: str, marks: tuple[str, ...]) -> list[str] | str:
    """Split text at marks that must each occur once and in this order; the problem as text if they do not."""
    if len(text) > MAX_RESPONSE_CHARS:
        return "response too long"
    pieces, position = [], 0
    for mark in marks:
        start = text.find(mark)
        if start < 0:
            return f"{mark} is missing"
        if text.find(mark, start + 1) >= 0:
            return f"{mark} occurs twice"
        if start < position:
            return f"{mark} is out of order"
        pieces.append(text[position:start])
        position = start + len(mark)
    pieces.append(text[position:])
    return [piece.strip() for piece in pieces]


def _enclosed(first: tuple[str, str], second: tuple[str, str]) -> Callable[[str], tuple[str, str] | str]:
    """A parser of two enclosed parts that follow each other with nothing but white space around them."""

    def parse(text: str) -> tuple[str, str] | str:
        pieces = _sequence(text, (*first, *second))
        if isinstance(pieces, str):
            return pieces
        before, one, between, two, after = pieces
        if before or between or after:
            return "text outside the tags"
        if not one or not two:
            return "a part is empty"
        return one, two

    return parse


def _tagged(name: str, instruction: str, think: tuple[str, str], answer: tuple[str, str]) -> AnswerFormat:
    split = _enclosed(think, answer)

    def parse(text: str) -> Parsed:
        parts = split(text)
        return _bad(parts) if isinstance(parts, str) else Parsed(answer=parts[1], reasoning=parts[0])

    def render(reasoning: str, final: str) -> str:
        return f"{think[0]}{reasoning}{think[1]}\n{answer[0]}{final}{answer[1]}"

    return AnswerFormat(name, instruction, parse, render)


def _parse_swapped(text: str) -> Parsed:
    parts = _enclosed(("<answer>", "</answer>"), ("<think>", "</think>"))(text)
    return _bad(parts) if isinstance(parts, str) else Parsed(answer=parts[0], reasoning=parts[1])


def _parse_sections(text: str) -> Parsed:
    pieces = _sequence("\n" + text.strip(), ("\n## Reasoning\n", "\n## Answer\n"))
    if isinstance(pieces, str):
        return _bad(pieces.replace("\n", ""))
    before, reasoning, answer = pieces
    if before:
        return _bad("text before the first heading")
    if not reasoning or not answer:
        return _bad("a section is empty")
    if "\n#" in answer:
        return _bad("a further heading")
    return Parsed(answer=answer, reasoning=reasoning)


def _parse_final_line(text: str) -> Parsed:
    if len(text) > MAX_RESPONSE_CHARS:
        return _bad("response too long")
    mark = "Final answer:"
    body, _, last = text.strip().rpartition("\n")
    if not last.startswith(mark):
        return _bad(f"the last line does not start with {mark!r}")
    if mark in body or text.count(mark) > 1:
        return _bad(f"{mark!r} occurs twice")
    if "<think>" in body or "<answer>" in text:
        return _bad("tags that were not asked for")
    answer = last[len(mark) :].strip()
    if not answer or not body.strip():
        return _bad("a part is empty")
    return Parsed(answer=answer, reasoning=body.strip())


def _parse_boxed(text: str) -> Parsed:
    if len(text) > MAX_RESPONSE_CHARS:
        return _bad("response too long")
    mark = "\\boxed{"
    start = text.find(mark)
    if start < 0:
        return _bad(f"{mark}}} is missing")
    if text.find(mark, start + 1) >= 0:
        return _bad(f"{mark}}} occurs twice")
    if "<think>" in text or "<answer>" in text:
        return _bad("tags that were not asked for")
    end = closing_brace(text, start + len(mark))
    if end is None:
        return _bad("the box is not closed")
    if text[end + 1 :].strip(" \n\t.$"):
        return _bad("text after the box")
    answer, reasoning = text[start + len(mark) : end].strip(), text[:start].strip(" \n\t$")
    if not answer or not reasoning:
        return _bad("a part is empty")
    return Parsed(answer=answer, reasoning=reasoning)


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one opened just before `start`; None when there is none. Linear."""
    depth = 1
    for index in range(start, len(text)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return None


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_json(text: str) -> Parsed:
    if len(text) > MAX_RESPONSE_CHARS:
        return _bad("response too long")
    try:
        value = json.loads(text.strip(), object_pairs_hook=_unique_object, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return _bad("not one JSON object")
    if not isinstance(value, dict) or set(value) != {"reasoning", "answer"}:
        return _bad('the keys are not exactly "reasoning" and "answer"')
    reasoning, answer = value["reasoning"], value["answer"]
    if isinstance(answer, (bool, type(None), list, dict)) or not isinstance(reasoning, str):
        return _bad("a value has the wrong type")
    if not str(answer).strip() or not reasoning.strip():
        return _bad("a part is empty")
    return Parsed(answer=str(answer).strip(), reasoning=reasoning.strip())


THINK_ANSWER = _tagged(
    "think_answer",
    "First think between <think> and </think>, then give the answer between <answer> and </answer>.",
    ("<think>", "</think>"),
    ("<answer>", "</answer>"),
)
"""The trained instruction: in-distribution (ID) in every format-following pair."""

OOD_FORMATS = (
    _tagged(
        "other_tags",
        "First think between <reason> and </reason>, then give the answer between <final> and </final>.",
        ("<reason>", "</reason>"),
        ("<final>", "</final>"),
    ),
    AnswerFormat(
        "json",
        'Reply with one JSON object that has the keys "reasoning" and "answer", and nothing else.',
        _parse_json,
        lambda reasoning, answer: json.dumps({"reasoning": reasoning, "answer": answer}, ensure_ascii=False),
    ),
    AnswerFormat(
        "sections",
        'Write your reasoning under the heading "## Reasoning", then the answer under the heading "## Answer".',
        _parse_sections,
        lambda reasoning, answer: f"## Reasoning\n{reasoning}\n## Answer\n{answer}",
    ),
    AnswerFormat(
        "final_line",
        'Explain your reasoning without tags, then end with a last line "Final answer: " and the answer.',
        _parse_final_line,
        lambda reasoning, answer: f"{reasoning}\nFinal answer: {answer}",
    ),
    AnswerFormat(
        "boxed",
        "Explain your reasoning without tags, then end with the answer in \\boxed{}.",
        _parse_boxed,
        lambda reasoning, answer: f"{reasoning}\n\\boxed{{{answer}}}",
    ),
    AnswerFormat(
        "swapped",
        "First give the answer between <answer> and </answer>, then explain it between <think> and </think>.",
        _parse_swapped,
        lambda reasoning, answer: f"<answer>{answer}</answer>\n<think>{reasoning}</think>",
    ),
)
"""Changed instructions: out-of-distribution (OOD). The questions are the same."""

FORMATS = {style.name: style for style in (THINK_ANSWER, *OOD_FORMATS)}
