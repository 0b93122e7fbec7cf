"""McNemar, sign flips and Holm, each against its definition written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specs_eval.analysis import paired_tests
from specs_eval.analysis.multiplicity import holm
from specs_eval.analysis.paired_tests import mcnemar_test, paired_test, sign_flip_test
from specs_eval.errors import ConfigError

thirds = st.integers(-3, 3).map(lambda count: count / 3)
p_lists = st.lists(st.floats(1e-12, 1, allow_nan=False), min_size=1, max_size=12)


def naive_mcnemar(n_gained: int, n_lost: int) -> float:
    """Both tails of a fair coin by whole numbers."""
    n = n_gained + n_lost
    tail = sum(math.comb(n, heads) for heads in range(min(n_gained, n_lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def naive_sign_flips(differences: list[float], clusters: list[int]) -> float:
    """Every way to swap the runs in whole clusters, in fractions of thirds."""
    names = sorted(set(clusters))
    counts = [round(3 * value) for value in differences]
    totals = [sum(c for c, cluster in zip(counts, clusters, strict=True) if cluster == name) for name in names]
    sums = [
        abs(sum(sign * total for sign, total in zip(signs, totals, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(names))
    ]
    return sum(one >= abs(sum(totals)) for one in sums) / len(sums)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_smaller_binomial_tail(n_gained: int, n_lost: int) -> None:
    found = mcnemar_test(n_gained, n_lost)
    assert found.p == pytest.approx(naive_mcnemar(n_gained, n_lost), rel=1e-10)
    assert found.method == "exact McNemar" and found.n_units == n_gained + n_lost and found.n_draws is None


@pytest.mark.parametrize(("n_gained", "n_lost"), [(400, 500), (10_000, 10_300), (3, 4_000), (50_000, 51_000)])
def test_mcnemar_of_many_flips_is_scipys_binomial_test(n_gained: int, n_lost: int) -> None:
    expected = stats.binomtest(n_gained, n_gained + n_lost).pvalue
    assert mcnemar_test(n_gained, n_lost).p == pytest.approx(max(expected, np.finfo(float).tiny), rel=1e-7)


def test_no_p_value_is_0_and_no_flip_is_no_evidence() -> None:
    assert mcnemar_test(0, 0).p == 1 and mcnemar_test(0, 5_000).p > 0
    assert sign_flip_test(np.zeros(5), np.arange(5)).p == 1
    assert sign_flip_test(np.ones(500), np.arange(500), n_draws=100).p == 1 / 101


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(thirds, st.integers(0, 5)), min_size=1, max_size=9))
def test_counted_sign_flips_are_all_swaps_of_whole_clusters(rows: list[tuple[float, int]]) -> None:
    differences, clusters = [d for d, _ in rows], [c for _, c in rows]
    found = sign_flip_test(np.array(differences), np.array(clusters))
    assert found.method == "sign flips, all" and found.seed is None
    assert found.p == pytest.approx(naive_sign_flips(differences, clusters), abs=1e-12)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 5))
def test_sign_flips_of_yes_no_pairs_are_mcnemar(n_gained: int, n_lost: int, n_same: int) -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [n_gained, n_lost, n_same])
    clusters = np.arange(len(differences))
    if not len(differences):
        return
    flips = sign_flip_test(differences, clusters)
    assert flips.p == pytest.approx(mcnemar_test(n_gained, n_lost).p, rel=1e-9)
    assert paired_test(differences, clusters).method == "exact McNemar"


def test_graded_or_grouped_pairs_are_flipped() -> None:
    yes_no = np.array([1.0, 1.0, -1.0, 0.0])
    assert paired_test(yes_no, np.array([0, 0, 1, 2])).method == "sign flips, all"
    assert paired_test(yes_no / 2, np.arange(4)).method == "sign flips, all"
    # Two clusters of ten that agree are two observations, not twenty.
    grouped = sign_flip_test(np.ones(20), np.repeat([0, 1], 10))
    assert (grouped.p, grouped.n_units) == (0.5, 2)


def test_drawn_sign_flips_agree_with_the_counted_ones_and_with_t() -> None:
    generator = np.random.default_rng(3)
    differences = generator.normal(0.35, 1, 20)
    counted = sign_flip_test(differences, np.arange(20))
    # Twelve more pairs than can be counted, so small that they change no sum: the same distribution, drawn.
    more = np.concatenate([differences, np.full(12, 1e-5)])
    drawn = sign_flip_test(more, np.arange(32), n_draws=40_000, seed=1)
    assert drawn.method == "sign flips, drawn" and drawn.n_draws == 40_000 and drawn.seed == 1
    four_errors = 4 * math.sqrt(counted.p * (1 - counted.p) / 40_000)
    assert drawn.p == pytest.approx(counted.p, abs=four_errors + 1e-3)
    many = generator.normal(0.1, 1, 400)
    by_t = stats.ttest_1samp(many, 0).pvalue
    assert sign_flip_test(many, np.arange(400), n_draws=40_000).p == pytest.approx(by_t, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(thirds, st.integers(0, 60)), min_size=1, max_size=80))
def test_order_and_swapping_the_runs_change_no_p(rows: list[tuple[float, int]]) -> None:
    differences, clusters = np.array([d for d, _ in rows]), np.array([c for _, c in rows])
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    p = paired_test(differences, clusters, n_draws=200, seed=4).p
    assert 0 < p <= 1
    assert paired_test(-differences, clusters, n_draws=200, seed=4).p == p
    assert paired_test(differences[order], clusters[order], n_draws=200, seed=4).p == p
    assert paired_test(differences, 60 - clusters, n_draws=200, seed=4).p == p


def test_drawn_p_does_not_depend_on_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, 100)
    whole = sign_flip_test(differences, np.arange(100), n_draws=1000, seed=2)
    monkeypatch.setattr(paired_tests, "_CHUNK_ENTRIES", 700)
    assert sign_flip_test(differences, np.arange(100), n_draws=1000, seed=2) == whole
    assert sign_flip_test(differences, np.arange(100), n_draws=1000, seed=3).p != whole.p


@pytest.mark.parametrize(("n_draws", "seed"), [(99, 0), (1_000_001, 0), (1000, -1)])
def test_draws_and_seeds_that_are_none(n_draws: int, seed: int) -> None:
    with pytest.raises(ConfigError):
        sign_flip_test(np.ones(3), np.arange(3), n_draws=n_draws, seed=seed)


def naive_holm(p_values: list[float]) -> list[float]:
    """For each test the smallest level at which the step-down procedure still rejects it."""
    order = sorted(p_values)
    steps = [min(1.0, (len(order) - rank) * p) for rank, p in enumerate(order)]
    return [max(steps[: order.index(p) + 1]) for p in p_values]


@given(p_lists)
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    unique = len(set(p_values)) == len(p_values)
    if unique:
        assert adjusted == pytest.approx(naive_holm(p_values), rel=1e-12)
    assert all(raw <= one <= 1 for raw, one in zip(p_values, adjusted, strict=True))
    in_order = [one for _, one in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order), "a smaller p never gets a larger adjusted one"
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))
    assert holm(p_values[::-1]) == adjusted[::-1] or not unique


def test_holm_of_one_or_none_and_of_what_is_no_p() -> None:
    assert holm([0.03]) == (0.03,) and holm([]) == ()
    assert holm([0.02, 0.02]) == (0.04, 0.04)
    for bad in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="p values lie in"):
            holm([0.5, bad])
