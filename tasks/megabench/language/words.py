"""Splitting sentences into words by the Penn Treebank conventions (NLTK's variant), and noun lemmas by WordNet."""

from __future__ import annotations

import re
from functools import lru_cache

from specs_eval.tasks.megabench.language.lists import nouns
from specs_eval.tasks.megabench.language.sentences import sentences

Rule = tuple[re.Pattern[str], str]


def _rules(*pairs: tuple[str, str]) -> list[Rule]:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


_OPENING_QUOTES = _rules(
    (r"([«“‘„]|[`]+)", r" \1 "),
    (r"^\"", r"``"),
    (r"(``)", r" \1 "),
    (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
    (r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b", r"\1 \2"),
)
_FIRST_PUNCTUATION = _rules(
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.{2,}", r" \g<0> "),
    (r"[;@#$%&]", r" \g<0> "),
)
_SECOND_PUNCTUATION = _rules(
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[*]", r" \g<0> "),
    (r"[\]\[(){}<>]", r" \g<0> "),
    (r"--", r" -- "),
)
_CLOSING_QUOTES = _rules(
    (r"([»”’])", r" \1 "),
    (r"''", " '' "),
    (r'"', " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
)
_CONTRACTIONS = _rules(
    *((rf"(?i)\b({one})({other})\b", r" \1 \2 ") for one, other in
      (("can", "not"), ("d", "'ye"), ("gim", "me"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("more", "'n"))),
    (r"(?i)\b(wan)(na)(?=\s)", r" \1 \2 "),
    (r"(?i) ('t)(is)\b", r" \1 \2 "),
    (r"(?i) ('t)(was)\b", r" \1 \2 "),
)  # fmt: skip
_PLURALS = (
    ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"),
    ("ies", "y"),
)  # fmt: skip


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, sentence by sentence."""
    return [word for sentence in sentences(text) for word in _sentence_words(sentence)]


def _sentence_words(text: str) -> list[str]:
    text = _apply(_OPENING_QUOTES, text)
    text = _split_final_stop(text, "])}>\"'»”’ ", " ")
    text = _apply(_FIRST_PUNCTUATION, text)
    text = _split_final_stop(text, "])}>\"'", "")
    text = _apply(_SECOND_PUNCTUATION, text)
    text = _apply(_CLOSING_QUOTES, f" {text} ")
    return _apply(_CONTRACTIONS, text).split()


def _apply(rules: list[Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _split_final_stop(text: str, closing: str, gap: str) -> str:
    """Set the full stop apart that only closing marks and white space follow. A pattern would take quadratic time."""
    stop = text.rfind(".")
    if stop < 1 or text[stop - 1] == ".":
        return text
    rest = text[stop + 1 :]
    marks = rest[: len(rest) - len(rest.lstrip(closing))]
    if rest[len(marks) :].strip():
        return text
    return f"{text[:stop]} .{gap}{marks} "


def lemmatized(text: str) -> str:
    """The lower-case words of a text as noun lemmas, between single spaces."""
    return " ".join(map(lemma, words(text.lower())))


@lru_cache(maxsize=50_000)
def lemma(word: str) -> str:
    """The shortest noun lemma of a word, or the word; what ends like a plural in -ies or -ves stays as it is found."""
    lemmas, irregular = nouns()
    if word in irregular:
        forms = irregular[word]
    else:
        forms = tuple(word[: -len(end)] + new for end, new in _PLURALS if word.endswith(end))
    return min((form for form in (word, *forms) if form in lemmas), key=len, default=word)
