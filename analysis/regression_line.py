"""The least-squares line through a few points, and how much of the scatter it explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.statistics import Interval, check_level, t_quantile
from specs_eval.errors import ConfigError

_FEWEST = 3
"""Points that a line can fail to go through."""


@dataclass(frozen=True, slots=True)
class RegressionLine:
    """y = intercept + slope * x, in the units of the points."""

    slope: float | None
    """None: undefined, see `reason`."""
    intercept: float | None
    slope_interval: Interval | None
    """Student's t with n - 2 degrees of freedom: wide for few points, as it should be."""
    r_squared: float | None
    """Share of the variance of y that the line explains, in [0, 1]."""
    n_points: int
    reason: str | None
    """Why there is no line."""

    def to_dict(self) -> dict[str, Any]:
        """The line as plain JSON types."""
        return asdict(self)


def regression_line(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> RegressionLine:
    """Ordinary least squares of y on x.

    Args:
        x: shape (n,), finite.
        y: shape (n,), finite.
        level: of the interval of the slope, in (0, 1).

    Returns:
        The line; undefined for fewer than three points (two always lie on a line) and where x or y do not vary.

    Raises:
        ConfigError: different lengths, a value that is not finite, or level outside (0, 1).

    Reference: R^2 as in the figure "GF against final performance" of SPECS, arXiv 2510.25801.

    >>> round(regression_line([69.2, 89.7, 94.6], [47.11, 47.63, 48.22]).r_squared, 3)
    0.864
    """
    check_level(level)
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.shape != ys.shape or xs.ndim != 1 or not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ConfigError("a line needs as many finite x as finite y")
    n = len(xs)
    if n < _FEWEST:
        return _undefined(n, f"{n} point{'' if n == 1 else 's'}; a line says something from three on")
    across, up = xs - xs.mean(), ys - ys.mean()
    width, height = _squares(across, xs), _squares(up, ys)
    if width == 0 or height == 0:
        return _undefined(n, f"all points have the same {'x' if width == 0 else 'y'}")
    slope = float(across @ up) / width
    missed = up - slope * across
    r_squared = min(max(1 - float(missed @ missed) / height, 0.0), 1.0)
    stderr = math.sqrt(float(missed @ missed) / (n - 2) / width)
    half = t_quantile((1 + level) / 2, n - 2) * stderr
    interval = Interval(slope - half, slope + half, level, "t")
    return RegressionLine(slope, float(ys.mean() - slope * xs.mean()), interval, r_squared, n, None)


def _squares(deviations: np.ndarray, values: np.ndarray) -> float:
    """Sum of squares; 0 where all that varies is rounding."""
    if np.abs(deviations).max() <= 1e-12 * max(float(np.abs(values).max()), 1e-300):
        return 0.0
    return float(deviations @ deviations)


def _undefined(n: int, reason: str) -> RegressionLine:
    return RegressionLine(None, None, None, None, n, reason)
