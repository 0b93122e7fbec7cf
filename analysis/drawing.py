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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.samples import IntArray, label_codes
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


def draw(strata: Sequence[str], seed: int, block: int = DEFAULT_BLOCK) -> Drawing:
    """Order units at random, stratified.

    Args:
        strata: label of each unit, length n_units, in an order that does not depend on their results.
        seed: of the order; the same seed gives the same order for the same units.
        block: units a block, >= 1; capped at n_units.

    Raises:
        ConfigError: block below 1, or no units.
    """
    n = len(strata)
    if block < 1 or not n:
        raise ConfigError(f"a check needs at least one unit and blocks of at least one, not {n} and {block}")
    generator = np.random.default_rng(seed)
    places = min(block, n)
    shuffled = generator.permutation(n)
    n_blocks = n // places
    main, rest = shuffled[: n_blocks * places], shuffled[n_blocks * places :]
    codes = label_codes(sorted(set(strata)))
    number = dict(zip(sorted(set(strata)), codes.tolist(), strict=True))
    by_stratum = main[np.argsort([number[strata[unit]] for unit in main], kind="stable")]
    intervals = by_stratum.reshape(places, n_blocks)
    intervals = generator.permuted(intervals, axis=1)
    # Within a block the places are shuffled too, so that a block that is cut short by a budget is no slice of one stratum.
    blocks = generator.permuted(intervals.T, axis=1)
    looks = np.arange(1, n_blocks + 1) * places
    if len(rest):
        looks = np.append(looks, n)
    return Drawing(np.concatenate([blocks.ravel(), rest]).astype(np.int64), looks.astype(np.int64), seed)
