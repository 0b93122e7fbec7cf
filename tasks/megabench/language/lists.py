"""The word lists that come with the package, read once and only when needed."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

from specs_eval.errors import ScoringError

FOLDER = Path(__file__).resolve().parent.parent / "data"


def word_list(name: str) -> str:
    """The text of a list.

    Raises:
        ScoringError: the file is not there or damaged.
    """
    path = FOLDER / f"{name}.txt.xz"
    try:
        return lzma.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ScoringError(f"word list {path.name} is missing or damaged; reinstall specs-eval") from error


@cache
def _entries() -> dict[str, str]:
    """Dictionary headword -> phones; further pronunciations of a word stand under ``word(2)``, ``word(3)``, ..."""
    return dict(line.split(" ", 1) for line in word_list("cmudict").splitlines())


def pronunciations(word: str) -> tuple[str, ...]:
    """The pronunciations of a lower-case word in CMU phones, in the order of the dictionary; empty if unknown."""
    entries, found, key = _entries(), [], word
    while key in entries and "(" not in word:
        found.append(entries[key])
        key = f"{word}({len(found) + 1})"
    return tuple(found)


@cache
def nouns() -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
    """WordNet's noun lemmas, and the lemmas of irregular plurals."""
    lemmas, irregular = word_list("wordnet_nouns").split("\n\n")
    exceptions = (line.split() for line in irregular.splitlines())
    return frozenset(lemmas.split("\n")), {words[0]: tuple(words[1:]) for words in exceptions}
