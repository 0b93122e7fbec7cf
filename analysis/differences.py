"""Differences of two means that share samples or clusters: two checkpoints, or ID and OOD of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specs_eval.analysis.cluster_totals import ClusterTotals, share_totals
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios, percentile_interval, same_clusters
from specs_eval.analysis.samples import FloatArray, SampleValues
from specs_eval.analysis.statistics import Estimate, undefined

Pair = tuple[ClusterTotals, ClusterTotals]


def share_differences(pairs: Sequence[tuple[SampleValues, SampleValues]], resampling: Resampling) -> list[Estimate]:
    """Second share minus first, for many pairs, with a paired bootstrap interval.

    Each share carries pseudo-observations of its own (see `share_totals`): two shares that are both 0 in the sample may
    still differ, and the interval says by how much. Where the two have clusters in common these are drawn together.

    Returns:
        Differences in [-1, 1]. Undefined where one of the two has no value; no interval where one has a single cluster.
    """
    return differences([(share_side(first), share_side(second)) for first, second in pairs], resampling)


def differences(pairs: Sequence[Pair], resampling: Resampling) -> list[Estimate]:
    """Second mean minus first, for many pairs; pairs over the same clusters share the resamples.

    Returns:
        Estimates whose counts are those of the smaller side; undefined where one side is empty.
    """
    estimates = [_difference(first, second) for first, second in pairs]
    open_ones = [number for number, one in enumerate(estimates) if one.reason is None]
    for numbers in same_clusters([pairs[number] for number in open_ones]):
        chosen = [open_ones[number] for number in numbers]
        drawn = bootstrap_ratios([pairs[i] for i in chosen], resampling.n_draws, resampling.generator())
        for number, draws in zip(chosen, drawn[:, 1] - drawn[:, 0], strict=True):
            estimates[number] = _with_interval(estimates[number], draws, resampling)
    return estimates


def share_side(samples: SampleValues) -> ClusterTotals:
    """Totals of a share; empty ones, over no cluster, where nothing was scored."""
    if np.isnan(samples.values).all():
        return ClusterTotals((), np.zeros(0), np.zeros(0))
    return share_totals(samples)


def _difference(first: ClusterTotals, second: ClusterTotals) -> Estimate:
    before, after = first.ratio, second.ratio
    if before is None or after is None:
        return undefined("one of the two has no value")
    n_clusters = min(first.n_clusters, second.n_clusters)
    reason = "a single cluster: nothing shows how much results vary" if n_clusters < 2 else None
    return Estimate(after - before, None, None, min(first.n_samples, second.n_samples), n_clusters, reason=reason)


def _with_interval(estimate: Estimate, draws: FloatArray, resampling: Resampling) -> Estimate:
    assert estimate.value is not None, "only differences that exist are resampled"
    given = draws[~np.isnan(draws)]
    common = (estimate.n_samples, estimate.n_clusters)
    if len(given) < 2 or np.ptp(given) <= 1e-12:
        return Estimate(estimate.value, None, None, *common, reason="all clusters differ by the same")
    interval = percentile_interval(given, estimate.value, resampling)
    return Estimate(estimate.value, float(given.std(ddof=1)), interval, *common)
