"""What a response says to a question, read by rules in a fixed order; each result names the rule that decided.

Written to type what a careful reader would type as the answer: an option letter, the text of a choice, a number. Every
pattern has bounded repeats and a longer text is cut in its middle: time is linear whatever was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from specs_eval.tasks.answers.canonical import canonical, canonical_choice
from specs_eval.tasks.answers.choices import (
    Letter,
    by_words,
    concludes_with_number,
    is_yes_no,
    lone_letter,
    mentions,
    named_letter,
    only_lists_options,
    stated_choice,
    stated_yes_no,
)
from specs_eval.tasks.answers.numbers import DOUBTFUL_NUMBERS, given_number, numbers_in, sentences
from specs_eval.tasks.answers.refusals import (
    END_CHARS,
    refuses,
    refuses_at_end,
    says_none,
    states_refusal,
    typed_for_refusal,
)

HEAD_CHARS, TAIL_CHARS = 4_000, 16_000
"""Of a longer response only this much of its beginning and end is read."""

_WORDS = re.compile(r"[A-Za-z]{3}")
_NEGATION = re.compile(r"\b(?:not|cannot|never|neither|false)\b|n't\b", re.IGNORECASE)
_LIST = re.compile(r"\[[^\[\]]{0,400}\]")
_FOLLOWING_YES_NO = re.compile(r"\W{0,4}(yes|no)\b", re.IGNORECASE)
FIRM_RULES = frozenset(
    ("choice", "choice, other spelling", "letter", "letter: alone", "letter: stated", "letter: bold", "yes/no: said")
    + ("text: after letter", "text: stated", "number: stated", "number: bold", "number: after =")
)
"""Rules that found an answer where it was given as the answer."""
_LISTING_RULES = ("letter: bracketed", "letter: leading")
_STATED_NUMBERS = ("number: stated", "number: bold")
_ANSWER_IS = re.compile(r"\banswer is:?\s{1,3}([^.\n]{1,60})")
_EDGES = " \t\r\n\u200b\ufeff"


@dataclass(frozen=True, slots=True)
class Found:
    """An answer and the rule that found it."""

    text: str
    rule: str
    answered: bool = True
    """False: nothing in the response answers the question; the text is what tends to be typed then."""
    guessed: bool = False
    """The rule reads more into the response than it says."""


def readable(text: str) -> str:
    """The beginning and end of a text that rules are run on."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    return text.strip(_EDGES)


def read_number(text: str, *, asks_year: bool = False) -> Found:
    """The number that a response gives."""
    given = given_number(text, asks_year=asks_year)
    refused = refuses(text)
    doubtful = given is not None and given.rule in DOUBTFUL_NUMBERS
    if refused and given is not None and given.rule not in _STATED_NUMBERS and _refused_last(text):
        return Found(typed_for_refusal(text), "refused", answered=False)
    if given is None or (doubtful and refused):
        return Found(typed_for_refusal(text) if refused else "N/A", "no number", answered=False)
    return Found(given.text, given.rule, guessed=doubtful)


def _refused_last(text: str) -> bool:
    """Whether the last sentence takes back what was computed before: it refuses and has no number."""
    end = sentences(text)[-1:]
    return bool(end) and refuses(end[0]) and next(numbers_in(end[0]), None) is None


def read_list(text: str) -> Found:
    """The list that a response gives: the last in brackets, else the numbers of the last sentence that has several."""
    lists = _LIST.findall(text)
    if lists:
        return Found(lists[-1], "list: last")
    for sentence in reversed(sentences(text)):
        numbers = [number.text for number in numbers_in(sentence)]
        if len(numbers) >= 2:
            return Found(f"[{', '.join(numbers)}]", "list: numbers of a sentence", guessed=True)
    return Found("N/A", "no list", answered=False)


def read_choice(text: str, choices: Sequence[str], *, continued: bool = False) -> Found:
    """The choice that a response names: its letter, its text, or what else was said in place of one.

    Args:
        text: `readable` text.
        choices: the choices, lettered from A.
        continued: the text answers a question that the model asked itself.
    """
    alone = lone_letter(text)
    if alone is not None:
        return Found(alone, "letter: alone")
    letter = named_letter(text, len(choices))
    if letter is not None:
        if letter.several and refuses(text[max(letter.end, len(text) - END_CHARS) :]):
            return _undecided(text)
        found = _by_letter(letter, text, choices)
        listed = letter.rule in _LISTING_RULES and only_lists_options(text)
        return replace(found, rule="options listed", answered=False) if listed else found
    if is_yes_no(choices):
        return _yes_or_no(text, continued=continued)
    said = _said_choice(text, choices)
    if said is not None:
        return said
    named = stated_choice(text, choices)
    if named is not None and named.rule != "text: stated" and concludes_with_number(text, choices):
        return _by_number(text, choices)
    if refuses_at_end(text) and not (named and refuses(choices[named.index])):
        return _refusal(text, choices)
    if named is not None:
        return Found(choices[named.index], named.rule, guessed=named.rule != "text: stated" and refuses(text))
    if refuses(text) or states_refusal(text):
        return _refusal(text, choices)
    return _by_number(text, choices)


def _said_choice(text: str, choices: Sequence[str]) -> Found | None:
    """A firm yes or no where one of more than two choices is that word."""
    words = [canonical_choice(choice) for choice in choices]
    said = stated_yes_no(text) if "yes" in words or "no" in words else None
    return Found(choices[words.index(said.word)], "yes/no: said") if said and said.firm and said.word in words else None


def _refusal(text: str, choices: Sequence[str] = ()) -> Found:
    """What is typed for a refusal: the choice that says the same where there is one ("can't tell")."""
    for choice in choices:
        if refuses(choice):
            return Found(choice, "refusal: a choice", guessed=True)
    return Found(typed_for_refusal(text), "refused", answered=False)


def _undecided(text: str) -> Found:
    """A refusal after several letters were weighed ("if it is larger, (A), else (B)")."""
    typed = typed_for_refusal(text)
    return Found("Cannot determine" if typed == "N/A" else typed, "refused", answered=False)


def _by_letter(letter: Letter, text: str, choices: Sequence[str]) -> Found:
    following = text[letter.end : letter.end + 60].split("\n", 1)[0]
    if is_yes_no(choices):
        said = _FOLLOWING_YES_NO.match(following)
        if said:
            return Found(said.group(1), f"text: after letter{letter.several}")
    elif letter.rule != "letter: stated":
        named = {mention.index for mention in mentions(following, choices)}
        if len(named) == 1 and len(canonical_choice(choices[next(iter(named))])) > 1:
            return Found(choices[named.pop()], f"text: after letter{letter.several}")
    if letter.rule == "letter: leading" and ord(letter.letter) - ord("A") >= len(choices):
        return _beyond_choices(letter, following.strip())
    return Found(letter.letter, letter.rule + letter.several)


def _beyond_choices(letter: Letter, following: str) -> Found:
    """A line led by a letter that is no option: its words when it has some ("(E) none of these"), else the letter."""
    if letter.several:
        return Found("N/A", "letters beyond the choices", answered=False)
    return Found(following if _WORDS.search(following) else letter.letter, "letter beyond the choices")


def _yes_or_no(text: str, *, continued: bool) -> Found:
    said = None if states_refusal(text) else stated_yes_no(text)
    if said is not None:
        return Found(said.word, "yes/no: said", guessed=not said.firm or refuses(text))
    if refuses(text):
        return _refusal(text)
    stated = _ANSWER_IS.findall(text) if continued else []
    if stated:
        return Found(stated[-1], "text: stated")
    number = given_number(text) if continued else None
    if number is not None:
        return Found(number.text, number.rule)
    parts = sentences(text)
    denied = any(_NEGATION.search(part) for part in (*parts[:1], *parts[-1:]))
    return Found("no" if denied else "yes", "yes/no: implied", guessed=True)


def _by_number(text: str, choices: Sequence[str]) -> Found:
    worded = by_words(text, choices)
    if worded is not None:
        return Found(choices[worded], "text: words", guessed=True)
    given = given_number(text)
    if given is None:
        return Found(text if len(text) <= 200 else "N/A", "nothing found", answered=False)
    for choice in choices:
        numbers = [number.text for number in numbers_in(choice)]
        if len(numbers) == 1 and given.single and float(numbers[0]) == float(given.text):
            return Found(choice, "number: equal", guessed=given.rule in DOUBTFUL_NUMBERS)
    return Found(given.text, given.rule)


@dataclass(frozen=True, slots=True)
class Match:
    """The choice that an answer means."""

    index: int | None
    """None: it means none of the choices."""
    rule: str
    answered: bool = True
    """False: it does not answer at all."""


def match_choice(answer: str, choices: Sequence[str]) -> Match:
    """The choice that an answer means, without guessing: by its text, its letter, or as a reader finds it.

    A bare letter is an option letter even where a choice has that letter as its text, because letters are what
    prompts ask for; a letter in brackets is the choice with that text where there is one.
    """
    bare = answer.strip(_EDGES)
    if not bare:
        return Match(None, "empty", answered=False)
    letter = lone_letter(bare) if len(bare) <= 12 else None
    if bare in choices and not (letter is not None and bare.isalpha()):
        return Match(list(choices).index(bare), "choice")
    if letter is not None and ord(letter) - ord("A") < len(choices):
        return Match(ord(letter) - ord("A"), "letter")
    if len(bare) <= 2 * max(map(len, choices), default=0) + 200:
        spelled = canonical(bare).rstrip(".")
        for index, choice in enumerate(choices):
            if spelled and spelled == canonical_choice(choice):
                return Match(index, "choice, other spelling")
    if says_none(bare):
        return Match(None, "says that there is none", answered=False)
    found = read_choice(readable(answer), choices)
    if not found.answered or found.guessed:
        return Match(None, found.rule, answered=False)
    return Match(_index_of(found.text, choices), found.rule)


def _index_of(text: str, choices: Sequence[str]) -> int | None:
    wanted = text.strip().lower()
    for index, choice in enumerate(choices):
        if choice.strip().lower() == wanted and not (len(text) == 1 and text.isupper()):
            return index
    letter = ord(text) - ord("A") if len(text) == 1 else -1
    return letter if 0 <= letter < len(choices) else None
