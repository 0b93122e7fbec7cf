"""The cluster bootstrap: against a naive loop over the same resamples, closed forms, and its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specs_eval.analysis.cluster_totals import ClusterTotals, share_totals
from specs_eval.analysis.resampling import (
    Resampling,
    bootstrap_ratios,
    percentile_interval,
    pooled_mean,
    resample_counts,
)
from specs_eval.analysis.samples import SampleValues
from specs_eval.errors import ConfigError


def values_of(values: np.ndarray, clusters: list[str]) -> SampleValues:
    ids = tuple(f"s{i}" for i in range(len(values)))
    return SampleValues(ids, tuple(clusters), np.asarray(values, float), len(values), 0)


def totals(labels: str, sums: list[float], weights: list[float], pseudo: float = 0.0) -> ClusterTotals:
    return ClusterTotals(tuple(labels), np.array(sums, float), np.array(weights, float), pseudo)


def counts_of(n_clusters: int, n_draws: int, seed: int) -> np.ndarray:
    return np.concatenate([counts for _, counts in resample_counts(n_clusters, n_draws, np.random.default_rng(seed))])


def test_counts_are_multinomial_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counts_of(20, 5000, 3)
    assert counts.shape == (5000, 20) and (counts.sum(axis=1) == 20).all()
    assert counts.mean() == 1 and counts.var(axis=0) == pytest.approx(np.full(20, 0.95), rel=0.12)
    assert np.corrcoef(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-1 / 19, abs=0.05)
    monkeypatch.setattr("specs_eval.analysis.resampling._CHUNK_ENTRIES", 333)
    monkeypatch.setattr("specs_eval.analysis.resampling._CHUNK_DRAWS", 3)
    assert (counts_of(20, 5000, 3) == counts).all()


def test_ratios_are_those_of_a_naive_loop_over_the_same_resamples() -> None:
    generator = np.random.default_rng(0)
    clusters = [f"c{i}" for i in generator.integers(0, 15, 80)]
    one, other = generator.random(80), generator.random(80)
    roles = [share_totals(values_of(one, clusters)), share_totals(values_of(other[:50], clusters[:50]))]
    plain = [ClusterTotals(role.labels, role.totals, role.weights) for role in roles]
    found = bootstrap_ratios([plain], 200, np.random.default_rng(7))[0]
    labels = sorted(set(clusters))
    for draw, counts in enumerate(counts_of(len(labels), 200, 7)):
        picked = [label for label, count in zip(labels, counts, strict=True) for _ in range(int(count))]
        for role, (values, own) in enumerate(((one, clusters), (other[:50], clusters[:50]))):
            resample = [values[i] for label in picked for i in range(len(own)) if own[i] == label]
            assert found[role, draw] == pytest.approx(np.mean(resample), rel=1e-12)


def test_spread_of_the_bootstrap_is_the_closed_form() -> None:
    values = np.random.default_rng(4).random(400)
    labels = tuple(f"c{i:03d}" for i in range(400))
    role = ClusterTotals(labels, values, np.ones(400))
    draws = bootstrap_ratios([[role]], 20_000, np.random.default_rng(0))[0, 0]
    assert draws.mean() == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(400 * 20_000) + 1e-4)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.02)


@pytest.mark.parametrize(("right", "n"), [(0, 30), (1, 30), (30, 30), (12, 30), (0, 400), (390, 400)])
def test_resampled_shares_have_moments_of_jeffreys_posterior(right: int, n: int) -> None:
    values = np.arange(n) < right
    role = share_totals(values_of(values, [f"c{i:03d}" for i in range(n)]))
    draws = bootstrap_ratios([[role]], 20_000, np.random.default_rng(1))[0, 0]
    posterior = stats.beta(right + 0.5, n - right + 0.5)
    assert draws.mean() == pytest.approx(posterior.mean(), rel=0.05, abs=0.002)
    assert draws.std() == pytest.approx(posterior.std(), rel=0.08)
    assert (draws > 0).all() and (draws < 1).all()


def test_shared_clusters_are_resampled_together_and_others_apart() -> None:
    generator = np.random.default_rng(2)
    difficulty = generator.random(60)
    labels = tuple(f"c{i:02d}" for i in range(60))
    elsewhere = tuple(f"d{i:02d}" for i in range(60))
    one = ClusterTotals(labels, difficulty, np.ones(60))
    same = ClusterTotals(labels, difficulty / 2, np.ones(60))
    apart = ClusterTotals(elsewhere, difficulty, np.ones(60))
    draws = bootstrap_ratios([[one, apart, same]], 4000, np.random.default_rng(0))[0]
    assert np.corrcoef(draws[0], draws[2])[0, 1] == pytest.approx(1)
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.06
    partial = ClusterTotals(labels[30:] + elsewhere[:30], np.concatenate([difficulty[30:], np.zeros(30)]), np.ones(60))
    linked = bootstrap_ratios([[one, partial]], 4000, np.random.default_rng(0))[0]
    assert np.corrcoef(linked)[0, 1] > 0.1


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    first = [totals("abcd", [1, 0, 1, 1], [1, 1, 1, 1], 1.0), totals("abcd", [1, 0, 0, 0], [1, 2, 1, 1], 1.0)]
    second = [totals("abcd", [0, 0, 0, 0], [1, 1, 1, 1], 1.0), totals("abcd", [1, 1, 1, 1], [1, 1, 1, 1], 2.0)]
    alone = bootstrap_ratios([second], 500, np.random.default_rng(9))
    together = bootstrap_ratios([first, second], 500, np.random.default_rng(9))
    assert np.array_equal(alone[0], together[1])
    with pytest.raises(ValueError, match="same clusters"):
        bootstrap_ratios([first, [first[0], totals("abce", [0] * 4, [1] * 4)]], 100, np.random.default_rng(0))


def test_a_resample_without_weight_is_nan_and_left_out_of_the_interval() -> None:
    role = totals("ab", [0.5, 0], [1, 0])
    draws = bootstrap_ratios([[role]], 400, np.random.default_rng(0))[0, 0]
    assert 0.15 < np.isnan(draws).mean() < 0.35 and np.nanmax(draws) == 0.5
    interval = percentile_interval(draws, 0.5, Resampling(400))
    assert interval.low == interval.high == 0.5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_pooled_mean_is_the_weighted_mean_inside_its_interval(values: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 5, len(values)).astype(float)
    clusters = [f"c{i // 2}" for i in range(len(values))]
    found = pooled_mean(np.array(values), weights, clusters, Resampling(200, seed=seed))
    if weights.sum() == 0:
        assert found.value is None and found.reason == "no value"
        return
    assert found.value == pytest.approx(np.average(values, weights=weights), abs=1e-12)
    if found.interval is None:
        assert found.reason is not None
    else:
        assert found.interval.low <= found.value <= found.interval.high
        assert (found.interval.seed, found.interval.n_draws) == (seed, 200)


def test_agreeing_clusters_have_no_interval_rather_than_one_of_no_width() -> None:
    found = pooled_mean(np.full(4, 1.5), np.array([3.0, 7, 2, 1]), list("abcd"), Resampling())
    assert found.value == pytest.approx(1.5) and found.interval is None and "same value" in str(found.reason)
    single = pooled_mean(np.array([1.0, 2.0]), np.ones(2), ["a", "a"], Resampling())
    assert single.value == 1.5 and single.interval is None and "single cluster" in str(single.reason)


def test_same_seed_same_numbers() -> None:
    values, weights, clusters = np.arange(9.0), np.ones(9), list("abcdefghi")
    one = pooled_mean(values, weights, clusters, Resampling(500, seed=4))
    assert one == pooled_mean(values, weights, clusters, Resampling(500, seed=4))
    assert one != pooled_mean(values, weights, clusters, Resampling(500, seed=5))


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a share"):
        share_totals(values_of(np.array([0.5, 3.0]), ["a", "b"]))
    with pytest.raises(ConfigError, match="without a scored rollout"):
        share_totals(values_of(np.array([np.nan]), ["a"]))
    for wrong in ({"n_draws": 5}, {"n_draws": 10**9}, {"level": 2.0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            Resampling(**wrong)  # type: ignore[arg-type]
