"""The least-squares line: the published three points, numpy's own, its properties, and what is undefined."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from gf_stores import scores
from hypothesis import assume, given
from hypothesis import strategies as st

from specs_eval.analysis.final_performance import final_performance, final_point, macro_mean, representative
from specs_eval.analysis.regression_line import regression_line
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.series import generalization_series
from specs_eval.errors import ConfigError

POINTS = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=20)
QUICK = Resampling(400)


def test_the_published_line() -> None:
    line = regression_line([69.2, 89.7, 94.6], [47.11, 47.63, 48.22])
    assert line.r_squared == pytest.approx(0.864, abs=5e-4) and line.n_points == 3 and line.reason is None
    # By hand: 13.915 / 363.14, through the means (84.5, 47.6533).
    assert line.slope == pytest.approx(0.038319, abs=1e-6) and line.intercept == pytest.approx(44.4154, abs=1e-4)
    # One degree of freedom: three points do not show that the slope is above 0.
    assert line.slope_interval is not None and line.slope_interval.low < 0 < line.slope_interval.high
    stderr = (line.slope_interval.high - line.slope) / 12.7062
    assert line.slope / stderr == pytest.approx(math.sqrt(line.r_squared / (1 - line.r_squared)), rel=1e-4)


@given(POINTS, st.integers(0, 100))
def test_it_is_numpys(points: list[tuple[float, float]], seed: int) -> None:
    x, y = np.array(points).T
    assume(np.ptp(x) > 0.1 and np.ptp(y) > 0.1)
    line = regression_line(x.tolist(), y.tolist())
    assert line.slope is not None and line.intercept is not None and line.r_squared is not None
    slope, intercept = np.polyfit(x, y, 1)
    assert line.slope == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert line.intercept == pytest.approx(intercept, rel=1e-6, abs=1e-7)
    assert line.r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=1e-9) and 0 <= line.r_squared <= 1
    order = np.random.default_rng(seed).permutation(len(x))
    shuffled = regression_line(x[order].tolist(), y[order].tolist())
    assert shuffled.r_squared == pytest.approx(line.r_squared, abs=1e-9)
    assert regression_line(y.tolist(), x.tolist()).r_squared == pytest.approx(line.r_squared, abs=1e-9)


def test_a_perfect_line() -> None:
    line = regression_line([0.1, 0.2, 0.4], [1.2, 1.4, 1.8])
    assert line.r_squared == pytest.approx(1) and line.slope == pytest.approx(2) and line.intercept == pytest.approx(1)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "0 points"),
        ([1.0], [1.0], "1 point;"),
        ([1.0, 2.0], [1.0, 2.0], "2 points"),
        ([0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0], "the same x"),
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], "the same y"),
    ],
)
def test_no_line(x: list[float], y: list[float], reason: str) -> None:
    line = regression_line(x, y)
    assert (line.slope, line.intercept, line.r_squared, line.slope_interval) == (None, None, None, None)
    assert reason in str(line.reason) and line.n_points == len(x)


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [1.0]), ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0])])
def test_points_that_are_none(x: list[float], y: list[float]) -> None:
    with pytest.raises(ConfigError):
        regression_line(x, y)


def part(values: list[float], prefix: str = "s") -> SampleValues:
    ids = tuple(f"{prefix}{i}" for i in range(len(values)))
    return SampleValues(ids, ids, np.array(values, float), len(values), int(np.isnan(values).sum()))


def test_every_task_counts_once() -> None:
    many, few = part([1.0, 0.0] * 50), part([1.0, 1.0, 1.0, 0.0], "t")
    found = macro_mean([many, few], QUICK)
    assert found.value == pytest.approx((0.5 + 0.75) / 2) and found.n_samples == 104 and found.interval is not None
    assert found.interval.low < 0.625 < found.interval.high
    # Independent tasks: variances of the two means add, over 4; few has one pseudo-observation beside four samples.
    assert found.stderr == pytest.approx(math.sqrt(0.25 / 100 + 0.75 * 0.25 / 5) / 2, rel=0.2)


def test_a_task_without_scores_or_with_one_cluster() -> None:
    lost = macro_mean([part([1.0, 0.0]), part([math.nan, math.nan], "t")], QUICK)
    assert lost.value is None and lost.n_unscored == 2 and "without a scored rollout" in str(lost.reason)
    single = macro_mean([part([1.0, 0.0]), part([1.0], "t")], QUICK)
    assert single.value == pytest.approx(0.75) and single.interval is None and "single cluster" in str(single.reason)


def test_last_or_best_stands_for_a_series() -> None:
    def checkpoint(step: int, right: int) -> object:
        return scores(f"c{step}", np.ones(10), (np.arange(10) < right).astype(float)[:, None], step)

    series = generalization_series("s", [checkpoint(5, 3), checkpoint(10, 8), checkpoint(15, 5)], resampling=QUICK)  # type: ignore[list-item]
    last, best = representative(series, "last"), representative(series, "best")
    assert last is not None and best is not None and (last.checkpoint, best.checkpoint) == ("c15", "c10")
    points = [
        final_point("s", point, {"mmmu": part([1.0, 0.0, value])}, QUICK)
        for point, value in ((series.points[0], 0.2), (best, 0.9), (last, 0.4))
    ]
    found = final_performance(points, ["mmmu"], "score", "last", 0.95)
    x, y = [point.gf for point in points], [(1 + value) / 3 for value in (0.2, 0.9, 0.4)]
    assert found.line.r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["points"][1]["end"] == "c10" and facts["points"][1]["tasks"][0]["score"]["value"] == pytest.approx(
        y[1]
    )
    lost = generalization_series("s", [scores("c", np.full(4, math.nan), np.ones((4, 1)))], resampling=QUICK)
    assert representative(lost, "last") is None and representative(lost, "best") is None
