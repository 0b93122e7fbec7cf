"""Tests of no difference between two checkpoints on the same samples: exact McNemar and sign flips of clusters.

Both ask the same: were baseline and candidate exchangeable within each pair, how often would chance alone bring a mean
difference at least this large, either way? p values are never 0: neither counting nor drawing can show that.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.errors import ConfigError

TestMethod = Literal["exact McNemar", "sign flips, all", "sign flips, drawn"]

_MOST_ENUMERATED = 20
"""Units that differ up to which all 2^n sign flips are counted."""

_CHUNK_ENTRIES = 2_000_000
"""Signs that are held at once (16 MB)."""

_TIE = 1e-9
"""Sums within this share of the largest possible one are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A two-sided p value, and all that is needed to compute it again."""

    p: float
    """In (0, 1]."""
    method: TestMethod
    n_units: int
    """Pairs, or clusters of them, that differ: what can flip."""
    n_draws: int | None = None
    """Sign flips drawn; None: exact."""
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The test as plain JSON types."""
        return asdict(self)


def paired_test(differences: FloatArray, clusters: IntArray, *, n_draws: int = 10_000, seed: int = 0) -> PairedTest:
    """The test that fits the pairs: exact McNemar for independent yes/no pairs, else sign flips by cluster.

    Args:
        differences: candidate minus baseline, shape (n,).
        clusters: group code of each, shape (n,).
        n_draws: sign flips to draw where there are too many to count.
        seed: of the draws.

    Raises:
        ConfigError: see `sign_flip_test`.
    """
    independent = len(np.unique(clusters)) == len(clusters)
    if independent and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all()):
        return mcnemar_test(int((differences > 0).sum()), int((differences < 0).sum()))
    return sign_flip_test(differences, clusters, n_draws=n_draws, seed=seed)


def mcnemar_test(n_gained: int, n_lost: int) -> PairedTest:
    """Exact McNemar: are as many yes/no pairs gained as lost?

    Twice the smaller tail of a fair coin over the pairs that flipped, at most 1. The mid-p variant was rejected: it is
    less conservative, but can exceed its level.

    Args:
        n_gained: pairs that only the candidate got right.
        n_lost: pairs that only the baseline got right.

    Reference: McNemar 1947, Psychometrika 12, 153-157; exact form as in Fagerland et al. 2013, BMC Medical Research
    Methodology 13:91, eq. 2.

    Example:
        >>> mcnemar_test(1, 7).p
        0.0703125
    """
    n, fewer = n_gained + n_lost, min(n_gained, n_lost)
    return PairedTest(min(2 * _lower_tail(fewer, n), 1.0), "exact McNemar", n)


def sign_flip_test(differences: FloatArray, clusters: IntArray, *, n_draws: int = 10_000, seed: int = 0) -> PairedTest:
    """Permutation test of the mean difference: baseline and candidate are swapped at random, whole clusters at once.

    Up to 20 clusters that differ, all swaps are counted; else `n_draws` are drawn and p = (b + 1) / (n_draws + 1), with
    b draws at least as far from 0 as the data. For independent yes/no pairs the counted test is exact McNemar. The order
    of the pairs and swapping the runs change nothing, not even the drawn p.

    Raises:
        ConfigError: n_draws outside 100 to 1,000,000, or a negative seed.

    Reference: Fisher 1935; the drawn p value as in Phipson and Smyth 2010, arXiv 1603.05766, eq. 2.
    """
    if not 100 <= n_draws <= 1_000_000:
        raise ConfigError(f"the permutation test takes 100 to 1,000,000 draws, not {n_draws}")
    if seed < 0:
        raise ConfigError(f"the seed must be >= 0, not {seed}")
    _, codes = np.unique(clusters, return_inverse=True)
    totals = np.bincount(codes, weights=differences)
    # The sign that a total happens to have does not matter for its flips: sizes in order, whatever the order was.
    sizes = np.sort(np.abs(totals))
    tie = _TIE * float(sizes.sum())
    sizes = sizes[sizes > tie / max(len(sizes), 1)]
    bound = abs(float(totals.sum())) - tie
    if len(sizes) <= _MOST_ENUMERATED:
        return PairedTest(_counted(sizes, bound), "sign flips, all", len(sizes))
    p = (_drawn(sizes, bound, n_draws, seed) + 1) / (n_draws + 1)
    return PairedTest(p, "sign flips, drawn", len(sizes), n_draws, seed)


def _counted(sizes: FloatArray, bound: float) -> float:
    """Share of all sign flips whose sum is at least as far from 0. By symmetry the first sign is left as it is."""
    if not len(sizes):
        return 1.0
    sums = sizes[:1]
    for size in sizes[1:]:
        sums = np.concatenate([sums + size, sums - size])
    return float((np.abs(sums) >= bound).mean())


def _drawn(sizes: FloatArray, bound: float, n_draws: int, seed: int) -> int:
    """How many of so many random sign flips have a sum at least as far from 0; a bit a sign, in chunks."""
    generator = np.random.default_rng(seed)
    n, total = len(sizes), float(sizes.sum())
    words = -(-n // 64)
    rows = max(1, _CHUNK_ENTRIES // n)
    found = 0
    for start in range(0, n_draws, rows):
        # Whole words a row, so that the draws do not depend on the size of a chunk.
        drawn = generator.integers(0, 2**64, size=(min(rows, n_draws - start), words), dtype=np.uint64)
        plus = np.unpackbits(drawn.view(np.uint8), axis=1, count=n)
        sums = 2 * (plus.astype(np.float64) @ sizes) - total
        found += int((np.abs(sums) >= bound).sum())
    return found


def _lower_tail(k: int, n: int) -> float:
    """Probability of at most k heads in n throws of a fair coin, k <= n / 2; > 0 even where it underflows."""
    log_top = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
    heads = np.arange(k, 0, -1, dtype=np.float64)
    # From the largest term down, each is the one before times i / (n - i + 1).
    ratios = np.cumprod(heads / (n - heads + 1))
    return max(math.exp(log_top) * (1 + float(ratios.sum())), sys.float_info.min)
