"""The Generalization Factor: the published figure, its properties, the three readings, and series with intervals."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.cluster_totals import share_totals
from specs_eval.analysis.generalization import choose_gain, gain_over, generalization_factor
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.series import generalization_series
from specs_eval.errors import ComparisonError, ConfigError

FIGURE = Path(__file__).parents[1] / "data" / "gf_figure.csv"

shares = st.floats(0, 1, allow_nan=False)
betas = st.floats(0.01, 100)


def figure_points() -> list[dict[str, str]]:
    with FIGURE.open() as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def test_all_49_points_of_the_published_figure() -> None:
    points = figure_points()
    assert len(points) == 49 and {point["method"] for point in points} == {"dpo", "dpo_sft", "sft"}
    columns = [np.array([float(point[name]) / 100 for point in points]) for name in ("id", "ood", "gf")]
    assert np.abs(generalization_factor(columns[0], columns[1]) - columns[2]).max() * 100 <= 0.4
    for id_share, ood_share, gf in zip(*columns, strict=True):
        assert abs(generalization_factor(id_share, ood_share) - gf) * 100 <= 0.4


@given(shares, shares, betas)
def test_between_zero_and_the_larger_and_zero_if_either_is(one: float, other: float, beta: float) -> None:
    found = generalization_factor(one, other, beta)
    assert isinstance(found, float)
    if min(one, other) == 0:
        assert found == 0
    else:
        assert min(one, other) <= found <= max(one, other)


@given(shares, betas)
def test_equal_inputs_give_that_value(share: float, beta: float) -> None:
    assert generalization_factor(share, share, beta) == share


@given(shares, shares, st.floats(0, 0.5), betas)
def test_more_of_either_is_never_less(one: float, other: float, more: float, beta: float) -> None:
    assert generalization_factor(one + more, other, beta) >= generalization_factor(one, other, beta) - 1e-12
    assert generalization_factor(one, other + more, beta) >= generalization_factor(one, other, beta) - 1e-12


@given(shares, shares, betas)
def test_it_is_the_formula_as_it_is_written(one: float, other: float, beta: float) -> None:
    assume(min(one, other) > 1e-9)
    written = (1 + beta**2) * one * other / (beta**2 * one + other)
    assert generalization_factor(one, other, beta) == pytest.approx(written, rel=1e-9)


@given(shares, shares)
def test_at_beta_one_id_and_ood_are_symmetric(one: float, other: float) -> None:
    assert generalization_factor(one, other, 1) == pytest.approx(generalization_factor(other, one, 1), rel=1e-12)


def test_shapes_negatives_and_percent() -> None:
    assert generalization_factor(np.array([0.5, 0.2]), 0.5).tolist() == [0.5, generalization_factor(0.2, 0.5)]
    assert generalization_factor(np.ones((2, 1)), np.ones(3)).shape == (2, 3)
    assert generalization_factor(-0.1, 0.9) == 0 and generalization_factor(0.9, -0.1) == 0
    assert generalization_factor(np.float64(0.5), np.array(0.5)) == 0.5
    assert generalization_factor(98.3, 69.1) == pytest.approx(100 * generalization_factor(0.983, 0.691))
    assert generalization_factor(5e-324, 1.0) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize("beta", [0, -1, math.nan, math.inf, 1e7])
def test_a_beta_without_meaning_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta"):
        generalization_factor(0.5, 0.5, beta)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, [0.5, math.nan]])
def test_undefined_performance_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="finite"):
        generalization_factor(wrong, 0.5)  # type: ignore[call-overload]


def test_readings_of_the_gain() -> None:
    assert gain_over(0.7, 0.4, "score") == 0.7
    assert gain_over(0.7, 0.4, "difference") == pytest.approx(0.3)
    assert gain_over(0.7, 0.4, "normalized") == pytest.approx(0.5)
    assert gain_over(0.3, 0.4, "difference") == pytest.approx(-0.1)
    assert np.isnan(gain_over(1.0, 1.0, "normalized"))
    assert choose_gain(None, True) == "difference" and choose_gain(None, False) == "score"
    for bad in ("points", "difference", "normalized"):
        with pytest.raises(ConfigError):
            choose_gain(bad, False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--base"):
        gain_over(0.5, None, "normalized")


def scores(
    name: str, id_values: np.ndarray, ood_values: np.ndarray, step: int | None = 1, groups: bool = True
) -> CheckpointScores:
    def role(values: np.ndarray, prefix: str) -> SampleValues:
        ids = tuple(f"{prefix}{i}" for i in range(len(values)))
        clusters = tuple(f"q{i % 40}" for i in range(len(values))) if groups else ids
        return SampleValues(ids, clusters, np.asarray(values, float), len(values), int(np.isnan(values).sum()))

    return CheckpointScores(name, step, role(id_values, "id"), role(ood_values, "ood"), "run-id", "run-ood")


def draw(chance: float, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(1, chance, n).astype(float)


QUICK = Resampling(400)


def test_a_series_by_scores_names_everything() -> None:
    found = generalization_series("dpo", [scores("dpo-5", draw(0.9, 40, 0), draw(0.4, 240, 1), 5)], resampling=QUICK)
    (point,) = found.points
    assert (found.gain, found.beta, found.base, found.resampling.seed) == ("score", 2.0, None, 0)
    assert point.id.value is not None and point.ood.value is not None and point.gf is not None
    assert point.gf == generalization_factor(point.id.value, point.ood.value)
    assert (point.id_gain, point.ood_gain) == (point.id.value, point.ood.value)
    assert point.interval is not None and point.interval.low < point.gf < point.interval.high
    assert (point.interval.method, point.interval.n_draws) == ("cluster bootstrap", 400)
    assert (point.id.n_samples, point.ood.n_samples, point.regressed, point.id_run) == (40, 240, (), "run-id")


def test_gains_over_a_base_and_regressions() -> None:
    base = scores("base", draw(0.4, 40, 2), draw(0.3, 240, 3), None)
    better = scores("dpo-5", draw(0.9, 40, 4), draw(0.6, 240, 5), 5)
    worse = scores("dpo-9", draw(0.95, 40, 6), draw(0.1, 240, 7), 9)
    found = generalization_series("dpo", [better, worse], base, resampling=QUICK)
    assert found.gain == "difference" and found.base == "base"
    first, second, third = found.points
    assert first.is_base and first.gf == 0 and first.interval is None and "by definition" in str(first.reason)
    assert second.id_gain == pytest.approx(better.id.values.mean() - base.id.values.mean())
    assert second.gf == pytest.approx(generalization_factor(second.id_gain or 0, second.ood_gain or 0))
    assert third.gf == 0 and third.regressed == ("ood",) and third.ood_gain is not None and third.ood_gain < 0
    assert third.interval is not None and third.interval.low == 0
    by_room = generalization_series("dpo", [better], base, gain="normalized", resampling=QUICK).points[1]
    expected = (better.ood.values.mean() - base.ood.values.mean()) / (1 - base.ood.values.mean())
    assert by_room.ood_gain == pytest.approx(expected)
    by_score = generalization_series("dpo", [better], base, gain="score", resampling=QUICK)
    assert by_score.points[0].is_base and by_score.points[0].interval is not None


def test_a_perfect_base_leaves_nothing_to_gain() -> None:
    base = scores("base", np.ones(40), draw(0.3, 240, 3))
    found = generalization_series("s", [scores("c", np.ones(40), np.ones(240))], base, gain="normalized").points[1]
    assert found.gf is None and found.interval is None and "100 %" in str(found.reason)


def test_format_following_at_the_ends_has_no_interval_of_no_width() -> None:
    (point,) = generalization_series("s", [scores("c", np.ones(40), np.zeros(240))], resampling=QUICK).points
    assert point.gf == 0 and point.interval is not None and point.interval.low == 0 and point.interval.high > 0.01
    (point,) = generalization_series("s", [scores("c", np.ones(40), np.ones(240))], resampling=QUICK).points
    assert point.gf == 1 and point.interval is not None and point.interval.high == 1 and point.interval.low < 0.99


def test_what_failed_is_left_out_counted_and_explained() -> None:
    partly = draw(0.9, 40, 0)
    partly[:3] = np.nan
    lost = scores("lost", np.full(40, np.nan), draw(0.5, 240, 1), 2)
    found = generalization_series("s", [scores("partly", partly, draw(0.5, 240, 1)), lost], resampling=QUICK)
    first, second = found.points
    assert first.id.n_samples == 37 and first.id.n_unscored == 3 and first.interval is not None
    assert second.gf is None and second.reason == "no rollout was scored" and second.ood.value is not None
    over_lost = generalization_series("s", [scores("c", draw(0.5, 40, 3), draw(0.5, 240, 4))], lost).points[1]
    assert over_lost.gf is None and "base" in str(over_lost.reason)


def test_a_point_does_not_depend_on_its_neighbours() -> None:
    one, other = (scores(f"c{i}", draw(0.8, 40, i), draw(0.5, 240, 10 + i), i) for i in (1, 2))
    alone = generalization_series("s", [other], resampling=QUICK).points[0]
    assert generalization_series("s", [one, other], resampling=QUICK).points[1] == alone


def test_other_samples_are_not_compared() -> None:
    one, other = scores("a", draw(0.8, 40, 1), draw(0.5, 240, 2)), scores("b", draw(0.8, 30, 1), draw(0.5, 240, 2))
    with pytest.raises(ComparisonError, match=r"b and a answered different ID samples \(30 and 40, 30 in common\)"):
        generalization_series("s", [one, other])


def test_pairing_narrows_a_difference() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.random(400)
    base, trained = (np.clip(difficulty + gain + generator.normal(0, 0.02, 400), 0, 1) for gain in (0.0, 0.1))
    here, elsewhere = (tuple(f"{place}{i}" for i in range(400)) for place in ("here", "elsewhere"))

    def spread(base_clusters: tuple[str, ...]) -> float:
        roles = [SampleValues(here, here, trained, 400, 0), SampleValues(here, base_clusters, base, 400, 0)]
        draws = bootstrap_ratios([[share_totals(role) for role in roles]], 2000, np.random.default_rng(0))[0]
        return float((draws[0] - draws[1]).std())

    assert spread(here) < 0.3 * spread(elsewhere)


def test_other_groups_of_the_same_samples_are_not_compared() -> None:
    one, other = (scores(name, draw(0.8, 40, 1), draw(0.5, 240, 2), groups=name == "a") for name in "ab")
    with pytest.raises(ComparisonError, match="group the same ID samples differently"):
        generalization_series("s", [one, other])


def test_series_dicts_are_plain_json() -> None:
    found = generalization_series("s", [scores("c", draw(0.8, 40, 1), draw(0.5, 240, 2))], resampling=QUICK)
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["points"][0]["gf"] == found.points[0].gf and facts["gain"] == "score"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id_share", "ood_share", "n", "formats", "correlation"),
    [(0.98, 0.7, 100, 1, 0.0), (0.97, 0.3, 100, 6, 0.2), (0.9, 0.6, 60, 3, 0.3), (0.98, 0.05, 150, 6, 0.05)],
)
def test_gf_intervals_cover_as_often_as_they_say(
    id_share: float, ood_share: float, n: int, formats: int, correlation: float
) -> None:
    generator = np.random.default_rng(77)
    truth, covered = generalization_factor(id_share, ood_share), 0
    questions = tuple(f"q{i}" for i in range(n))
    repeated = tuple(question for question in questions for _ in range(formats))
    oods = tuple(f"{question}/{i}" for i, question in enumerate(repeated))
    for _ in range(2000):
        chances = np.full(n, ood_share)
        if correlation:
            scale = 1 / correlation - 1
            chances = generator.beta(ood_share * scale, (1 - ood_share) * scale, n)
        id_values = generator.binomial(1, id_share, n).astype(float)
        ood_values = generator.binomial(1, np.repeat(chances, formats)).astype(float)
        one = CheckpointScores(
            "c", 1, SampleValues(questions, questions, id_values, n, 0), SampleValues(oods, repeated, ood_values, n, 0)
        )
        interval = generalization_series("s", [one], resampling=Resampling(1000)).points[0].interval
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
def test_gf_intervals_near_zero_are_cautious_rather_than_certain() -> None:
    generator = np.random.default_rng(78)
    truth, n = generalization_factor(0.995, 0.02), 60
    questions = tuple(f"q{i}" for i in range(n))
    covered = 0
    for _ in range(2000):
        roles = [
            SampleValues(questions, questions, generator.binomial(1, p, n).astype(float), n, 0) for p in (0.995, 0.02)
        ]
        one = CheckpointScores("c", 1, *roles)
        interval = generalization_series("s", [one], resampling=Resampling(1000)).points[0].interval
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert covered / 2000 >= 0.95, "the plain bootstrap reaches 0.72 here"
