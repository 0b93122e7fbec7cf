"""Pronunciations: phones, syllables, stresses and rhymes by the CMU dictionary, with guesses for inflected forms."""

from __future__ import annotations

import re
from functools import lru_cache

from specs_eval.tasks.megabench.language.lists import pronunciations

_NOT_STRESS = re.compile(r"[^012]")
_DIGIT = re.compile(r"\d")

_ADDED = {
    "'gainst": ("G EH1 N S T", "G EY1 N S T"),
    "'midst": ("M IH1 D S T",),
    "'mongst": ("M AH1 NG S T",),
    "'neath": ("N IY1 TH",),
    "beguiles": ("B IH0 G AY1 L Z",),
    "cerulean": ("S ER0 UW1 L IY0 AH0 N",),
    "doggo": ("D AO1 G OW0",),
    "downtorn": ("D AW1 N T AO2 R N",),
    "enthrall": ("EH0 N TH R AO1 L",),
    "fam'ly": ("F AE1 M L IY0",),
    "fiery": ("F AY1 ER0 IY0", "F AY1 R IY0"),
    "flits": ("F L IH1 T S",),
    "furred": ("F ER1 D",),
    "kneels": ("N IY1 L Z",),
    "o'er": ("OW1 ER0",),
    "orbs": ("AO1 R B Z",),
    "quenched": ("K W EH1 N CH D",),
    "quietude": ("K W AY1 AH0 T UW0 D",),
    "retold": ("R IY0 T OW1 L D",),
    "scurries": ("S K ER1 IY0 Z",),
    "sunbeams": ("S AH1 N B IY2 M Z",),
    "syncs": ("S IH1 NG K S",),
    "'twixt": ("T W IH1 K S T",),
}
"""Words that the official metric knows beyond the dictionary."""


@lru_cache(maxsize=50_000)
def phones_of(word: str) -> tuple[str, ...]:
    """All pronunciations of a word; empty for a word that is neither known nor an inflected form of a known one."""
    word = word.replace("’", "'").lower()
    possessive = word.endswith("'s")
    suffix = " Z" if possessive else ""
    word = word.removesuffix("'s")
    known = _ADDED.get(word) or pronunciations(word)
    if known or possessive:
        return tuple(phones + suffix for phones in known)
    return _guessed(word)


def _guessed(word: str) -> tuple[str, ...]:
    stem, endings = _without_ending(word)
    prefix, cut = "", ""
    if stem.startswith("un"):
        prefix, stem = "AH0 N ", stem.removeprefix("un")
    elif stem.startswith("'") and pronunciations("a" + stem[1:]):
        cut, stem = "AH0 ", "a" + stem[1:]
    known = pronunciations(stem)
    return tuple((prefix + phones + ending).removeprefix(cut) for phones in known for ending in endings)


def _without_ending(word: str) -> tuple[str, tuple[str, ...]]:
    if word.endswith("ed"):
        return word[:-2], (" D", " T", " AH0 D", " IH0 D")
    if word.endswith("s") and pronunciations(word[:-1]):
        if word.endswith("es"):
            return word[:-1], (" S", " Z", " AH0 Z", " IH0 Z")
        return word[:-1], (" S", " Z")
    if word.endswith("es"):
        return word[:-2], (" AH0 Z", " IH0 Z")
    return word, ("",)


def stresses_of(word: str) -> list[tuple[int, ...]]:
    """The different stress patterns of a word, one number a syllable."""
    return sorted({tuple(map(int, _NOT_STRESS.sub("", phones))) for phones in phones_of(word)})


def syllable_counts(line: str) -> set[int]:
    """All numbers of syllables that a line can have; empty when one of its words is not known."""
    counts = {0}
    for word in line.split():
        of_word = {len(_NOT_STRESS.sub("", phones)) for phones in phones_of(word)}
        counts = {one + other for one in counts for other in of_word}
    return counts


def rhymes_of(word: str) -> set[str]:
    """What of a word rhymes: its phones from the last vowel on, without stress."""
    return {_rhyme(phones) for phones in phones_of(word)}


def _rhyme(phones: str) -> str:
    parts = phones.split()
    for index in range(len(parts) - 1, 0, -1):
        if parts[index][-1] in "012":
            return _DIGIT.sub("", " ".join(parts[index:]))
    return _DIGIT.sub("", phones)


_IAMBIC = frozenset(((2, 1), (0, 2), (0, 1), (0, 0), (1, 1), (2, 2)))


def is_iambic(line: str) -> bool:
    """Whether some pronunciation of the line is a whole number of iambic feet.

    Raises:
        IndexError: a word without a vowel stands where a foot must be completed.
    """
    open_stresses: set[int | None] = {None}  # stress of an unfinished foot
    for word in line.split():
        open_stresses = {end for stress in open_stresses for end in _after_word(stresses_of(word), stress)}
    return None in open_stresses


def _after_word(patterns: list[tuple[int, ...]], stress: int | None) -> set[int | None]:
    ends: set[int | None] = set()
    for pattern in patterns:
        index = 0
        if stress is not None:
            if (stress, pattern[0]) not in _IAMBIC:
                continue
            index = 1
        feet = zip(pattern[index::2], pattern[index + 1 :: 2], strict=False)
        if all(foot in _IAMBIC for foot in feet):
            ends.add(pattern[-1] if (len(pattern) - index) % 2 else None)
    return ends
