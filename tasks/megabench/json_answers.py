"""JSON in a response: the last object or list that reads as JSON or as a Python literal."""

from __future__ import annotations

import json
import re
from typing import Any

from specs_eval.tasks.megabench.brackets import bracketed
from specs_eval.tasks.megabench.limits import (
    MAX_CANDIDATES,
    MAX_LITERAL_CHARS,
    MAX_NESTED_STRINGS,
    MAX_STRUCTURED_CHARS,
)
from specs_eval.tasks.megabench.literals import LITERAL_ERRORS, literal

_ANSWER_LINE = re.compile(r"^(?:\*\*Answer:|Answer:)\s*(.+)", re.MULTILINE)
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_QUOTE_AT_EDGE = re.compile(r"(?<!\w)\'|\'(?!\w)")
_DOUBLE, _SINGLE = "__DOUBLE_QUOTE__", "__SINGLE_QUOTE__"
_JSON_ERRORS = (ValueError, RecursionError)


def parse_json(response: str) -> Any:
    """The last valid JSON or Python value in brackets; ``[]`` or ``{}`` when there is none.

    Quirks kept: text after the *first* line-leading ``Answer:`` (one line of it) is all that is read; a candidate that
    is both JSON and a literal counts as the literal; a candidate whose single quotes can be made double quotes counts.
    """
    text = after_answer_line(response)
    text, _ = code_block(text, "json")
    if len(text) > MAX_STRUCTURED_CHARS:
        return [] if text.startswith("[") else {}
    for candidate in bracketed(text)[: -MAX_CANDIDATES - 1 : -1]:
        values = _readings(candidate)
        if values:
            return values[-1]
    return [] if text.startswith("[") else {}


def after_answer_line(response: str) -> str:
    """What follows ``Answer:`` at the start of a line, to the end of that line; the whole text without one."""
    match = _ANSWER_LINE.search(response)
    return (match.group(1) if match else response).strip()


def code_block(text: str, language: str | None = None) -> tuple[str, bool]:
    """The content of the first fenced code block, stripped, and whether there was one; else the text itself."""
    opening = text.find("```" + (language or ""))
    if opening < 0:
        return text, False
    start = opening + 3 + len(language or "")
    if language is None:
        start = _WORD.match(text, start).end()  # type: ignore[union-attr]  # \w* matches everywhere
    start = _SPACE.match(text, start).end()  # type: ignore[union-attr]
    closing = text.find("```", start)
    return (text[start:closing].strip(), True) if closing >= 0 else (text, False)


_WORD = re.compile(r"\w*")
_SPACE = re.compile(r"\s*")


def _readings(candidate: str) -> list[Any]:
    """The values that a candidate may stand for, in the official order of trial."""
    if len(candidate) > MAX_LITERAL_CHARS:
        return []
    candidate = _unnest(candidate)
    values = _as_json(candidate)
    for text in (candidate, candidate.replace('\\"', '\\\\"').replace("\\'", "\\\\'")):
        try:
            values.append(literal(text))
            break
        except LITERAL_ERRORS:
            continue
    return values


def _as_json(candidate: str) -> list[Any]:
    for text in (candidate, _QUOTE_AT_EDGE.sub('"', candidate)):
        try:
            return [json.loads(text)]
        except _JSON_ERRORS:
            continue
    return []


def _unnest(candidate: str) -> str:
    """Put nested JSON, written as a string, in its place as an object."""
    candidate = candidate.replace('\\"', _DOUBLE).replace("\\'", _SINGLE)
    for text in _STRING.findall(candidate)[:MAX_NESTED_STRINGS]:
        inner = text[1:-1].replace(_DOUBLE, '"').replace(_SINGLE, "'")
        if inner.lstrip()[:1] not in ("{", "["):
            continue
        try:
            value = json.loads(inner)
        except _JSON_ERRORS:
            continue
        candidate = candidate.replace(text, json.dumps(value))
    return candidate.replace(_DOUBLE, '\\"').replace(_SINGLE, "\\'")
