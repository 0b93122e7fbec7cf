"""Sequential gates over stored answers: which samples come next, and what those that came say about the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from specs_eval.analysis.betting import Bets, Units, bets_on, lower_bound
from specs_eval.analysis.bound_tests import Bound, BoundTest, ErrorLevels
from specs_eval.analysis.checks.units import Order, Shares
from specs_eval.analysis.gates import bound_of
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.sequential import Evidence, evidence, units_to_decide
from specs_eval.analysis.statistics import Estimate, Interval, undefined
from specs_eval.policy import Gate
from specs_eval.splits import Split

METHOD = "betting, in stratified random order"
GRID = (0.03, 0.06, 0.12, 0.24)
"""Effects that are bet on where the bound does not say which matter."""

SMALLEST_MARGIN = 0.005

Read = Callable[[str, Split], Shares]
"""Side and part of a task -> the gate's metric of what that side has answered."""


class Stream(Protocol):
    """One gate, drawn unit by unit."""

    @property
    def gate(self) -> Gate:
        """The rule."""

    @property
    def order(self) -> Order:
        """Of its units."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """What each role of the order is measured on."""

    @property
    def sides(self) -> tuple[str, ...]:
        """Whose answers it needs; the candidate's first."""

    def evidence(self, read: Read, n_units: int) -> Evidence:
        """P values against "the bound is broken" and "the bound is kept" at each look up to `n_units`; valid at any time."""

    def test(self, read: Read, n_units: int, levels: ErrorLevels) -> BoundTest:
        """All that a verdict says of the first units."""


def bets_of(gate: Gate) -> Bets:
    """What a gate bets on, fixed before anything is seen."""
    if gate.on_change:
        margin = abs(gate.bound)
        return bets_on(margin) if margin >= SMALLEST_MARGIN else Bets(GRID)
    return Bets(GRID, max(gate.bound * (1 - gate.bound), 0.02))


@dataclass(frozen=True, slots=True, eq=False)
class MeanStream:
    """A gate on a mean: of the candidate, or of the paired difference."""

    gate: Gate
    order: Order
    splits: tuple[Split, ...]
    sides: tuple[str, ...]

    def evidence(self, read: Read, n_units: int) -> Evidence:
        """See `Stream`."""
        bound = bound_of(self.gate)
        least, most = self._units(self._shares(read, n_units), n_units)
        if not least.low <= bound.value <= least.high:
            return certain(bound, least)
        return evidence(least, bound, bets_of(self.gate), most)

    def test(self, read: Read, n_units: int, levels: ErrorLevels) -> BoundTest:
        """See `Stream`."""
        shares = self._shares(read, n_units)
        least, most = self._units(shares, n_units)
        kept, broken = self.evidence(read, n_units).last
        values = shares[0].values - (shares[1].values if len(shares) > 1 else 0.0)
        scored = ~np.isnan(values)
        n_unscored = int(sum(one.n_unscored.sum() for one in shares))
        if not scored.any():
            reason = "no sample is scored on both sides" if len(shares) > 1 else "no sample is scored"
            return BoundTest(undefined(reason, n_unscored), kept, broken, METHOD)
        error = max(levels.alpha, levels.beta)
        bets = bets_of(self.gate)
        interval = Interval(
            lower_bound(least, bets, error),
            -lower_bound(most.negated(), bets, error),
            levels.level,
            "confidence sequence",
        )
        estimate = Estimate(float(values[scored].mean()), None, interval, int(scored.sum()), n_units, n_unscored)
        needed = self._needed(least.values, n_units, len(values), levels)
        return BoundTest(estimate, kept, broken, METHOD, needed)

    def _shares(self, read: Read, n_units: int) -> list[Shares]:
        ids = self.order.samples(0, n_units)
        return [read(side, self.splits[0]).pick(ids) for side in self.sides]

    def _units(self, shares: Sequence[Shares], n_units: int) -> tuple[Units, Units]:
        """Units with what failed filled with the least, and with the most."""
        sizes = self.order.sizes(0)
        weights, heaviest = sizes[:n_units] / sizes.mean(), float(sizes.max() / sizes.mean())
        looks = self.order.looks[self.order.looks <= n_units]
        change = len(shares) > 1
        least = shares[0].least - (shares[1].most if change else 0.0)
        most = shares[0].most - (shares[1].least if change else 0.0)
        low = -1.0 if change else 0.0
        return tuple(  # type: ignore[return-value]
            Units(self._means(values, n_units, low), weights, low, 1.0, looks, heaviest) for values in (least, most)
        )

    def _means(self, values: FloatArray, n_units: int, low: float) -> FloatArray:
        """Mean of each unit; rounding must not lift it out of its bounds."""
        means = self.order.by_unit(0, values, n_units) / self.order.sizes(0)[:n_units]
        return np.clip(means, low, 1.0)

    def _needed(self, values: FloatArray, n_units: int, n_samples: int, levels: ErrorLevels) -> int | None:
        """Samples that likely decide when the candidate equals the baseline."""
        distance = abs(self.gate.bound)
        if not self.gate.on_change or distance < SMALLEST_MARGIN or n_units < 2:
            return None
        sizes = self.order.sizes(0)
        weights = sizes[:n_units] / sizes.mean()
        deviations = weights * (values - np.average(values, weights=weights))
        variance = max(float((deviations**2).sum() / (n_units - 1)), 1e-6)
        kept = self.gate.kind != "min_gain"
        units = units_to_decide(
            bets_of(self.gate), variance, distance, levels.alpha if kept else levels.beta, levels.power
        )
        return None if units is None else int(np.ceil(units * n_samples / n_units))


def certain(bound: Bound, units: Units) -> Evidence:
    """On a bound that the number cannot but keep or break, as it lies outside of what the number can be."""
    kept = (bound.value < units.low) == (bound.direction == "at least")
    never, always = np.ones(len(units.looks)), np.zeros(len(units.looks))
    return Evidence(units.looks, always, never) if kept else Evidence(units.looks, never, always)
