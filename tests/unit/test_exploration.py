"""Exploration: pass@k and maj@k against enumeration, variety and branching against their definitions."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis.exploration import MORE_ROLLOUTS, ExplorationSpec, describe_runs, explore, measure_run
from specs_eval.analysis.movement import PlacedRun, movement
from specs_eval.analysis.positions import PositionStatistics, over_positions
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.solving import default_ks, pass_at_k
from specs_eval.analysis.statistics import Estimate
from specs_eval.analysis.vote_chances import win_chance
from specs_eval.analysis.votes import count_answers, distinct_answers, effective_answers, majorities, majority_at_k
from specs_eval.errors import ComparisonError, ConfigError

QUICK = Resampling(200)


def rollouts_of(values: list[list[float]], answers: list[list[int]] | None = None, **columns: np.ndarray) -> Rollouts:
    """Rows are samples; they may have unequal numbers of rollouts."""
    samples = np.array([i for i, row in enumerate(values) for _ in row], dtype=np.int64)
    ids = tuple(f"s{i}" for i in range(len(values)))
    flat = np.array([v for row in values for v in row], dtype=float)
    codes = None if answers is None else np.array([a for row in answers for a in row], dtype=np.int64)
    return Rollouts(ids, ids, samples, flat, codes, **columns)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_rollout(outcomes: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(outcomes)))
    subsets = list(itertools.combinations(outcomes, k))
    share = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k(np.array([sum(outcomes)]), len(outcomes), k)[0] == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 4096])
def test_pass_at_k_is_exact_for_large_n(n: int) -> None:
    rights = sorted({0, 1, 2, n // 3, n // 2, n - 1, n} & set(range(n + 1)))
    for k in sorted({1, 2, 8, n // 2, n - 1, n} & set(range(1, n + 1))):
        found = pass_at_k(np.array(rights), n, k)
        exact = [float(1 - Fraction(math.comb(n - c, k), math.comb(n, k))) for c in rights]
        assert found == pytest.approx(exact, rel=1e-11)
        assert found[0] == 0 and found[-1] == 1


@given(st.integers(1, 200), st.data())
def test_pass_at_k_never_falls_with_k(n: int, data: st.DataObject) -> None:
    correct = np.array([data.draw(st.integers(0, n))])
    shares = [pass_at_k(correct, n, k)[0] for k in range(1, n + 1)]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(shares))
    assert shares[0] == pytest.approx(correct[0] / n, rel=1e-12)
    assert shares[-1] == float(correct[0] > 0)


def test_pass_at_k_with_unequal_n_and_what_is_refused() -> None:
    assert pass_at_k(np.array([1, 1]), np.array([2, 4]), 2) == pytest.approx([1, 0.5])
    for correct, n, k in (([1], 4, 5), ([1], 4, 0), ([5], 4, 2), ([-1], 4, 2)):
        with pytest.raises(ConfigError):
            pass_at_k(np.array(correct), n, k)


def test_default_ks() -> None:
    assert [default_ks(n) for n in (0, 1, 2, 6, 8)] == [(), (1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


def naive_majority(answers: list[int], right: dict[int, float], k: int) -> Fraction:
    """Every subset of k rollouts votes; ties count by their expected value; -1 does not vote."""
    subsets = list(itertools.combinations(answers, k))
    total = Fraction(0)
    for subset in subsets:
        votes = Counter(answer for answer in subset if answer >= 0)
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        if winners:
            total += sum(Fraction(right.get(winner, 0.0)) for winner in winners) / len(winners)
    return total / len(subsets)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9), st.data())
@settings(deadline=None)
def test_maj_at_k_is_the_vote_over_all_subsets(answers: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    right = {0: 1.0, 2: 1.0} if data.draw(st.booleans()) else {1: 1.0}
    rollouts = rollouts_of([[right.get(answer, 0.0) for answer in answers]], [answers])
    found = majority_at_k(count_answers(rollouts, rollouts.values), k)[0]
    assert found == pytest.approx(float(naive_majority(answers, right, k)), abs=1e-12)


def test_an_answer_that_is_right_only_sometimes_counts_by_its_share() -> None:
    rollouts = rollouts_of([[1.0, 0.0, 0.0]], [[7, 7, 3]])
    assert majority_at_k(count_answers(rollouts, rollouts.values), 3)[0] == pytest.approx(0.5)


def test_maj_at_k_of_many_rollouts_and_where_it_stops() -> None:
    generator = np.random.default_rng(0)
    answers = generator.choice(5, 100, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    rollouts = rollouts_of([(answers == 0).astype(float).tolist()], [answers.tolist()])
    counted = count_answers(rollouts, rollouts.values)
    for k in (1, 16, 50):
        draws = np.array([generator.permutation(answers)[:k] for _ in range(4000)])
        votes = np.stack([(draws == answer).sum(axis=1) for answer in range(5)], axis=1)
        ties = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1)
        simulated = np.mean((votes[:, 0] == votes.max(axis=1)) / ties)
        assert majority_at_k(counted, k)[0] == pytest.approx(simulated, abs=0.03)
    long = rollouts_of([[1.0] * 90 + [0.0] * 60], [[0] * 90 + [1] * 60])
    counted = count_answers(long, long.values)
    assert np.isnan(majority_at_k(counted, 8)[0]) and majority_at_k(counted, 150)[0] == 1
    reasons = {one.k: one.majority.reason for one in explore(long, resampling=QUICK).at_k}
    assert "128" in str(reasons[8]) and "a single sample" in str(reasons[150])


@given(st.lists(st.lists(st.integers(-1, 4), min_size=1, max_size=8), min_size=1, max_size=6))
def test_variety_of_answers_by_definition(answers: list[list[int]]) -> None:
    rollouts = rollouts_of([[0.0] * len(row) for row in answers], answers)
    counted = count_answers(rollouts, rollouts.values)
    for row, distinct, effective in zip(answers, distinct_answers(counted), effective_answers(counted), strict=True):
        given_answers = Counter(answer for answer in row if answer >= 0)
        if not given_answers:
            assert np.isnan(distinct) and np.isnan(effective)
            continue
        total = sum(given_answers.values())
        entropy = -sum(count / total * math.log(count / total) for count in given_answers.values())
        assert distinct == len(given_answers) and effective == pytest.approx(math.exp(entropy))
        assert 1 - 1e-12 <= effective <= distinct + 1e-12


def test_exploration_of_a_small_run() -> None:
    found = explore(rollouts_of([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], [[1, 0, 0, 2], [3] * 4, [1] * 4]))
    at = {one.k: one for one in found.at_k}
    assert list(at) == [1, 2, 4]
    assert at[1].pass_at_k.value == pytest.approx(5 / 12) and at[4].pass_at_k.value == pytest.approx(2 / 3)
    assert at[2].pass_at_k.value == pytest.approx((0.5 + 0 + 1) / 3)
    assert at[4].unsolvable.value == pytest.approx(1 / 3)
    solved, unsolved = at[4].pass_at_k.interval, at[4].unsolvable.interval
    assert solved is not None and unsolved is not None and unsolved.low == pytest.approx(1 - solved.high)
    assert at[4].majority.value == pytest.approx(1 / 3), "two wrong answers outvote the right one"
    assert found.distinct.value == pytest.approx(5 / 3) and found.effective.interval is not None
    assert (found.n_samples, found.n_rollouts, found.fewest_rollouts, found.most_rollouts) == (3, 12, 4, 4)


def test_failed_rollouts_are_left_out_and_counted() -> None:
    nan = math.nan
    found = explore(rollouts_of([[1, nan, 0], [nan, nan, 1], [0, 0, 0], [nan] * 3]), resampling=QUICK)
    at = {one.k: one for one in found.at_k}
    assert (found.n_unscored, found.fewest_rollouts, found.most_rollouts) == (6, 0, 3)
    assert at[1].pass_at_k.value == pytest.approx((0.5 + 1 + 0) / 3) and at[1].pass_at_k.n_samples == 3
    assert at[2].pass_at_k.value == pytest.approx(0.5) and at[2].pass_at_k.n_samples == 2
    assert at[3].pass_at_k.value == 0 and at[3].pass_at_k.n_samples == 1
    assert at[1].pass_at_k.n_unscored == 6


def test_rbf_and_entropy_are_averages_over_positions() -> None:
    tokens = np.array([10, 2, np.nan, 5])
    nucleus = np.array([1.0, 4.0, 9.0, 3.0])
    entropy = np.array([0.1, 0.7, 0.9, np.nan])
    found = explore(
        rollouts_of([[1.0, 0.0], [1.0, 0.0]], n_tokens=tokens, nucleus=nucleus, entropy=entropy), resampling=QUICK
    )
    assert found.rbf.value == pytest.approx((10 * 1 + 2 * 4 + 5 * 3) / 17) and found.rbf.n_unscored == 1
    assert found.entropy.value == pytest.approx((10 * 0.1 + 2 * 0.7) / 12) and found.entropy.n_unscored == 2
    assert found.rbf.interval is not None and found.rbf.interval.seed == 0
    assert found.entropy.interval is None and "single cluster" in str(found.entropy.reason)


def test_what_is_missing_says_what_to_run() -> None:
    bare = explore(rollouts_of([[1.0], [0.0]]))
    assert bare.rbf.value is None and "specs-eval run --backend hf" in str(bare.rbf.reason)
    assert bare.at_k[0].majority.value is None and "extracts no answers" in str(bare.at_k[0].majority.reason)
    single = explore(rollouts_of([[1.0], [0.0]], [[0], [1]]))
    assert single.distinct.reason == MORE_ROLLOUTS and single.at_k[0].majority.value == 0.5
    silent = explore(rollouts_of([[0.0, 0.0]], [[-1, -1]]))
    assert silent.distinct.value is None
    asked = explore(rollouts_of([[1.0, 0.0]]), ks=(1, 8)).at_k[1]
    assert asked.pass_at_k.value is None and "no sample has 8 scored rollouts" in str(asked.pass_at_k.reason)
    lost = explore(rollouts_of([[math.nan], [math.nan]], [[-1], [-1]]))
    assert lost.at_k == () and lost.most_rollouts == 0 and lost.n_unscored == 2
    for wrong in ({"ks": (0,)}, {"threshold": math.nan}):
        with pytest.raises(ConfigError):
            explore(rollouts_of([[1.0]]), **wrong)  # type: ignore[arg-type]


def test_a_graded_score_is_correct_from_the_threshold_on() -> None:
    rollouts = rollouts_of([[0.5, 1.0], [0.4, 0.5]])
    assert explore(rollouts).at_k[0].pass_at_k.value == 0.25
    assert explore(rollouts, threshold=0.5).at_k[0].pass_at_k.value == 0.75


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(-1, 3)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_order_of_rollouts_changes_nothing(rows: list[tuple[int, int, int]]) -> None:
    def run(rows: list[tuple[int, int, int]]) -> list[float | None]:
        columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        ids = tuple("abcd")
        rollouts = Rollouts(ids, ids, columns[0], columns[1].astype(float), columns[2])
        found = explore(rollouts, resampling=QUICK)
        return [value for one in found.at_k for value in (one.pass_at_k.value, one.majority.value)]

    assert run(rows) == pytest.approx(run(rows[::-1]), nan_ok=True)


@given(st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=6), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_samples_with_the_same_votes_are_counted_once_and_rightly(answers: list[list[int]]) -> None:
    """Every sample alone and all at once agree, whatever order the rollouts come in."""
    values = [[float(answer == 1) for answer in row] for row in answers]
    rollouts = rollouts_of(values, answers)
    together = majorities(count_answers(rollouts, rollouts.values), (1, 2, 6))
    for i, (row, right) in enumerate(zip(answers, values, strict=True)):
        alone = rollouts_of([right[::-1]], [row[::-1]])
        counted = count_answers(alone, alone.values)
        for j, k in enumerate((1, 2, 6)):
            expected = majority_at_k(counted, k)[0]
            assert together[j, i] == pytest.approx(expected, nan_ok=True)
            assert math.isnan(expected) == (k > len(row))
            if k <= len(row):
                assert expected == pytest.approx(float(naive_majority(row, {1: 1.0}, k)))


def exact_win_chance(count: int, rivals: list[int], n_silent: int, k: int) -> Fraction:
    """The same by whole numbers: ways to draw, by votes and by rivals that tie, one answer after the other."""
    total = Fraction(0)
    for m in range(1, min(count, k) + 1):
        ways = {(0, 0): 1}
        for rival in rivals:
            grown: Counter[tuple[int, int]] = Counter()
            for (drawn, ties), number in ways.items():
                for taken in range(min(rival, m, k - m - drawn) + 1):
                    grown[drawn + taken, ties + (taken == m)] += number * math.comb(rival, taken)
            ways = dict(grown)
        for (drawn, ties), number in ways.items():
            rest = math.comb(n_silent, k - m - drawn)
            total += Fraction(math.comb(count, m) * number * rest, ties + 1)
    return total / math.comb(count + sum(rivals) + n_silent, k)


@pytest.mark.parametrize(
    ("count", "rivals", "n_silent", "k"),
    [
        (1, [1] * 7, 0, 4),
        (20, [20, 15, 5, 4], 0, 32),
        (2, [30, 1, 1], 30, 7),
        (3, [1] * 60, 1, 50),
        (60, [30, 30], 8, 64),
    ],
)
def test_the_chance_to_win_a_vote_is_exact_for_many_rollouts(
    count: int, rivals: list[int], n_silent: int, k: int
) -> None:
    exact = float(exact_win_chance(count, rivals, n_silent, k))
    assert win_chance(count, rivals, n_silent, k) == pytest.approx(exact, abs=1e-12)
    everyone = [count, *rivals]
    chances = [win_chance(everyone[i], everyone[:i] + everyone[i + 1 :], n_silent, k) for i in range(len(everyone))]
    nobody = math.comb(n_silent, k) / math.comb(sum(everyone) + n_silent, k)
    assert sum(chances) == pytest.approx(1 - nobody, abs=1e-11), "somebody wins, or nobody votes"


def test_many_runs_at_once_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(3)
    runs = []
    for n in (12, 12, 7):
        tokens, nucleus = generator.integers(1, 9, 3 * n).astype(float), 1 + generator.random(3 * n)
        values = generator.integers(0, 2, (n, 3)).astype(float).tolist()
        answers = generator.integers(0, 3, (n, 3)).tolist()
        runs.append(rollouts_of(values, answers, n_tokens=tokens, nucleus=nucleus, entropy=nucleus))
    spec = ExplorationSpec(rbf_samples=(5,), resampling=QUICK)
    together = describe_runs([measure_run(one) for one in runs], spec)
    alone = [explore(one, rbf_samples=(5,), resampling=QUICK) for one in runs]
    for one, other in zip(together, alone, strict=True):
        assert one.at_k == other.at_k
        for name in ("rbf", "entropy", "distinct", "effective"):
            assert_same(getattr(one, name), getattr(other, name))
        assert_same(one.rbf_at[0].rbf, other.rbf_at[0].rbf)


def assert_same(one: Estimate, other: Estimate) -> None:
    """Equal but for the last digits, in which sums of another shape may differ."""
    assert one.interval is not None and other.interval is not None
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert (one.interval.low, one.interval.high) == pytest.approx((other.interval.low, other.interval.high), rel=1e-12)
    assert (one.n_samples, one.n_clusters, one.n_unscored) == (other.n_samples, other.n_clusters, other.n_unscored)


def nucleus_run(n: int, seed: int = 1, members: int = 1) -> Rollouts:
    """n samples in clusters, each of one rollout."""
    generator = np.random.default_rng(seed)
    ids = tuple(f"s{i}" for i in range(n))
    clusters = tuple(f"g{i // members}" for i in range(n))
    tokens, nucleus = generator.integers(5, 50, n).astype(float), 1 + generator.gamma(2, 1, n)
    return Rollouts(ids, clusters, np.arange(n), np.ones(n), None, tokens, nucleus, nucleus)


def test_rbf_at_sample_counts_is_the_sampling_distribution_of_smaller_runs() -> None:
    run = nucleus_run(600)
    found = explore(run, rbf_samples=(30, 120, 600), resampling=Resampling(2000)).rbf_at
    assert [one.n_samples for one in found] == [30, 120, 600]
    assert run.n_tokens is not None and run.nucleus is not None
    generator = np.random.default_rng(8)
    for one in found:
        picks = generator.integers(0, 600, (4000, one.n_samples))
        naive = (run.n_tokens * run.nucleus)[picks].sum(axis=1) / run.n_tokens[picks].sum(axis=1)
        interval = one.rbf.interval
        assert interval is not None and interval.method == "m-out-of-n bootstrap"
        assert one.rbf.value == pytest.approx(naive.mean(), rel=0.01)
        spread = naive.std()
        assert (interval.low, interval.high) == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.25 * spread)
        assert one.rbf.stderr == pytest.approx(spread, rel=0.1)
    widths = [one.rbf.interval.high - one.rbf.interval.low for one in found if one.rbf.interval is not None]
    assert widths[0] > 1.6 * widths[1] > 2.4 * widths[2]


def test_rbf_at_sample_counts_draws_clusters_and_says_what_it_cannot() -> None:
    grouped = explore(nucleus_run(200, members=4), resampling=QUICK)
    assert [one.n_samples for one in grouped.rbf_at] == [120], "the default: of 120, 240 and 480 those that there are"
    assert grouped.rbf_at[0].rbf.n_clusters == 30
    few = explore(nucleus_run(200), rbf_samples=(120, 240), resampling=QUICK).rbf_at
    assert few[1].rbf.value is None and "200 samples with token statistics, fewer than 240" in str(few[1].rbf.reason)
    bare = explore(rollouts_of([[1.0], [0.0]]), rbf_samples=(2,)).rbf_at
    assert bare[0].rbf.value is None and explore(rollouts_of([[1.0]])).rbf_at == ()
    same = Rollouts(("a", "b"), ("a", "b"), np.arange(2), np.ones(2), None, np.ones(2), np.ones(2), np.full(2, 1.5))
    flat = explore(same, rbf_samples=(2,), resampling=QUICK).rbf_at[0].rbf
    assert flat.value == 1.5 and flat.interval is None and "same value" in str(flat.reason)
    with pytest.raises(ConfigError, match="2 samples"):
        explore(rollouts_of([[1.0]]), rbf_samples=(1,))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_over_positions_against_loops(lengths: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    samples = generator.integers(0, 3, len(lengths))
    entropies = [generator.random(n) for n in lengths]
    sizes = [generator.integers(1, 9, n) for n in lengths]
    flat = [np.concatenate([np.zeros(0), *lists]).astype(float) for lists in (entropies, sizes)]
    statistics = PositionStatistics(("a", "b", "c"), samples, np.array(lengths, dtype=np.int64), *flat)
    found = over_positions(statistics, QUICK)
    assert len(found) == max(lengths).bit_length()
    assert sum(one.n_positions for one in found) == sum(lengths)
    for one in found:
        inside = [
            (float(entropies[r][p]), float(sizes[r][p]))
            for r, n in enumerate(lengths)
            for p in range(n)
            if one.first <= p + 1 <= one.last
        ]
        assert one.n_positions == len(inside) and one.n_rollouts == sum(n >= one.first for n in lengths)
        assert one.entropy.value == pytest.approx(np.mean([pair[0] for pair in inside]))
        assert one.nucleus.value == pytest.approx(np.mean([pair[1] for pair in inside]))
    assert all(later.first == earlier.last + 1 for earlier, later in itertools.pairwise(found))


def placed(name: str, rollouts: Rollouts) -> PlacedRun:
    return PlacedRun(name, None, measure_run(rollouts))


def test_movement_is_last_minus_first_on_the_same_samples() -> None:
    first = rollouts_of([[1, 0], [0, 0], [1, 1], [0, 0]], [[1, 0], [2, 3], [1, 1], [0, 0]])
    last = rollouts_of([[1, 1], [1, 0], [1, 1], [0, 0]], [[1, 1], [1, 3], [1, 1], [0, 2]])
    found = movement("s", "t", placed("a", first), placed("b", last), QUICK)
    changes = {one.quantity: one for one in found.changes}
    assert list(changes) == ["pass_at_1", "pass_at_n", "unsolvable_at_n", "rbf", "entropy", "distinct", "effective"]
    assert (found.k, found.n_samples, found.first, found.last) == (2, 4, "a", "b")
    assert changes["pass_at_1"].difference.value == pytest.approx(5 / 8 - 3 / 8)
    assert changes["pass_at_n"].difference.value == pytest.approx(0.25)
    assert changes["unsolvable_at_n"].difference.value == pytest.approx(-0.25)
    many, rest = changes["pass_at_n"].difference.interval, changes["unsolvable_at_n"].difference.interval
    assert many is not None and rest is not None and (rest.low, rest.high) == (-many.high, -many.low)
    assert changes["distinct"].difference.value == pytest.approx(6 / 4 - 6 / 4)
    assert changes["rbf"].difference.value is None and "--backend hf" in str(changes["rbf"].difference.reason)
    back = movement("s", "t", placed("b", last), placed("a", first), QUICK)
    assert back.changes[0].difference.value == pytest.approx(-0.25)
    assert found.to_dict()["changes"][0]["first"]["value"] == 0.375


def test_movement_with_other_rollouts_other_samples_and_nothing_scored() -> None:
    two, three = rollouts_of([[1, 0], [0, 0]], [[1, 0], [2, 3]]), rollouts_of([[1] * 3] * 2, [[1] * 3] * 2)
    found = {one.quantity: one for one in movement("s", "t", placed("a", two), placed("b", three), QUICK).changes}
    assert found["pass_at_n"].last.value == 1 and found["pass_at_n"].difference.value == pytest.approx(0.5)
    assert "same --rollouts" in " ".join(str(found["distinct"].difference.reason).split())
    lost = rollouts_of([[math.nan], [math.nan]], [[-1], [-1]])
    gone = movement("s", "t", placed("a", lost), placed("b", lost), QUICK)
    assert gone.k == 0 and all(one.difference.value is None and one.difference.reason for one in gone.changes)
    with pytest.raises(ComparisonError, match="different samples"):
        movement("s", "t", placed("a", two), placed("b", rollouts_of([[1, 0]])), QUICK)


@pytest.mark.slow
def test_rbf_change_intervals_cover_as_often_as_they_say() -> None:
    """Two checkpoints on the same questions, whose branching depends on the question."""
    generator = np.random.default_rng(21)
    n, covered = 120, 0
    ids = tuple(f"s{i}" for i in range(n))
    for _ in range(2000):
        question = generator.gamma(4, 0.25, n)
        runs = []
        for factor in (1.0, 0.8):
            tokens = generator.integers(20, 200, n).astype(float)
            nucleus = 1 + factor * question * generator.gamma(8, 1 / 8, n)
            runs.append(Rollouts(ids, ids, np.arange(n), np.ones(n), None, tokens, nucleus, nucleus))
        found = movement("s", "t", placed("a", runs[0]), placed("b", runs[1]), Resampling(500))
        interval = next(one for one in found.changes if one.quantity == "rbf").difference.interval
        assert interval is not None
        covered += interval.low <= -0.2 <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97
