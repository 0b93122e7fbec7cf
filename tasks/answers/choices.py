"""Which of the choices a response to a multiple-choice question names, and by which rule that was read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from specs_eval.tasks.answers.canonical import canonical_choice, spaced
from specs_eval.tasks.answers.numbers import DOUBTFUL_NUMBERS, given_number, sentences

_LETTER = r"[\s*\"'“`$:：\[]{0,6}(?:\(\s?([A-Z])\s?\)|(?<![A-Za-z])([A-Z])(?![A-Za-z'’∠△°/]|\s[a-z]{1,3}\s))"
_VERB = r"(?:is|are|was|would be|should be|must be|will be|=|:|：)"
_ABOUT = r"(?:\s(?:to|for|from|of|that|in|on|about|corresponding)\s[^.\n]{0,100}?)?"
_STATED = re.compile(
    r"\b(?:(?:[Aa]nswer|ANSWER|[Cc]onclusion)|(?:[Cc]orrect|[Rr]ight|[Bb]est) (?:option|choice|letter|one))"
    r"(?:\s(?:letter|option|choice|number))?" + _ABOUT + r"\s{0,3}" + _VERB + r"?(?: therefore| thus)?"
    r"(?: (?:the )?(?:option|choice|letter|answer))?" + _LETTER
)
_STATED_CHINESE = re.compile(r"(?:答案|选项|选择|选)(?:是|为|应该是|应为|:|：)?[\s*(（\"“]{0,4}([A-Z])(?![A-Za-z])")
_STATED_SOLUTION = re.compile(
    r"\b[Ss]olution(?: is\s?[:：]?|\s?[:：])\s{0,2}\(?([A-Z])(?:[):,]|\.?(?:\s{0,9}$|\n)|\.\s)"
)
_BOLD = re.compile(r"(?:\*\*|\\boxed\{(?:\\text\{)?)\s?(?:\(([A-Z])\)|([A-Z])(?=[.:)]?\s?(?:\*\*|\})))")
_MENTIONED = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice|[Ll]etter)s?(?!\s?[:：]\s{0,3}\n)" + _ABOUT + r"\s{0,3}" + _VERB + "?" + _LETTER
)
_BRACKETED = re.compile(r"[(（\[]\s?([A-Z])\s?[)）\]]")
_LEADING = re.compile(
    r"^[\s*\"'(\u200b]{0,6}([A-Z])(?:[*\"')]{1,3}(?![a-z])|[.:,]|[ \u200b]{0,3}$|\s{1,3}[-–])", re.MULTILINE
)
_LEADING_OF = re.compile(r"^([A-Z]) is (?:the )?(?:correct|right|answer)")
_ALONE = re.compile(r"\W{0,6}([A-Za-z])\W{0,6}")
_REJECTED = re.compile(
    r"[^.\n]{0,80}?\b(?:incorrect|wrong|not (?:correct|right|the|appl|likely)|cannot|isn't|can be eliminated)"
)
_ENUMERATED = re.compile(r"[^.,\n]{0,40},\s?(?:(?:and|or)\s)?\(?[A-Z]\)?(?![A-Za-z])")
_OPTION_LINE = re.compile(r"\([A-Z]{1,2}\)|[A-Z][.)](?:\s|$)")
MAX_CUT_CHARS = 12
"""A first line up to this length may be the rest of an option."""
_LETTER_RULES = (
    ("letter: stated", _STATED),
    ("letter: stated", _STATED_CHINESE),
    ("letter: stated", _LEADING_OF),
    ("letter: stated", _STATED_SOLUTION),
    ("letter: bold", _BOLD),
    ("letter: mentioned", _MENTIONED),
    ("letter: bracketed", _BRACKETED),
    ("letter: leading", _LEADING),
)
_TEXT_STATED = re.compile(
    r"\b(?:[Aa]nswer|[Cc]orrect (?:option|choice))\b[^.\n:]{0,60}?(?:is|are|:|would be|should be)\s{0,3}(?!not\b)"
)
_COMMON_WORDS = frozenset(("a", "i", "yes", "no"))
"""Choices that stand in many a sentence without being meant: `named_letter` and `stated_yes_no` read these."""
_CLAUSE_ENDS = re.compile(r"[\s\"'”*)]{0,4}(?:$|[,.;:!\n–—-])")
_CONCLUDING = re.compile(r"\b(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o)\b|因此|所以")
_ENDING = re.compile(r"(?:es|ed|s|d)")
_LONG_WORD = re.compile(r"[a-z]{4,40}")
_YES_NO = re.compile(
    r"(?:^|[.!?,\n]\s{0,3}|\b(?:answer|conclusion|option)\b[^.\n]{0,40}?(?:is|:)\s{0,3}|[\"'“(*])\s{0,2}(yes|no)\b"
    r"(?!\s(?:one|information|way|specific|more|need|other))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Letter:
    """An option letter that a response names."""

    letter: str
    rule: str
    end: int
    """Where it stands: what follows may say another choice than the letter."""
    several: str = ""
    """``, several`` when the rule found different letters."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A choice whose text stands in a response."""

    index: int
    start: int
    rule: str = ""


def is_yes_no(choices: Sequence[str]) -> bool:
    """Whether the choices are yes and no."""
    return len(choices) == 2 and {choice.strip().lower() for choice in choices} == {"yes", "no"}


def lone_letter(text: str) -> str | None:
    """The letter, in upper case, when the text is nothing else."""
    found = _ALONE.fullmatch(text)
    return found.group(1).upper() if found else None


def named_letter(text: str, n_choices: int) -> Letter | None:
    """The letter that is stated as the answer, else one that is mentioned, bracketed, or leads a line: the last one.

    Letters that the text calls wrong do not count. A stated letter beyond the choices counts only when there is no
    other: it is a wrong answer, not a missing one.
    """
    beyond = None
    for rule, pattern in _LETTER_RULES:
        found = list(_letters(pattern, text, rule))
        if rule != "letter: leading":
            found = [item for item in found if not _REJECTED.match(text, item.end)]
        if rule == "letter: mentioned":
            found = [item for item in found if not _ENUMERATED.match(text, item.end)]
        if rule == "letter: bold" and len({item.letter for item in found}) > 1:
            continue
        within = [item for item in found if ord(item.letter) - ord("A") < n_choices]
        if within:
            several = ", several" if len({item.letter for item in within}) > 1 else ""
            return replace(within[-1], several=several)
        if found and rule == "letter: stated":
            beyond = beyond or found[-1]
        elif beyond is not None:
            return beyond
        elif found and rule == "letter: leading":
            return replace(found[-1], several=", several" if len({item.letter for item in found}) > 2 else "")
    return beyond


def _letters(pattern: re.Pattern[str], text: str, rule: str) -> Iterator[Letter]:
    for found in pattern.finditer(text):
        yield Letter(next(group for group in found.groups() if group), rule, found.end())


def only_lists_options(text: str) -> bool:
    """Whether a text is nothing but three or more options, line by line; its first and last may be cut."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    led = [_OPTION_LINE.match(line) is not None for line in lines]
    if sum(led) < 3 or not all(led[1:-1]):
        return False
    return (led[0] or len(lines[0]) <= MAX_CUT_CHARS) and (led[-1] or lines[-1].startswith("("))


def mentions(text: str, choices: Sequence[str]) -> list[Mention]:
    """The choices whose text stands in the text, in order of place; a longer choice hides shorter ones inside it."""
    where, edges = _without_spaces(spaced(text))
    taken: list[tuple[int, int]] = []
    found: list[Mention] = []
    texts = [canonical_choice(choice) for choice in choices]
    for index in sorted(range(len(choices)), key=lambda index: -len(texts[index])):
        if texts[index] in _COMMON_WORDS:
            continue
        for start in _occurrences(where, texts[index], edges):
            end = start + len(texts[index])
            if not any(begin < end and start < stop for begin, stop in taken):
                taken.append((start, end))
                found.append(Mention(index, start))
    return sorted(found, key=lambda mention: mention.start)


def _without_spaces(text: str) -> tuple[str, frozenset[int]]:
    """The text without spaces, and the places where they were."""
    words = text.split()
    return "".join(words), frozenset(accumulate(map(len, words), initial=0))


def _occurrences(where: str, what: str, edges: frozenset[int]) -> Iterator[int]:
    """Places where it stands by itself: no part of a longer word or number. At most 50, from the end."""
    stop = len(where)
    for _ in range(50 if what else 0):
        start = where.rfind(what, 0, stop)
        if start < 0:
            return
        if _stands_alone(where, start, start + len(what), edges):
            yield start
        stop = start + len(what) - 1


def _stands_alone(where: str, start: int, end: int, edges: frozenset[int]) -> bool:
    if where[start].isalpha() and start and start not in edges and (where[start - 1].isalpha() or end - start == 1):
        return False
    if where[end - 1].isalpha() and end not in edges and where[end : end + 1].isalpha():
        ending = _ENDING.match(where, end)
        if end - start < 3 or ending is None or not (ending.end() in edges or not where[ending.end()].isalpha()):
            return False
    before, after = where[max(0, start - 2) : start], where[end : end + 2]
    if (
        where[start].isdigit()
        and before
        and (before[-1].isdigit() or before[-1] in "√/^-" or (before[-1] in ".," and before[0].isdigit()))
    ):
        return False
    if where[end - 1].isdigit() and after:
        return not (after[0].isdigit() or after[0] in "√/^" or (after[0] in ".," and after[-1].isdigit()))
    return True


def stated_choice(text: str, choices: Sequence[str]) -> Mention | None:
    """The choice whose text is stated as the answer, else the one that the last telling sentence mentions."""
    parts = sentences(text)
    for sentence in reversed(parts):
        stated = [found.end() for found in _TEXT_STATED.finditer(sentence)]
        if stated:
            named = mentions(sentence[stated[-1] :], choices)
            if named and (len({mention.index for mention in named}) == 1 or named[0].start <= 3):
                return Mention(named[0].index, 0, "text: stated")
            break
    for sentence in reversed(parts):
        named = mentions(sentence, choices)
        if named:
            several = len({mention.index for mention in named}) > 1
            return Mention(named[-1].index, 0, "text: several" if several else "text: mentioned")
    return None


def concludes_with_number(text: str, choices: Sequence[str]) -> bool:
    """Whether the last sentence concludes with a number and no choice: `Therefore, x = 28`."""
    last = sentences(text)[-1]
    if not _CONCLUDING.search(last) or mentions(last, choices):
        return False
    given = given_number(last)
    return given is not None and given.rule not in DOUBTFUL_NUMBERS


def by_words(text: str, choices: Sequence[str]) -> int | None:
    """The only choice of which a sentence has all words, else with the most words of its own in the first and last.

    Words go by their beginnings.
    """
    parts = sentences(text)
    stems = [_stems(choice) for choice in choices]
    for part in parts:
        words = _stems(part)
        whole = [index for index, own in enumerate(stems) if own and own <= words]
        if len(whole) == 1:
            return whole[0]
    said = _stems(" ".join((*parts[:1], *parts[-1:])))
    counts = [len(said & own - set().union(*(o for o in stems if o is not own))) for own in stems]
    best = max(counts)
    return counts.index(best) if best and counts.count(best) == 1 else None


def _stems(text: str) -> set[str]:
    return {word[:6] for word in _LONG_WORD.findall(text.lower())}


@dataclass(frozen=True, slots=True)
class Said:
    """A yes or no that stands where an answer may stand."""

    word: str
    firm: bool
    """It is a clause of its own: "No." and "No, the ...", not "No idea"."""


def stated_yes_no(text: str) -> Said | None:
    """The last yes or no that is said as an answer: at the start of a clause, in quotes, after "answer is"."""
    every = list(_YES_NO.finditer(text))
    if not every:
        return None
    said = every[-1]
    return Said(said.group(1).lower(), firm=_CLAUSE_ENDS.match(text, said.end()) is not None)
