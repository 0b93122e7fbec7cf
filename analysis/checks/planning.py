"""What a check will take, before anything is asked: the stopping of its gates, simulated from what the baseline answered.

A simulated candidate answers most groups as the baseline did; the others, a share that follows from how often two checkpoints
differ, as the baseline answered some other group. So it equals the baseline on average, differs as much as it should, and keeps
the spread and the clusters of the benchmark. A better one gets a share of its worse answers right on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from specs_eval.analysis.bound_tests import ErrorLevels
from specs_eval.analysis.checks.sequential import first_round, next_round
from specs_eval.analysis.checks.streams import Read, Stream
from specs_eval.analysis.checks.units import Order, Shares
from specs_eval.analysis.gates import bound_of
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.policy import Gate
from specs_eval.splits import Split

_LEAST_VARIANCE = 1e-9
_CHECKS_TO_LEARN_FROM = 5
_LIKELY = 0.8


@dataclass(frozen=True, slots=True)
class FixedPlan:
    """A test of a fixed sample."""

    n_samples: int | None
    """Samples that decide with the planned power; None: no number does, the candidate is at the bound."""
    power: float
    """Chance that all samples of the benchmark decide."""


@dataclass(frozen=True, slots=True)
class SequentialPlan:
    """A gate that stops when it is decided, by simulation."""

    passed: float
    """Share of the simulated checks that pass."""
    failed: float
    undecided: float
    """Share that is undecided when all samples are asked."""
    mean: float
    """Samples asked on average."""
    median: float
    high: float
    """90 % of the checks ask at most so many samples."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One truth."""

    name: str
    """``equal`` or ``better``."""
    shift: float
    """How much better the candidate is, in the direction of its rule."""
    fixed: FixedPlan
    sequential: SequentialPlan


@dataclass(frozen=True, slots=True)
class GatePlan:
    """What one gate will take."""

    gate: Gate
    n_samples: int
    """Samples there are."""
    n_simulated: int
    scenarios: tuple[Scenario, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return {
            "gate": self.gate.title,
            "n_samples": self.n_samples,
            "n_simulated": self.n_simulated,
            "scenarios": [asdict(one) for one in self.scenarios],
        }


@dataclass(frozen=True, slots=True)
class Simulation:
    """How to simulate."""

    levels: ErrorLevels
    n_gates: int
    """Of the policy: to fail, a gate is held against beta over this number, the least that Holm may ask."""
    n_checks: int
    seed: int


def plan_gate(stream: Stream, stored: Read, variance: float, simulation: Simulation) -> GatePlan:
    """Simulate a gate.

    Args:
        stream: the gate.
        stored: what the baseline (and the base of a GF gate) answered.
        variance: of the difference of a sample between two checkpoints, clusters included, as if samples were independent.
        simulation: how often, at which levels.
    """
    answers = _Answers(stream, stored)
    shifts = {"equal": 0.0}
    margin = abs(stream.gate.bound)
    if stream.gate.on_change and margin > 0:
        shifts["better"] = 2 * margin if stream.gate.kind == "min_gain" else margin
    generator = np.random.default_rng(simulation.seed)
    scenarios = []
    for name, shift in shifts.items():
        sequential = _simulate(answers, variance, shift, simulation, generator)
        scenarios.append(Scenario(name, shift, _fixed(answers, variance, shift, simulation), sequential))
    return GatePlan(stream.gate, sum(map(len, stream.order.ids)), simulation.n_checks, tuple(scenarios))


class _Answers:
    """The baseline's answers by unit, and simulated candidates over them."""

    def __init__(self, stream: Stream, stored: Read) -> None:
        self.stream, self.order = stream, stream.order
        parts = list(zip(stream.splits, self.order.ids, strict=True))
        self.own = [stored("baseline", split).pick(ids) for split, ids in parts]
        sides = [side for side in stream.sides if side != "candidate"]
        self._others = [{side: stored(side, split).pick(ids) for side in sides} for split, ids in parts]
        floors = [[one.values for side, one in others.items() if side != "baseline"] for others in self._others]
        self.means = [_mean(own.values) - sum(map(_mean, floor)) for own, floor in zip(self.own, floors, strict=True)]
        """What the gate's number is a function of."""
        self._starts = [np.searchsorted(units, np.arange(self.order.n_units)) for units in self.order.units]
        self._sizes = [self.order.sizes(role).astype(np.int64) for role in range(len(self.own))]
        self._positions = [{one: place for place, one in enumerate(ids)} for ids in self.order.ids]
        patterns = np.stack([sizes > 0 for sizes in self._sizes])
        self._alike = [np.flatnonzero((patterns == patterns[:, [u]]).all(axis=0)) for u in self._first_of(patterns)]

    def draw(self, share: float, shift: float, generator: np.random.Generator) -> Read:
        """Answers of all sides as a store would be read, the groups in a new order.

        Args:
            share: of the groups that the candidate answers like some other group.
            shift: of the candidate's mean, positive: up.
            generator: of chance.
        """
        origin = np.arange(self.order.n_units)
        for members in self._alike:
            origin[members] = generator.permutation(members)
        donors = origin.copy()
        for members in self._alike:
            again = members[generator.random(len(members)) < share]
            donors[again] = generator.choice(members, len(again))
        found: dict[tuple[str, int], Shares] = {}
        for role, own in enumerate(self.own):
            found["candidate", role] = self._lifted(role, _rows(own, self._sources(role, donors)), shift, generator)
            for side, answers in self._others[role].items():
                found[side, role] = _rows(answers, self._sources(role, origin))

        def read(side: str, split: Split) -> Shares:
            role = self.stream.splits.index(split)
            return _indexed(found[side, role], self._positions[role])

        return read

    def _sources(self, role: int, units: IntArray) -> IntArray:
        """For each sample the sample of its unit's donor that it is answered like."""
        own = self.order.units[role]
        place = np.arange(len(own)) - self._starts[role][own]
        sources: IntArray = self._starts[role][units[own]] + place % np.maximum(self._sizes[role][units[own]], 1)
        return sources

    def _lifted(self, role: int, answers: Shares, shift: float, generator: np.random.Generator) -> Shares:
        mean = _mean(self.own[role].values)
        room = 1 - mean if shift > 0 else mean
        chance = min(abs(shift) / room, 1.0) if room > 0 else 0.0
        lifted = (generator.random(len(answers.values)) < chance) & ~np.isnan(answers.values)

        def moved(values: FloatArray) -> FloatArray:
            return np.where(lifted, float(shift > 0), values)

        return Shares({}, moved(answers.values), moved(answers.least), moved(answers.most), answers.n_unscored)

    def spread(self) -> float:
        """Variance of a group's answers as a variance of independent samples: what answering it again doubles."""
        total, n = 0.0, 0
        for role, own in enumerate(self.own):
            known = np.nan_to_num(own.values - _mean(own.values))
            total += float((self.order.by_unit(role, known, self.order.n_units) ** 2).sum())
            n += len(known)
        return max(total / n, _LEAST_VARIANCE)

    @staticmethod
    def _first_of(patterns: np.ndarray) -> IntArray:
        return np.unique(patterns, axis=1, return_index=True)[1]


def _mean(values: FloatArray) -> float:
    """Of what is known; 0 where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _rows(shares: Shares, rows: IntArray) -> Shares:
    return Shares({}, shares.values[rows], shares.least[rows], shares.most[rows], shares.n_unscored[rows])


def _indexed(shares: Shares, positions: Mapping[str, int]) -> Shares:
    """With the last row that stands for what was never answered."""
    return Shares(
        positions,
        np.append(shares.values, np.nan),
        np.append(shares.least, 0.0),
        np.append(shares.most, 1.0),
        np.append(shares.n_unscored, 1),
    )


def _simulate(
    answers: _Answers, variance: float, shift: float, simulation: Simulation, generator: np.random.Generator
) -> SequentialPlan:
    gate, order = answers.stream.gate, answers.order
    share = min(variance / (2 * answers.spread()), 1.0) if gate.on_change else 1.0
    upwards = shift if bound_of(gate).direction == "at least" else -shift
    rounds = _rounds(order)
    words: list[str] = []
    ends: list[int] = []
    for _ in range(simulation.n_checks):
        read = answers.draw(share, upwards, generator)
        likely = _likely(ends, rounds)
        word, end = _ending(answers.stream, read, rounds[:likely], simulation)
        if word == "undecided" and likely < len(rounds):
            word, end = _ending(answers.stream, read, rounds, simulation)
        words.append(word)
        ends.append(end)
    used = [sum(len(order.samples(role, end)) for role in range(len(order.ids))) for end in ends]
    shares = {word: words.count(word) / len(words) for word in ("pass", "fail", "undecided")}
    return SequentialPlan(
        shares["pass"],
        shares["fail"],
        shares["undecided"],
        float(np.mean(used)),
        float(np.median(used)),
        float(np.quantile(used, 0.9)),
    )


def _ending(stream: Stream, read: Read, rounds: IntArray, simulation: Simulation) -> tuple[str, int]:
    """How a check ends that looks after these numbers of units, and after how many."""
    levels = simulation.levels
    found = stream.evidence(read, int(rounds[-1]))
    at = np.searchsorted(found.looks, rounds)
    passed, failed = found.p_pass[at] <= levels.alpha, found.p_fail[at] <= levels.beta / simulation.n_gates
    decided = np.flatnonzero(passed | failed)
    if not len(decided):
        return "undecided", int(rounds[-1])
    return "pass" if passed[decided[0]] else "fail", int(rounds[decided[0]])


def _likely(ends: Sequence[int], rounds: IntArray) -> int:
    """Rounds in which a check likely ends, as most did before it; all where that saves little.

    What comes after its end does not change how a check ended, and bets on all units cost in proportion to them.
    """
    if len(ends) < _CHECKS_TO_LEARN_FROM:
        return len(rounds)
    likely = int(np.searchsorted(rounds, np.quantile(ends, _LIKELY))) + 1
    return likely if likely < len(rounds) and rounds[likely - 1] < _LIKELY * rounds[-1] else len(rounds)


def _rounds(order: Order) -> IntArray:
    """Units at the end of each round of a check."""
    ends, target = [], first_round([order])
    while target < order.n_units:
        ends.append(order.reach(target))
        target = next_round(target)
    return np.unique(np.array([*(end for end in ends if end), order.n_units], dtype=np.int64))


def _fixed(answers: _Answers, variance: float, shift: float, simulation: Simulation) -> FixedPlan:
    """The test of a fixed sample, by the normal approximation, at the smaller error level."""
    gate, levels = answers.stream.gate, simulation.levels
    bound = bound_of(gate)
    slopes = _slopes(answers.means, gate)
    if gate.on_change:
        spread = variance
        distance = (shift if bound.direction == "at least" else -shift) - bound.value
    else:
        spread = answers.spread()
        distance = _level(answers.means, gate) - bound.value
    # Each role has its own samples; a mean of n samples of a role has the spread over its share of all.
    sizes = [len(own.values) for own in answers.own]
    total = sum(sizes)
    spread *= sum(slope**2 * total / size for slope, size in zip(slopes, sizes, strict=True))
    normal = NormalDist()
    at_level = normal.inv_cdf(1 - min(levels.alpha, levels.beta))
    power = normal.cdf(abs(distance) * math.sqrt(total / max(spread, _LEAST_VARIANCE)) - at_level)
    if abs(distance) < 1e-9:
        return FixedPlan(None, power)
    needed = (at_level + normal.inv_cdf(levels.power)) ** 2 * spread / distance**2
    return FixedPlan(max(1, math.ceil(needed)), power)


def _slopes(means: Sequence[float], gate: Gate) -> FloatArray:
    """Derivatives of what the gate measures by the means."""
    if len(means) == 1:
        return np.ones(1)
    share = gate.gf_beta**2 / (1 + gate.gf_beta**2)
    one, other = (max(mean, 1e-3) for mean in means)
    factor = 1 / (share / other + (1 - share) / one)
    return np.array([(1 - share) * (factor / one) ** 2, share * (factor / other) ** 2])


def _level(means: Sequence[float], gate: Gate) -> float:
    slopes = _slopes(means, gate)
    return float(slopes @ np.array(means))
