"""From the raw response to one value a field, as the official parsers do it, in linear time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.json_answers import code_block, parse_json
from specs_eval.tasks.megabench.limits import MAX_ART_CHARS
from specs_eval.tasks.megabench.literals import stable_text, unquoted

_MARK = "Answer:"
_WHITE = re.compile(r"\s+")
_WORD = re.compile(r"\w*")
_SPACE = re.compile(r"\s*")
_SHORT_ANSWER = re.compile(r"[a-zA-Z0-9_-]|\([a-zA-Z0-9_-]+\)$")
_VERBATIM_LIMIT = 10_000

SINGLE_FIELD_PARSERS = ("answer_string", "ascii_answer_string", "verbatim_answer_string")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser made of a response."""

    value: dict[str, Any] | str
    """Field -> value; the bare text from the ``dummy`` parser."""
    ok: bool = True
    """False: no JSON object was found and every field holds the raw response."""


def parse_response(parser: str, response: str, gold: Mapping[str, Any]) -> Parsed:
    """Apply one of the five official parsers.

    Args:
        parser: name from the task's metric configuration.
        response: what the model wrote.
        gold: field -> gold value; names the fields and tells whether a one-line answer is expected.

    Raises:
        ScoringError: unknown parser, or a single-field parser for several fields.
    """
    if parser == "dummy":
        return Parsed(response.strip())
    if parser in SINGLE_FIELD_PARSERS:
        fields = [field for field in gold if not field.startswith("##")]
        if len(fields) != 1:
            raise ScoringError(f"parser {parser} needs one answer field, the task has {len(fields)}")
        one_line = "\n" not in str(gold[fields[0]])
        art = parser != "answer_string"
        return Parsed({fields[0]: parse_single(response, one_line, art, parser != "verbatim_answer_string")})
    if parser != "json":
        raise ScoringError(f"unknown response parser {parser!r}")
    value = parse_json(response)
    if isinstance(value, dict) and value:
        return Parsed({key: unquoted(item) for key, item in value.items()})
    return Parsed(dict.fromkeys(gold, response), ok=False)


def parse_single(response: str, one_line: bool, art: bool = False, strip: bool = True) -> str:
    """The answer of a single-field task.

    Args:
        response: what the model wrote.
        one_line: whether the gold answer is one line; then a short first paragraph is cut off what follows it.
        art: ASCII art and verbatim text, where leading spaces matter.
        strip: for art, whether trailing white space goes.
    """
    content = answer_content(response, art, strip)
    content, fenced = _art_block(content, strip) if art else code_block(content)
    if not fenced and one_line and not art:
        content = _first_paragraph_of_short_answer(content)
    if not content.startswith(("{", "[")):
        return str(unquoted(content))
    value = parse_json(content)
    if (value == {} and "{}" not in content) or (value == [] and "[]" not in content):
        return content
    try:
        return stable_text(value)
    except RecursionError:
        return content


def answer_content(response: str, art: bool = False, strip: bool = True) -> str:
    r"""What follows the last ``Answer:``, in bold or not; the whole response without one.

    Quirk kept: in ``**Answer:** text`` the bold ends right behind the colon and the answer is empty.
    """
    text = _keep_last_mark(response)
    found = _after_mark(text, art)
    text = text if found is None else found
    if not art:
        return text.strip()
    text = _collapse_blank_lines(text)
    text = text.rstrip() if strip else _cut_trailing_blank_lines(text)
    return _cut_leading_blank_lines(text)


def _keep_last_mark(text: str) -> str:
    text = text.replace("answer:", _MARK)
    last = text.rfind(_MARK)
    return text if last < 0 else text[:last].replace(_MARK, "") + text[last:]


def _after_mark(text: str, art: bool) -> str | None:
    last_star = text.rfind("*")
    position = text.find(_MARK)
    while position >= 0:
        start = position + len(_MARK)
        before = text[position - 1 : position]
        if before == "*" and last_star >= start:
            start = start if art else _end(_SPACE, text, start)
            return text[start : text.find("*", start)]
        if not (before.isalnum() or before == "_"):
            return text[start if art else _end(_SPACE, text, start) :]
        position = text.find(_MARK, position + 1)
    return None


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _collapse_blank_lines(text: str) -> str:
    """Remove all but the last of several blank lines; all of them at the end of the text."""
    if len(text) > MAX_ART_CHARS:
        return text
    pieces, kept = [], 0
    for match in _WHITE.finditer(text):
        run, begin = match.group(), match.start()
        first = 0 if begin == 0 else run.find("\n") + 1
        if begin > 0 and first == 0:
            continue
        at_end = match.end() == len(text)
        last = run.rfind("\n")
        if run.count("\n", first) < (1 if at_end else 2):
            continue
        pieces.append(text[kept : begin + first])
        kept = len(text) if at_end else begin + last
    return "".join([*pieces, text[kept:]])


def _cut_trailing_blank_lines(text: str) -> str:
    newline = text.find("\n", len(text.rstrip()))
    return text if newline < 0 else text[:newline]


def _cut_leading_blank_lines(text: str) -> str:
    lead = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, lead) + 1 :]


def _art_block(text: str, strip: bool) -> tuple[str, bool]:
    """The content of the first fenced block with its leading spaces, and whether there was one."""
    if not text.strip() or len(text) > _VERBATIM_LIMIT:
        text = text.rstrip()
    opening = text.find("```")
    if opening < 0:
        return text, False
    start = _end(_WORD, text, opening + 3)
    start = max(start, text.rfind("\n", start, _end(_SPACE, text, start)) + 1)
    closing = text.find("```", start)
    if closing < 0:
        return text, False
    content = text[start:closing]
    return (content.rstrip() if strip else _cut_trailing_blank_lines(content)), True


def _first_paragraph_of_short_answer(text: str) -> str:
    """Drop what follows a short first paragraph, such as a choice letter with an explanation under it."""
    paragraph = text.split("\n\n", 1)[0].strip()
    if not paragraph or not _SHORT_ANSWER.match(paragraph) or _continues_on_next_line(text):
        return text
    return paragraph


def _continues_on_next_line(text: str) -> bool:
    """Whether the first line with text is followed by another one, or by nothing at all (as officially decided)."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if line.strip():
            return not (index + 1 < len(lines) and not lines[index + 1].strip())
    return False
