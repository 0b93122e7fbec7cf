"""Sequential gates on the Generalization Factor: ID and OOD drawn together, and bets on functions of their means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.bound_tests import BoundTest, ErrorLevels
from specs_eval.analysis.checks.streams import GRID, METHOD, SMALLEST_MARGIN, Read
from specs_eval.analysis.checks.units import Order, Shares
from specs_eval.analysis.factor_bets import (
    SMALLEST_BOUND,
    FactorDesign,
    Gains,
    log_wealth_above,
    log_wealth_below,
    log_wealth_change,
    place_wealth,
)
from specs_eval.analysis.gates import bound_of
from specs_eval.analysis.generalization import choose_gain, generalization_factor
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.sequential import Evidence, anytime_p
from specs_eval.analysis.statistics import Estimate, Interval, undefined
from specs_eval.policy import Gate
from specs_eval.splits import Split

_INTERVAL_STEPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class FactorStream:
    """A gate on GF of the candidate, or on its change; with a base the gains are differences to it."""

    gate: Gate
    order: Order
    splits: tuple[Split, ...]
    sides: tuple[str, ...]
    """The candidate, then the baseline for rules on change, then the base if there is one."""

    def evidence(self, read: Read, n_units: int) -> Evidence:
        """See `Stream`."""
        bound = bound_of(self.gate)
        wealth = self._wealth(read, n_units)
        above, below = (anytime_p(wealth(bound.value, side)) for side in (1, -1))
        looks = self.order.looks[self.order.looks <= n_units]
        kept, broken = (above, below) if bound.direction == "at least" else (below, above)
        return Evidence(looks, kept, broken)

    def test(self, read: Read, n_units: int, levels: ErrorLevels) -> BoundTest:
        """See `Stream`."""
        kept, broken = self.evidence(read, n_units).last
        shares = self._shares(read, n_units)
        n_unscored = int(sum(one.n_unscored.sum() for side in shares for one in side))
        value = self._value(shares)
        if value is None:
            reason = "GF is undefined: a task has no sample that is scored on all sides"
            return BoundTest(undefined(reason, n_unscored), kept, broken, METHOD)
        error = max(levels.alpha, levels.beta)
        low, high = self._ends(self._wealth(read, n_units), value, error)
        n_scored = sum(int((~np.isnan(one.values)).sum()) for one in shares[0])
        interval = Interval(low, high, levels.level, "confidence sequence")
        return BoundTest(Estimate(value, None, interval, n_scored, n_units, n_unscored), kept, broken, METHOD)

    @property
    def _has_base(self) -> bool:
        return choose_gain(self.gate.gain, self.gate.base is not None) == "difference"

    @property
    def _effects(self) -> tuple[float, ...]:
        margin = abs(self.gate.bound)
        return (1.2 * margin, 2 * margin) if self.gate.on_change and margin >= SMALLEST_MARGIN else GRID

    def _shares(self, read: Read, n_units: int) -> list[tuple[Shares, Shares]]:
        """ID and OOD of each side."""
        ids = [self.order.samples(role, n_units) for role in (0, 1)]
        return [
            (read(side, self.splits[0]).pick(ids[0]), read(side, self.splits[1]).pick(ids[1])) for side in self.sides
        ]

    def _design(self) -> FactorDesign:
        sizes = np.stack([self.order.sizes(role) for role in (0, 1)])
        means = sizes.mean(axis=1, keepdims=True)
        return FactorDesign(sizes / means, self.order.looks, self.gate.gf_beta, -1.0 if self._has_base else 0.0)

    def _gains(self, one: tuple[Shares, Shares], other: tuple[Shares, Shares] | None, n_units: int) -> Gains:
        """Of a side, over another where it is given."""
        sums: list[list[FloatArray]] = [[], []]
        for role in (0, 1):
            mean_size = self.order.sizes(role).mean()
            least = one[role].least - (0.0 if other is None else other[role].most)
            most = one[role].most - (0.0 if other is None else other[role].least)
            for filled, values in zip(sums, (least, most), strict=True):
                filled.append(self.order.by_unit(role, values, n_units) / mean_size)
        return Gains(np.stack(sums[0]), np.stack(sums[1]))

    def _wealth(self, read: Read, n_units: int) -> Callable[[float, int], FloatArray]:
        """Bound, and side (1: evidence that GF or its change is above it, -1: below) -> log wealth at each look."""
        shares, design = self._shares(read, n_units), self._design()
        base = shares[-1] if self._has_base else None
        candidate = self._gains(shares[0], base, n_units)
        if not self.gate.on_change:

            def level(bound: float, side: int) -> FloatArray:
                wealth = log_wealth_above if side == 1 else log_wealth_below
                return wealth(design, candidate, max(bound, SMALLEST_BOUND), self._effects)

            return level
        baseline = self._gains(shares[1], base, n_units)
        change = self._gains(shares[0], shares[1], n_units)
        place = place_wealth(design, (baseline, candidate))

        def moved(bound: float, side: int) -> FloatArray:
            if side == 1:
                return log_wealth_change(design, (baseline, candidate), change, bound, self._effects, place)
            return log_wealth_change(design, (candidate, baseline), change.reversed(), -bound, self._effects, place)

        return moved

    def _value(self, shares: list[tuple[Shares, Shares]]) -> float | None:
        """GF over the samples that have a value on all sides, or its change."""
        gains: list[list[float]] = [[] for _ in shares]
        for role in (0, 1):
            values = np.stack([side[role].values for side in shares])
            scored = ~np.isnan(values).any(axis=0)
            if not scored.any():
                return None
            means = values[:, scored].mean(axis=1)
            for number, mean in enumerate(means.tolist()):
                gains[number].append(mean - (float(means[-1]) if self._has_base else 0.0))
        factors = [generalization_factor(one, other, self.gate.gf_beta) for one, other in gains]
        return factors[0] - factors[1] if self.gate.on_change else factors[0]

    def _ends(self, wealth: Callable[[float, int], FloatArray], value: float, error: float) -> tuple[float, float]:
        """Confidence sequence by bisection: the bounds that are just not refuted."""
        target = -math.log(error)
        least = -1.0 if self.gate.on_change else 0.0
        ends = []
        for side, far in ((1, least), (-1, 1.0)):
            inside, outside = value, far
            for _ in range(_INTERVAL_STEPS):
                middle = (inside + outside) / 2
                path = wealth(middle, side)
                refuted = bool(len(path)) and float(path.max()) >= target
                inside, outside = (inside, middle) if refuted else (middle, outside)
            ends.append(outside)
        return ends[0], ends[1]
