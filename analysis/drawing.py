"""In which order a sequential check looks at its units: random, and every block a small picture of the whole.

Sort the units by stratum, at random within each; cut the row into as many intervals as a block has places; let each block take one
unit at random from each interval. So the strata stand in every block in their true proportions, which takes the
variance between them out of the running mean.

Why betting stays valid: a stake that is fixed within a block multiplies wealth by the product over places of
1 + stake * (value - mean). Places are drawn independently, place i with mean a_i, so the expectation is the product of
1 + stake * (a_i - mean), and by the inequality of arithmetic and geometric means that is at most
(1 + stake * (average of a_i - mean)) ^ places = 1 at the mean tested. So wealth counts at the ends of blocks only. What is left
over when blocks do not divide the units is drawn first, uniformly over all, and comes last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.errors import ConfigError

DEFAULT_BLOCK = 8


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """An order of units and the places at which a check may look."""

    order: IntArray
    """Index of the unit drawn at each place, each once, shape (n_units,)."""
    looks: IntArray
    """Units drawn at the end of each block, ascending; the last is n_units."""
    seed: int


def draw(strata: Sequence[str], seed: int, block: int = DEFAULT_BLOCK, names: Sequence[str] | None = None) -> Drawing:
    """Order units at random, stratified.

    Args:
        strata: label of each unit, length n_units, in an order that does not depend on their results. Strata whose labels
            are neighbours when sorted share an interval where they are small.
        seed: of the order; the same seed gives the same order for the same units.
        block: units a block, >= 1; capped at n_units.
        names: of the units; chance then hangs on seed and name alone, so that checks over different but overlapping units
            (a benchmark, and a part of it) ask for much the same units first. None: on seed and place.

    Raises:
        ConfigError: block below 1, or no units.
    """
    n = len(strata)
    if block < 1 or not n:
        raise ConfigError(f"a check needs at least one unit and blocks of at least one, not {n} and {block}")
    # One number decides who comes first, another into which interval of its stratum a unit falls.
    first, second = np.random.default_rng(seed).random((2, n)) if names is None else _chances(names, seed)
    places = min(block, n)
    n_blocks = n // places
    shuffled = np.argsort(first, kind="stable")
    main, rest = shuffled[: n_blocks * places], shuffled[n_blocks * places :]
    number = {label: code for code, label in enumerate(sorted(set(strata)))}
    codes = np.array([number[label] for label in strata])
    intervals = main[np.lexsort((second[main], codes[main]))].reshape(places, n_blocks)
    # Within a block by chance too, so that a block that is cut short is no slice of one stratum.
    blocks = _by_chance(_by_chance(intervals, first).T, first)
    looks = np.arange(1, n_blocks + 1) * places
    if len(rest):
        looks = np.append(looks, n)
    return Drawing(np.concatenate([blocks.ravel(), rest]).astype(np.int64), looks.astype(np.int64), seed)


def _by_chance(rows: IntArray, chance: FloatArray) -> IntArray:
    """Each row in the order of its units' chance."""
    return np.take_along_axis(rows, np.argsort(chance[rows], axis=1, kind="stable"), axis=1)


def _chances(names: Sequence[str], seed: int) -> FloatArray:
    """Two independent uniform numbers in [0, 1) for each name, shape (2, n_names)."""
    digests = (
        hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest() for name in names
    )
    words = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).T
    numbers: FloatArray = words / 2.0**64
    return numbers
