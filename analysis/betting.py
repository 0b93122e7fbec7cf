"""Tests of a mean that may be looked at as often as one likes: betting on bounded values.

To test "the mean is at most m", bet against it: start with wealth 1, stake a share on each value being above m, and
multiply. If the claim is true, no strategy that looks only at the past makes money on average, so wealth stays below
1/alpha for ever with probability 1 - alpha (Ville's inequality), whenever one chooses to look or stop. Wealth is an e-value.

Reference: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024, arXiv 2010.09686.
Ours differs in the bets: a mixture over effects that a gate cares about, each sized by the variance seen so far, which decides
sooner there than bets that must first learn what to look for (benchmarks/bench_sequential.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.errors import ConfigError

MAX_STAKE = 0.9
"""Largest share of the wealth that can be lost on one value: below 1, so that no value ruins a true bet for ever."""

PRIOR_UNITS = 20
"""How many values the prior guess of the variance counts for."""


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Independent units in the order in which they were drawn, such as samples, or groups of samples that share an image."""

    values: FloatArray
    """Mean of each unit, shape (n_units,), within [low, high]."""
    weights: FloatArray
    """Samples in each unit over the mean of all units, in (0, heaviest], shape (n_units,); all 1 where units are samples."""
    low: float
    high: float
    looks: IntArray
    """Units drawn at the end of each block, ascending, the last n_units, shape (n_blocks,). Stakes change between blocks
    only, and wealth means something at their ends only (see `specs_eval.analysis.drawing`)."""
    heaviest: float = 1.0
    """The most that a weight can be, drawn or not."""

    def __post_init__(self) -> None:
        if self.values.shape != self.weights.shape or self.values.ndim != 1:
            raise ValueError("values and weights must be of one shape (n_units,)")
        if not np.isfinite(self.values).all() or (len(self.values) and not self._inside()):
            raise ConfigError(f"values must lie within [{self.low:g}, {self.high:g}]: betting needs their bounds")
        if len(self.weights) and not (self.weights.min() > 0 and self.weights.max() <= self.heaviest):
            raise ValueError(f"weights must lie in (0, {self.heaviest:g}]")

        looks = self.looks
        if len(self.values) and not (
            len(looks) and looks[0] > 0 and looks[-1] == len(self.values) and (np.diff(looks) > 0).all()
        ):
            raise ValueError("looks must ascend to the number of units")

    def _inside(self) -> bool:
        return bool(self.values.min() >= self.low and self.values.max() <= self.high)

    def negated(self) -> Units:
        """The same units with the sign changed: a bet on below becomes a bet on above."""
        return Units(-self.values, self.weights, -self.high, -self.low, self.looks, self.heaviest)

    def first(self, n_looks: int) -> Units:
        """What was seen at a look."""
        n = int(self.looks[n_looks - 1]) if n_looks else 0
        return Units(self.values[:n], self.weights[:n], self.low, self.high, self.looks[:n_looks], self.heaviest)


@dataclass(frozen=True, slots=True)
class Bets:
    """What to bet on: effects worth detecting, as distances of the mean from the value that is tested."""

    effects: tuple[float, ...]
    """Each > 0; wealth is spread evenly over them."""
    variance: float | None = None
    """First guess of the variance of a unit; None: a sixteenth of the squared range."""

    def __post_init__(self) -> None:
        if not self.effects or min(self.effects) <= 0:
            raise ConfigError("bets need at least one effect, each above 0")


def bets_on(margin: float, variance: float | None = None) -> Bets:
    """What a gate bets on: a mean that is a little more than the margin, or twice the margin, away from its bound.

    A candidate that equals its baseline is one margin away from "may drop by the margin", one that is better or worse by it
    none or two. Somewhat more than one margin decides sooner where the truth is one or two, and hardly later where it is one.

    Args:
        margin: distance from the bound that matters, > 0.
        variance: first guess of the variance of a unit; None: see `Bets`.
    """
    return Bets((1.2 * margin, 2 * margin), variance)


def log_wealth(units: Units, mean: float, bets: Bets) -> FloatArray:
    """Log wealth at each look of a bet against "the mean is at most `mean`"; higher = more evidence that it is above.

    Args:
        units: in the order drawn. The stakes on a block depend on the blocks before it alone.
        mean: the value tested, within [low, high].
        bets: the effects to bet on.

    Returns:
        Natural logarithms, shape (n_blocks,). Under any true mean <= `mean`, exp of it exceeds 1/alpha at any look with
        probability at most alpha. Decreasing in `mean`, which makes it invertible to a confidence sequence.

    Units of several samples count by their weight: the stake is on the sum of (sample - mean), so that the mean over
    samples is what is tested, whatever the sizes of the units.
    """
    stakes = _stakes(units, mean, bets)
    factors = stakes * units.weights * (units.values - mean)
    paths = np.cumsum(np.log1p(factors), axis=1)[:, units.looks - 1]
    highest = paths.max(axis=0)
    mixed: FloatArray = highest + np.log(np.exp(paths - highest).mean(axis=0))
    return mixed


def lower_bound(units: Units, bets: Bets, alpha: float) -> float:
    """The largest mean that the bets have refuted at the end of `units`: the true mean is above it.

    Simultaneously at all times this fails with probability at most alpha: a (one-sided) confidence sequence.

    Args:
        units: all units so far.
        bets: as for `log_wealth`.
        alpha: in (0, 1).

    Returns:
        A value in [low, high]; `low` when nothing is refuted.
    """
    target = -np.log(alpha)

    def refuted(mean: float) -> bool:
        return bool(len(units.values)) and bool(log_wealth(units, mean, bets)[-1] >= target)

    low, high = units.low, units.high
    if not refuted(low):
        return low
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def confidence_bounds(units: Units, bets: Bets, alpha: float) -> tuple[float, float]:
    """Two-sided confidence sequence at the end of `units`, each side at alpha / 2."""
    low = lower_bound(units, bets, alpha / 2)
    high = -lower_bound(units.negated(), bets, alpha / 2)
    return low, high


def _stakes(units: Units, mean: float, bets: Bets) -> FloatArray:
    """Stake of each effect on each unit, shape (n_effects, n_units).

    For an effect e and variance v, the stake e / (v + e^2) grows wealth fastest to second order. The variance is of the
    blocks before, with a prior guess for the first ones.
    """
    starts = np.concatenate([[0], units.looks[:-1]])
    variance = np.repeat(_variance_before(units, bets, starts), np.diff(units.looks, prepend=0))
    effects = np.array(bets.effects)[:, None]
    most = MAX_STAKE / max((mean - units.low) * units.heaviest, 1e-12)
    stakes: FloatArray = np.minimum(effects / (variance + effects**2), most)
    return stakes


def _variance_before(units: Units, bets: Bets, starts: IntArray) -> FloatArray:
    """Variance of weight * (value - mean) of the units before each block, around their own mean, shape (n_blocks,)."""
    weights, values = units.weights, units.values

    def before(terms: FloatArray) -> FloatArray:
        sums: FloatArray = np.concatenate([[0.0], np.cumsum(terms)])[starts]
        return sums

    centre = before(weights * values) / np.maximum(before(weights), 1e-12)
    squares = before(weights**2)
    spread = before((weights * values) ** 2) - 2 * centre * before(weights**2 * values) + centre**2 * squares
    spread = np.maximum(spread, 0.0)
    guess = (units.high - units.low) ** 2 / 16 if bets.variance is None else bets.variance
    variance: FloatArray = (spread + PRIOR_UNITS * guess) / (starts + PRIOR_UNITS)
    return variance
