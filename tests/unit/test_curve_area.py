"""Area under a curve over steps: against fine grids and closed forms, its properties, and what is undefined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.analysis.curve_area import curve_area, curve_of, trapezoid_weights
from specs_eval.analysis.resampling import Resampling

STEPS = st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True).map(sorted)
QUICK = Resampling(100)


def no_draws(n: int) -> np.ndarray:
    return np.zeros((n, 100))


@given(STEPS, st.data())
def test_weights_are_those_of_a_fine_grid(steps: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(0, 1), min_size=len(steps), max_size=len(steps)))
    first = data.draw(st.integers(steps[0], steps[-1] - 1))
    last = data.draw(st.integers(first + 1, steps[-1]))
    weights = trapezoid_weights(np.array(steps, float), first, last)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    # Corners sit at whole steps, so the trapezoid rule over whole steps is exact.
    heights = np.interp(np.arange(first, last + 1), steps, values)
    naive = sum((one + other) / 2 for one, other in itertools.pairwise(heights)) / (last - first)
    area = float(weights @ np.array(values))
    assert area == pytest.approx(naive, abs=1e-9) and min(values) - 1e-12 <= area <= max(values) + 1e-12


def test_a_straight_line_has_its_middle_as_mean_height() -> None:
    steps = np.array([0.0, 1, 7, 20])
    assert trapezoid_weights(steps, 3, 15) @ (0.1 + 0.04 * steps) == pytest.approx(0.1 + 0.04 * 9)


@pytest.mark.parametrize("span", [(5, 5), (7, 6), (-1, 5), (3, 21)])
def test_a_range_outside_the_curve_is_an_error(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range inside"):
        trapezoid_weights(np.array([0.0, 20]), *span)


@given(STEPS, st.randoms(use_true_random=False))
def test_the_order_of_the_points_changes_nothing(steps: list[int], random: object) -> None:
    values = [step / 1000 for step in steps]
    order = list(range(len(steps)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = curve_of([steps[i] for i in order], [values[i] for i in order], no_draws(len(steps)))
    found = curve_area(shuffled, QUICK)
    assert (found.first_step, found.last_step, found.n_points) == (steps[0], steps[-1], len(steps))
    assert found.value == pytest.approx((steps[0] + steps[-1]) / 2000)


def test_points_without_step_or_value_are_left_out() -> None:
    draws = np.array([[0.1, 0.2], [0.9, 0.9], [0.3, 0.5], [0.9, 0.9]]).repeat(50, axis=1)
    found = curve_area(curve_of([0, None, 10, 20], [0.2, 0.9, 0.4, None], draws), QUICK)
    assert found.value == pytest.approx(0.3) and (found.first_step, found.last_step, found.n_points) == (0, 10, 2)
    assert found.interval is not None and found.reason is None
    # The interval is that of the weighted draws: the point without a step plays no part.
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.2), pytest.approx(0.35))


@pytest.mark.parametrize(
    ("steps", "values", "reason"),
    [
        ([5], [0.5], "two checkpoints with a step"),
        ([5, None], [0.5, 0.5], "two checkpoints with a step"),
        ([5, 10], [0.5, None], "two checkpoints with a step"),
        ([5, 10, 10], [0.5, 0.5, 0.6], "two checkpoints have step 10"),
    ],
)
def test_no_curve_no_area(steps: list[int | None], values: list[float | None], reason: str) -> None:
    found = curve_area(curve_of(steps, values, no_draws(len(steps))), QUICK)
    assert found.value is None and found.interval is None and reason in str(found.reason)
    assert found.to_dict()["first_step"] is None


def test_an_area_without_interval_says_why() -> None:
    found = curve_area(curve_of([0, 10], [0.2, 0.4], no_draws(2), "a single cluster"), QUICK)
    assert found.value == pytest.approx(0.3) and found.interval is None and found.reason == "a single cluster"
