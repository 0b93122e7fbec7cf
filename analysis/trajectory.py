"""Where along a series a number peaked, and where it changed for good: "GF fell after step 400", with how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.best_checkpoint import best_set
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import check_level

FEWEST_POINTS = 3
"""With two checkpoints a change can only lie between them: nothing is to be found."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """One change of level: all checkpoints up to `after` against all later ones."""

    after: int
    """Step of the last checkpoint before the change."""
    before: int
    """Step of the first checkpoint after it."""
    size: float
    """Mean of the later checkpoints minus mean of the earlier ones; negative: a fall."""
    low: float
    """Interval of the size at the place found, at `level`."""
    high: float
    earliest: int
    """Interval of the place: the change lies after a step from `earliest` to `latest`, at `level`."""
    latest: int
    p: float
    """p value of "there is no change anywhere", with the search over places taken into account."""
    level: float

    @property
    def found(self) -> bool:
        """Whether "no change anywhere" is rejected at 1 - level."""
        return self.p <= 1 - self.level


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The course of one number along a series."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    peak: int
    """Step of the highest value."""
    may_be_peak: tuple[int, ...]
    """Steps that may be the true peak, at `level`; the peak among them."""
    change: ChangePoint | None
    """The largest change of level, whether or not it is significant; None: undefined, see `reason`."""
    level: float
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as plain JSON types."""
        return asdict(self)


def trajectory(steps: Sequence[int], values: FloatArray, draws: FloatArray, level: float = 0.95) -> Trajectory:
    """Find the peak and the change point of a curve whose points share their questions.

    Args:
        steps: ascending, length n_points.
        values: the number at each step, shape (n_points,).
        draws: the same resampled over common questions, shape (n_points, n_draws).
        level: confidence of both sets, in (0, 1).

    Returns:
        The change point is the split of the series into two levels with the smallest squared error (Bai 1997). Its p value
        compares the largest standardized contrast over all places with its resampled distribution around the curve
        itself, so that looking everywhere is paid for. The interval of its place comes from the same resamples.

    Raises:
        ValueError: shapes that do not fit, or steps that do not ascend.
    """
    check_level(level)
    n = len(steps)
    if values.shape != (n,) or draws.ndim != 2 or len(draws) != n or list(steps) != sorted(set(steps)) or not n:
        raise ValueError("steps must ascend, and values and draws have a row each")
    peak = int(values.argmax())
    may_be_peak = tuple(step for step, may in zip(steps, best_set(values, draws, level), strict=True) if may)
    change: ChangePoint | None = None
    reason: str | None = f"{n} checkpoints: a change point needs at least {FEWEST_POINTS}"
    if n >= FEWEST_POINTS:
        change, reason = _change(steps, values, draws, level)
    return Trajectory(tuple(steps), tuple(values.tolist()), steps[peak], may_be_peak, change, level, reason)


def _change(
    steps: Sequence[int], values: FloatArray, draws: FloatArray, level: float
) -> tuple[ChangePoint | None, str | None]:
    contrasts = _contrasts(len(values))
    observed, drawn = contrasts @ values, contrasts @ draws
    spread = drawn.std(axis=1, ddof=1)
    if (spread <= 1e-12).any():
        return None, "the resamples do not vary: nothing shows how much the numbers would"
    # How much a split explains: its contrast, weighed by how evenly it parts the series.
    weight = np.sqrt(_evenness(len(values)))
    place = int(np.abs(weight * observed).argmax())
    noise = np.abs((drawn - drawn.mean(axis=1, keepdims=True)) / spread[:, None]).max(axis=0)
    statistic = float(np.abs(observed / spread).max())
    p = (1 + int((noise >= statistic).sum())) / (len(noise) + 1)
    places = np.abs(weight[:, None] * (drawn - drawn.mean(axis=1, keepdims=True) + observed[:, None])).argmax(axis=0)
    tail = (1 - level) / 2
    first, last = np.quantile(places, [tail, 1 - tail], method="nearest").astype(int)
    low, high = np.quantile(drawn[place], [tail, 1 - tail])
    return ChangePoint(
        after=steps[place],
        before=steps[place + 1],
        size=float(observed[place]),
        low=min(float(low), float(observed[place])),
        high=max(float(high), float(observed[place])),
        earliest=steps[min(int(first), place)],
        latest=steps[max(int(last), place)],
        p=p,
        level=level,
    ), None


def _contrasts(n: int) -> FloatArray:
    """Mean after minus mean before, for every place to split n points, shape (n - 1, n)."""
    rows = np.zeros((n - 1, n))
    for place in range(n - 1):
        rows[place, : place + 1] = -1 / (place + 1)
        rows[place, place + 1 :] = 1 / (n - 1 - place)
    return rows


def _evenness(n: int) -> FloatArray:
    """n_before * n_after / n of every split, shape (n - 1,)."""
    before = np.arange(1, n)
    shares: FloatArray = before * (n - before) / n
    return shares
