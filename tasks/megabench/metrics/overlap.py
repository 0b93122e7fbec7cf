"""n-gram overlap with a reference: BLEU and, for Chinese, GLEU. Both have answer and reference swapped, as officially."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.limits import MAX_LINGUISTIC_CHARS

MAX_ORDER = 4
JIEBA_TOTALS = {"7197c3211ddd98962b036cdf40324d1ea2bfaa12bd028e68faa70111a88e12a8": 60_101_967}
"""SHA-256 of a published dictionary of jieba -> `counted_words` of it, which would take as long as all the rest."""

Ngrams = Counter[tuple[str, ...]]

_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def bleu(response: Any, gold: Any) -> float:
    """Corpus BLEU of one segment with exponential smoothing, in [0, 1].

    Reference: Papineni et al. 2002; tokenization "13a" and smoothing as in Post 2018 (sacreBLEU). The gold answer takes
    the place of the hypothesis (a quirk).
    """
    if isinstance(response, str) and isinstance(gold, str):
        return _corpus_bleu([gold], [response])
    if isinstance(response, (list, tuple)) and isinstance(gold, (list, tuple)):
        if len(response) != len(gold):
            raise ValueError("segments do not pair up")
        return _corpus_bleu(list(gold), list(response))
    return 0.0


def _corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    matches, totals, lengths = [0] * MAX_ORDER, [0] * MAX_ORDER, [0, 0]
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        words, reference_words = _bleu_words(hypothesis), _bleu_words(reference)
        lengths[0] += len(words)
        lengths[1] += len(reference_words)
        for order in range(1, MAX_ORDER + 1):
            found, wanted = _ngrams(words, order), _ngrams(reference_words, order)
            matches[order - 1] += sum((found & wanted).values())
            totals[order - 1] += sum(found.values())
    return _smoothed(matches, totals, lengths[0], lengths[1])


def _smoothed(matches: list[int], totals: list[int], length: int, reference_length: int) -> float:
    if not any(matches) or not all(totals):
        return 0.0
    logs, smoothing = 0.0, 1.0
    for found, total in zip(matches, totals, strict=True):
        if found == 0:
            smoothing *= 2
        share = found / total if found else 1 / (smoothing * total)
        logs += math.log(share)
    brevity = math.exp(1 - reference_length / length) if length < reference_length else 1.0
    return brevity * math.exp(logs / MAX_ORDER)


def _bleu_words(text: str) -> list[str]:
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, char in _ENTITIES:
            text = text.replace(entity, char)
    text = f" {text} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def _ngrams(words: Sequence[str], order: int) -> Ngrams:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def chinese_gleu(response: Any, gold: Any) -> float:
    """Sentence GLEU over Chinese words: min of n-gram precision and recall for n = 1 to 4, in [0, 1].

    Reference: Wu et al. 2016, arXiv 1609.08144, section 7.2. Symmetric but for the count of n-grams, so the swapped
    order of the official code is kept.
    """
    if not isinstance(response, str) or not isinstance(gold, str):
        return 0.0
    if len(response) > MAX_LINGUISTIC_CHARS:
        return 0.0
    reference, hypothesis = _chinese_words(response), _gold_words(gold)
    found, wanted = _all_ngrams(hypothesis), _all_ngrams(reference)
    denominator = max(sum(found.values()), sum(wanted.values()))
    return sum((found & wanted).values()) / denominator if denominator else 0.0


def _all_ngrams(words: Sequence[str]) -> Ngrams:
    ngrams: Ngrams = Counter()
    for order in range(1, MAX_ORDER + 1):
        ngrams.update(_ngrams(words, order))
    return ngrams


@lru_cache(maxsize=1024)
def _gold_words(text: str) -> tuple[str, ...]:
    return tuple(_chinese_words(text))


def _chinese_words(text: str) -> list[str]:
    return _segmenter().words(text)


class _Segmenter:
    """jieba's segmenter over its own dictionary, of which only the words that can occur in a text are looked at."""

    def __init__(self) -> None:
        try:
            import jieba
        except ImportError as error:
            raise ScoringError("Chinese words need the jieba package: pip install jieba") from error
        self._jieba = jieba.Tokenizer()
        # jieba itself would load a marshalled cache from the shared temporary folder, which anybody may have written
        with self._jieba.get_dict_file() as file:
            data = file.read()
        lines = data.decode("utf-8").splitlines()
        self._starting: dict[str, list[str]] = {}
        for first, entries in groupby(lines, key=itemgetter(0)):
            self._starting.setdefault(first, []).extend(entries)
        total = JIEBA_TOTALS.get(hashlib.sha256(data).hexdigest())
        self._jieba.FREQ = {}
        self._jieba.total = total if total is not None else counted_words(lines)
        self._jieba.initialized = True
        self._lock = threading.Lock()

    def words(self, text: str) -> list[str]:
        """The words of a text in jieba's search mode: long words are followed by the words in them."""
        with self._lock:
            for first in set(text):
                entries = self._starting.pop(first, None)
                if entries is not None:
                    self._add(entries)
        return list(self._jieba.cut_for_search(text))

    def _add(self, entries: list[str]) -> None:
        words = [entry.split(" ") for entry in entries]
        known = self._jieba.FREQ
        known.update(dict.fromkeys((word[:end] for word, *_ in words for end in range(1, len(word))), 0))
        known.update((word, int(count)) for word, count, *_ in words)


def counted_words(entries: Sequence[str]) -> int:
    """The number of words behind jieba's dictionary: the sum of the counts in its lines (word, count, part of speech)."""
    return sum(int(entry.split(" ")[1]) for entry in entries)


@cache
def _segmenter() -> _Segmenter:
    return _Segmenter()
