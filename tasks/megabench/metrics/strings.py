"""Text against text: equality in several degrees of strictness, and edit distance."""

from __future__ import annotations

import re
from typing import Any

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.limits import MAX_EDIT_CELLS
from specs_eval.tasks.megabench.literals import stable_text, to_container
from specs_eval.tasks.megabench.parsing import _art_block

_CHOICE_LETTER = re.compile(r"\(?([A-Za-z])")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_IGNORED = str.maketrans("", "", " -\n\t.")
NEAR_THRESHOLD = 0.9
_ARTICLES = frozenset(("the", "a"))


def as_text(value: Any) -> str:
    """The value as the official code prints it (None is ``"None"``)."""
    return value if isinstance(value, str) else stable_text(value)


def exact(response: Any, gold: Any) -> float:
    """Equal text. For a one-letter gold only the first letter of the response counts ("Apple" answers "A")."""
    answer, wanted = as_text(response), as_text(gold)
    if len(wanted) == 1 and wanted.isalpha() and len(answer) > 1:
        letter = _CHOICE_LETTER.match(answer)
        answer = letter.group(1) if letter else answer
    return float(answer == wanted)


def exact_ignoring_case(response: Any, gold: Any) -> float:
    """`exact` on lower-case text; a value that is not text never equals text."""
    if not isinstance(response, str) and isinstance(gold, str):
        return 0.0
    return exact(response.lower(), gold.lower())


def simple(response: Any, gold: Any) -> float:
    """`exact` without case, spaces, hyphens, line breaks, tabs and dots ("1.5" equals "15")."""
    if not isinstance(gold, str):
        raise TypeError("the gold answer is not text")
    return exact(simplified(as_text(response)), simplified(gold))


def simplified(text: str) -> str:
    """Text as `simple` compares it."""
    return text.translate(_IGNORED).lower()


def code_result(response: Any, gold: Any) -> float:
    """`exact` against the first code block of the gold answer."""
    content, _ = _art_block(gold, strip=False)
    return exact(response, content)


def any_reference(response: Any, gold: Any) -> float:
    """1 when `simple` accepts one of several references."""
    references = to_container(list, gold.replace("，", ","))
    return float(any(simple(response, as_text(reference)) for reference in references))


def near(response: Any, gold: Any) -> float:
    """Edit similarity without accents, articles and case when it is at least 0.9, else 0."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return 0.0
    return _similarity(_approximate(response), _approximate(gold), NEAR_THRESHOLD)


def edit_similarity(response: Any, gold: Any) -> float:
    """1 - Damerau-Levenshtein distance / length of the longer text."""
    if not isinstance(response, str) and isinstance(gold, str):
        return 0.0
    return _similarity(response, gold, None)


def _approximate(text: str) -> str:
    kept = " ".join(word for word in text.split(" ") if word.lower() not in _ARTICLES)
    if kept.isascii():
        return kept.lower()
    try:
        from unidecode import unidecode
    except ImportError as error:
        raise ScoringError("accents need the unidecode package: pip install unidecode") from error
    return unidecode(_SURROGATE.sub("", kept), errors="ignore").lower()  # it warns of surrogates and drops them


def _similarity(response: str, gold: str, cutoff: float | None) -> float:
    shorter, longer = sorted((len(response), len(gold)))
    if shorter * longer > MAX_EDIT_CELLS or (cutoff is not None and shorter < cutoff * longer):
        return 0.0
    try:
        from rapidfuzz.distance import DamerauLevenshtein
    except ImportError as error:
        raise ScoringError("edit distance needs the rapidfuzz package: pip install rapidfuzz") from error
    return float(DamerauLevenshtein.normalized_similarity(response, gold, score_cutoff=cutoff))
