"""Splitting English text into sentences: Punkt with its published parameters.

Reference: Kiss & Strunk 2006, "Unsupervised multilingual sentence boundary detection"; section numbers in comments are
theirs. Behaves as the implementation in NLTK 3.9 does, including how it looks for the word before a full stop.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from specs_eval.tasks.megabench.language.lists import word_list

_MID_UPPER, _BEGIN_LOWER = 1 << 2, 1 << 4
_UPPER = (1 << 1) + _MID_UPPER + (1 << 3)
_LOWER = _BEGIN_LOWER + (1 << 5) + (1 << 6)
_NON_WORD = r"(?:[)\";}\]\*:@\'\({\[?!])"
_MULTI = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_STOP = re.compile(rf"[.?!](?=(?P<after>{_NON_WORD}|\s+(?P<next>\S+)))")
_TOKEN = re.compile(
    rf"{_MULTI}|(?=[^(\"`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{_NON_WORD}|{_MULTI}|,(?=$|\s|{_NON_WORD}|{_MULTI}))|\S"
)
_CLOSING = re.compile(r'["\')\]}]+?(?:\s+|(?=--)|$)', re.MULTILINE)
_NUMERIC = re.compile(r"^-?[\.,]?\d[\d,\.-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.$")
_ELLIPSIS = re.compile(r"\.\.+$")
_ASCII_SPACE = " \t\n\r\x0b\x0c"


@dataclass(frozen=True)
class _Parameters:
    abbreviations: frozenset[str]
    collocations: frozenset[tuple[str, ...]]
    starters: frozenset[str]
    contexts: dict[str, int]


@cache
def _parameters() -> _Parameters:
    abbreviations, collocations, starters, contexts = word_list("punkt_english").rstrip("\n").split("\n\n")
    pairs = (line.split("\t") for line in contexts.split("\n"))
    return _Parameters(
        frozenset(abbreviations.split("\n")),
        frozenset(tuple(line.split("\t")) for line in collocations.split("\n")),
        frozenset(starters.split("\n")),
        {word: int(flags) for word, flags in pairs},
    )


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space between them."""
    return [text[start:stop] for start, stop in _realigned(text, list(_spans(text)))]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for match, context in _candidates(text):
        if _holds_break(context):
            yield begin, match.end()
            begin = match.start("next") if match.group("next") else match.end()
    yield begin, len(text.rstrip())


def _candidates(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Possible ends of sentences, each with the word before and the token after."""
    start, stop, last = 0, 0, None
    for match in _STOP.finditer(text):
        before = text[stop : match.start()]
        space = max(before.rfind(char) for char in _ASCII_SPACE)
        new_start = stop + space + 1 if space > 0 else start
        if last is not None and stop <= new_start:
            yield last, text[start:stop] + last.group() + last.group("after")
        start, stop, last = new_start, match.start(), match
    if last is not None:
        yield last, text[start:stop] + last.group() + last.group("after")


def _realigned(text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Closing quotes and brackets behind a full stop belong to the sentence that ends there."""
    shift = 0
    for (start, stop), following in zip(spans, [*spans[1:], None], strict=True):
        start += shift
        shift = 0
        match = None if following is None else _CLOSING.match(text[slice(*following)])
        if match is not None and following is not None:
            yield start, following[0] + len(match.group().rstrip())
            shift = match.end()
        elif text[start:stop]:
            yield start, stop


@dataclass(slots=True)
class _Token:
    text: str
    kind: str
    ends: bool = False
    abbreviation: bool = False
    ellipsis: bool = False

    @property
    def kind_without_stop(self) -> str:
        return self.kind[:-1] if len(self.kind) > 1 and self.kind[-1] == "." else self.kind

    @property
    def kind_as_next(self) -> str:
        return self.kind_without_stop if self.ends else self.kind


def _holds_break(context: str) -> bool:
    """Whether a sentence ends before the last token."""
    tokens = [_token(text) for line in context.split("\n") if line.strip() for text in _TOKEN.findall(line)]
    for token, following in itertools.pairwise(tokens):
        _decide(token, following)
        if token.ends:
            return True
    return False


def _token(text: str) -> _Token:
    token = _Token(text, _NUMERIC.sub("##number##", text.lower()))
    if text in (".", "?", "!"):
        token.ends = True
    elif _ELLIPSIS.match(text):
        token.ellipsis = True
    elif text.endswith(".") and not text.endswith(".."):
        word = text[:-1].lower()
        abbreviations = _parameters().abbreviations
        token.abbreviation = word in abbreviations or word.split("-")[-1] in abbreviations
        token.ends = not token.abbreviation
    return token


def _decide(token: _Token, following: _Token) -> None:
    if not token.text.endswith("."):
        return
    parameters = _parameters()
    kind, next_kind = token.kind_without_stop, following.kind_as_next
    if (kind, next_kind) in parameters.collocations:  # 4.1.2
        token.ends = False
        return
    initial = _INITIAL.match(token.text) is not None
    starts = _starts_sentence(following)
    upper = following.text[0].isupper()
    known_stop = (token.abbreviation or token.ellipsis) and not initial
    if known_stop and (starts or (upper and next_kind in parameters.starters)):  # 4.2
        token.ends = True
        return
    if initial or kind == "##number##":  # 4.3
        always_upper = not parameters.contexts.get(next_kind, 0) & _LOWER
        if starts is False or (starts is None and initial and upper and always_upper):
            token.ends = False


def _starts_sentence(token: _Token) -> bool | None:
    """The orthographic heuristic (4.1.1); None: it cannot tell."""
    if token.text in (";", ":", ",", ".", "!", "?"):
        return False
    context = _parameters().contexts.get(token.kind_as_next, 0)
    if token.text[0].isupper() and context & _LOWER and not context & _MID_UPPER:
        return True
    if token.text[0].islower() and (context & _UPPER or not context & _BEGIN_LOWER):
        return False
    return None
