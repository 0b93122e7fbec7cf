"""Numbers in running text: where they stand, and which of them a response gives as its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = re.compile(
    r"(?<![\w.])(?<![A-Za-z]\()(?P<sign>[-−]?)[$€£]?"
    r"(?P<value>\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,60})?(?![\d,]{0,3}\d)|\d{1,60}(?:\.\d{1,400})?|\.\d{1,60})"
    r"(?P<power>[eE][+-]?\d{1,4}| ?(?:\\times|×|x|\*) ?10 ?\^ ?\{?[-−]?\d{1,3}\}?)?(?!\d{0,60}\.(?:jpe?g|png|gif)\b)"
)
_COMPARED = re.compile(r"(?:\b(?:than|below|above|over|under|exceeds?|threshold of|least|most)|[<>≤≥])\s{0,3}[$]?$")
_STATED = re.compile(r"\b[Aa]nswer(?: to [^.\n]{0,80}?)?(?: is|:|would be)[\s*:$\"'(\\]{0,6}")
_BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
_WORD = re.compile(r"(?<!-)(?<!at least )(?<!at most )\b[a-z]{2,6}\b(?!-)")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s{1,9}|\n")

_EQUALS = ("=", "≈")
_OVER = re.compile(r"\s?/\s?(\d{1,15})(?![\d.])")
_UNDER = re.compile(r"(?<![\d.])(\d{1,15})\s?/\s?$")
_RANGE = re.compile(r"\b(?:between (\d{1,9}(?:\.\d{1,9})? and )|(?<![\d.,-])(\d{1,9}[-–]))$")
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")
_GLUED = re.compile(r"\b[A-Z](\d{1,15}(?:\.\d{1,4})?)\b")
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBER_WORDS = {name: str(value) for value, name in enumerate(_NAMES)} | {"no": "0"}
DOUBTFUL_NUMBERS = ("number: word", "number: compared", "number: glued")
"""Rules that read more into a response than it says."""
MAX_SENTENCES = 400


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it stands in a text."""

    text: str
    """In Python's spelling: no thousands commas, ``e`` for powers of ten."""
    start: int
    end: int
    compared: bool
    """It is what something is compared with ("more than 4")."""


@dataclass(frozen=True, slots=True)
class Given:
    """The number that a response gives as its answer, and by which rule it was read."""

    text: str
    rule: str

    @property
    def single(self) -> bool:
        """It is one number, no fraction or range."""
        return self.rule not in ("number: fraction", "number: range")


def numbers_in(text: str) -> Iterator[Number]:
    """The numbers of a text from left to right; those inside words (``x2``) are not numbers.

    Example:
        >>> [number.text for number in numbers_in("about 1,200 m or 1.2 x 10^3 m")]
        ['1200', '1.2e3']
    """
    for found in _NUMBER.finditer(text):
        power = found["power"] or ""
        if power and power[0] not in "eE":
            exponent = power.split("10", 1)[1].replace("−", "-")
            power = "e" + "".join(character for character in exponent if character in "-0123456789")
        sign = "-" if found["sign"] else ""
        compared = _COMPARED.search(text, max(0, found.start() - 16), found.start()) is not None
        yield Number(sign + found["value"].replace(",", "") + power, found.start(), found.end(), compared)


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, stripped, without empty ones; of a long text the last few hundred."""
    pieces = [piece.strip() for piece in _SENTENCE_END.split(text)]
    return [piece for piece in pieces if piece][-MAX_SENTENCES:]


def given_number(text: str, *, asks_year: bool = False) -> Given | None:
    """The number that a response ends with as its answer.

    Order: after the last "answer is"; the last bold one; in the last sentence that has one, what follows the last
    equals sign or the "is" after it, else its last number that is not merely compared with; a number word; any number,
    at last one that a capital letter stands before (``S23``: a misread $). A fraction or range is given as a whole.

    Args:
        text: the response.
        asks_year: the question asks for a year: in a sentence with years the other numbers do not count.
    """
    stated = [found.end() for found in _STATED.finditer(text)]
    if stated:
        following = next(numbers_in(text[stated[-1] : stated[-1] + 400]), None)
        if following is not None and following.start <= 4:
            return Given(following.text, "number: stated")
        word = _WORD.match(text[stated[-1] :].lower())
        if word is not None and word.group() in NUMBER_WORDS and word.group() != "no":
            return Given(NUMBER_WORDS[word.group()], "number: stated")
    bold = [number for found in _BOLD.finditer(text) for number in list(numbers_in(found.group(1)))[:1]]
    if bold:
        return Given(bold[-1].text, "number: bold")
    parts = sentences(text)
    for sentence in reversed(parts):
        number = _of_sentence(sentence, asks_year=asks_year)
        if number is not None:
            return number
    for sentence in reversed(parts):
        numbers = list(numbers_in(sentence))
        if numbers:
            return Given(numbers[-1].text, "number: compared")
    glued = _GLUED.findall(text)
    return Given(glued[-1], "number: glued") if glued else None


def _of_sentence(sentence: str, *, asks_year: bool) -> Given | None:
    numbers = [number for number in numbers_in(sentence) if not number.compared]
    if asks_year:
        numbers = [number for number in numbers if _YEAR.fullmatch(number.text)] or numbers
    if numbers:
        equals = max(map(sentence.rfind, _EQUALS))
        if equals >= 0:
            equals = max(equals, sentence.rfind(" is "))
            after = [number for number in numbers if number.start > equals]
            if after:
                return _spelled(sentence, after[0], "number: after =")
        return _spelled(sentence, numbers[-1], "number: last")
    words = [NUMBER_WORDS[word] for word in _WORD.findall(sentence.lower()) if word in NUMBER_WORDS]
    return Given(words[-1], "number: word") if words else None


def _spelled(sentence: str, number: Number, rule: str) -> Given:
    """The number, or the whole of a fraction or range that it is a part of: ``3/4``, ``13-18``, ``2000 and 2005``."""
    over = _OVER.match(sentence, number.end)
    if over is not None:
        return Given(f"{number.text}/{over.group(1)}", "number: fraction")
    before = sentence[max(0, number.start - 40) : number.start]
    under = _UNDER.search(before)
    if under is not None:
        return Given(f"{under.group(1)}/{number.text}", "number: fraction")
    first = _RANGE.search(before)
    if first is not None:
        return Given(f"{first.group(1) or first.group(2)}{number.text}", "number: range")
    return Given(number.text, rule)
