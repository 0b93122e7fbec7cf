"""Means, standard errors and intervals, each against its naive definition or closed form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specs_eval.analysis.samples import Rollouts, SampleValues, restrict
from specs_eval.analysis.statistics import (
    clustered_stderr,
    effective_samples,
    share_interval,
    summarize,
    t_quantile,
)
from specs_eval.errors import ConfigError

shares = st.floats(0, 1, allow_nan=False)


def sample_values(values: np.ndarray, clusters: list[str] | None = None, n_unscored: int = 0) -> SampleValues:
    ids = tuple(f"s{i}" for i in range(len(values)))
    return SampleValues(ids, tuple(clusters) if clusters else ids, np.asarray(values, float), len(values), n_unscored)


def naive_clustered_stderr(values: list[float], clusters: list[int]) -> float:
    """Miller 2024, eq. 4, as it is written: a sum over pairs."""
    n, mean = len(values), sum(values) / len(values)
    plain = sum((v - mean) ** 2 for v in values) / (n - 1) / n
    pairs = sum(
        (values[i] - mean) * (values[j] - mean)
        for i, j in itertools.permutations(range(n), 2)
        if clusters[i] == clusters[j]
    )
    return math.sqrt(plain + pairs / n**2)


@given(st.lists(st.tuples(shares, st.integers(0, 4)), min_size=2, max_size=30))
def test_clustered_stderr_is_the_pairwise_definition(rows: list[tuple[float, int]]) -> None:
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    found = clustered_stderr(np.array(values), np.array(clusters))
    assert found is not None
    assert found**2 == pytest.approx(naive_clustered_stderr(values, clusters) ** 2, rel=1e-12, abs=1e-16)


def test_clustered_stderr_on_lopsided_clusters_at_1e_12() -> None:
    generator = np.random.default_rng(5)
    clusters = np.repeat(np.arange(7), [1, 1, 2, 3, 9, 40, 80])
    values = generator.random(len(clusters)) * 0.3 + clusters / 10
    naive = naive_clustered_stderr(values.tolist(), clusters.tolist())
    assert clustered_stderr(values, clusters) == pytest.approx(naive, rel=1e-12)


def test_stderr_of_singletons_is_the_plain_one_and_labels_do_not_matter() -> None:
    values = np.random.default_rng(0).random(50)
    plain = values.std(ddof=1) / math.sqrt(50)
    assert clustered_stderr(values, np.arange(50)) == pytest.approx(plain, rel=1e-12)
    assert clustered_stderr(values, np.arange(50)[::-1] * 1000) == pytest.approx(plain, rel=1e-12)
    assert clustered_stderr(values[:1], np.zeros(1, dtype=np.int64)) is None


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 7, 10, 29, 100, 199, 200, 201, 500, 10_000])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.95, 0.975, 0.995, 0.9995])
def test_t_quantile_is_that_of_scipy(share: float, df: int) -> None:
    assert t_quantile(share, df) == pytest.approx(stats.t.ppf(share, df), rel=1e-6)


def test_wilson_interval_of_independent_samples_is_the_textbook_one() -> None:
    n, right = 4000, 1200
    share = right / n
    found = share_interval(share, math.sqrt(share * (1 - share) / n), n)
    textbook = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((textbook.low, textbook.high), abs=2e-5)
    assert found.method == "wilson" and found.level == 0.95 and found.seed is None


@given(share=shares, spread=st.floats(0, 0.5), n_clusters=st.integers(2, 5000), level=st.floats(0.5, 0.999))
def test_share_interval_holds_the_share_and_has_width(
    share: float, spread: float, n_clusters: int, level: float
) -> None:
    interval = share_interval(share, spread, n_clusters, level)
    assert 0 <= interval.low <= share <= interval.high <= 1
    assert interval.high > interval.low


@pytest.mark.parametrize("n", [2, 10, 60, 1000])
def test_no_success_at_all_is_not_certainty(n: int) -> None:
    nothing, everything = summarize(sample_values(np.zeros(n))), summarize(sample_values(np.ones(n)))
    assert nothing.value == 0.0 and everything.value == 1.0
    assert nothing.interval is not None and everything.interval is not None
    exact = 1 - 0.025 ** (1 / n)
    assert nothing.interval.low == 0 and nothing.interval.high >= 0.9 * exact
    assert everything.interval.high == 1 and 1 - everything.interval.low == pytest.approx(nothing.interval.high)
    if n >= 60:
        assert nothing.interval.high <= 1.2 * exact


def test_one_cluster_of_a_hundred_samples_counts_once() -> None:
    agreeing = summarize(sample_values(np.zeros(100), [f"c{i // 10}" for i in range(100)]))
    assert agreeing.n_clusters == 10 and agreeing.n_samples == 100
    assert agreeing.interval == summarize(sample_values(np.zeros(10))).interval
    assert effective_samples(0.0, 0.0, 10) == 10


def test_what_is_undefined_is_none_with_a_reason() -> None:
    nothing = summarize(sample_values(np.full(3, np.nan), n_unscored=3))
    assert nothing.value is None and nothing.interval is None and nothing.reason == "no rollout was scored"
    assert nothing.n_unscored == 3
    one = summarize(sample_values(np.array([0.5])))
    assert one.value == 0.5 and one.stderr is None and one.interval is None and "a single sample" in str(one.reason)
    group = summarize(sample_values(np.array([0.5, 0.7]), ["a", "a"]))
    assert group.value == pytest.approx(0.6) and group.interval is None and "a single cluster" in str(group.reason)


def test_a_metric_that_is_not_a_share_gets_a_t_interval() -> None:
    values = np.random.default_rng(1).normal(40, 5, 30)
    found = summarize(sample_values(values))
    low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert found.interval is not None and found.interval.method == "t"
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), rel=1e-9)


def test_dicts_are_plain_json() -> None:
    facts = summarize(sample_values(np.array([0.0, 1.0]))).to_dict()
    assert list(facts) == ["value", "stderr", "interval", "n_samples", "n_clusters", "n_unscored", "reason"]
    assert list(facts["interval"]) == ["low", "high", "level", "method", "n_draws", "seed"]


@pytest.mark.parametrize("level", [0, 1, -1, 95, math.nan])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="level"):
        summarize(sample_values(np.array([0.0, 1.0])), level)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.just(math.nan), shares)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_samples_weigh_equally_whatever_their_rollouts_and_order(rows: list[tuple[int, float]], random) -> None:  # type: ignore[no-untyped-def]
    def mean(rows: list[tuple[int, float]]) -> SampleValues:
        samples = np.array([s for s, _ in rows])
        return Rollouts(tuple("abcdef"), tuple("aabbcc"), samples, np.array([v for _, v in rows])).by_sample()

    found = mean(rows)
    by_sample = [[v for s, v in rows if s == i and not math.isnan(v)] for i in range(6)]
    for value, scored in zip(found.values, by_sample, strict=True):
        assert (math.isnan(value) and not scored) or value == pytest.approx(sum(scored) / max(len(scored), 1))
    assert found.n_unscored == sum(math.isnan(v) for _, v in rows) and found.n_rollouts == len(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = summarize(found), summarize(mean(shuffled))
    assert one.value == pytest.approx(other.value) if one.value is not None else other.value is None


def test_restricting_keeps_rollouts_with_their_samples() -> None:
    rollouts = Rollouts(("a", "b", "c"), ("x", "x", "y"), np.array([0, 1, 2, 2, 0]), np.arange(5.0), np.arange(5))
    kept = restrict(rollouts, {"c", "a"})
    assert kept.sample_ids == ("a", "c") and kept.clusters == ("x", "y")
    assert kept.samples.tolist() == [0, 1, 1, 0] and kept.values.tolist() == [0, 2, 3, 4]
    assert kept.answers is not None and kept.answers.tolist() == [0, 2, 3, 4] and kept.entropy is None


@pytest.mark.parametrize("n", [30, 60, 100, 200])
def test_intervals_of_independent_samples_cover_exactly_enumerated(n: int) -> None:
    rights = np.arange(n + 1)
    intervals = [share_interval(x / n, math.sqrt(x / n * (1 - x / n) / (n - 1)), n) for x in rights]
    coverage = []
    for share in np.linspace(0.02, 0.98, 49):
        inside = [interval.low <= share <= interval.high for interval in intervals]
        coverage.append(stats.binom.pmf(rights, n, share)[inside].sum())
    assert min(coverage) >= 0.93 and 0.945 <= np.mean(coverage) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "n_clusters", "size", "correlation"),
    [(0.5, 40, 1, 0.0), (0.8, 150, 1, 0.0), (0.3, 60, 6, 0.2), (0.7, 200, 3, 0.5), (0.95, 300, 2, 0.1)],
)
def test_intervals_cover_as_often_as_they_say(share: float, n_clusters: int, size: int, correlation: float) -> None:
    generator = np.random.default_rng(20240)
    clusters = [f"c{i // size}" for i in range(n_clusters * size)]
    covered = 0
    for _ in range(2000):
        chances = np.full(n_clusters, share)
        if correlation:
            scale = 1 / correlation - 1
            chances = generator.beta(share * scale, (1 - share) * scale, n_clusters)
        values = generator.binomial(1, np.repeat(chances, size)).astype(float)
        interval = summarize(sample_values(values, clusters)).interval
        assert interval is not None
        covered += interval.low <= share <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97
