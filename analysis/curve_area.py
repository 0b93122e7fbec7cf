"""Area under a curve over training steps, as the mean height of the curve between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.resampling import Resampling, percentile_interval
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import Interval


@dataclass(frozen=True, slots=True)
class CurveArea:
    """Area under a curve of shares, divided by the range of steps: its mean height. Higher is better."""

    value: float | None
    """In [0, 1] for shares; None: undefined, see `reason`."""
    interval: Interval | None
    first_step: int | None
    """Where the range starts and ends; None without a range."""
    last_step: int | None
    n_points: int
    """Points of the curve, those outside the range included."""
    reason: str | None
    """Why value, or its interval, is None."""

    def to_dict(self) -> dict[str, Any]:
        """The area as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The points of one curve that have a step and a value, in step order."""

    steps: FloatArray
    """Different ones, rising, shape (n_points,)."""
    values: FloatArray
    draws: FloatArray
    """Resampled values, shape (n_points, n_draws)."""
    reason: str | None = None
    """Why there is no curve."""
    no_interval: str | None = None
    """Why there is a curve but nothing that shows how it varies."""

    @property
    def span(self) -> tuple[int, int]:
        """First and last step."""
        return int(self.steps[0]), int(self.steps[-1])


def curve_of(
    steps: Sequence[int | None], values: Sequence[float | None], draws: FloatArray, no_interval: str | None = None
) -> Curve:
    """The curve through the points that have a step and a value.

    Args:
        steps: of each point; None: without one, left out.
        values: of each point; None: undefined, left out.
        draws: resampled values, shape (n_points, n_draws).
        no_interval: why draws are not to be believed; None: they are.
    """
    pairs = zip(steps, values, strict=True)
    used = [i for i, (step, value) in enumerate(pairs) if step is not None and value is not None]
    used.sort(key=lambda i: steps[i] or 0)
    places = np.array([steps[i] for i in used], dtype=np.float64)
    heights = np.array([values[i] for i in used], dtype=np.float64)
    reason = None
    if len(used) < 2:
        reason = "a curve needs two checkpoints with a step and a defined value"
    elif (np.diff(places) <= 0).any():
        twice = int(places[1:][np.diff(places) <= 0][0])
        reason = f"two checkpoints have step {twice:,}"
    return Curve(places, heights, draws[used], reason, no_interval)


def curve_area(curve: Curve, resampling: Resampling, span: tuple[int, int] | None = None) -> CurveArea:
    """Area under the straight lines between the points, over the range of steps, with a bootstrap interval.

    Args:
        curve: its points.
        resampling: what the draws were made with.
        span: first and last step; None: those of the curve. Ends between two points are interpolated.

    Raises:
        ValueError: a span that the curve does not reach over.
    """
    if curve.reason is not None:
        return CurveArea(None, None, None, None, len(curve.steps), curve.reason)
    first, last = span or curve.span
    weights = trapezoid_weights(curve.steps, first, last)
    value = float(weights @ curve.values)
    interval = None if curve.no_interval else percentile_interval(weights @ curve.draws, value, resampling)
    return CurveArea(value, interval, first, last, len(curve.steps), curve.no_interval)


def trapezoid_weights(steps: FloatArray, first: float, last: float) -> FloatArray:
    """Weight of each point in the mean height of the piecewise-linear curve between two steps.

    Args:
        steps: rising, shape (n_points,), n_points >= 2.
        first: start of the range, steps[0] <= first < last.
        last: its end, <= steps[-1].

    Returns:
        Weights >= 0 that sum to 1, shape (n_points,).

    Raises:
        ValueError: a range that is empty or leaves the curve.

    >>> trapezoid_weights(np.array([0.0, 10.0, 20.0]), 0, 20).tolist()
    [0.25, 0.5, 0.25]
    """
    if not steps[0] <= first < last <= steps[-1]:
        raise ValueError(f"steps {first} to {last} are not a range inside {steps[0]} to {steps[-1]}")
    corners = np.concatenate([[first], steps[(steps > first) & (steps < last)], [last]])
    widths = np.diff(corners)
    heights = np.zeros(len(corners))
    heights[:-1] += widths / 2
    heights[1:] += widths / 2
    hats = np.array([np.interp(corners, steps, unit) for unit in np.eye(len(steps))])
    return np.asarray(hats @ heights / (last - first), dtype=np.float64)
