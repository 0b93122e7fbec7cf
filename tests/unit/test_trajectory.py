"""Peaks and changes along a series: found where they are, not found where they are not, and honest about the place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.analysis.cluster_totals import share_totals
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios
from specs_eval.analysis.samples import FloatArray, SampleValues
from specs_eval.analysis.trajectory import trajectory

STEPS = [0, 100, 200, 300, 400, 500, 600]


def curve(generator: np.random.Generator, shares: list[float], n: int = 300) -> tuple[FloatArray, FloatArray]:
    """Shares of a series that answers the same questions, some harder than others, and their resamples."""
    hardness = generator.normal(0, 0.15, n)
    ids = tuple(f"q{i}" for i in range(n))
    rows = []
    for share in shares:
        values = (generator.random(n) < np.clip(share + hardness, 0, 1)).astype(float)
        rows.append(SampleValues(ids, ids, values, n, 0))
    draws = bootstrap_ratios([[share_totals(row)] for row in rows], 500, Resampling(500).generator())[:, 0]
    return np.array([row.values.mean() for row in rows]), draws


def test_a_fall_is_found_where_it_is() -> None:
    values, draws = curve(np.random.default_rng(0), [0.6, 0.7, 0.72, 0.71, 0.7, 0.35, 0.33])
    found = trajectory(STEPS, values, draws)
    assert found.change is not None
    assert (found.change.after, found.change.before) == (400, 500)
    assert found.change.found
    assert found.change.size < -0.25
    assert found.change.low < found.change.size < found.change.high < 0
    assert found.change.earliest <= 400 <= found.change.latest
    assert found.peak in found.may_be_peak
    assert not set(found.may_be_peak) & {500, 600}


def test_the_place_minimizes_the_squared_error_of_two_levels() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        values = generator.random(7)
        draws = values[:, None] + generator.normal(0, 0.05, (7, 200))
        errors = [np.var(values[:t]) * t + np.var(values[t:]) * (7 - t) for t in range(1, 7)]
        change = trajectory(STEPS, values, draws).change
        assert change is not None
        assert change.after == STEPS[int(np.argmin(errors))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_few_points_and_no_noise_are_told(values: list[float]) -> None:
    array = np.array(values)
    found = trajectory(STEPS[: len(values)], array, np.repeat(array[:, None], 100, axis=1))
    assert found.change is None
    assert found.reason is not None
    assert found.values[STEPS.index(found.peak)] == max(values)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        trajectory([1, 0], np.zeros(2), np.zeros((2, 10)))


@pytest.mark.slow
def test_a_flat_series_shows_no_change_at_the_promised_rate() -> None:
    """2,000 flat series: "no change" is rejected at most 5 % of the time (within 3 sigma)."""
    generator = np.random.default_rng(3)
    false = 0
    for _ in range(2000):
        values, draws = curve(generator, [0.6] * 6, n=150)
        change = trajectory(STEPS[:6], values, draws).change
        assert change is not None
        false += change.found
    assert false / 2000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000), false


@pytest.mark.slow
def test_the_interval_of_the_place_covers_it() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(500):
        values, draws = curve(generator, [0.65, 0.65, 0.65, 0.65, 0.5, 0.5, 0.5], n=150)
        change = trajectory(STEPS, values, draws).change
        assert change is not None
        covered += change.earliest <= 300 <= change.latest
    assert covered / 500 >= 0.93, covered
