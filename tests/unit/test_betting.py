"""Betting against a bound: the same wealth as a naive loop, kept promises under peeking, and a picture in every block."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis import many_bets
from specs_eval.analysis.betting import MAX_STAKE, PRIOR_UNITS, Bets, Units, confidence_bounds, log_wealth, lower_bound
from specs_eval.analysis.bound_tests import Bound
from specs_eval.analysis.drawing import draw
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.analysis.sequential import evidence
from specs_eval.errors import ConfigError

BETS = Bets((0.05, 0.1))


def units_of(values: FloatArray, block: int = 1, weights: FloatArray | None = None) -> Units:
    n = len(values)
    looks = np.unique(np.append(np.arange(block, n + 1, block), n)).astype(np.int64)
    heaviest = 1.0 if weights is None else float(weights.max()) + 0.5
    return Units(values, np.ones(n) if weights is None else weights, -1.0, 1.0, looks, heaviest)


def pairs(generator: np.random.Generator, mean: float, n: int, discordant: float = 0.25) -> FloatArray:
    """Differences of 0/1 scores: +1, -1 or 0."""
    u = generator.random(n)
    return np.where(u < (discordant + mean) / 2, 1.0, np.where(u < discordant, -1.0, 0.0))


def naive_log_wealth(units: Units, mean: float, bets: Bets) -> list[float]:
    """By the definition: one gambler an effect, one value after the other, stakes fixed when a block begins."""
    wealth = [1.0] * len(bets.effects)
    seen: list[tuple[float, float]] = []
    guess = (units.high - units.low) ** 2 / 16 if bets.variance is None else bets.variance
    found, start = [], 0
    for end in units.looks.tolist():
        centre = sum(w * value for w, value in seen) / sum(w for w, _ in seen) if seen else 0.0
        spread = sum((w * (value - centre)) ** 2 for w, value in seen)
        variance = (spread + PRIOR_UNITS * guess) / (len(seen) + PRIOR_UNITS)
        for place in range(start, end):
            for number, effect in enumerate(bets.effects):
                stake = min(effect / (variance + effect**2), MAX_STAKE / (mean - units.low) / units.heaviest)
                wealth[number] *= 1 + stake * units.weights[place] * (units.values[place] - mean)
        seen += zip(units.weights[start:end].tolist(), units.values[start:end].tolist(), strict=True)
        start = end
        found.append(math.log(sum(wealth) / len(wealth)))
    return found


VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=40).map(np.array)


@given(VALUES, st.integers(1, 7), st.floats(-0.9, 0.9), st.data())
def test_wealth_is_that_of_a_naive_loop(values: FloatArray, block: int, mean: float, data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.floats(0.1, 4), min_size=len(values), max_size=len(values))))
    units = units_of(values, block, weights)
    np.testing.assert_allclose(log_wealth(units, mean, BETS), naive_log_wealth(units, mean, BETS), atol=1e-9)


@given(VALUES, st.floats(-0.9, 0.8), st.floats(0.001, 0.1))
def test_wealth_falls_with_the_mean_that_is_tested(values: FloatArray, mean: float, step: float) -> None:
    units = units_of(values)
    assert (log_wealth(units, mean, BETS) >= log_wealth(units, mean + step, BETS) - 1e-12).all()


@given(VALUES)
def test_the_bound_is_where_the_evidence_turns(values: FloatArray) -> None:
    units = units_of(values)
    low = lower_bound(units, BETS, 0.05)
    if low > -1:
        assert log_wealth(units, low - 1e-9, BETS)[-1] >= math.log(20) - 1e-6
    assert log_wealth(units, min(low + 1e-6, 1.0), BETS)[-1] <= math.log(20) + 1e-3
    below, above = confidence_bounds(units, BETS, 0.1)
    assert below == low
    assert below <= above


def test_what_comes_later_changes_no_earlier_wealth() -> None:
    values = pairs(np.random.default_rng(0), 0.0, 100)
    whole, part = units_of(values, 8), units_of(values, 8).first(5)
    np.testing.assert_array_equal(log_wealth(whole, -0.05, BETS)[:5], log_wealth(part, -0.05, BETS))


@pytest.mark.parametrize("mean", [-0.05, 0.05])
def test_a_bound_that_is_exactly_met_is_rarely_decided(mean: float) -> None:
    """The hardest null under continuous peeking: at most alpha, here with room for 400 draws (Binomial 99.9 %)."""
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(400):
        units = units_of(pairs(generator, mean, 400))
        found = evidence(units, Bound(mean), BETS)
        wrong += found.p_pass.min() <= 0.05
    assert wrong <= 35


def test_evidence_is_mirrored_when_up_becomes_down() -> None:
    units = units_of(pairs(np.random.default_rng(1), 0.02, 200), 10)
    up, down = evidence(units, Bound(-0.05), BETS), evidence(units.negated(), Bound(0.05, "at most"), BETS)
    np.testing.assert_allclose(up.p_pass, down.p_pass)
    np.testing.assert_allclose(up.p_fail, down.p_fail)
    assert (np.diff(up.p_pass) <= 0).all()


def test_bounds_that_cannot_be_and_values_outside_are_refused() -> None:
    units = units_of(np.zeros(3))
    with pytest.raises(ConfigError, match="outside of what the mean can be"):
        evidence(units, Bound(1.5), BETS)
    with pytest.raises(ConfigError, match="must lie within"):
        units_of(np.array([2.0]))
    with pytest.raises(ConfigError, match="at least one effect"):
        Bets(())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 5))
def test_a_drawing_is_a_permutation_with_looks_at_the_ends_of_blocks(strata: list[str], block: int, seed: int) -> None:
    drawing = draw(strata, seed, block)
    assert sorted(drawing.order.tolist()) == list(range(len(strata)))
    assert drawing.looks[-1] == len(strata)
    np.testing.assert_array_equal(draw(strata, seed, block).order, drawing.order)


def test_every_block_holds_the_strata_in_proportion() -> None:
    strata = ["a"] * 480 + ["b"] * 320 + ["c"] * 160
    drawing = draw(strata, 3, 12)
    labels = np.array(strata)[drawing.order].reshape(-1, 12)
    for label, share in (("a", 6), ("b", 4), ("c", 2)):
        assert ((labels == label).sum(axis=1) == share).all()


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_stratified_blocks_have_less_spread_than_plain_ones(seed: int) -> None:
    strata = ["a"] * 400 + ["b"] * 400
    values = np.array([0.0] * 400 + [1.0] * 400)
    order: IntArray = draw(strata, seed, 16).order
    assert values[order].reshape(-1, 16).mean(axis=1).std() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("discordant", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("categories", [1, 4])
def test_error_rates_under_peeking(discordant: float, categories: int) -> None:
    """2,000 checks at the bound, whole sets in stratified order: false verdicts either way at most 5 % (within 3 sigma)."""
    generator = np.random.default_rng(11)
    n, wrong = 640, np.zeros(2)
    strata = [f"c{i % categories}" for i in range(n)]
    shift = np.array([0.06 * (i % categories - (categories - 1) / 2) / max(categories - 1, 1) for i in range(n)])
    for number in range(2000):
        u = generator.random(n)
        mean = np.clip(-0.05 + shift, -discordant, discordant)
        values = np.where(u < (discordant + mean) / 2, 1.0, np.where(u < discordant, -1.0, 0.0))
        drawing = draw(strata, number)
        units = Units(values[drawing.order], np.ones(n), -1.0, 1.0, drawing.looks)
        found = evidence(units, Bound(-0.05), BETS)
        wrong += found.p_pass[-1] <= 0.05, found.p_fail[-1] <= 0.05
    assert (wrong / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)).all(), wrong


@given(st.integers(0, 60), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([7, 40, 10**6]))
def test_many_bets_are_those_made_one_by_one(n: int, n_bets: int, seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1, 2, (n_bets, n))
    low, high = np.full(n_bets, -1.0), rng.uniform(2, 3, n_bets)
    looks = np.unique(np.append(rng.integers(1, n + 1, 4), n)) if n else np.zeros(0, np.int64)
    effects, variances = rng.uniform(0.01, 1, (n_bets, 2)), rng.uniform(0.01, 1, n_bets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_bets, "_CHUNK", chunk)
        found = many_bets.log_wealths(values, (low, high), looks, effects, variances)
    assert found.shape == (n_bets, len(looks))
    for row in range(n_bets if n else 0):
        units = Units(values[row], np.ones(n), low[row], high[row], looks)
        alone = log_wealth(units, 0.0, Bets(tuple(effects[row]), variances[row]))
        np.testing.assert_array_equal(found[row], alone)
    if n:
        with pytest.raises(ConfigError, match="within their bounds"):
            many_bets.log_wealths(values + 5, (low, high), looks, effects, variances)
