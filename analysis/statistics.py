"""Means of shares with honest uncertainty: clustered standard errors and intervals that never shrink to a point.

Every number that leaves this room is an `Estimate`: value, standard error, interval, what it was computed from, and the
reason when one of them is undefined. Undefined is None, never 0 and never NaN.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, SampleValues
from specs_eval.errors import ConfigError

IntervalMethod = Literal["wilson", "t", "tango", "cluster bootstrap", "m-out-of-n bootstrap", "confidence sequence"]

_LARGE_DF = 200
"""Above this the asymptotic expansion of the t quantile is right to 1e-7."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and all that is needed to compute it again."""

    low: float
    high: float
    level: float
    """Nominal coverage, in (0, 1)."""
    method: IntervalMethod
    n_draws: int | None = None
    """Resamples; None for a closed form."""
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The interval as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number, its uncertainty and its provenance."""

    value: float | None
    """None: undefined, see `reason`."""
    stderr: float | None
    """Standard error, clustered where samples form groups; None: undefined, or not used by the interval."""
    interval: Interval | None
    n_samples: int
    """Samples that entered."""
    n_clusters: int
    """Independent groups that they form; equal to n_samples where each stands alone."""
    n_unscored: int = 0
    """Rollouts that are left out because they have no value."""
    reason: str | None = None
    """Why value, or the interval of a defined value, is None."""

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain JSON types."""
        return asdict(self)


def undefined(reason: str, n_unscored: int = 0) -> Estimate:
    """An estimate that does not exist, with the reason."""
    return Estimate(None, None, None, 0, 0, n_unscored, reason)


def summarize(samples: SampleValues, level: float = 0.95) -> Estimate:
    """Mean over samples of one metric of one run, every sample with equal weight; higher is better.

    The interval is a closed form, so the same run shows the same interval in every table and no seed is needed:
    Wilson's at the effective sample size (`share_interval`) for shares, Student's t for a metric that leaves [0, 1].

    Args:
        samples: a metric by sample (`specs_eval.analysis.samples`).
        level: nominal coverage, in (0, 1).

    Returns:
        The mean; undefined when no rollout was scored. With a single cluster the mean stands without stderr and
        interval: one group cannot show how groups vary.

    Raises:
        ConfigError: level outside (0, 1).
    """
    check_level(level)
    values, codes = samples.scored_values()
    if not len(values):
        return undefined("no rollout was scored", samples.n_unscored)
    mean = float(values.mean())
    n_clusters = len(np.unique(codes))
    if n_clusters < 2:
        what = "sample" if len(values) == 1 else "cluster of samples"
        reason = f"a single {what} cannot show how much results vary"
        return Estimate(mean, None, None, len(values), n_clusters, samples.n_unscored, reason)
    stderr = clustered_stderr(values, codes)
    assert stderr is not None, "two clusters have at least two samples"
    interval = _mean_interval(values, mean, stderr, n_clusters, level)
    return Estimate(mean, stderr, interval, len(values), n_clusters, samples.n_unscored)


def clustered_stderr(values: FloatArray, clusters: IntArray) -> float | None:
    """Standard error of a mean whose samples come in groups (same image, same source question).

    Args:
        values: shape (n,).
        clusters: group code of each value, shape (n,), any integers >= 0.

    Returns:
        The standard error, >= 0; None for n < 2. With one value a cluster it is the plain standard error.

    Reference: Miller, arXiv 2411.00640, eq. 4: the squared plain error plus the sum over pairs inside a cluster of the
    products of their deviations, over n squared. The pairs are summed as (cluster total)^2 - sum of squares.
    """
    n = len(values)
    if n < 2:
        return None
    deviations = values - values.mean()
    squares = float(deviations @ deviations)
    _, codes = np.unique(clusters, return_inverse=True)
    totals = np.bincount(codes, weights=deviations)
    pairs = float(totals @ totals) - squares
    return math.sqrt(max(squares / (n * (n - 1)) + pairs / n**2, 0.0))


def effective_samples(share: float, stderr: float, n_clusters: int) -> float:
    """How many independent yes/no samples would give a share this standard error.

    At a share of exactly 0 or 1, or with no spread at all, the data show no variance and cannot say how much of it is
    shared inside a cluster; then each cluster counts once, which is right when its members agree and else cautious.

    Returns:
        A number >= 1.
    """
    if stderr <= 1e-12 or not 0 < share < 1:
        return float(max(n_clusters, 1))
    return max(share * (1 - share) / stderr**2, 1.0)


def share_interval(share: float, stderr: float, n_clusters: int, level: float = 0.95) -> Interval:
    """Interval of a mean of values in [0, 1], for yes/no and graded scores, with or without clusters.

    Wilson's score interval at the effective sample size, with Student's t of n_clusters - 1 degrees of freedom for the
    normal quantile. It stays inside [0, 1], holds the share, and has positive width at 0/n and n/n: there the upper
    (lower) end is t^2 / (n_clusters + t^2), close to the exact Clopper-Pearson end. The percentile bootstrap was
    rejected for this: it gives [0, 0] at 0/n, and format following sits at the ends.

    Args:
        share: in [0, 1].
        stderr: of the share, clustered.
        n_clusters: independent groups, >= 2.
        level: nominal coverage.

    Reference: Wilson 1927; with the effective sample size as in Korn and Graubard 1998 and Franco et al. 2019.
    """
    quantile = t_quantile((1 + level) / 2, n_clusters - 1)
    spread = quantile**2 / effective_samples(share, stderr, n_clusters)
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return Interval(max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0), level, "wilson")


@lru_cache(maxsize=256)
def t_quantile(share: float, df: int) -> float:
    """Quantile of Student's t distribution.

    Args:
        share: probability below the quantile, in [0.5, 1).
        df: degrees of freedom, >= 1.

    Reference: Abramowitz and Stegun 26.7.3-4 (exact for integer df), inverted by bisection; 26.7.5 for large df.
    """
    if df > _LARGE_DF:
        z = NormalDist().inv_cdf(share)
        terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        return z + terms[0] / df + terms[1] / df**2 + terms[2] / df**3
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if _t_mass(middle, df) < 2 * share - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan((low + high) / 2)


def t_tail(statistic: float, df: int) -> float:
    """Chance that Student's t exceeds a value.

    Args:
        statistic: any number, infinities included.
        df: degrees of freedom, >= 1.

    Reference: Abramowitz and Stegun 26.7.3-4 (exact for integer df); 26.7.8, a normal approximation, for large df.
    """
    if math.isinf(statistic):
        return 0.0 if statistic > 0 else 1.0
    if df > _LARGE_DF:
        z = statistic * (1 - 1 / (4 * df)) / math.sqrt(1 + statistic**2 / (2 * df))
        return NormalDist().cdf(-z)
    inside = _t_mass(math.atan(abs(statistic) / math.sqrt(df)), df)
    return (1 - inside) / 2 if statistic > 0 else (1 + inside) / 2


def check_level(level: float) -> None:
    """Refuse a coverage that is not a share.

    Raises:
        ConfigError: level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, such as 0.95, not {level}")


def _mean_interval(values: FloatArray, mean: float, stderr: float, n_clusters: int, level: float) -> Interval:
    if values.min() >= 0 and values.max() <= 1:
        return share_interval(mean, stderr, n_clusters, level)
    half = t_quantile((1 + level) / 2, n_clusters - 1) * stderr
    return Interval(mean - half, mean + half, level, "t")


def _t_mass(theta: float, df: int) -> float:
    """Probability that |t| <= sqrt(df) * tan(theta)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(2 + odd, df + 1, 2):
        total += term
        term *= cosine**2 * (step - 1) / step
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
