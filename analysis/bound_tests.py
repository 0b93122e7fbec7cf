"""Fixed-sample tests of a bound: is it kept, is it broken, or can these samples not tell?

Each test inverts the very interval that other pages show (Tango's for differences of shares, Wilson's for a share, Student's t,
the bootstrap), so that a verdict never contradicts the interval beside it. Non-inferiority as such: "not worse than the
bound" is a claim that must be shown, not the absence of a significant loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from specs_eval.analysis.pairs import PairedValues, Spread, mean_difference, score_variance, spread_of
from specs_eval.analysis.resampling import Resampling, percentile_interval
from specs_eval.analysis.samples import FloatArray, SampleValues
from specs_eval.analysis.statistics import Estimate, clustered_stderr, effective_samples, summarize, t_tail

Direction = Literal["at least", "at most"]

_SAME = 1e-12
"""A number that is this near to its bound is at the bound."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What must be true of a number."""

    value: float
    direction: Direction = "at least"


@dataclass(frozen=True, slots=True)
class BoundTest:
    """What a fixed sample says about a bound."""

    estimate: Estimate
    """Of the number that the bound is on."""
    p_pass: float
    """p value against "the bound is broken": small = it is kept. 1 where nothing can be told."""
    p_fail: float
    """p value against "the bound is kept": small = it is broken. 1 where nothing can be told."""
    method: str
    n_needed: int | None = None
    """Samples that would decide; None: cannot be told."""


@dataclass(frozen=True, slots=True)
class ErrorLevels:
    """How often a test may be wrong, and how often it should find what is there."""

    alpha: float = 0.05
    """Chance to pass what breaks the bound."""
    beta: float = 0.05
    """Chance to fail what keeps it."""
    power: float = 0.9
    """Chance to decide that sample sizes are planned for."""

    @property
    def level(self) -> float:
        """Coverage of the interval whose ends the two one-sided tests are at."""
        return 1 - 2 * max(self.alpha, self.beta)


def difference_test(pairs: PairedValues, bound: Bound, levels: ErrorLevels, expected: float = 0.0) -> BoundTest:
    """Test a bound on the mean of candidate minus baseline.

    Args:
        pairs: the two runs by sample.
        bound: on the difference, in the unit of the metric.
        levels: error levels; `level` of the interval follows from them.
        expected: the difference that `n_needed` is for; 0: a candidate that equals the baseline.
    """
    estimate = mean_difference(pairs, levels.level)
    spread = spread_of(pairs)
    if estimate.value is None or spread is None:
        return _untold(estimate, "paired difference")
    if spread.bounded:
        below = _t_below(_tango_statistic(spread, bound.value), spread.n_clusters)
        method = "score test of a paired difference of shares (Tango), clustered"
    elif spread.stderr > 0:
        below = _t_below((spread.mean - bound.value) / spread.stderr, spread.n_clusters)
        method = "paired t test, clustered"
    else:
        return _untold(estimate, "paired t test")
    return _test(estimate, bound, below, method, samples_for(spread, expected - bound.value, levels))


def share_test(samples: SampleValues, bound: Bound, levels: ErrorLevels, expected: float | None = None) -> BoundTest:
    """Test a bound on the mean of a share of one run.

    Args:
        samples: the run by sample, values in [0, 1].
        bound: on the mean.
        levels: error levels.
        expected: the mean that `n_needed` is for; None: no plan.
    """
    estimate = summarize(samples, levels.level)
    values, clusters = samples.scored_values()
    if estimate.value is None or estimate.n_clusters < 2:
        return _untold(estimate, "score test of a share")
    stderr = clustered_stderr(values, clusters) or 0.0
    n = effective_samples(estimate.value, stderr, estimate.n_clusters)
    statistic = _statistic(estimate.value - bound.value, bound.value * (1 - bound.value), n)
    spread = Spread(estimate.value, estimate.value, stderr, len(values), estimate.n_clusters, bounded=True)
    needed = None if expected is None else samples_for(spread, expected - bound.value, levels)
    below = _t_below(statistic, estimate.n_clusters)
    return _test(estimate, bound, below, "score test of a share (Wilson), clustered", needed)


def draws_test(estimate: Estimate, draws: FloatArray, bound: Bound, resampling: Resampling) -> BoundTest:
    """Test a bound by the bootstrap draws of a number: the share of draws on the other side.

    Args:
        estimate: the number; its interval is replaced by that of the draws.
        draws: resampled values, shape (n_draws,); NaN is left out.
        bound: on the number.
        resampling: what the draws were made with; its level is the interval's.
    """
    known = draws[~np.isnan(draws)]
    if estimate.value is None or not len(known) or np.ptp(known) <= 0:
        return _untold(estimate, "paired cluster bootstrap")
    interval = percentile_interval(known, estimate.value, resampling)
    shown = Estimate(
        estimate.value,
        float(known.std(ddof=1)),
        interval,
        estimate.n_samples,
        estimate.n_clusters,
        estimate.n_unscored,
    )
    # Draws on the bound itself speak for neither side.
    above = (1 + int((known <= bound.value).sum())) / (len(known) + 1)
    below = (1 + int((known >= bound.value).sum())) / (len(known) + 1)
    kept, broken = (above, below) if bound.direction == "at least" else (below, above)
    return BoundTest(shown, min(kept, 1.0), min(broken, 1.0), "paired cluster bootstrap")


def counted(share: float | None, bound: Bound, n_samples: int) -> BoundTest:
    """A bound on what is counted and not inferred, such as the unscored share of a run: kept or broken, for certain."""
    if share is None:
        return BoundTest(Estimate(None, None, None, 0, 0, reason="the run has no rollouts"), 1.0, 1.0, "counted")
    kept = share >= bound.value if bound.direction == "at least" else share <= bound.value
    estimate = Estimate(share, None, None, n_samples, n_samples)
    return BoundTest(estimate, 0.0 if kept else 1.0, 1.0 if kept else 0.0, "counted, not inferred")


def samples_for(spread: Spread, distance: float, levels: ErrorLevels) -> int | None:
    """Samples after which a true mean at this distance from the bound is decided with the planned power.

    (z_error + z_power)^2 * variance / distance^2, with the observed variance of one sample, clusters included, and the
    smaller of the two error levels.

    Returns:
        At least 1; None when the distance is 0 (no number of samples decides) or nothing varied.
    """
    variance = spread.stderr**2 * spread.n_samples
    if abs(distance) < _SAME or variance <= 0:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - min(levels.alpha, levels.beta)) + normal.inv_cdf(levels.power)
    return max(1, math.ceil(quantiles**2 * variance / distance**2))


def _tango_statistic(spread: Spread, bound: float) -> float:
    up, down = (spread.mean_size + spread.mean) / 2, (spread.mean_size - spread.mean) / 2
    if abs(bound) > 1:
        return math.copysign(math.inf, spread.mean - bound)
    return _statistic(spread.mean - bound, score_variance(bound, up, down), spread.n_effective)


def _statistic(distance: float, variance: float, n: float) -> float:
    """Distance in standard errors under the bound; certain where the bound leaves no room for chance."""
    if abs(distance) < _SAME:
        return 0.0
    if variance <= _SAME**2:
        return math.copysign(math.inf, distance)
    return distance * math.sqrt(n / variance)


def _t_below(statistic: float, n_clusters: int) -> float:
    """Chance of a statistic up to this one when the mean is at the bound."""
    return 1 - t_tail(statistic, n_clusters - 1)


def _test(estimate: Estimate, bound: Bound, below: float, method: str, needed: int | None) -> BoundTest:
    kept, broken = (1 - below, below) if bound.direction == "at least" else (below, 1 - below)
    return BoundTest(estimate, kept, broken, method, needed)


def _untold(estimate: Estimate, method: str) -> BoundTest:
    return BoundTest(estimate, 1.0, 1.0, method)
