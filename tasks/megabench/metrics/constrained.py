"""Text under constraints: words that must occur, length, acrostics, syllables, rhymes and metre."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from specs_eval.tasks.megabench.language.phones import is_iambic, rhymes_of, syllable_counts
from specs_eval.tasks.megabench.language.sentences import sentences
from specs_eval.tasks.megabench.language.words import lemmatized
from specs_eval.tasks.megabench.limits import MAX_LINGUISTIC_CHARS
from specs_eval.tasks.megabench.literals import literal, to_container

_WORD = re.compile(r"\w+")
_COUNTED_WORD = re.compile(r"\b\w+\b")
_TRAILING_DIGITS = re.compile(r"\d+$")
_RHYME_MARK = re.compile(r"\(\w\) *(?=\n|$)")
_RANGE = re.compile(r"\[\d+(?:,\s*\d+)?\]|\d| ")
_VERSE_MARKS = {**dict.fromkeys(map(ord, '.,!?:;"')), ord("-"): " ", ord("—"): " "}

Occurrences = list[tuple[int, int]]
"""(number of the sentence from 1 on, occurrences in it)."""


def satisfies(response: Any, constraints: Mapping[str, str]) -> float:
    """1 when the text meets every constraint of the evaluation context, else 0.

    Raises:
        ValueError: no constraints, or one that contradicts its own form; the official run ends there.
    """
    if not constraints:
        raise ValueError("no constraints")
    if len(response) > MAX_LINGUISTIC_CHARS:
        return 0.0
    text = _Text(response)
    named = [(name, value) for name, value in constraints.items() if value.strip()]
    named.sort(key=lambda item: _cost(item[0]))  # one failure decides: cheap checks first
    return float(all(_met(text, name, value) for name, value in named))


def _cost(name: str) -> int:
    return 2 if "contain" in name else 0 if "length" in name or "acrostic" in name else 1


def _met(text: _Text, name: str, value: str) -> bool:
    if "contain" in name:
        return _contains(text, name, value)
    if "length" in name:
        return _has_length(text.plain, value)
    if "acrostic" in name:
        return _is_acrostic(text.plain, value, "acrostic_alliteration" in name)
    check = {"syllables": _has_syllables, "rhyming_scheme": _rhymes, "poetry_meter": _is_metric}.get(name)
    return check is not None and check(_verse_lines(text.plain), value)


class _Text:
    """A response whose sentences are lemmatized once for all constraints."""

    def __init__(self, plain: str) -> None:
        self.plain = plain
        self._sentences: list[str] | None = None

    def occurrences(self, phrase: str) -> Occurrences:
        """Where the lemmas of a phrase occur, as a part of the lemmatized sentences."""
        if self._sentences is None:
            self._sentences = [lemmatized(sentence) for sentence in sentences(self.plain.replace("**", ""))]
        wanted = lemmatized(phrase)
        counts = ((number, sentence.count(wanted)) for number, sentence in enumerate(self._sentences, 1))
        return [(number, count) for number, count in counts if count]


def _contains(text: _Text, name: str, value: str) -> bool:
    parts = _parts(name, value)
    if "contain_only" in parts:
        found = [where for group in _groups(parts["contain_only"]) if (where := _any_of(text, group))]
        if len(found) != 1:
            return False
        occurrences = found[0]
    else:
        occurrences = _any_of(text, to_container(list, parts["contain"]))
    return bool(occurrences) and _placed(occurrences, parts)


def _any_of(text: _Text, phrases: Any) -> Occurrences:
    return [where for phrase in phrases for where in text.occurrences(phrase)]


def _placed(occurrences: Occurrences, parts: Mapping[str, Any]) -> bool:
    if "position_only" in parts:
        return len(occurrences) == 1 and occurrences[0][0] == parts["position_only"]
    if "times" in parts:  # decides alone, also beside a position
        return bool(sum(count for _, count in occurrences) == parts["times"])
    return "position" not in parts or parts["position"] in [number for number, _ in occurrences]


def _parts(name: str, value: str) -> dict[str, Any]:
    """``contain1##times: [cat]##3`` as ``{"contain": "[cat]", "times": 3}``."""
    names = [_TRAILING_DIGITS.sub("", part).lower() for part in name.strip().split("##")]
    values = [part.strip().strip('"').strip() for part in value.strip().split("##")]
    return dict(zip(names, [int(part) if part.isdigit() else part for part in values], strict=True))


def _groups(text: str) -> Any:
    """``[[fox], [cat, kitten]]`` as lists of words; words without a comma between them run together (a quirk)."""
    try:
        return literal(_WORD.sub(r'"\g<0>"', text))
    except (SyntaxError, ValueError):
        return text


def _has_length(text: str, value: str) -> bool:
    """``<20`` or ``>10`` words."""
    count = len(_COUNTED_WORD.findall(text))
    limit = int(value[1:])
    if value[0] not in "<>":
        raise ValueError(f"no comparison: {value}")
    return count < limit if value[0] == "<" else count > limit


def _is_acrostic(text: str, letters: str, every_word: bool) -> bool:
    lines = text.replace("**", "").strip().lower().split("\n")
    if len(lines) != len(letters):
        return False
    return all(
        _starts_with(line.strip(), letter, every_word) for line, letter in zip(lines, letters.lower(), strict=True)
    )


def _starts_with(line: str, letter: str, every_word: bool) -> bool:
    if letter == " ":
        return line == ""
    starts = [word[0] for word in line.split(" ")] if every_word and line else [line[:1]]
    return all(start == letter for start in starts)


def _verse_lines(text: str) -> list[str]:
    """The lines of a poem without punctuation and without rhyme letters in parentheses at their ends."""
    text = text.strip().translate(_VERSE_MARKS)
    pieces, kept = [], 0
    for match in _RHYME_MARK.finditer(text):
        pieces.append(text[kept : match.start()].rstrip(" "))
        kept = match.end()
    return "".join([*pieces, text[kept:]]).lower().split("\n")


def _has_syllables(lines: list[str], value: str) -> bool:
    ranges = [_range(chunk) for chunk in _RANGE.findall(value.strip())]
    if len(lines) != len(ranges):
        return False
    return all(
        any(low <= count <= high for count in syllable_counts(line))
        for line, (low, high) in zip(lines, ranges, strict=True)
    )


def _range(chunk: str) -> tuple[int, int]:
    if chunk == " ":
        return 0, 0
    bounds = [int(bound) for bound in chunk.strip("[]").split(",")]
    return bounds[0], bounds[-1]


def _rhymes(lines: list[str], scheme: str) -> bool:
    """Lines of one letter share a rhyme, lines of different letters share none."""
    if len(lines) != len(scheme):
        return False
    words: dict[str, list[str]] = {}
    for letter, line in zip(scheme, lines, strict=True):
        word = line.split()[-1] if line else ""
        if letter != " ":
            words.setdefault(letter, []).append(word)
        elif word:
            return False
    shared = [set.intersection(*map(rhymes_of, of_letter)) for of_letter in words.values()]
    return all(shared) and not any(one & other for one, other in itertools.combinations(shared, 2))


def _is_metric(lines: list[str], _: str) -> bool:
    return all(map(is_iambic, lines))
