"""What a mean needs of each cluster, its total and its weight: all that the bootstrap resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, SampleValues
from specs_eval.analysis.statistics import clustered_stderr, effective_samples
from specs_eval.errors import ConfigError


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTotals:
    """What a ratio needs to know of each cluster."""

    labels: tuple[str, ...]
    """Clusters, each once."""
    totals: FloatArray
    """Numerator of each, shape (n_clusters,)."""
    weights: FloatArray
    """Denominator of each, >= 0, shape (n_clusters,)."""
    pseudo_weight: float = 0.0
    """Weight of one sample's worth of prior information (see `share_totals`); 0: none."""
    n_samples: int = 0
    """Samples that entered."""

    @property
    def n_clusters(self) -> int:
        """Clusters that hold anything."""
        return int((self.weights > 0).sum())

    @property
    def ratio(self) -> float | None:
        """The mean itself; None where nothing entered."""
        weight = float(self.weights.sum())
        return float(self.totals.sum()) / weight if weight > 0 else None


def share_totals(samples: SampleValues) -> ClusterTotals:
    """Totals of a share, with what keeps its resamples from collapsing at 0 and 1.

    The plain bootstrap is certain about 0 of n: every resample is 0 again. Jeffreys' prior is the usual cure for a
    share: half a success and half a failure beside the data. Here each resample gets Gamma(1/2) of a success and
    Gamma(1/2) of a failure, at the weight of one effective sample (clusters count as `effective_samples` says). For
    independent yes/no samples a resample then has mean and variance of Jeffreys' posterior up to order 1/n^2; away from
    the ends the effect vanishes. Measured at a true OOD share of 2 % and 60 samples, 95 % intervals of GF cover 99 %
    of the time instead of 72 % (the slow tests simulate it).

    Raises:
        ConfigError: the metric leaves [0, 1], or no sample has a value.
    """
    values, _ = samples.scored_values()
    if not len(values):
        raise ConfigError("a run without a scored rollout cannot be resampled")
    if values.min() < 0 or values.max() > 1:
        raise ConfigError(f"the metric is not a share: values from {values.min():g} to {values.max():g}")
    scored = ~np.isnan(samples.values)
    labels, codes = _unique_labels(samples.clusters)
    # Clusters without any value stay in, with weight 0: the resampled clusters must not depend on what failed.
    totals = _sums(codes[scored], samples.values[scored], len(labels))
    weights = _sums(codes[scored], np.ones(len(values)), len(labels))
    n_clusters = int((weights > 0).sum())
    share = float(values.mean())
    stderr = clustered_stderr(values, codes[scored]) or 0.0
    pseudo_weight = len(values) / effective_samples(share, stderr, n_clusters)
    return ClusterTotals(labels, totals, weights, pseudo_weight, len(values))


def mean_totals(values: FloatArray, weights: FloatArray, clusters: Sequence[str]) -> ClusterTotals:
    """Totals of a weighted mean of a quantity without bounds (entropy, nucleus size, number of answers).

    Args:
        values: mean of each sample, shape (n,); read where its weight is positive.
        weights: what each was averaged over, >= 0, shape (n,); 0: left out.
        clusters: label of each sample, length n.
    """
    labels, codes = _unique_labels(clusters)
    # As in `share_totals`: clusters without any value stay in.
    totals = _sums(codes, np.where(weights > 0, values * weights, 0.0), len(labels))
    return ClusterTotals(labels, totals, _sums(codes, weights, len(labels)), n_samples=int((weights > 0).sum()))


def _unique_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    """The labels in alphabetical order, so that the order of the samples changes nothing, and the index of each."""
    return _cached_labels(tuple(labels))


@lru_cache(maxsize=32)
def _cached_labels(labels: tuple[str, ...]) -> tuple[tuple[str, ...], IntArray]:
    """Every checkpoint has the same samples: they are sorted once. Nobody writes to the codes."""
    unique = tuple(sorted(set(labels)))
    position = {label: index for index, label in enumerate(unique)}
    return unique, np.fromiter((position[label] for label in labels), dtype=np.int64, count=len(labels))


def _sums(codes: IntArray, values: FloatArray, n: int) -> FloatArray:
    return np.bincount(codes, weights=values, minlength=n).astype(np.float64)
