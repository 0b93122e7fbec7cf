"""Tests of bounds: one with the intervals shown beside them, exact where a closed form exists, honest at the bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from specs_eval.analysis.bound_tests import (
    Bound,
    BoundTest,
    ErrorLevels,
    counted,
    difference_test,
    draws_test,
    samples_for,
    share_test,
)
from specs_eval.analysis.gate_measures import sample_measure
from specs_eval.analysis.gates import Measured, bound_of, outcome_of, rule_in_words, verdicts
from specs_eval.analysis.pairs import PairedValues, Spread, pair_samples
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import FloatArray, Rollouts, SampleValues
from specs_eval.analysis.statistics import Estimate, t_quantile, t_tail
from specs_eval.errors import ComparisonError
from specs_eval.policy import Gate, Policy
from specs_eval.verdicts import exit_code

LEVELS = ErrorLevels()


def pairs_of(baseline: FloatArray, candidate: FloatArray, cluster_size: int = 1) -> PairedValues:
    n = len(baseline)
    ids = tuple(f"s{i}" for i in range(n))
    clusters = tuple(f"c{i // cluster_size}" for i in range(n))
    return PairedValues(ids, clusters, baseline, candidate, np.zeros((2, n), dtype=np.int64))


def samples_of(values: FloatArray) -> SampleValues:
    ids = tuple(f"s{i}" for i in range(len(values)))
    return SampleValues(ids, ids, values, len(values), 0)


BITS = st.lists(st.integers(0, 1), min_size=5, max_size=60).map(lambda bits: np.array(bits, dtype=float))


@given(st.integers(1, 400), st.floats(-8, 8))
def test_the_tail_of_t_is_that_of_scipy(df: int, statistic: float) -> None:
    assert t_tail(statistic, df) == pytest.approx(stats.t.sf(statistic, df), abs=2e-5)


@given(st.integers(1, 300), st.floats(0.5, 0.999))
def test_the_tail_of_t_inverts_its_quantile(df: int, share: float) -> None:
    assert t_tail(t_quantile(share, df), df) == pytest.approx(1 - share, abs=1e-4)


@given(BITS, st.data(), st.floats(-0.6, 0.6))
def test_verdicts_on_differences_never_contradict_the_interval(
    baseline: FloatArray, data: st.DataObject, bound: float
) -> None:
    candidate = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(baseline), max_size=len(baseline)))) * 1.0
    found = difference_test(pairs_of(baseline, candidate, data.draw(st.integers(1, 3))), Bound(bound), LEVELS)
    assume(found.estimate.interval is not None)
    assert found.estimate.interval is not None
    if abs(bound - found.estimate.interval.low) > 1e-6:
        assert (found.p_pass < 0.05) == (bound < found.estimate.interval.low)
    if abs(bound - found.estimate.interval.high) > 1e-6:
        assert (found.p_fail < 0.05) == (bound > found.estimate.interval.high)


@given(BITS, st.floats(0.01, 0.99))
def test_verdicts_on_shares_never_contradict_the_interval(values: FloatArray, bound: float) -> None:
    found = share_test(samples_of(values), Bound(bound), LEVELS)
    assert found.estimate.interval is not None
    if 0 < values.mean() < 1:
        # At the ends the interval shown is never beyond the estimate itself, so only there the two may differ.
        if abs(bound - found.estimate.interval.low) > 1e-6:
            assert (found.p_pass < 0.05) == (bound < found.estimate.interval.low)
        if abs(bound - found.estimate.interval.high) > 1e-6:
            assert (found.p_fail < 0.05) == (bound > found.estimate.interval.high)


@given(BITS, st.data(), st.floats(-0.5, 0.5))
def test_at_most_mirrors_at_least(values: FloatArray, data: st.DataObject, bound: float) -> None:
    other = np.array(data.draw(st.permutations(values.tolist())))
    up = difference_test(pairs_of(values, other), Bound(bound), LEVELS)
    down = difference_test(pairs_of(other, values), Bound(-bound, "at most"), LEVELS)
    assert up.p_pass == pytest.approx(down.p_pass, abs=1e-9)
    assert up.p_fail == pytest.approx(down.p_fail, abs=1e-9)


def test_identical_runs_pass_only_when_there_are_enough_samples() -> None:
    """All differences are 0: that is no proof for 20 samples, and is for 400."""
    few, many = np.ones(20), np.ones(400)
    bound = Bound(-0.02)
    assert difference_test(pairs_of(few, few), bound, LEVELS).p_pass > 0.05
    assert difference_test(pairs_of(many, many), bound, LEVELS).p_pass < 0.05


def test_unbounded_metrics_use_students_t() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(5, 1, 50), generator.normal(5.5, 1, 50)
    found = difference_test(pairs_of(one, other), Bound(0.2), LEVELS)
    expected = stats.ttest_1samp(other - one, 0.2, alternative="greater").pvalue
    assert found.p_pass == pytest.approx(expected, abs=1e-6)


def test_planned_samples_follow_the_textbook_formula() -> None:
    spread = Spread(0.0, 0.25, math.sqrt(0.25 / 500), 500, 500, bounded=True)
    assert samples_for(spread, 0.05, LEVELS) == 857
    assert samples_for(spread, 0.0, LEVELS) is None


def test_draws_count_what_lies_on_the_other_side() -> None:
    draws = np.linspace(0, 1, 999)
    found = draws_test(Estimate(0.5, None, None, 10, 10), draws, Bound(0.25), Resampling())
    assert found.p_pass == pytest.approx((1 + (draws <= 0.25).sum()) / 1000)
    assert found.p_fail == pytest.approx((1 + (draws >= 0.25).sum()) / 1000)


def test_what_is_counted_is_certain() -> None:
    assert counted(0.0, Bound(0.0, "at most"), 10).p_pass == 0.0
    assert counted(0.1, Bound(0.0, "at most"), 10).p_fail == 0.0
    assert counted(None, Bound(0.0, "at most"), 0).p_pass == 1.0


def rollouts_of(values: FloatArray, answers: list[list[int]] | None = None) -> Rollouts:
    n, k = values.shape
    ids = tuple(f"s{i}" for i in range(n))
    codes = None if answers is None else np.array(answers).ravel()
    return Rollouts(ids, ids, np.repeat(np.arange(n), k), values.ravel(), codes, answer_texts=("a", "b", "c"))


def test_derived_metrics_are_values_by_sample() -> None:
    values = np.array([[1, 0, 0, 0], [1, 1, np.nan, 0], [0, 0, 0, 0]], dtype=float)
    rollouts = rollouts_of(values, [[0, 1, 1, 1], [0, 0, -1, 1], [1, 1, 1, 1]])
    assert sample_measure(rollouts, "unscored").values.tolist() == [0, 0.25, 0]
    np.testing.assert_allclose(sample_measure(rollouts, "pass@2").values, [0.5, 1.0, 0.0])
    np.testing.assert_allclose(sample_measure(rollouts, "unsolvable@4").values, [0.0, np.nan, 1.0])
    np.testing.assert_allclose(sample_measure(rollouts, "maj@4").values, [0.0, np.nan, 0.0])
    np.testing.assert_allclose(sample_measure(rollouts, "wrong_mode").values, [0.0, 0.0, 1.0])
    with pytest.raises(ComparisonError, match="pass@8 needs 8 scored rollouts"):
        sample_measure(rollouts, "pass@8")
    with pytest.raises(ComparisonError, match="maj@2 needs answers"):
        sample_measure(rollouts_of(values), "maj@2")
    pairs = pair_samples(sample_measure(rollouts, "pass@2"), sample_measure(rollouts, "pass@2"))
    assert pairs.differences()[0].tolist() == [0, 0, 0]


def gate(**keys: object) -> Gate:
    return Gate.model_validate({"metric": "score", "task": "t", **keys})


def test_bounds_and_rules_of_gates() -> None:
    assert bound_of(gate(max_drop=0.01)) == Bound(-0.01)
    assert bound_of(gate(max_rise=0.01)) == Bound(0.01, "at most")
    assert bound_of(gate(min_gain=-0.02)) == Bound(-0.02)
    assert rule_in_words(gate(max_drop=0.01)) == "may drop by at most 1 points"
    assert rule_in_words(gate(min=0.6)) == "must be at least 60 %"
    assert rule_in_words(gate(metric="rbf", max_rise=0.5), unit_is_share=False) == "may rise by at most 0.5"


def measured(name: str, p_pass: float, p_fail: float) -> Measured:
    test = BoundTest(Estimate(0.0, 0.1, None, 5, 5), p_pass, p_fail, "test")
    return Measured(gate(name=name, max_drop=0.01), test, "score of t", 5)


def test_passing_needs_no_correction_and_failing_is_corrected_over_the_gates() -> None:
    policy = Policy(gates=(gate(max_drop=0.01),))
    found = verdicts([measured("a", 0.04, 0.9), measured("b", 0.9, 0.03), measured("c", 0.3, 0.3)], policy)
    assert [one.outcome for one in found] == ["pass", "undecided", "undecided"]
    assert found[1].p_fail_adjusted == pytest.approx(0.09)
    assert verdicts([measured("a", 0.04, 0.9), measured("b", 0.9, 0.01)], policy)[1].outcome == "fail"
    assert outcome_of(0.01, 0.02, policy) == "pass"
    assert exit_code(found, "fail") == 3
    assert exit_code(found, "warn") == 0
    assert exit_code(verdicts([measured("b", 0.9, 0.0)], policy), "pass") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("n", "cluster_size"), [(200, 1), (600, 1), (600, 6)])
@pytest.mark.parametrize("discordant", [0.1, 0.3])
def test_error_rates_at_the_bound(n: int, cluster_size: int, discordant: float) -> None:
    """2,000 candidates exactly at the bound: passed or failed by mistake at most 5 % each (within 3 sigma)."""
    generator = np.random.default_rng(5)
    wrong = np.zeros(2)
    for _ in range(2000):
        u = np.repeat(generator.random(n // cluster_size), cluster_size)
        noise = generator.random(n)
        mixed = np.where(generator.random(n) < 0.5, u, noise)
        difference = np.where(mixed < (discordant - 0.05) / 2, 1.0, np.where(mixed < discordant, -1.0, 0.0))
        baseline = np.where(difference > 0, 0.0, np.where(difference < 0, 1.0, noise > 0.5))
        found = difference_test(pairs_of(baseline, baseline + difference, cluster_size), Bound(-0.05), LEVELS)
        wrong += found.p_pass <= 0.05, found.p_fail <= 0.05
    assert (wrong / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)).all(), wrong / 2000
