"""Paired differences, their intervals, outcomes, flips and what could have been seen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from specs_eval.analysis.comparison import ComparisonSpec, compare_family, compare_pairs, outcome_of
from specs_eval.analysis.flips import find_flips
from specs_eval.analysis.pairs import PairedValues, Spread, mean_difference, pair_samples, spread_of, tango_interval
from specs_eval.analysis.power import PowerSpec, minimum_effect, power_figures, samples_needed
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.statistics import Estimate, Interval, clustered_stderr, share_interval, t_quantile
from specs_eval.errors import ComparisonError, ConfigError

Floats = NDArray[np.float64]

SPEC = PowerSpec()
scores = st.integers(0, 4).map(lambda count: count / 4)
rows = st.lists(st.tuples(scores, scores, st.integers(0, 6)), min_size=2, max_size=40)


def rollouts(values: Floats, clusters: Sequence[str] | None = None, ids: Sequence[str] | None = None) -> Rollouts:
    """A run with values of shape (n_samples, n_rollouts)."""
    n, k = values.shape
    names = tuple(ids or (f"s{i}" for i in range(n)))
    return Rollouts(names, tuple(clusters or names), np.repeat(np.arange(n), k), values.ravel().astype(float))


def pairs_of(
    baseline: Sequence[float], candidate: Sequence[float], clusters: Sequence[int] | None = None
) -> PairedValues:
    groups = None if clusters is None else [f"g{c}" for c in clusters]
    one, other = np.array([baseline], float).T, np.array([candidate], float).T
    return pair_samples(rollouts(one, groups), rollouts(other, groups))


def yes_no(n_gained: int, n_lost: int, n_same: int) -> PairedValues:
    return pairs_of([0] * n_gained + [1] * n_lost + [1] * n_same, [1] * n_gained + [0] * n_lost + [1] * n_same)


def spread(n_gained: int, n_lost: int, n: int) -> Spread:
    found = spread_of(yes_no(n_gained, n_lost, n - n_gained - n_lost))
    assert found is not None
    return found


def naive_tango(n_gained: int, n_lost: int, n: int, quantile: float) -> tuple[float, float]:
    """Every difference on a grid that the score test accepts, its variance from the likelihood maximized on a grid."""
    accepted = []
    for difference in np.linspace(-0.999, 0.999, 1999):
        worse = np.linspace(max(-difference, 0), (1 - difference) / 2, 4001)[1:-1]
        better, same = worse + difference, 1 - 2 * worse - difference
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = sum(
                count * np.log(np.maximum(share, 1e-300))
                for count, share in ((n_gained, better), (n_lost, worse), (n - n_gained - n_lost, same))
            )
        best = worse[np.argmax(likelihood)]
        variance = n * (2 * best + difference * (1 - difference))
        if abs(n_gained - n_lost - n * difference) <= quantile * math.sqrt(variance):
            accepted.append(difference)
    return min(accepted), max(accepted)


@pytest.mark.parametrize(("n_gained", "n_lost", "n"), [(7, 1, 21), (0, 0, 30), (5, 0, 30), (3, 9, 40), (0, 25, 25)])
def test_the_interval_is_the_score_test_inverted(n_gained: int, n_lost: int, n: int) -> None:
    found = tango_interval(spread(n_gained, n_lost, n))
    # An unbiased variance of n pairs counts as n - 1 of them; where nothing varies, each pair counts.
    shrunk = (n - 1) / n if 0 < n_gained + n_lost < n else 1.0
    quantile = t_quantile(0.975, n - 1) / math.sqrt(shrunk)
    low, high = naive_tango(n_gained, n_lost, n, quantile)
    assert found.low == pytest.approx(low, abs=0.0025) and found.high == pytest.approx(high, abs=0.0025)
    assert found.method == "tango" and found.level == 0.95


def test_the_published_example() -> None:
    """Fagerland et al. 2014, airway reactivity of 21 children: (1, 1, 7, 12), Tango's interval -0.517 to -0.026."""
    mean, size = -6 / 21, 8 / 21
    stderr = math.sqrt((size - mean**2) / 21)
    found = tango_interval(Spread(mean, size, stderr, 21, n_clusters=10**9, bounded=True))
    assert (found.low, found.high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


def test_no_difference_at_all_is_not_certainty() -> None:
    found = mean_difference(yes_no(0, 0, 50))
    assert found.interval is not None and found.value == 0
    wilson = share_interval(0, 0, 50)
    assert found.interval.high == pytest.approx(wilson.high) and found.interval.low == pytest.approx(-wilson.high)
    grouped = mean_difference(pairs_of([1] * 50, [1] * 50, [i // 10 for i in range(50)]))
    assert grouped.interval is not None and grouped.n_clusters == 5
    assert grouped.interval.high == pytest.approx(share_interval(0, 0, 5).high)
    always = mean_difference(pairs_of([0] * 50, [1] * 50))
    assert always.interval is not None and always.interval.high == 1 and 0.8 < always.interval.low < 1


def test_with_many_flips_the_interval_is_mean_and_t() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.random(2000), generator.random(2000)
    clusters = generator.integers(0, 500, 2000)
    found = mean_difference(pairs_of(before.tolist(), after.tolist(), clusters.tolist()))
    codes = np.unique(clusters, return_inverse=True)[1]
    stderr = clustered_stderr(after - before, codes)
    assert stderr is not None and found.interval is not None and found.stderr == pytest.approx(stderr)
    half = t_quantile(0.975, found.n_clusters - 1) * stderr
    assert found.value == pytest.approx((after - before).mean())
    assert found.interval.low == pytest.approx(found.value - half, abs=half / 50)
    assert found.interval.high == pytest.approx(found.value + half, abs=half / 50)


def test_a_metric_without_bounds_gets_students_t() -> None:
    before, after = np.array([10.0, 20, 30, 40]), np.array([11.0, 19, 33, 44])
    found = mean_difference(pairs_of(before.tolist(), after.tolist()))
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert found.interval is not None and found.interval.method == "t"
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    same = compare_pairs(pairs_of([10, 20, 30], [12, 22, 32]))
    assert same.difference.interval is None and "all differences are the same" in str(same.difference.reason)
    assert same.outcome == "undecided" and same.power.minimum_effect is None
    with pytest.raises(ValueError, match="shares"):
        tango_interval(spread_of(pairs_of([10, 20], [12, 23])) or spread(1, 0, 2))


@settings(max_examples=60, deadline=None)
@given(rows)
def test_swapping_the_runs_swaps_everything(table: list[tuple[float, float, int]]) -> None:
    before, after, clusters = ([row[i] for row in table] for i in range(3))
    spec = ComparisonSpec(n_draws=200)
    there, back = (compare_pairs(pairs_of(*two, clusters), spec) for two in ((before, after), (after, before)))  # type: ignore[arg-type]
    assert there.difference.value == -(back.difference.value or 0)
    assert there.test == back.test and there.p_adjusted == back.p_adjusted
    assert (there.baseline, there.candidate) == (back.candidate, back.baseline)
    if there.difference.interval is not None and back.difference.interval is not None:
        assert there.difference.interval.low == pytest.approx(-back.difference.interval.high, abs=1e-12)
        assert there.difference.interval.low <= (there.difference.value or 0) <= there.difference.interval.high
        assert -1 <= there.difference.interval.low < there.difference.interval.high <= 1
    assert {there.outcome, back.outcome} in ({"undecided"}, {"improved", "regressed"})
    flips, flops = (find_flips(pairs_of(*two)) for two in ((before, after), (after, before)))
    assert [flip.sample_id for flip in flips.gained] == [flip.sample_id for flip in flops.lost]


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(0, 100))
def test_the_order_of_samples_changes_nothing(table: list[tuple[float, float, int]], seed: int) -> None:
    before, after, clusters = (np.array([row[i] for row in table]) for i in range(3))
    ids = [f"s{i}" for i in range(len(table))]
    groups = [f"g{c}" for c in clusters]
    order = np.random.default_rng(seed).permutation(len(table))
    spec = ComparisonSpec(n_draws=200)

    def of(rows_of_a: NDArray[np.int64], rows_of_b: NDArray[np.int64]) -> PairedValues:
        one, other = (
            rollouts(values[chosen, None], [groups[i] for i in chosen], [ids[i] for i in chosen])
            for values, chosen in ((before, rows_of_a), (after, rows_of_b))
        )
        return pair_samples(one, other)

    straight, mixed = (compare_pairs(of(np.arange(len(table)), order), spec), compare_pairs(of(order, order), spec))
    assert straight.test == mixed.test and straight.outcome == mixed.outcome
    assert straight.difference.value == pytest.approx(mixed.difference.value, abs=1e-12)
    assert straight.power.minimum_effect == pytest.approx(mixed.power.minimum_effect, abs=1e-9)
    assert find_flips(of(np.arange(len(table)), order)) == find_flips(of(order, order))


def test_the_difference_is_of_the_means_shown() -> None:
    one = rollouts(np.array([[1, 0], [1, 1], [np.nan, np.nan], [0, 0], [np.nan, 1]]))
    other = rollouts(np.array([[1, 1], [np.nan, np.nan], [1, 1], [1, 0], [1, 1]]))
    found = compare_pairs(pair_samples(one, other))
    assert found.n_left_out == 2 and found.difference.n_samples == 3
    assert found.baseline.value == pytest.approx(0.5) and found.candidate.value == pytest.approx(2.5 / 3)
    assert found.difference.value == pytest.approx(1 / 3)
    assert (found.baseline.n_unscored, found.candidate.n_unscored, found.difference.n_unscored) == (3, 2, 5)
    part = pair_samples(one, other).part(np.array([0, 4]))
    assert part.sample_ids == ("s0", "s4") and part.n_unscored.tolist() == [[0, 1], [0, 0]]


def test_nothing_scored_and_one_cluster_say_why() -> None:
    nothing = compare_pairs(pairs_of([math.nan, 1], [1, math.nan]))
    assert nothing.difference.value is None and nothing.difference.reason == "no sample is scored on both sides"
    assert nothing.test is None and nothing.p_adjusted is None and nothing.outcome == "undecided"
    assert nothing.n_left_out == 2 and nothing.power.minimum_effect is None
    json.dumps(nothing.to_dict(), allow_nan=False)
    single = compare_pairs(pairs_of([0] * 9, [1] * 9, [7] * 9))
    assert single.difference.value == 1 and single.difference.interval is None and single.outcome == "undecided"
    assert "single cluster" in str(single.difference.reason) and single.test is not None and single.test.p == 1


def test_other_samples_are_refused_unless_the_common_ones_are_asked_for() -> None:
    one = rollouts(np.ones((4, 1)))
    other = rollouts(np.zeros((3, 1)), ids=["s3", "s1", "s9"])
    with pytest.raises(
        ComparisonError, match="2 in common, 2 only in the baseline, 1 only in the candidate.*--overlap"
    ):
        pair_samples(one, other)
    assert pair_samples(one, other, overlap=True).sample_ids == ("s1", "s3")
    with pytest.raises(ComparisonError, match="no sample in common"):
        pair_samples(one, rollouts(np.ones((1, 1)), ids=["else"]), overlap=True)
    with pytest.raises(ComparisonError, match="differ in the group of 1 samples, such as s2"):
        pair_samples(one, rollouts(np.ones((4, 1)), clusters=["s0", "s1", "s3", "s3"]))


def test_a_family_is_corrected_together_and_outcomes_follow_it() -> None:
    # Raw p values: 2 * 2^-7 = 0.0156 and 2 * 2^-6 = 0.031; three tests make the second 0.0625, the first 0.047.
    family = [yes_no(7, 0, 93), yes_no(0, 6, 94), yes_no(5, 5, 90), pairs_of([math.nan] * 2, [1] * 2)]
    found = compare_family(family)
    assert [one.outcome for one in found] == ["improved", "undecided", "undecided", "undecided"]
    assert [one.p_adjusted for one in found] == [pytest.approx(0.046875), pytest.approx(0.0625), 1.0, None]
    assert [one.n_family for one in found] == [3, 3, 3, 0]
    assert compare_pairs(yes_no(0, 6, 94)).outcome == "regressed"
    assert [one.difference for one in found] == [compare_pairs(pairs).difference for pairs in family]


def test_outcomes_need_both_p_and_interval() -> None:
    def difference(low: float, high: float) -> Estimate:
        return Estimate((low + high) / 2, 0.1, Interval(low, high, 0.95, "tango"), 9, 9)

    assert outcome_of(difference(0.01, 0.2), 0.049, 0.05) == "improved"
    assert outcome_of(difference(-0.2, -0.01), 0.049, 0.05) == "regressed"
    assert outcome_of(difference(-0.01, 0.2), 0.01, 0.05) == "undecided"
    assert outcome_of(difference(0.01, 0.2), 0.05, 0.05) == "undecided"


def test_flips_each_way_with_rollouts_and_thresholds() -> None:
    before = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [np.nan] * 4])
    after = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    pairs = pair_samples(rollouts(before), rollouts(after))
    found = find_flips(pairs)
    assert [(flip.sample_id, flip.change) for flip in found.gained] == [("s1", 1.0), ("s3", 0.5)]
    assert [(flip.sample_id, flip.baseline, flip.candidate) for flip in found.lost] == [("s0", 1.0, 0.5)]
    assert [flip.sample_id for flip in find_flips(pairs, 1.0).gained] == ["s1"]
    assert find_flips(pairs, 0.6).lost == ()
    facts = find_flips(pairs).to_dict()
    assert facts["threshold"] == 0.5 and facts["lost"][0]["change"] == -0.5
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="threshold"):
            find_flips(pairs, bad)


def test_minimum_effect_is_the_closed_form() -> None:
    # Connor 1987: n = (z_alpha sqrt(psi) + z_power sqrt(psi - d^2))^2 / d^2, here solved for n at the effect found.
    many = spread(1100, 900, 10_000)
    effect = minimum_effect(many, SPEC)
    assert effect is not None
    z_alpha, z_power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    n = (z_alpha * math.sqrt(0.2) + z_power * math.sqrt(0.2 - effect**2)) ** 2 / effect**2
    assert n == pytest.approx(10_000, rel=2e-3)
    assert samples_needed(many, effect, SPEC) in (10_000, 10_001)
    graded = pairs_of([10, 20, 30, 41], [11, 19, 33, 44])
    stderr = spread_of(graded)
    assert stderr is not None
    expected = (t_quantile(0.975, 3) + t_quantile(0.8, 3)) * stderr.stderr
    assert minimum_effect(stderr, SPEC) == pytest.approx(expected)


def test_where_nothing_flipped_the_exact_test_says_what_can_be_seen() -> None:
    effect = minimum_effect(spread(0, 0, 2000), SPEC)
    assert effect is not None
    # Exact McNemar needs 6 flips, all one way: 2 * 2^-6 < 0.05 < 2 * 2^-5.
    assert stats.binom.sf(5, 2000, effect) == pytest.approx(0.8, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400), st.floats(0.001, 0.9))
def test_samples_needed_is_the_first_number_at_which_the_effect_shows(
    n_gained: int, n_lost: int, n_same: int, effect: float
) -> None:
    observed = spread_of(yes_no(n_gained, n_lost, n_same + 1))
    assert observed is not None
    needed = samples_needed(observed, effect, SPEC)
    assert needed is not None and needed >= 2
    figures = power_figures(observed, SPEC, effect)
    assert (figures.effect, figures.n_samples) == (effect, needed)
    minimum = minimum_effect(observed, SPEC)
    assert minimum is not None and 0 < minimum <= 1
    # More samples than there are exactly when the effect is smaller than what these can show.
    assert (needed > observed.n_samples) == (effect < minimum - 1e-9) or abs(effect - minimum) < 1e-6


def test_clusters_cost_power_and_figures_say_what_is_missing() -> None:
    generator = np.random.default_rng(1)
    shift = np.repeat(generator.choice([-1, 0, 1], 40), 10)
    before, after = np.where(shift < 0, 1, 0), np.where(shift > 0, 1, 0)
    clusters = np.repeat(np.arange(40), 10)
    grouped = spread_of(pairs_of(before.tolist(), after.tolist(), clusters.tolist()))
    alone = spread_of(pairs_of(before.tolist(), after.tolist()))
    assert grouped is not None and alone is not None
    one, other = minimum_effect(grouped, SPEC), minimum_effect(alone, SPEC)
    assert one is not None and other is not None and one > 2.5 * other
    needed = samples_needed(grouped, 0.05, SPEC), samples_needed(alone, 0.05, SPEC)
    assert needed[0] is not None and needed[1] is not None and needed[0] == pytest.approx(10 * needed[1], rel=0.15)
    same = power_figures(spread(2, 2, 50), SPEC)
    assert same.effect is None and "name an effect" in str(same.reason) and same.minimum_effect is not None
    assert "nothing shows" in str(power_figures(None, SPEC).reason)
    assert "more than" in str(power_figures(spread(2, 1, 50), SPEC, 1e-9).reason)


@pytest.mark.parametrize("effect", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_effects_that_are_none(effect: float) -> None:
    with pytest.raises(ConfigError, match="effect"):
        power_figures(spread(2, 1, 50), SPEC, effect)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"power": 1.0}, {"power": 0.2}, {"level": 95}])
def test_levels_and_powers_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ComparisonSpec(**options)  # type: ignore[arg-type]
