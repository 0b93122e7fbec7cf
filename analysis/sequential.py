"""Verdicts that may come early: evidence for and against a bound, looked at after every block.

A gate says "the mean is at least (at most) this bound". Two bets run side by side: one against "the bound is broken", whose
success passes the gate, one against "the bound is kept", whose success fails it. A promise is kept at every look at once, so
that a check may stop as soon as one bet has won, and go on later when neither has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from specs_eval.analysis.betting import Bets, Units, log_wealth
from specs_eval.analysis.bound_tests import Bound
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.errors import ConfigError


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Anytime-valid p values at each look, each the smallest so far."""

    looks: IntArray
    """Units seen at each look, shape (n_looks,)."""
    p_pass: FloatArray
    """Against "the bound is broken", shape (n_looks,): small = the bound is kept."""
    p_fail: FloatArray
    """Against "the bound is kept", shape (n_looks,): small = the bound is broken."""

    @property
    def last(self) -> tuple[float, float]:
        """The p values to pass and to fail at the last look; 1 and 1 before the first."""
        return (float(self.p_pass[-1]), float(self.p_fail[-1])) if len(self.looks) else (1.0, 1.0)


def evidence(units: Units, bound: Bound, bets: Bets, highest: Units | None = None) -> Evidence:
    """What the units say about a bound, at each look.

    Args:
        units: in the order drawn; what is missing (a failed rollout) is filled with the least that it can be.
        bound: within [low, high] of the units.
        bets: effects, as distances from the bound.
        highest: the same units with what is missing filled with the most that it can be; None: nothing is missing. Each bet
            is on the filling that is worst for it, so that what failed helps neither claim.

    Returns:
        p values: at most alpha at any look with probability at most alpha, if what they speak against is true.

    Raises:
        ConfigError: a bound outside of what the units can be.
    """
    if not units.low <= bound.value <= units.high:
        raise ConfigError(
            f"the bound {bound.value:g} is outside of what the mean can be: {units.low:g} to {units.high:g}"
        )
    above = anytime_p(log_wealth(units, bound.value, bets))
    below = anytime_p(log_wealth((highest or units).negated(), -bound.value, bets))
    kept, broken = (above, below) if bound.direction == "at least" else (below, above)
    return Evidence(units.looks, kept, broken)


def anytime_p(log_e: FloatArray) -> FloatArray:
    """1 over the largest wealth so far: valid at whatever look one stops.

    Args:
        log_e: log wealth at each look, shape (n_looks,).
    """
    p: FloatArray = np.exp(-np.maximum(np.maximum.accumulate(log_e), 0.0))
    return p


def units_to_decide(
    bets: Bets, variance: float, distance: float, level: float, chance: float = 0.9, most: int = 10**9
) -> int | None:
    """Units after which a mean at this distance from its bound is decided with this chance.

    The log wealth of each effect's bet is nearly a random walk with drift; its first passage of log(n_effects / level) follows
    the inverse Gaussian law. The effect that gets there first counts.

    Args:
        bets: what is bet on.
        variance: of a unit, > 0.
        distance: of the mean from the bound, >= 0, on the side that the bet is for.
        level: error level, in (0, 1).
        chance: of having decided, in (0, 1).
        most: larger numbers are None.

    Returns:
        At least 1; None when no bet wins in the long run.
    """
    second = variance + distance**2
    target = math.log(len(bets.effects) / level)
    walks = []
    for effect in bets.effects:
        stake = effect / (variance + effect**2)
        walks.append((stake * distance - stake**2 * second / 2, stake * math.sqrt(variance)))
    if max(drift for drift, _ in walks) <= 0:
        return None

    def decided(n: float) -> bool:
        return max(_passage(target, drift, spread, n) for drift, spread in walks) >= chance

    high = 1
    while not decided(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _passage(target: float, drift: float, spread: float, n: float) -> float:
    """Chance that a Gaussian walk has reached the target within n steps."""
    if spread <= 0:
        return float(drift * n >= target)
    cdf, scale = NormalDist().cdf, spread * math.sqrt(n)
    exponent = 2 * drift * target / spread**2
    reflected = cdf(-(target + drift * n) / scale)
    return cdf((drift * n - target) / scale) + (math.exp(exponent) * reflected if exponent < 700 else 0.0)
