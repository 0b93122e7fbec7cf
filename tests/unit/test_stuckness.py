"""Stuckness against naive definitions, at its edges, and the coverage of its intervals."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis.differences import share_differences
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts, SampleValues
from specs_eval.analysis.stuck_gaps import stuck_gaps
from specs_eval.analysis.stuck_series import CheckpointRollouts, StuckSeries, measure_series, stuck_series
from specs_eval.analysis.stuckness import (
    NO_ANSWERS,
    ONE_ROLLOUT,
    StuckRule,
    persistence,
    persisting,
    same_order,
    transition,
    wrong_modes,
)
from specs_eval.errors import ComparisonError, ConfigError

QUICK = Resampling(200)
RIGHT = "gold"

Answers = list[list[str | None]]
"""By sample and rollout; None: no answer was extracted; "failed": the rollout has no score."""


def rollouts_of(answers: Answers, ids: list[str] | None = None, clusters: list[str] | None = None) -> Rollouts:
    """Rollouts whose answer decides: correct when it is the gold one."""
    names = tuple(ids or [f"s{i}" for i in range(len(answers))])
    flat = [answer for row in answers for answer in row]
    texts = list(dict.fromkeys(answer for answer in flat if answer not in (None, "failed")))
    codes = {text: code for code, text in enumerate(texts)}
    return Rollouts(
        names,
        tuple(clusters or names),
        np.array([i for i, row in enumerate(answers) for _ in row], dtype=np.int64),
        np.array([math.nan if answer == "failed" else float(answer == RIGHT) for answer in flat]),
        np.array([codes.get(answer, -1) for answer in flat], dtype=np.int64),
        answer_texts=tuple(str(text) for text in texts),
    )


def naive_mode(row: list[str | None], share: float = 0.8) -> str | None:
    """The wrong answer that a sample is stuck in; "?" when that cannot be told."""
    scored = [answer for answer in row if answer != "failed"]
    if len(scored) < 2:
        return "?"
    for answer, count in Counter(answer for answer in scored if answer is not None).items():
        if answer != RIGHT and count / len(scored) >= share - 1e-9:
            return answer
    return None


answer_rows = st.lists(
    st.lists(st.sampled_from([RIGHT, "a", "b", None, "failed"]), min_size=1, max_size=10), min_size=1, max_size=8
)


@given(answer_rows, st.sampled_from([0.51, 0.6, 0.75, 0.8, 1.0]))
def test_stuck_as_defined(rows: Answers, share: float) -> None:
    found = wrong_modes(rollouts_of(rows), StuckRule(share))
    expected = [naive_mode(row, share) for row in rows]
    if found.reason is not None:
        flat = [answer for row in rows for answer in row if answer != "failed"]
        assert not flat or all(answer is None for answer in flat) or all(one == "?" for one in expected)
        assert not found.judged.any() and found.share().value is None
        return
    for i, wanted in enumerate(expected):
        assert found.judged[i] == (wanted != "?")
        stuck = wanted not in (None, "?")
        assert found.stuck[i] == stuck
        if stuck:
            assert found.answer_texts[found.answers[i]] == wanted
            assert found.n_mode[i] == rows[i].count(wanted)
    judged = [one for one in expected if one != "?"]
    assert found.share().value == pytest.approx(sum(one is not None for one in judged) / len(judged))


@given(st.integers(1, 6), st.data())
def test_a_transition_sorts_every_sample_into_one_place(n: int, data: st.DataObject) -> None:
    row = st.lists(st.sampled_from([RIGHT, "a", "b", None, "failed"]), min_size=1, max_size=6)
    before, after = (data.draw(st.lists(row, min_size=n, max_size=n)) for _ in range(2))
    modes = [wrong_modes(rollouts_of(rows)) for rows in (before, after)]
    found = transition(modes[0], modes[1], ("x", "y"), (1, 2), 0.95)
    counts = Counter[str]()
    for was, now, later in zip(map(naive_mode, before), map(naive_mode, after), after, strict=True):
        scored = [answer for answer in later if answer != "failed"]
        solved = bool(scored) and 2 * scored.count(RIGHT) >= len(scored)
        if "?" in (was, now) or modes[0].reason or modes[1].reason:
            counts["unjudged"] += 1
        elif was is None:
            counts["newly_stuck" if now else "never"] += 1
        elif now is None:
            counts["unstuck_solved" if solved else "unstuck_other"] += 1
        else:
            counts["stuck_same" if was == now else "stuck_other"] += 1
    names = ("stuck_same", "stuck_other", "unstuck_solved", "unstuck_other", "newly_stuck", "never", "unjudged")
    assert {name: getattr(found, name) for name in names} == {name: counts[name] for name in names}
    stuck = sum(counts[name] for name in ("stuck_same", "stuck_other", "unstuck_solved", "unstuck_other"))
    if stuck:
        assert found.persistence.value == pytest.approx(counts["stuck_same"] / stuck)
        assert found.persistence.n_samples == stuck
    else:
        assert found.persistence.value is None and found.persistence.reason


@given(answer_rows, st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_changes_nothing(rows: Answers, random: object) -> None:
    first = rollouts_of(rows)
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = rollouts_of([rows[i][::-1] for i in order], [f"s{i}" for i in order])
    one, two = wrong_modes(first), same_order(wrong_modes(first), wrong_modes(other))
    assert two.samples.sample_ids == one.samples.sample_ids
    assert np.array_equal(one.samples.values, two.samples.values, equal_nan=True)
    kept = transition(one, two, ("x", "y"), (1, 2), 0.95)
    assert kept.stuck_same == one.stuck.sum() and kept.stuck_other == kept.newly_stuck == 0


@given(answer_rows)
def test_a_higher_share_never_sticks_more(rows: Answers) -> None:
    stuck = [wrong_modes(rollouts_of(rows), StuckRule(share)).stuck for share in (0.55, 0.7, 0.8, 1.0)]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(stuck))


def test_eighty_percent_is_inclusive_and_silence_counts_in_the_denominator() -> None:
    rows: Answers = [["a"] * 4 + ["b"], ["a"] * 4 + [None, None], [None] * 5, ["a"] * 4 + ["failed"] * 4]
    assert wrong_modes(rollouts_of(rows)).stuck.tolist() == [True, False, False, True]


def test_an_answer_that_is_mostly_right_is_no_wrong_mode() -> None:
    rollouts = rollouts_of([["x"] * 4, ["x"] * 4, ["x"] * 4])
    rollouts.values[:] = [1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    found = wrong_modes(rollouts)
    assert found.stuck.tolist() == [False, True, True] and found.solved.tolist() == [True, False, False]
    graded = wrong_modes(rollouts, StuckRule(threshold=0.0))
    assert not graded.stuck.any() and graded.solved.all()


def test_what_cannot_be_told_is_undefined_with_what_to_do() -> None:
    for rows, reason in (
        ([["a"], [RIGHT]], ONE_ROLLOUT),
        ([[None, None]], NO_ANSWERS),
        ([["failed", "failed"]], "no rollout was scored"),
    ):
        found = wrong_modes(rollouts_of(rows))
        assert found.reason == reason and found.share().reason == reason and found.share().value is None
        kept = transition(found, found, ("x", "y"), (None, None), 0.95)
        assert kept.unjudged == len(rows) and kept.persistence.reason == reason
    bare = rollouts_of([["a", "a"]])
    without = Rollouts(bare.sample_ids, bare.clusters, bare.samples, bare.values)
    assert wrong_modes(without).reason == NO_ANSWERS
    assert "--rollouts 8" in ONE_ROLLOUT


@pytest.mark.parametrize("wrong", [{"mode_share": 0.5}, {"mode_share": 80}, {"threshold": math.nan}])
def test_rules_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        StuckRule(**wrong)


def series_of(*checkpoints: Answers, ids: list[str] | None = None) -> StuckSeries:
    points = [
        CheckpointRollouts(f"c{i}", 10 * i, rollouts_of(rows, ids), targets={"s0": RIGHT})
        for i, rows in enumerate(checkpoints)
    ]
    return stuck_series(measure_series("s", points), "task", "accuracy")


def test_lists_and_streaks_along_a_series() -> None:
    stuck_a, stuck_b, free = ["a"] * 5, ["b"] * 5, [RIGHT] * 5
    found = series_of(
        [stuck_a, stuck_a, free, ["a"] * 4 + [None]],
        [stuck_a, stuck_b, stuck_a, free],
        [stuck_a, stuck_b, stuck_a, stuck_a],
    )
    streaks = [{one.sample_id: one.streak for one in point.samples} for point in found.points]
    assert streaks[0] == {"s0": 1, "s1": 1, "s3": 1}
    assert streaks[1] == {"s0": 2, "s1": 1, "s2": 1}
    assert streaks[2] == {"s0": 3, "s1": 2, "s2": 2, "s3": 1}
    first = found.points[2].samples[0]
    assert (first.sample_id, first.answer, first.n_answer, first.share, first.target) == ("s0", "a", 5, 1.0, RIGHT)
    assert [one.sample_id for one in found.points[0].samples] == ["s0", "s1", "s3"], "by share, then by id"
    assert found.points[0].samples[-1].share == 0.8
    assert [one.persistence.value for one in found.transitions] == pytest.approx([1 / 3, 1.0])
    assert found.persistence.value == pytest.approx(4 / 6) and found.persistence.n_samples == 6
    assert found.persistence.n_clusters == 4, "a sample that is stuck twice is one sample"
    facts = found.to_dict()
    assert facts["points"][0]["lock_in"] is None and facts["transitions"][0]["before_step"] == 0


def test_a_single_checkpoint_has_no_persistence() -> None:
    found = series_of([["a", "a"]])
    assert found.transitions == () and "single checkpoint" in str(found.persistence.reason)


def test_other_samples_or_other_groups_are_refused() -> None:
    one = wrong_modes(rollouts_of([["a", "a"], ["b", "b"]]))
    with pytest.raises(ComparisonError, match="--allow-incomplete"):
        same_order(one, wrong_modes(rollouts_of([["a", "a"]])))
    with pytest.raises(ComparisonError, match="different samples"):
        same_order(one, wrong_modes(rollouts_of([["a", "a"], ["b", "b"]], ["s0", "t"])))
    with pytest.raises(ComparisonError, match="group"):
        same_order(one, wrong_modes(rollouts_of([["a", "a"], ["b", "b"]], clusters=["g", "g"])))


def shares(values: list[float], clusters: list[str] | None = None) -> SampleValues:
    ids = tuple(f"q{i}" for i in range(len(values)))
    return SampleValues(ids, tuple(clusters or ids), np.array(values, dtype=float), len(values), 0)


def test_gaps_of_all_measures() -> None:
    stuck, free = ["a"] * 5, [RIGHT] * 5
    rows = ([stuck] * 6 + [free] * 4, [stuck] * 4 + [free] * 6)

    def measured(share: float, *checkpoints: Answers) -> object:
        trained = shares([share] * 10)
        points = [
            CheckpointRollouts(f"c{i}", i, rollouts_of(one), trained, trained) for i, one in enumerate(checkpoints)
        ]
        return measure_series("s", points)

    gaps = stuck_gaps([measured(0.9, *rows)], [measured(0.2, rows[1], rows[1])], QUICK)  # type: ignore[list-item]
    found = {(gap.checkpoint, gap.measure): gap for gap in gaps}
    assert list(found) == [
        ("c0", "wrong_mode"), ("c0", "persistence"), ("c0", "trained_format"), ("c1", "wrong_mode"), ("c1", "trained_format"),
    ]  # fmt: skip
    assert found["c0", "wrong_mode"].difference.value == pytest.approx(0.4 - 0.6)
    assert found["c0", "persistence"].difference.value == pytest.approx(1 - 4 / 6)
    assert found["c0", "trained_format"].difference.value == pytest.approx(-0.7)
    assert found["c1", "wrong_mode"].difference.value == 0
    interval = found["c1", "wrong_mode"].difference.interval
    assert interval is not None and interval.low < 0 < interval.high
    assert gaps == stuck_gaps([measured(0.9, *rows)], [measured(0.2, rows[1], rows[1])], QUICK)  # type: ignore[list-item]
    nothing = stuck_gaps([measured(0.9, [free] * 10, [free] * 10)], [measured(0.2, *rows)], QUICK)  # type: ignore[list-item]
    lost = next(gap for gap in nothing if gap.measure == "persistence")
    assert lost.difference.value is None and "ID: no sample is stuck" in str(lost.difference.reason)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_differences_hold_their_value_and_change_sign_with_the_roles(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    first, second = (shares(list(column)) for column in zip(*pairs, strict=True))
    spec = Resampling(200, seed=seed)
    (there,), (back,) = share_differences([(first, second)], spec), share_differences([(second, first)], spec)
    assert there.value == pytest.approx(second.values.mean() - first.values.mean(), abs=1e-12)
    assert back.value == pytest.approx(-there.value, abs=1e-12) and there.interval is not None
    assert -1 <= there.interval.low <= there.value <= there.interval.high <= 1
    together = share_differences([(first, second), (second, first)], spec)
    assert together == [there, back], "what stands beside a pair changes nothing"


def test_two_shares_at_zero_may_still_differ() -> None:
    (found,) = share_differences([(shares([0.0] * 60), shares([0.0] * 60))], Resampling(2000))
    assert found.value == 0 and found.interval is not None
    assert -0.08 < found.interval.low < -0.01 and 0.01 < found.interval.high < 0.08
    (missing,) = share_differences([(shares([math.nan]), shares([1.0]))], QUICK)
    assert missing.value is None
    (single,) = share_differences([(shares([0.0, 1.0], ["g", "g"]), shares([1.0, 1.0]))], QUICK)
    assert single.value == 0.5 and single.interval is None and "single cluster" in str(single.reason)


def test_the_paired_interval_is_narrower_where_the_roles_agree() -> None:
    generator = np.random.default_rng(5)
    hard = generator.random(300)
    first, second = (
        shares((hard + 0.05 * generator.standard_normal(300) < cut).astype(float).tolist()) for cut in (0.5, 0.55)
    )
    apart = SampleValues(*[tuple(f"other{i}" for i in range(300))] * 2, second.values, 300, 0)
    (paired,), (unpaired,) = (share_differences([(first, other)], Resampling(2000)) for other in (second, apart))
    assert paired.stderr is not None and unpaired.stderr is not None and paired.stderr < 0.6 * unpaired.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("stuck", "stays", "members"), [(0.3, 0.7, 1), (0.5, 0.5, 3), (0.2, 0.9, 2)])
def test_persistence_intervals_cover_as_often_as_they_say(stuck: float, stays: float, members: int) -> None:
    """Clusters share how hard they are to leave: a beta of correlation 0.2 where they have several members."""
    generator = np.random.default_rng(11)
    n, covered = 150, 0
    clusters = tuple(f"g{i}" for i in range(n) for _ in range(members))
    ids = tuple(f"s{i}" for i in range(n * members))
    for _ in range(2000):
        chance = np.full(n, stays) if members == 1 else generator.beta(4 * stays, 4 * (1 - stays), n)
        kept = generator.random(n * members) < np.repeat(chance, members)
        asked = generator.random(n * members) < stuck
        row = SampleValues(ids, clusters, np.where(asked, kept, np.nan), len(ids), 0)
        interval = persistence([row]).interval
        assert interval is not None
        covered += interval.low <= stays <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("id_share", "ood_share", "formats"), [(0.1, 0.25, 4), (0.3, 0.3, 1), (0.05, 0.6, 6)])
def test_gap_intervals_cover_as_often_as_they_say(id_share: float, ood_share: float, formats: int) -> None:
    """ID and OOD of a question depend on how hard it is: a common uniform number moves both."""
    generator = np.random.default_rng(12)
    n, covered = 150, 0
    questions = tuple(f"q{i}" for i in range(n))
    repeated = tuple(question for question in questions for _ in range(formats))
    oods = tuple(f"{question}/{i}" for i, question in enumerate(repeated))
    for _ in range(2000):
        hard = generator.random(n) < 0.3
        common = generator.random(n)
        id_values = np.where(hard, common, generator.random(n)) < id_share
        own = generator.random(n * formats)
        ood_values = np.where(np.repeat(hard, formats), np.repeat(common, formats), own) < ood_share
        sides = (
            SampleValues(questions, questions, id_values.astype(float), n, 0),
            SampleValues(oods, repeated, ood_values.astype(float), n * formats, 0),
        )
        interval = share_differences([sides], Resampling(1000))[0].interval
        assert interval is not None
        covered += interval.low <= ood_share - id_share <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_persisting_asks_only_those_that_were_stuck() -> None:
    before = wrong_modes(rollouts_of([["a", "a"], [RIGHT, RIGHT], ["b", "b"], ["c", "c"]]))
    after = wrong_modes(rollouts_of([["a", "a"], ["b", "b"], ["c", "c"], ["failed", "c"]]))
    assert persisting(before, after).values.tolist()[:3] == pytest.approx([1, math.nan, 0], nan_ok=True)
    assert math.isnan(persisting(before, after).values[3]), "not judged after: neither stays nor leaves"
