"""Two checkpoints on the same samples: pairs, their mean difference and an interval that never shrinks to a point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.samples import BoolArray, FloatArray, IntArray, Rollouts, SampleValues, label_codes
from specs_eval.analysis.statistics import (
    Estimate,
    Interval,
    check_level,
    clustered_stderr,
    summarize,
    t_quantile,
    undefined,
)
from specs_eval.errors import ComparisonError

_NO_SPREAD = 1e-12
"""A standard error up to here is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedValues:
    """One metric of two checkpoints on the same samples, in the order of the baseline."""

    sample_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    """The group of each sample (same image, same source question); its own id where it stands alone."""
    baseline: FloatArray
    """Mean over the scored rollouts of each sample, shape (n_samples,); NaN: none was scored."""
    candidate: FloatArray
    """The same of the other checkpoint."""
    n_unscored: IntArray
    """Rollouts without a value of each sample, shape (2, n_samples): baseline, candidate."""

    @property
    def scored(self) -> BoolArray:
        """Which samples have a value on both sides, shape (n_samples,)."""
        return ~(np.isnan(self.baseline) | np.isnan(self.candidate))

    @property
    def n_left_out(self) -> int:
        """Samples without a value on one side or both."""
        return int(len(self.sample_ids) - self.scored.sum())

    def differences(self) -> tuple[FloatArray, IntArray]:
        """Candidate minus baseline and cluster code of each scored pair, both of shape (n_scored,)."""
        scored = self.scored
        return (self.candidate - self.baseline)[scored], label_codes(self.clusters)[scored]

    def means(self, level: float = 0.95) -> tuple[Estimate, Estimate]:
        """Baseline's and candidate's mean over the scored pairs, so that their difference is the mean difference."""
        scored = self.scored
        one, other = (
            summarize(SampleValues(self.sample_ids, self.clusters, np.where(scored, values, np.nan), n, n), level)
            for values, n in zip((self.baseline, self.candidate), self.n_unscored.sum(axis=1).tolist(), strict=True)
        )
        return one, other

    def part(self, chosen: IntArray) -> PairedValues:
        """The pairs of some samples only.

        Args:
            chosen: their positions, each once, shape (n_chosen,).
        """
        positions = chosen.tolist()
        return PairedValues(
            tuple(self.sample_ids[position] for position in positions),
            tuple(self.clusters[position] for position in positions),
            self.baseline[chosen],
            self.candidate[chosen],
            self.n_unscored[:, chosen],
        )


def pair_samples(baseline: Rollouts, candidate: Rollouts, *, overlap: bool = False) -> PairedValues:
    """Pair two runs by sample id.

    Args:
        baseline: one run.
        candidate: the other, in any order.
        overlap: use the samples that both have; otherwise both must have the same.

    Raises:
        ComparisonError: they answered different samples (without `overlap`), have none in common, or put a sample into
            different groups.
    """
    position = {sample_id: index for index, sample_id in enumerate(candidate.sample_ids)}
    here = [index for index, sample_id in enumerate(baseline.sample_ids) if sample_id in position]
    if not here:
        raise ComparisonError("the runs have no sample in common; evaluate both on the same samples")
    only = (len(baseline.sample_ids) - len(here), len(candidate.sample_ids) - len(here))
    if any(only) and not overlap:
        raise ComparisonError(
            f"the runs answered different samples: {len(here):,} in common, {only[0]:,} only in the baseline, "
            f"{only[1]:,} only in the candidate; evaluate both on the same samples, or use the common ones with --overlap"
        )
    sample_ids = tuple(baseline.sample_ids[index] for index in here)
    there = [position[sample_id] for sample_id in sample_ids]
    clusters = tuple(baseline.clusters[index] for index in here)
    moved = [i for i, (a, b) in enumerate(zip(clusters, (candidate.clusters[j] for j in there), strict=True)) if a != b]
    if moved:
        raise ComparisonError(
            f"the runs differ in the group of {len(moved):,} samples, such as {sample_ids[moved[0]]}: not the same "
            "benchmark data; evaluate both on the same"
        )
    unscored = np.stack([_unscored(baseline)[here], _unscored(candidate)[there]])
    return PairedValues(
        sample_ids, clusters, baseline.by_sample().values[here], candidate.by_sample().values[there], unscored
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """What intervals and sample sizes need to know of the differences."""

    mean: float
    """Mean difference."""
    mean_size: float
    """Mean of the absolute differences; for yes/no scores the share of samples that flipped."""
    stderr: float
    """Standard error of the mean difference, clustered."""
    n_samples: int
    n_clusters: int
    """Independent groups, >= 2."""
    bounded: bool
    """Whether both metrics lie in [0, 1]."""

    @property
    def n_effective(self) -> float:
        """How many independent yes/no pairs with this mean and this share of flips would give this standard error.

        When the differences do not vary they cannot say how much a cluster shares; then each cluster counts once.
        """
        variance = self.mean_size - self.mean**2
        if self.stderr <= _NO_SPREAD or variance <= _NO_SPREAD:
            return float(self.n_clusters)
        return max(variance / self.stderr**2, 1.0)


def spread_of(pairs: PairedValues) -> Spread | None:
    """The spread of the scored pairs; None where there are fewer than two clusters of them."""
    differences, clusters = pairs.differences()
    n_clusters = len(np.unique(clusters))
    if n_clusters < 2:
        return None
    stderr = clustered_stderr(differences, clusters)
    assert stderr is not None, "two clusters have at least two samples"
    scored = pairs.scored
    both = np.concatenate([pairs.baseline[scored], pairs.candidate[scored]])
    return Spread(
        mean=float(differences.mean()),
        mean_size=float(np.abs(differences).mean()),
        stderr=stderr,
        n_samples=len(differences),
        n_clusters=n_clusters,
        bounded=bool(both.min() >= 0 and both.max() <= 1),
    )


def mean_difference(pairs: PairedValues, level: float = 0.95) -> Estimate:
    """Mean of candidate minus baseline over the scored pairs, every sample with equal weight.

    The interval is Tango's score interval at the effective number of pairs (`tango_interval`) for shares, Student's t
    for a metric that leaves [0, 1]. Pairs without a value on either side are left out.

    Returns:
        The difference, positive when the candidate is better; undefined when no pair is scored. With a single cluster,
        or a metric without bounds whose differences are all the same, there is no interval, with the reason.
    """
    check_level(level)
    differences, _ = pairs.differences()
    n_unscored = int(pairs.n_unscored.sum())
    if not len(differences):
        return undefined("no sample is scored on both sides", n_unscored)
    spread = spread_of(pairs)
    n = len(differences)
    if spread is None:
        what = "sample" if n == 1 else "cluster of samples"
        reason = f"a single {what} cannot show how much differences vary"
        return Estimate(float(differences.mean()), None, None, n, 1, n_unscored, reason)
    interval = _interval(spread, level)
    missing = None if interval else "all differences are the same: nothing shows how much they vary"
    return Estimate(spread.mean, spread.stderr, interval, n, spread.n_clusters, n_unscored, missing)


def tango_interval(spread: Spread, level: float = 0.95) -> Interval:
    """Interval of a mean difference of two shares on the same samples, for yes/no and graded scores, clustered or not.

    Tango's score interval at the effective number of pairs, with Student's t of n_clusters - 1 degrees of freedom for
    the normal quantile: what `share_interval` is to one share, this is to a difference. It stays inside [-1, 1], holds
    the difference, swaps its ends when the runs are swapped, and where nothing differs it is plus and minus
    t^2 / (n_clusters + t^2), instead of [0, 0] as by mean +- t standard errors or by the bootstrap. Far from the ends
    and with many flips it agrees with mean +- t standard errors.

    Raises:
        ValueError: the metric is not bounded.

    Reference: Tango 1998, Statistics in Medicine 17, 891-908; recommended in Fagerland et al. 2014, Statistics in
    Medicine 33, 2850-2875. The effective number is ours, after Korn and Graubard 1998 for one share.
    """
    if not spread.bounded:
        raise ValueError("Tango's interval is for differences of shares")
    quantile = t_quantile((1 + level) / 2, spread.n_clusters - 1)
    up, down = (spread.mean_size + spread.mean) / 2, (spread.mean_size - spread.mean) / 2
    high = _upper_end(up, down, spread.n_effective, quantile)
    low = -_upper_end(down, up, spread.n_effective, quantile)
    return Interval(low, high, level, "tango")


def _interval(spread: Spread, level: float) -> Interval | None:
    if spread.bounded:
        return tango_interval(spread, level)
    if spread.stderr <= _NO_SPREAD:
        return None
    half = t_quantile((1 + level) / 2, spread.n_clusters - 1) * spread.stderr
    return Interval(spread.mean - half, spread.mean + half, level, "t")


def _unscored(rollouts: Rollouts) -> IntArray:
    """Rollouts without a value of each sample."""
    return np.bincount(rollouts.samples[~rollouts.scored], minlength=len(rollouts.sample_ids)).astype(np.int64)


def _upper_end(up: float, down: float, n: float, quantile: float) -> float:
    """The largest difference that the score test does not reject.

    Args:
        up: share of pairs that improved.
        down: share of pairs that got worse.
        n: pairs.
        quantile: of the test's statistic.
    """
    observed = up - down
    low, high = observed, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        variance = score_variance(middle, up, down)
        if (middle - observed) * math.sqrt(n) <= quantile * math.sqrt(variance):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def score_variance(difference: float, up: float, down: float) -> float:
    """Variance of one pair's difference at the most likely shares of flips that have this mean difference.

    Reference: Tango 1998, the root of the quadratic in q21; divided by n throughout.
    """
    if difference < 0:
        difference, up, down = -difference, down, up
    linear = (2 - up + down) * difference - up - down
    worse = (math.sqrt(linear**2 + 8 * down * difference * (1 - difference)) - linear) / 4
    return max(2 * worse + difference * (1 - difference), 0.0)
