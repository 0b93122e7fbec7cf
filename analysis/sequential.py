"""Verdicts that may come early: evidence for and against a bound, looked at after every block.

A gate says "the mean is at least (at most) this bound". Two bets run side by side: one against "the bound is broken", whose
success passes the gate, one against "the bound is kept", whose success fails it. A promise is kept at every look at once, so
that a check may stop as soon as one bet has won, and go on later when neither has.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def evidence(units: Units, bound: Bound, bets: Bets) -> Evidence:
    """What the units say about a bound, at each look.

    Args:
        units: in the order drawn.
        bound: within [low, high] of the units.
        bets: effects, as distances from the bound.

    Returns:
        p values: at most alpha at any look with probability at most alpha, if what they speak against is true.

    Raises:
        ConfigError: a bound outside of what the units can be.
    """
    if not units.low <= bound.value <= units.high:
        raise ConfigError(
            f"the bound {bound.value:g} is outside of what the mean can be: {units.low:g} to {units.high:g}"
        )
    above = _anytime_p(log_wealth(units, bound.value, bets))
    below = _anytime_p(log_wealth(units.negated(), -bound.value, bets))
    kept, broken = (above, below) if bound.direction == "at least" else (below, above)
    return Evidence(units.looks, kept, broken)


def _anytime_p(log_e: FloatArray) -> FloatArray:
    """1 over the largest wealth so far: valid at whatever look one stops."""
    p: FloatArray = np.exp(-np.maximum(np.maximum.accumulate(log_e), 0.0))
    return p
