"""Sequential gates against plain loops: groups, strata, failures, GF, several gates; and their error rates by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import FakeRun, write_run

from specs_eval.analysis.checks.factor_streams import FactorStream
from specs_eval.analysis.checks.measures import Sides
from specs_eval.analysis.checks.sequential import Limits, decide
from specs_eval.analysis.checks.sources import StoredSource
from specs_eval.analysis.checks.streams import GRID, MeanStream, Stream, bets_of
from specs_eval.analysis.checks.units import Order, Shares, order_units, shares_of
from specs_eval.analysis.factor_bets import N_CELLS, PLACE
from specs_eval.analysis.gates import bound_of
from specs_eval.analysis.generalization import generalization_factor
from specs_eval.analysis.samples import FloatArray, Rollouts
from specs_eval.analysis.stored.reading import stored_runs
from specs_eval.analysis.stored.sides import find_side
from specs_eval.errors import ConfigError
from specs_eval.policy import Gate, Policy
from specs_eval.splits import Split

Answers = Mapping[str, Mapping[str, float | None]]
"""Side -> sample id -> value; None: failed."""


@dataclass(frozen=True)
class Question:
    sample_id: str
    group: str | None = None
    category: Mapping[str, str] = field(default_factory=dict)


def shares(answers: Mapping[str, float | None]) -> Shares:
    values = np.array([np.nan if value is None else value for value in answers.values()])
    return shares_of(Rollouts(tuple(answers), tuple(answers), np.arange(len(values)), values), "score")


def reader(*roles: Answers) -> Callable[[str, Split], Shares]:
    return lambda side, split: shares(roles[0 if split.task == "t" else 1][side])


# ---------------------------------------------------------------------------------------------------- naive definitions


def naive_p(
    series: Sequence[Sequence[tuple[float, float]]], setting: tuple[float, ...], effects: Sequence[float]
) -> list[float]:
    """Running p values of a bet that the mean of weight * (value - tested) is above 0: one gambler an effect, one value after
    the other. Blocks of (weight, value); setting: tested, low, heaviest, first guess of the variance."""
    tested, low, heaviest, guess = setting
    wealth, best, found = [1.0] * len(effects), 1.0, []
    seen: list[tuple[float, float]] = []
    for block in series:
        centre = sum(w * v for w, v in seen) / sum(w for w, _ in seen) if seen else 0.0
        variance = (sum((w * (v - centre)) ** 2 for w, v in seen) + 20 * guess) / (len(seen) + 20)
        for w, v in block:
            for number, effect in enumerate(effects):
                stake = min(effect / (variance + effect**2), 0.9 / (heaviest * (tested - low)))
                wealth[number] *= 1 + stake * w * (v - tested)
        seen += block
        best = max(best, sum(wealth) / len(wealth))
        found.append(1 / best)
    return found


def blocks_of(
    order: Order, n_units: int, value_of: Callable[[int, list[list[str]]], tuple[float, ...]]
) -> list[list[tuple[float, ...]]]:
    members = [
        [
            [one for one, u in zip(ids, units, strict=True) if u == unit]
            for ids, units in zip(order.ids, order.units, strict=True)
        ]
        for unit in range(n_units)
    ]
    found, start = [], 0
    for end in [look for look in order.looks.tolist() if look <= n_units]:
        found.append([value_of(unit, members[unit]) for unit in range(start, end)])
        start = end
    return found


def naive_mean_gate(gate: Gate, order: Order, answers: Answers, n_units: int) -> tuple[float, float]:
    """p to pass and to fail of a gate on a mean."""
    mean_size = len(order.ids[0]) / order.n_units
    heaviest = max(sum(1 for u in order.units[0] if u == unit) for unit in range(order.n_units)) / mean_size
    low = -1.0 if gate.on_change else 0.0

    def unit_mean(members: list[str], missing: float) -> float:
        total = 0.0
        for one in members:
            candidate = answers["candidate"][one]
            total += missing if candidate is None else candidate
            if gate.on_change:
                baseline = answers["baseline"][one]
                total -= (1 - missing) if baseline is None else baseline
        return total / len(members)

    bound, bets = bound_of(gate), bets_of(gate)
    guess = (1 - low) ** 2 / 16 if bets.variance is None else bets.variance
    least = blocks_of(order, n_units, lambda _, m: (len(m[0]) / mean_size, unit_mean(m[0], 0.0)))
    most = blocks_of(order, n_units, lambda _, m: (len(m[0]) / mean_size, -unit_mean(m[0], 1.0)))
    above = naive_p(least, (bound.value, low, heaviest, guess), bets.effects)[-1]
    below = naive_p(most, (-bound.value, -1.0, heaviest, guess), bets.effects)[-1]
    return (above, below) if bound.direction == "at least" else (below, above)


# ------------------------------------------------------------------------------------------------------------ the tests

VALUE = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0]))


@st.composite
def benchmarks(draw: st.DrawFn) -> tuple[list[Question], Answers]:
    n = draw(st.integers(9, 60))
    questions = [
        Question(
            f"s{i}",
            f"g{draw(st.integers(0, n // 2))}" if draw(st.booleans()) else None,
            {"kind": draw(st.sampled_from("abc"))},
        )
        for i in range(n)
    ]
    values = {side: {one.sample_id: draw(VALUE) for one in questions} for side in ("candidate", "baseline")}
    return questions, values


@settings(max_examples=40, deadline=None)
@given(
    benchmarks(),
    st.sampled_from(["max_drop", "max_rise", "min_gain", "min", "max"]),
    st.floats(0.01, 0.6),
    st.integers(0, 3),
)
def test_a_gate_on_a_mean_is_that_of_a_naive_loop(
    benchmark: tuple[list[Question], Answers], kind: str, bound: float, seed: int
) -> None:
    questions, answers = benchmark
    gate = Gate(metric="score", task="t", **{kind: bound})  # type: ignore[arg-type]
    sides = ("candidate", "baseline") if gate.on_change else ("candidate",)
    order = order_units([questions], seed)
    stream = MeanStream(gate, order, (Split("t"),), sides)
    for n_units in {int(order.looks[0]), int(order.looks[len(order.looks) // 2]), order.n_units}:
        found = stream.evidence(reader(answers), n_units).last
        assert found == pytest.approx(naive_mean_gate(gate, order, answers, n_units), rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), min_size=1, max_size=50), st.integers(0, 3))
def test_groups_stay_together_and_order_does_not_hang_on_the_listing(rows: list[tuple[int, str]], seed: int) -> None:
    questions = [Question(f"s{i}", f"g{group}", {"kind": kind}) for i, (group, kind) in enumerate(rows)]
    order = order_units([questions], seed)
    assert sorted(order.ids[0]) == sorted(one.sample_id for one in questions)
    group_of = {one.sample_id: one.group for one in questions}
    for unit in range(order.n_units):
        assert len({group_of[one] for one, u in zip(order.ids[0], order.units[0], strict=True) if u == unit}) == 1
    again = order_units([questions[::-1]], seed)
    assert again.ids == order.ids and again.n_units == len({row[0] for row in rows})


def test_a_part_asks_for_much_the_same_samples_as_the_whole() -> None:
    questions = [Question(f"s{i}", None, {"kind": "abcd"[i % 4]}) for i in range(800)]
    whole, part = (
        order_units([questions], 0),
        order_units([[one for one in questions if one.category["kind"] == "a"]], 0),
    )
    first = set(whole.samples(0, 400))
    common = len(first.intersection(part.samples(0, 96)))
    assert common > 75, "half of the whole holds most of the first half of the part (48 by chance)"


Row = tuple[float, float, float, float]
"""Samples in ID and OOD over their means, and the sums of the values over the same."""


def factor_rows(order: Order, values: tuple[Mapping[str, float], Mapping[str, float]]) -> list[list[Row]]:
    """Blocks of units."""
    means = [len(ids) / order.n_units for ids in order.ids]

    def row(_: int, members: list[list[str]]) -> Row:
        sizes = [len(members[role]) / means[role] for role in (0, 1)]
        sums = [sum(values[role][one] for one in members[role]) / means[role] for role in (0, 1)]
        return sizes[0], sizes[1], sums[0], sums[1]

    return blocks_of(order, order.n_units, row)  # type: ignore[arg-type, return-value]


def naive_linear(
    rows: list[list[Row]],
    floor: float,
    slopes: tuple[float, float],
    centres: tuple[float, float],
    effects: Sequence[float],
) -> list[float]:
    """Wealth after each block of a bet that slopes . means exceed the sum of the centres."""
    flat = [row for block in rows for row in block]
    low = min(sum(min(slopes[r] * floor, slopes[r]) * row[r] - centres[r] * row[r] for r in (0, 1)) for row in flat)
    guess = 0.15 * sum(slopes[r] ** 2 * sum(row[r] ** 2 for row in flat) / len(flat) for r in (0, 1)) + 1e-12
    values = [[sum(slopes[r] * row[2 + r] - centres[r] * row[r] for r in (0, 1)) for row in block] for block in rows]
    return wealth_of(values, low - 1e-9, guess, effects)


def naive_above(rows: list[list[Row]], bound: float, beta: float, effects: Sequence[float]) -> list[float]:
    """Wealth against "GF is at most the bound": the least over u."""
    s = beta**2 / (1 + beta**2)
    hard = bound + (1 / s + 1 / (1 - s)) / (4 * N_CELLS**2)
    paths = []
    for k in range(N_CELLS + 1):
        u = k / N_CELLS
        slopes = u**2 / (1 - s), (1 - u) ** 2 / s
        further = bound * (sum(slopes) - 1) / 2
        paths.append(naive_linear(rows, 0.0, slopes, (hard * u, hard * (1 - u)), [e + further for e in effects]))
    return [min(path[look] for path in paths) for look in range(len(rows))]


def naive_below(rows: list[list[Row]], bound: float, beta: float, effects: Sequence[float]) -> list[float]:
    """Wealth against "GF is at least the bound": one tangent a block, by the means before it."""
    s = beta**2 / (1 + beta**2)
    flat = [row for block in rows for row in block]
    ends = min(bound * (1 - s), 1.0), max(1 - bound * s, 0.0)
    values, seen = [], []  # type: ignore[var-annotated]
    for block in rows:
        x, y = (max((sum(row[2 + r] for row in seen) + 20 * bound) / (len(seen) + 20), 1e-9) for r in (0, 1))
        u = (y / s) / (x / (1 - s) + y / s)
        u = min(max(u, min(ends)), max(ends))
        slopes = u**2 / (1 - s), (1 - u) ** 2 / s
        centres = bound * u, bound * (1 - u)
        values.append([sum(centres[r] * row[r] - slopes[r] * row[2 + r] for r in (0, 1)) for row in block])
        seen += block
    at_ends = [((u**2 / (1 - s), (1 - u) ** 2 / s), (bound * u, bound * (1 - u))) for u in ends]
    low = min(sum(min(c[r], c[r] - g[r]) * row[r] for r in (0, 1)) for g, c in at_ends for row in flat)
    mean = [sum(g[r] for g, _ in at_ends) / 2 for r in (0, 1)]
    guess = 0.15 * sum(mean[r] ** 2 * sum(row[r] ** 2 for row in flat) / len(flat) for r in (0, 1)) + 1e-12
    return wealth_of(values, low - 1e-9, guess, effects)


def naive_change(
    pair: tuple[list[list[Row]], list[list[Row]]],
    change: list[list[Row]],
    bound: float,
    beta: float,
    effects: Sequence[float],
) -> list[float]:
    """Wealth against "GF of the second is at most GF of the first plus the bound", for scores."""
    s = beta**2 / (1 + beta**2)
    n_looks, scales = len(change), (1 / (1 - s), 1 / s)

    def place(k: int, side: int) -> list[float]:
        u = k / N_CELLS
        slopes = side * u * scales[0], -side * (1 - u) * scales[1]
        one, other = (naive_linear(rows, 0.0, slopes, (0.0, 0.0), (0.1, 0.4)) for rows in pair)
        return [min(a, b) for a, b in zip(one, other, strict=True)]

    hard = bound + (scales[0] + scales[1]) / (4 * N_CELLS**2)
    lowest = [math.inf] * n_looks
    for k in range(N_CELLS + 1):
        u = k / N_CELLS
        mine = naive_linear(
            change, -1.0, (u**2 * scales[0], (1 - u) ** 2 * scales[1]), (hard * u, hard * (1 - u)), effects
        )
        left = place(k - 1, 1) if k else [0.0] * n_looks
        right = place(k + 1, -1) if k < N_CELLS else [0.0] * n_looks
        for look in range(n_looks):
            mixed = (1 - PLACE) * mine[look] + PLACE * (left[look] + right[look]) / 2
            lowest[look] = min(lowest[look], mixed)
    return lowest


def as_p(wealth: list[float]) -> float:
    return 1 / max(1.0, *wealth)


def wealth_of(values: list[list[float]], low: float, guess: float, effects: Sequence[float]) -> list[float]:
    """Wealth, not its running best, after each block."""
    wealth, found, seen = [1.0] * len(effects), [], []  # type: ignore[var-annotated]
    for block in values:
        centre = sum(seen) / len(seen) if seen else 0.0
        variance = (sum((v - centre) ** 2 for v in seen) + 20 * guess) / (len(seen) + 20)
        for v in block:
            for number, effect in enumerate(effects):
                wealth[number] *= 1 + min(effect / (variance + effect**2), 0.9 / -low) * v
        seen += block
        found.append(sum(wealth) / len(wealth))
    return found


def factor_questions(n: int, shared: bool) -> tuple[list[Question], list[Question]]:
    first = [Question(f"a{i}", f"g{i // 2}") for i in range(n)]
    second = [Question(f"b{i}", f"g{i // 3}" if shared else f"h{i // 3}") for i in range(n + 5)]
    return first, second


@settings(max_examples=8, deadline=None)
@given(st.booleans(), st.floats(0.2, 0.9), st.floats(0.5, 3), st.integers(0, 99))
def test_gates_on_gf_are_those_of_naive_loops(shared: bool, bound: float, beta: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = factor_questions(20, shared)
    answers = {
        side: tuple({one.sample_id: float(generator.random() < 0.8) for one in part} for part in parts)
        for side in ("candidate", "baseline")
    }
    order = order_units(parts, seed)
    read = reader(*({side: roles[role] for side, roles in answers.items()} for role in (0, 1)))
    splits = Split("t"), Split("u")
    candidate, baseline = (factor_rows(order, answers[side]) for side in ("candidate", "baseline"))  # type: ignore[arg-type]

    level = FactorStream(
        Gate(metric="gf", id="t", ood="u", min=bound, gf_beta=beta), order, splits, ("candidate",)
    ).evidence(read, order.n_units)
    assert level.last[0] == pytest.approx(as_p(naive_above(candidate, bound, beta, GRID)), rel=1e-6)
    assert level.last[1] == pytest.approx(as_p(naive_below(candidate, bound, beta, GRID)), rel=1e-6)

    drop = bound / 5
    moved = FactorStream(
        Gate(metric="gf", id="t", ood="u", max_drop=drop, gf_beta=beta), order, splits, ("candidate", "baseline")
    ).evidence(read, order.n_units)
    effects = 1.2 * drop, 2 * drop
    up, down = (
        [
            [(*a[:2], sign * (a[2] - b[2]), sign * (a[3] - b[3])) for a, b in zip(one, other, strict=True)]
            for one, other in zip(candidate, baseline, strict=True)
        ]
        for sign in (1, -1)
    )
    above = naive_change((baseline, candidate), up, -drop, beta, effects)
    below = naive_change((candidate, baseline), down, drop, beta, effects)
    assert moved.last == pytest.approx((as_p(above), as_p(below)), rel=1e-6)


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(0.3, 4))
def test_gf_is_the_least_of_linear_functions(x: float, y: float, beta: float) -> None:
    s = beta**2 / (1 + beta**2)
    u = np.linspace(0, 1, 20001)
    least = float((u**2 * x / (1 - s) + (1 - u) ** 2 * y / s).min())
    assert least == pytest.approx(generalization_factor(x, y, beta), rel=1e-5)
    coarse = np.linspace(0, 1, N_CELLS + 1)
    on_grid = float((coarse**2 * x / (1 - s) + (1 - coarse) ** 2 * y / s).min())
    exact = generalization_factor(x, y, beta)
    assert -1e-12 <= on_grid - exact <= (1 / s + 1 / (1 - s)) / (4 * N_CELLS**2) + 1e-12, (
        "what the harder bound pays for"
    )
    assert 0 < PLACE < 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.sampled_from([0.0, -0.2, -0.05]))
def test_the_whole_decision_is_that_of_a_naive_loop(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shift: float
) -> None:
    """Rounds, Holm over the gates at each, what was decided stays; groups, strata and failures in a real store."""
    generator = np.random.default_rng(seed)
    n, store = 240, tmp_path_factory.mktemp("store") / "runs"
    groups = [f"g{i // 2}" if i % 3 else None for i in range(n)]
    categories = [{"kind": "ab"[i % 2]} for i in range(n)]
    scores = {}
    for name, chance in (("dpo/checkpoint-1", 0.6), ("dpo/checkpoint-2", 0.6 + shift)):
        values = (generator.random((n, 1)) < chance).astype(float)
        values[generator.random((n, 1)) < 0.03] = np.nan
        scores[name] = values
        write_run(store, FakeRun("t", values, name, groups=groups, categories=categories))
    gates = (
        Gate(metric="score", task="t", max_drop=0.08),
        Gate(metric="score", task="t", min=0.45),
        Gate(metric="score", task="t[kind=a]", max_drop=0.2),
    )
    policy = Policy(gates=gates, seed=seed % 7)
    runs = stored_runs(store)
    source = StoredSource(Sides(find_side(runs, "dpo/1"), find_side(runs, "dpo/2"), tuple(runs)))
    found = decide(policy, source, Limits(), 100)

    ids = [f"s{i:04d}" for i in range(n)]
    answers = {
        side: {one: None if np.isnan(v) else float(v) for one, v in zip(ids, scores[name][:, 0], strict=True)}
        for side, name in (("baseline", "dpo/checkpoint-1"), ("candidate", "dpo/checkpoint-2"))
    }
    questions = [Question(one, group, category) for one, group, category in zip(ids, groups, categories, strict=True)]
    parts = [questions, questions, [one for one in questions if one.category["kind"] == "a"]]
    orders = [order_units([part], policy.seed) for part in parts]
    words, at, p = ["undecided"] * 3, [0] * 3, [(1.0, 1.0)] * 3
    smallest = min(len(part) / order.n_units for part, order in zip(parts, orders, strict=True))
    target = 8 * max(math.ceil(32 / (8 * smallest)), 1)
    while any(word == "undecided" and at[i] < orders[i].n_units for i, word in enumerate(words)):
        for i, gate in enumerate(gates):
            if words[i] == "undecided":
                at[i] = max([look for look in orders[i].looks.tolist() if look <= target], default=0)
                if at[i]:
                    p[i] = naive_mean_gate(gate, orders[i], answers, at[i])
        ranked = sorted(range(3), key=lambda i: p[i][1])
        adjusted, largest = [1.0] * 3, 0.0
        for rank, i in enumerate(ranked):
            largest = max(largest, min((3 - rank) * p[i][1], 1.0))
            adjusted[i] = largest
        for i in range(3):
            if words[i] == "undecided":
                passes, fails = p[i][0] <= 0.05, adjusted[i] <= 0.05
                words[i] = (
                    "pass" if passes and (not fails or p[i][0] <= adjusted[i]) else "fail" if fails else "undecided"
                )
        grown = max(int(target * 1.1), target + 8)
        target = grown - grown % 8
    assert [one.outcome for one in found.verdicts] == words
    for one, expected in zip(found.verdicts, p, strict=True):
        assert (one.p_pass, one.p_fail) == pytest.approx(expected, rel=1e-6)
    assert [one.n_used for one in found.verdicts] == [
        sum(
            all(
                answers[side][s] is not None
                for side in (("candidate", "baseline") if gate.on_change else ("candidate",))
            )
            for s in order.samples(0, n_units)
        )
        for gate, order, n_units in zip(gates, orders, at, strict=True)
    ]


def test_what_leaves_0_to_1_cannot_be_bet_on() -> None:
    with pytest.raises(ConfigError, match="leaves 0 to 1"):
        shares({"a": 2.0})


# ---------------------------------------------------------------------------------------------------------- error rates

N_CHECKS = 2000
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / N_CHECKS)


def error_rates(
    stream: Stream, simulate: Callable[[np.random.Generator], Callable[[str, Split], Shares]], seed: int = 5
) -> FloatArray:
    """Shares of checks that ever pass, and that ever fail, looked at after every block."""
    generator, wrong = np.random.default_rng(seed), np.zeros(2)
    for _ in range(N_CHECKS):
        found = stream.evidence(simulate(generator), stream.order.n_units)
        wrong += found.p_pass[-1] <= 0.05, found.p_fail[-1] <= 0.05
    return wrong / N_CHECKS


def as_shares(ids: Sequence[str], values: FloatArray) -> Shares:
    return shares(dict(zip(ids, [None if np.isnan(v) else float(v) for v in values], strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["none", "at random", "where right", "where wrong"])
def test_error_rates_with_clusters_strata_and_failures(failing: str) -> None:
    """Groups of 1 to 6 that share their luck, large groups with other means than small ones, the truth exactly at the bound."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 7, 250)
    questions = [
        Question(f"s{g}-{i}", f"g{g}", {"kind": "ab"[g % 2]}) for g, size in enumerate(sizes) for i in range(size)
    ]
    order = order_units([questions], 0)
    ids = order.ids[0]
    group = np.array([int(one[1:].split("-")[0]) for one in ids])
    tilt = 0.06 * (sizes[group] - np.average(sizes, weights=sizes)) / 6 + 0.05 * (
        group % 2 - np.average(np.arange(250) % 2, weights=sizes)
    )
    gate = Gate(metric="score", task="t", max_drop=0.05)
    stream = MeanStream(gate, order, (Split("t"),), ("candidate", "baseline"))

    def simulate(generator: np.random.Generator) -> Callable[[str, Split], Shares]:
        luck = generator.random(250)[group]
        own = generator.random(len(ids))
        level = np.where(generator.random(250)[group] < 0.5, luck, own)
        up, down = 0.10 + (tilt - 0.05) / 2, 0.10 - (tilt - 0.05) / 2
        difference = np.where(level < up, 1.0, np.where(level < up + down, -1.0, 0.0))
        baseline = np.where(difference > 0, 0.0, np.where(difference < 0, 1.0, (generator.random(len(ids)) < 0.6)))
        candidate = baseline + difference
        fails = {
            "none": np.zeros(len(ids), dtype=bool),
            "at random": np.ones(len(ids), dtype=bool),
            "where right": candidate == 1,
            "where wrong": candidate == 0,
        }[failing] & (generator.random(len(ids)) < 0.03)
        found = {"candidate": as_shares(ids, np.where(fails, np.nan, candidate)), "baseline": as_shares(ids, baseline)}
        return lambda side, split: found[side]

    rates = error_rates(stream, simulate)
    print(f"failing {failing}: false pass {rates[0]:.4f}, false fail {rates[1]:.4f}")
    assert (rates <= ALLOWED).all(), rates


@pytest.mark.slow
@pytest.mark.parametrize("means", [(0.8, 0.6), (0.95, 0.3), (0.4, 0.7)])
@pytest.mark.parametrize("shared", [True, False])
def test_error_rates_of_gf_at_its_bound(means: tuple[float, float], shared: bool) -> None:
    parts = factor_questions(150, shared)
    order = order_units(parts, 0)
    bound = generalization_factor(*means)
    gate = Gate(metric="gf", id="t", ood="u", min=bound)
    stream = FactorStream(gate, order, (Split("t"), Split("u")), ("candidate",))

    def simulate(generator: np.random.Generator) -> Callable[[str, Split], Shares]:
        luck = {name: generator.random() for name in {one.group for part in parts for one in part}}
        group = [{one.sample_id: one.group for one in part} for part in parts]
        found = [
            as_shares(
                ids,
                np.array(
                    [
                        float(
                            (luck[group[role][one]] if generator.random() < 0.5 else generator.random()) < means[role]
                        )
                        for one in ids
                    ]
                ),
            )
            for role, ids in enumerate(order.ids)
        ]
        return lambda side, split: found[0 if split.task == "t" else 1]

    rates = error_rates(stream, simulate)
    print(f"GF {bound:.3f} of {means}, shared {shared}: false pass {rates[0]:.4f}, false fail {rates[1]:.4f}")
    assert (rates <= ALLOWED).all(), rates


@pytest.mark.slow
@pytest.mark.parametrize("after", [(0.8, 0.45), (0.5, 0.6), (0.65, 0.52)])
def test_error_rates_of_a_change_of_gf(after: tuple[float, float]) -> None:
    before = (0.8, 0.6)
    change = generalization_factor(*after) - generalization_factor(*before)
    questions = [Question(f"a{i}", f"g{i}") for i in range(200)], [Question(f"b{i}", f"g{i}") for i in range(200)]
    order = order_units(questions, 0)
    gate = Gate(metric="gf", id="t", ood="u", max_drop=-change)
    stream = FactorStream(gate, order, (Split("t"), Split("u")), ("candidate", "baseline"))

    def simulate(generator: np.random.Generator) -> Callable[[str, Split], Shares]:
        found = {}
        for role, ids in enumerate(order.ids):
            luck = generator.random(len(ids))
            again = np.where(generator.random(len(ids)) < 0.3, generator.random(len(ids)), luck)
            found["baseline", role] = as_shares(ids, (luck < before[role]).astype(float))
            found["candidate", role] = as_shares(ids, (again < after[role]).astype(float))
        return lambda side, split: found[side, 0 if split.task == "t" else 1]

    rates = error_rates(stream, simulate)
    print(f"GF {before} -> {after}: false pass {rates[0]:.4f}, false fail {rates[1]:.4f}")
    assert (rates <= ALLOWED).all(), rates


def test_the_store_is_read_as_written(tmp_path: Path) -> None:
    run = write_run(tmp_path, FakeRun("t", np.array([[1.0, np.nan], [np.nan, np.nan]]), groups=["g", "g"]))
    from specs_eval.analysis.stored.reading import read_metric

    found = shares_of(read_metric(run, "score"), "score").pick(["s0000", "s0001", "never"])
    np.testing.assert_array_equal(found.least, [0.5, 0.0, 0.0])
    np.testing.assert_array_equal(found.most, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(found.values, [1.0, np.nan, np.nan])
    assert found.n_unscored.tolist() == [1, 2, 1]
