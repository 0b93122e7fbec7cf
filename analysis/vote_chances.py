"""The chance that an answer wins a vote among some of a sample's rollouts: counted exactly, with tables that samples share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from specs_eval.analysis.samples import FloatArray, IntArray

ComplexArray = NDArray[np.complex128]


def win_chance(count: int, rivals: Sequence[int], n_silent: int, k: int) -> float:
    """Chance that an answer wins the vote among k rollouts drawn without replacement; ties are broken at random.

    Args:
        count: rollouts that gave the answer, >= 1.
        rivals: rollouts that gave each other answer, each >= 1.
        n_silent: rollouts without an answer, which do not vote.
        k: rollouts drawn, 1 <= k <= all of them.

    Returns:
        A share in [0, 1], right to about 1e-12.
    """
    n = count + sum(rivals) + n_silent
    if k == n:
        return 0.0 if count < max(rivals, default=0) else 1 / (1 + list(rivals).count(count))
    chance = _table(n, k).win_chance(count, rivals, n_silent)
    # Exact zeros and ones stay what they are: intervals of shares ask for them.
    return min(max(round(chance, 13), 0.0), 1.0)


class VoteTable:
    """What all samples with n rollouts share when k of them vote.

    The votes of the answers, drawn without replacement, are independent binomials given that they sum to k, whatever the
    success rate; with k / n the sum is k often enough for that condition to cost no digits. So a chance is a sum over the
    votes m of the winner, of its own probability, times a coefficient of a product of polynomials: one for each rival,
    cut off at m, where a tie carries a factor y. With j rivals tied the winner wins 1 time in j + 1, which is the integral
    of y^j over [0, 1]: Gauss-Legendre nodes integrate it exactly. The polynomials are kept as their values at the roots of
    unity, where a product takes one multiplication a value and a coefficient is a sum.
    """

    def __init__(self, n: int, k: int) -> None:
        self._n, self._share = n, k / n
        self._votes, self._y, weights = _tie_nodes(k)
        self._weights = weights / _binomial(n, self._share)[k]
        half = np.arange((n + 1) // 2 + 1)
        # The coefficients are real: values at conjugate points are conjugates, and half of them count twice.
        fold = np.where((half == 0) | (2 * half == n + 1), 1.0, 2.0) / (n + 1)
        self._extract = fold * self._powers(self._votes - k)
        self._rivals: dict[int, ComplexArray] = {}

    def win_chance(self, count: int, rivals: Sequence[int], n_silent: int) -> float:
        """See `win_chance`; k < n."""
        used = int(np.searchsorted(self._votes, count, side="right"))
        z = self._powers(np.array([1]))[0]
        product = self._extract[:used] * (1 - self._share + self._share * z) ** n_silent
        for rival in rivals:
            product *= self._rival(rival)[:used]
        own = _binomial(count, self._share)[self._votes[:used]]
        return float(np.sum(self._weights[:used] * own * product.sum(axis=1).real))

    def _rival(self, count: int) -> ComplexArray:
        """Values of a rival's polynomial for each number of winning votes and node, shape (n_nodes, n_points)."""
        if count not in self._rivals:
            terms = _binomial(count, self._share)[:, None] * self._powers(np.arange(count + 1))
            below = np.concatenate([np.zeros((1, terms.shape[1])), np.cumsum(terms, axis=0)])
            values = below[np.minimum(self._votes, count + 1)]
            ties = self._votes <= count
            values[ties] += self._y[ties, None] * terms[self._votes[ties]]
            self._rivals[count] = values
        return self._rivals[count]

    def _powers(self, exponents: IntArray) -> ComplexArray:
        """The first half of the (n + 1)-th roots of unity to some powers, shape (n_powers, n_points)."""
        size = self._n + 1
        turns = np.outer(exponents, np.arange(size // 2 + 1)) % size
        return np.asarray(np.exp(2j * np.pi * turns / size), dtype=np.complex128)


@lru_cache(maxsize=24)
def _table(n: int, k: int) -> VoteTable:
    return VoteTable(n, k)


@lru_cache(maxsize=4096)
def _binomial(n: int, share: float) -> FloatArray:
    """Probabilities of 0 .. n successes."""
    t = np.arange(n + 1)
    ways = np.array([math.comb(n, i) for i in range(n + 1)], dtype=np.float64)
    return np.asarray(ways * share**t * (1 - share) ** (n - t), dtype=np.float64)


def _tie_nodes(k: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Votes m of the winner, ascending, with nodes and weights on [0, 1] for the ties that are possible at each m."""
    votes, nodes, weights = [], [], []
    for m in range(1, k + 1):
        ties = (k - m) // m
        points, mass = np.polynomial.legendre.leggauss(ties // 2 + 1)
        votes += [m] * len(points)
        nodes += ((points + 1) / 2).tolist()
        weights += (mass / 2).tolist()
    return np.array(votes, dtype=np.int64), np.array(nodes), np.array(weights)
