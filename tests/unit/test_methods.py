"""Several methods at once: differences against naive loops, their properties, and how often their intervals cover."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from gf_stores import drawn, scores, true_share
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.curve_draws import Reading, draw_curves
from specs_eval.analysis.generalization import Gain, gain_over, generalization_factor
from specs_eval.analysis.methods import all_pairs, compare_methods
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.series_difference import SeriesDifference
from specs_eval.errors import ComparisonError, ConfigError

QUICK = Reading(resampling=Resampling(400))

Levels = tuple[float, float]


def curves(
    methods: dict[str, dict[int | None, Levels]], n: int = 60, seed: int = 0, spread: float = 1.0
) -> dict[str, list[CheckpointScores]]:
    """Checkpoints of several methods on the same questions: method -> step -> levels of ID and OOD (see `drawn`)."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 1, n) * spread
    return {
        name: [
            scores(f"{name}-{step}", *drawn(generator, levels, difficulty), step) for step, levels in by_step.items()
        ]
        for name, by_step in methods.items()
    }


def only(found: tuple[SeriesDifference, ...]) -> SeriesDifference:
    (one,) = found
    return one


def naive_difference(
    first: CheckpointScores, second: CheckpointScores, n_draws: int, seed: int
) -> tuple[float, float, float]:
    """Ends of the interval and the p value of a difference of GF: questions drawn one by one, all samples gathered."""
    generator = random.Random(seed)
    questions = sorted(set(first.ood.clusters))

    def mean(samples: SampleValues, chosen: list[str]) -> float:
        members: dict[str, list[float]] = {}
        for cluster, value in zip(samples.clusters, samples.values.tolist(), strict=True):
            members.setdefault(cluster, []).append(value)
        values = [value for question in chosen for value in members[question]]
        return sum(values) / len(values)

    differences = []
    for _ in range(n_draws):
        chosen = [generator.choice(questions) for _ in questions]
        one, other = (generalization_factor(mean(each.id, chosen), mean(each.ood, chosen)) for each in (first, second))
        differences.append(one - other)
    beyond = min(sum(d <= 0 for d in differences), sum(d >= 0 for d in differences))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high), min(1.0, 2 * (beyond + 1) / (n_draws + 1))


def test_a_difference_is_what_a_naive_loop_gives() -> None:
    methods = curves({"dpo": {10: (1.5, 0.6)}, "sft": {10: (1.6, 0.3)}}, n=150, seed=3)
    reading = Reading(resampling=Resampling(4000))
    found = only(compare_methods(methods, None, reading, [("dpo", "sft")]).differences).steps[0]
    low, high, p_value = naive_difference(methods["dpo"][0], methods["sft"][0], 4000, 1)
    assert found.gf.interval is not None and found.gf.p_value is not None
    assert found.gf.interval.low == pytest.approx(low, abs=0.008)
    assert found.gf.interval.high == pytest.approx(high, abs=0.008)
    assert found.gf.p_value == pytest.approx(p_value, abs=0.015)
    expected = [methods["dpo"][0].ood.values.mean() - methods["sft"][0].ood.values.mean()]
    assert [found.ood.value] == pytest.approx(expected) and found.ood.interval is not None
    assert (found.step, found.first, found.second) == (10, "dpo-10", "sft-10")


def test_the_same_questions_narrow_a_difference() -> None:
    methods = curves({"dpo": {10: (1.5, 0.6)}, "sft": {10: (1.5, 0.5)}}, n=200, seed=4, spread=3)
    paired = only(compare_methods(methods, None, QUICK, [("dpo", "sft")]).differences).steps[0].gf.interval
    draws = [
        draw_curves([one], None, Reading(resampling=Resampling(400, seed=i)))[0]
        for i, one in enumerate(methods.values())
    ]
    apart = draws[0].first.gf[0] - draws[1].first.gf[0]
    assert paired is not None and paired.high - paired.low < 0.6 * float(np.ptp(np.quantile(apart, [0.025, 0.975])))


def test_steps_that_only_one_has_are_named_and_areas_are_over_the_common_range() -> None:
    steps = {"dpo": (5, 10, 20, 30), "sft": (1, 10, 15, 25)}
    methods = curves({name: {step: (1.5, step / 30) for step in some} for name, some in steps.items()})
    both = compare_methods(methods, None, QUICK, [("dpo", "sft")])
    found = only(both.differences)
    assert [one.step for one in found.steps] == [10]
    assert found.only_first == (5, 20, 30) and found.only_second == (1, 15, 25)
    spans = [(area.first_step, area.last_step) for area in (found.first_area, found.second_area)]
    assert spans == [(5, 25), (5, 25)]
    naive = []
    for series in both.series:
        known = [(point.step, point.gf) for point in series.points if point.step is not None and point.gf is not None]
        heights = np.interp(np.arange(5, 26), [step for step, _ in known], [value for _, value in known])
        naive.append(float(((heights[1:] + heights[:-1]) / 2).mean()))
    assert [found.first_area.value, found.second_area.value] == pytest.approx(naive)
    assert found.area.value == pytest.approx(naive[0] - naive[1]) and found.area.interval is not None
    assert both.series[0].area.first_step == 5 and both.series[0].area.last_step == 30
    json.dumps(both.to_dict(), allow_nan=False)


def test_swapping_the_two_turns_the_sign_and_nothing_else() -> None:
    methods = curves({"a": {5: (1.0, 0.3), 9: (1.5, 0.9)}, "b": {5: (1.2, 0.1), 9: (1.4, 0.4)}})
    one, other = compare_methods(methods, None, QUICK, [("a", "b"), ("b", "a")]).differences
    for ours, theirs in (
        (one.steps[0].gf, other.steps[0].gf),
        (one.steps[1].id, other.steps[1].id),
        (one.area, other.area),
    ):
        assert ours.value == -(theirs.value or 0) and ours.p_value == theirs.p_value
        assert ours.interval is not None and theirs.interval is not None
        assert ours.interval.low == pytest.approx(-theirs.interval.high)
        assert ours.excludes_zero == theirs.excludes_zero


def test_a_pair_does_not_depend_on_the_series_beside_it() -> None:
    methods = curves(
        {name: {5: (1.0, level), 9: (1.5, level + 0.5)} for name, level in (("a", 0.1), ("b", 0.4), ("c", 1.0))}
    )
    alone = compare_methods({name: methods[name] for name in "ab"}, None, QUICK, [("a", "b")])
    together = compare_methods(methods, None, QUICK, all_pairs(["a", "b", "c"]))
    assert alone.differences[0] == together.differences[0] and alone.series == together.series[:2]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**20), st.sampled_from(["score", "difference", "normalized"]))
def test_order_of_samples_changes_nothing_and_gf_stays_between_0_and_the_larger_gain(seed: int, gain: Gain) -> None:
    generator = np.random.default_rng(seed)
    levels = generator.normal(0.5, 1, (3, 2))
    methods = curves({name: {5: (levels[i, 0], levels[i, 1])} for i, name in enumerate("abz")}, n=12, seed=seed)
    base = methods.pop("z")[0]
    reading = Reading(gain, resampling=Resampling(100))
    found = compare_methods(methods, base, reading, [("a", "b")])
    for series in found.series:
        (point,) = series.trained
        if point.gf is None or point.id_gain is None or point.ood_gain is None:
            continue
        assert 0 <= point.gf <= max(point.id_gain, point.ood_gain, 0)
        if min(point.id_gain, point.ood_gain) <= 0:
            assert point.gf == 0

    def shuffled(one: CheckpointScores) -> CheckpointScores:
        roles = []
        for role in (one.id, one.ood):
            order = np.random.default_rng(seed + len(role.sample_ids)).permutation(len(role.sample_ids))
            labels = [tuple(np.array(texts)[order].tolist()) for texts in (role.sample_ids, role.clusters)]
            roles.append(SampleValues(labels[0], labels[1], role.values[order], role.n_rollouts, role.n_unscored))
        return CheckpointScores(one.checkpoint, one.step, roles[0], roles[1])

    again = compare_methods(
        {name: list(map(shuffled, each)) for name, each in methods.items()}, shuffled(base), reading, [("a", "b")]
    )
    ours, theirs = found.differences[0].steps[0].gf, again.differences[0].steps[0].gf
    assert (ours.value, ours.p_value) == (pytest.approx(theirs.value), pytest.approx(theirs.p_value, abs=0.021))
    if ours.interval is not None and theirs.interval is not None:
        assert ours.interval.low == pytest.approx(theirs.interval.low, abs=1e-9)


def test_two_zeros_are_not_certain_to_be_equal() -> None:
    methods = {name: [scores(name, np.ones(30), np.zeros((30, 3)), 5)] for name in "ab"}
    found = only(compare_methods(methods, None, QUICK, [("a", "b")]).differences).steps[0]
    for difference in (found.id, found.ood, found.gf):
        assert difference.value == 0 and difference.excludes_zero is False and difference.p_value is not None
        assert difference.interval is not None and difference.interval.low < -0.005 and difference.interval.high > 0.005
        assert difference.p_value > 0.5


def test_equal_methods_differ_by_chance_only_and_clear_ones_clearly() -> None:
    methods = curves({"good": {5: (2.0, 1.5)}, "bad": {5: (2.0, -1.0)}}, n=100)
    found = only(compare_methods(methods, None, QUICK, [("good", "bad")]).differences).steps[0].gf
    assert found.excludes_zero and found.p_value == pytest.approx(2 / 401)
    assert found.to_dict()["excludes_zero"] is True


def test_a_base_is_common_and_no_point_of_a_difference() -> None:
    methods = curves({"base": {None: (0.0, 0.0)}, "a": {5: (1.5, 1.0)}, "b": {5: (1.5, 0.2)}})
    base = methods.pop("base")[0]
    found = compare_methods(methods, base, Reading("difference", resampling=Resampling(400)), [("a", "b")])
    assert [one.step for one in found.differences[0].steps] == [5]
    assert all(series.points[0].is_base and series.area.n_points == 1 for series in found.series), (
        "the base has no step"
    )
    assert all(len(series.best.candidates) == 1 for series in found.series)
    gains = [
        gain_over(
            [one.id.values.mean(), one.ood.values.mean()], [base.id.values.mean(), base.ood.values.mean()], "difference"
        )
        for (one,) in methods.values()
    ]
    expected = generalization_factor(*gains[0].tolist()) - generalization_factor(*gains[1].tolist())
    assert found.differences[0].steps[0].gf.value == pytest.approx(expected)


def test_a_base_at_step_0_is_where_the_area_starts() -> None:
    methods = curves({"base": {0: (0.0, 0.0)}, "a": {10: (1.5, 1.0)}})
    base = methods.pop("base")[0]
    by_gain = compare_methods(methods, base, Reading("difference", resampling=Resampling(400))).series[0]
    assert by_gain.area.value == pytest.approx((by_gain.points[1].gf or 0) / 2)
    one, area = by_gain.points[1].interval, by_gain.area.interval
    assert one is not None and area is not None, "the base is at 0 by definition and adds no noise"
    assert area.high == pytest.approx(one.high / 2) and area.low == pytest.approx(one.low / 2)


def test_checkpoints_without_a_step_compare_when_each_has_one() -> None:
    methods = curves({"a": {None: (1.5, 1.0)}, "b": {None: (1.5, 0.2)}})
    found = only(compare_methods(methods, None, QUICK, [("a", "b")]).differences)
    assert [one.step for one in found.steps] == [None] and found.area.value is None
    assert "two checkpoints with a step" in str(found.area.reason)


def test_what_is_undefined_says_why() -> None:
    lost = scores("lost", np.full(60, np.nan), np.ones((60, 3)), 5)
    methods = {**curves({"a": {5: (1.5, 1.0)}}), "b": [lost]}
    step = only(compare_methods(methods, None, QUICK, [("a", "b")]).differences).steps[0]
    assert step.gf.value is None and step.gf.reason == "GF of lost is undefined" and step.id.value is None
    assert step.ood.value is not None and step.ood.interval is None and "not resampled" in str(step.ood.reason)
    single = {
        name: [scores(name, np.array([1.0]), np.array([[1.0, level]]), 5)] for name, level in (("a", 1.0), ("b", 0.0))
    }
    step = only(compare_methods(single, None, QUICK, [("a", "b")]).differences).steps[0]
    assert step.gf.value is not None and step.gf.interval is None and "single cluster" in str(step.gf.reason)


def test_series_on_other_samples_are_shown_but_not_compared() -> None:
    methods = {**curves({"a": {5: (1.5, 1.0)}}), **curves({"b": {5: (1.5, 1.0)}}, n=40)}
    found = compare_methods(methods, None, QUICK, [("a", "b")])
    assert all(series.points[0].interval is not None for series in found.series)
    pair = only(found.differences)
    assert pair.steps == () and "different ID samples" in str(pair.reason) and pair.area.value is None
    with pytest.raises(ComparisonError, match="different ID samples"):
        compare_methods({"ab": [methods["a"][0], methods["b"][0]]}, None, QUICK)
    with pytest.raises(ConfigError, match="beta"):
        compare_methods(methods, None, Reading(beta=-1))


def test_pairs() -> None:
    assert all_pairs(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all_pairs(["a", "b", "c"], "b") == [("a", "b"), ("c", "b")]


TRUTHS: list[dict[str, dict[int | None, Levels]]] = [
    {"a": {5: (1.5, -0.5), 10: (2.2, 0.4), 20: (2.5, 1.0)}, "b": {5: (1.6, -0.8), 10: (2.4, 0.0), 20: (2.5, 0.4)}},
    {"a": {5: (1.0, 0.0), 15: (2.0, 0.5)}, "b": {10: (1.0, 0.0), 15: (2.0, 0.5), 20: (2.0, 0.8)}},
]


@pytest.mark.slow
@pytest.mark.parametrize("gain", ["score", "difference"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_of_differences_and_areas_cover_as_often_as_they_say(
    truth: dict[str, dict[int | None, Levels]], gain: Gain
) -> None:
    n_stores, spread = 2000, 0.7
    everyone: dict[str, dict[int | None, Levels]] = {"base": {0: (-0.5, -1.0)}, **truth}
    shares = {
        n: {s: [true_share(x, spread) for x in levels] for s, levels in one.items()} for n, one in everyone.items()
    }
    floor = np.array(shares["base"][0]) if gain == "difference" else np.zeros(2)
    factor = {
        name: {s: generalization_factor(*(np.array(x) - floor)) for s, x in shares[name].items()} for name in truth
    }
    start, end = (max(min(one) for one in factor.values()), min(max(one) for one in factor.values()))  # type: ignore[type-var]
    if gain == "difference":
        start = 0
        factor = {name: {0: 0.0, **one} for name, one in factor.items()}
    grid = np.arange(start, end + 1)
    heights = {name: np.interp(grid, list(one), list(one.values())) for name, one in factor.items()}
    areas = {name: float(((high[1:] + high[:-1]) / 2).mean()) for name, high in heights.items()}
    at = 15 if 15 in truth["b"] else 20
    wanted = {
        "gf": factor["a"][at] - factor["b"][at],
        "ood": shares["a"][at][1] - shares["b"][at][1],
        "area a": areas["a"],
        "area b": areas["b"],
        "area": areas["a"] - areas["b"],
    }
    covered = dict.fromkeys(wanted, 0)
    for seed in range(n_stores):
        methods = curves(everyone, n=100, seed=seed, spread=spread)
        base = methods.pop("base")[0] if gain == "difference" else None
        methods.pop("base", None)
        found = only(
            compare_methods(methods, base, Reading(gain, resampling=Resampling(1000)), [("a", "b")]).differences
        )
        step = next(one for one in found.steps if one.step == at)
        intervals = {
            "gf": step.gf.interval,
            "ood": step.ood.interval,
            "area a": found.first_area.interval,
            "area b": found.second_area.interval,
            "area": found.area.interval,
        }
        for name, interval in intervals.items():
            assert interval is not None
            covered[name] += interval.low <= wanted[name] <= interval.high
    rates = {name: count / n_stores for name, count in covered.items()}
    assert all(0.93 <= rate <= 0.97 for rate in rates.values()), rates
