r"""MMMU's and MMMU-Pro's rules, as pure functions of text.

``official`` does what mmmu/utils/eval_utils.py and mmmu-pro/evaluate.py of github.com/MMMU-Benchmark/MMMU (commit
bb0b95a) do, quirks included, except for one thing: where they draw a letter at random, nothing was parsed, and the
letter is None. The expected value of the draw is `chance_credit`.

Reference: Yue et al. 2023, arXiv 2311.16502; Yue et al. 2024, arXiv 2409.02813.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ANSWER_MARK = "Answer:"
MAX_LETTER_CHARS = 1_000_000
"""Of a longer response to a multiple-choice question only the end is read."""
MAX_OPEN_CHARS = 100_000
"""Of a longer response to an open question only the end is read: every line of it may be an answer."""

_STRIPPED = ",.!?;:'"
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?(?<!\d)\d++(?:\.\d++)?+[eE][+-]?\d+")
_SIMPLE = re.compile(r"-?(?:(?<!\d)\d++\.\d++|\.\d++|(?<!\d)\d++\b)(?![eE][+-]?\d)(?![,\d])")

OpenPrediction = str | float


@dataclass(frozen=True, slots=True)
class ParsedLetter:
    """The option that a response was parsed to."""

    letter: str | None
    """None: the official code would draw one at random."""
    rule: str


@lru_cache(maxsize=64)
def option_letters(n_options: int) -> tuple[str, ...]:
    """``A``, ``B``, ... as many as there are options."""
    return tuple(chr(ord("A") + index) for index in range(n_options))


@lru_cache(maxsize=256)
def _pattern(before: str, n_options: int, after: str) -> re.Pattern[str]:
    """Any of the option letters after one text and before another; matches may touch."""
    letters = "|".join(map(re.escape, option_letters(n_options)))
    return re.compile(f"{re.escape(before)}({letters})(?={re.escape(after)})")


def parse_letter(response: str, options: Sequence[str]) -> ParsedLetter:
    """MMMU: ``(A)``, else ``A`` between spaces, else an option's text in a response of more than five words.

    Of several candidates the one whose last occurrence is last wins.

    Example:
        >>> parse_letter("The answer is (B), not (C).", ["x", "y", "z"]).letter
        'C'
        >>> parse_letter("b", ["x", "y"]).letter is None
        True
    """
    text = _padded(response)
    for rule, before, after in (("bracketed letter", "(", ")"), ("letter", " ", " ")):
        letter = _named(text, len(options), (before, after), (before, after))
        if letter:
            return ParsedLetter(letter, rule)
    return _by_content(text, options)


def parse_letter_pro(response: str, options: Sequence[str]) -> ParsedLetter:
    """MMMU-Pro: the one option letter after the last "Answer:", else ``(A)``, ``A `` and ``A.``, else content.

    The letters ``A `` and ``A.`` need nothing before them ("DNA " holds an A), but of several the last one between
    spaces wins, and the first of all when none is.
    """
    n_options = len(options)
    marked = response.rfind(ANSWER_MARK)
    if marked >= 0:
        after = response[max(marked + len(ANSWER_MARK), len(response) - MAX_LETTER_CHARS) :]
        named = [letter for letter in option_letters(n_options) if letter in after]
        if len(named) == 1:
            return ParsedLetter(named[0], "letter after Answer:")
    text = _padded(response)
    for rule, around, place in (
        ("bracketed letter", ("(", ")"), ("(", ")")),
        ("letter", ("", " "), (" ", " ")),
        ("letter with full stop", ("", "."), (" ", " ")),
    ):
        letter = _named(text, n_options, around, place)
        if letter:
            return ParsedLetter(letter, rule)
    return _by_content(text, options)


def _padded(response: str) -> str:
    for character in _STRIPPED:
        response = response.strip(character)
    return f" {response[-MAX_LETTER_CHARS:]} "


def _named(text: str, n_options: int, around: tuple[str, str], place: tuple[str, str]) -> str | None:
    """The option letter that stands between two texts; of several the one that stands in `place` last, else the first.

    `place` is not always `around`: MMMU-Pro looks for ``A `` and then takes the last of the letters between spaces.
    """
    if around[0] not in text or around[1] not in text or not n_options:
        return None
    found: list[str] = _pattern(around[0], n_options, around[1]).findall(text)
    if not found or len(set(found)) == 1:
        return found[0] if found else None
    if around == place:
        return found[-1]
    return max(sorted(set(found)), key=lambda letter: text.rfind(place[0] + letter + place[1]))


def _by_content(text: str, options: Sequence[str]) -> ParsedLetter:
    if len(text.split(None, 5)) <= 5:
        return ParsedLetter(None, "nothing parsed")
    contents = [option.lower() for option in options]
    lowered = text.lower()
    found = [index for index, content in enumerate(contents) if content in lowered]
    if not found:
        return ParsedLetter(None, "nothing parsed")
    last = max(found, key=lambda index: lowered.rfind(contents[index]))
    return ParsedLetter(chr(ord("A") + last), "content")


def letter_is_right(letter: str | None, gold: object) -> bool:
    """Whether the letter is the gold letter, or one of them."""
    if letter is None:
        return False
    return letter in gold if isinstance(gold, (list, tuple)) else letter == gold


def chance_credit(gold: object, n_options: int) -> float:
    """Expected score of a letter drawn at random from the options, in [0, 1]."""
    right = set(map(str, gold)) if isinstance(gold, (list, tuple)) else {str(gold)}
    return len(right.intersection(option_letters(n_options))) / n_options if n_options else 0.0


def parse_open(response: str) -> list[OpenPrediction]:
    """MMMU's candidates for the answer to an open question: key phrases, and every number in them.

    Args:
        response: any text; of more than MAX_OPEN_CHARS characters, only the end is read.

    Returns:
        Lower-case strings and numbers rounded to two places, each once, in the order in which they were found.
    """
    if len(response) > MAX_OPEN_CHARS:
        response = response[-MAX_OPEN_CHARS:]
    phrases = list(dict.fromkeys(_key_phrases(response)))
    found = list(phrases)
    for phrase in phrases:
        found += extract_numbers(phrase)
    return list(dict.fromkeys(item for text in dict.fromkeys(found) for item in normalise_open(text)))


def _key_phrases(response: str) -> list[str]:
    """What follows the last indicator word of each line, the shortest such rest; the whole response without any."""
    text = response.strip().strip(".").lower()
    lines = text.split("\n")
    phrases = []
    for index, line in enumerate(lines):
        indicators = (*_INDICATORS, "=") if index == len(lines) - 1 else _INDICATORS
        shortest = ""
        for indicator in indicators:
            if indicator in line:
                rest = line[line.rfind(indicator) + len(indicator) :].strip()
                if not shortest or len(rest) < len(shortest):
                    shortest = rest
        if shortest and shortest not in _TRIVIAL:
            phrases.append(shortest)
    return phrases or [text]


def extract_numbers(text: str) -> list[str]:
    """Numbers with thousands commas, then in scientific notation, then plain ones.

    The patterns match what the official ones match; they are written so that a digit is looked at a few times only.
    """
    return _COMMAS.findall(text) + _SCIENTIFIC.findall(text) + _SIMPLE.findall(text)


def normalise_open(text: str) -> list[OpenPrediction]:
    """A number rounded to two places when it is one, else lower case; a single character with a space either side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [" " + lowered, lowered + " "] if len(lowered) == 1 else [lowered]


def open_is_right(predictions: Sequence[object], gold: object) -> bool:
    """Whether a gold string stands inside a predicted string, or a predicted number is a gold number."""
    golds = gold if isinstance(gold, (list, tuple)) else [gold]
    wanted = [item for answer in golds for item in normalise_open(str(answer))]
    texts = [item for item in wanted if isinstance(item, str)]
    for prediction in predictions:
        if isinstance(prediction, str):
            if any(text in prediction for text in texts):
                return True
        elif prediction in wanted:
            return True
    return False
