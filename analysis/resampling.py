"""The cluster bootstrap: many ratios of totals over the same resampled clusters, in a few matrix products.

A resample draws clusters with replacement. All that a mean needs from a cluster is its total and its weight, so a
resample is one row of multinomial counts, and any number of means follows from one product: counts times totals. Means
that share clusters (ID and OOD ask the same questions, the base answered them too) share the counts: that is the pairing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specs_eval.analysis.cluster_totals import ClusterTotals, mean_totals
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import Estimate, Interval, check_level, undefined
from specs_eval.errors import ConfigError

_CHUNK_ENTRIES = 50_000
"""Entries of the count matrix that are held at once (0.4 MB, which stays in a core's own cache)."""

_CHUNK_DRAWS = 16
"""Resamples that are held at once at the least: a matrix product over fewer reads its right side too often."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are drawn."""

    n_draws: int = 2000
    level: float = 0.95
    """Nominal coverage, in (0, 1)."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_level(self.level)
        if not 100 <= self.n_draws <= 1_000_000:
            raise ConfigError(f"the bootstrap takes 100 to 1,000,000 draws, not {self.n_draws}")
        if self.seed < 0:
            raise ConfigError(f"the seed must be >= 0, not {self.seed}")

    def generator(self) -> np.random.Generator:
        """A fresh generator: the same numbers for every analysis of the same clusters."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class ResampledSums:
    """Totals and weights of several roles in several rows over the same resampled clusters."""

    totals: FloatArray
    """Resampled numerators, shape (n_rows, n_roles, n_draws)."""
    weights: FloatArray
    """Resampled denominators, same shape."""
    pseudo_weights: FloatArray
    """Weight of the pseudo-observations, shape (n_rows, n_roles, 1)."""

    def ratios(self, pseudo: FloatArray) -> FloatArray:
        """Resampled ratios, shape (n_rows, n_roles, n_draws); NaN where a resample holds no weight.

        Args:
            pseudo: successes and failures (`pseudo_observations`), shape (2, n_rows or 1, n_roles, n_draws). Rows that
                get the same are certain of their difference where both sit at 0 or at 1; rows that get their own are not.
        """
        totals = self.totals + self.pseudo_weights * pseudo[0]
        weights = self.weights + self.pseudo_weights * (pseudo[0] + pseudo[1])
        ratios = np.full(totals.shape, np.nan)
        np.divide(totals, weights, out=ratios, where=weights > 0)
        return ratios


def pseudo_observations(n_roles: int, n_draws: int, generator: np.random.Generator) -> FloatArray:
    """Gamma(1/2) of a success and of a failure for each role and resample, shape (2, 1, n_roles, n_draws).

    Half the square of a standard normal: the same distribution in a tenth of the time of `Generator.standard_gamma`.
    """
    return np.asarray(generator.standard_normal((2, 1, n_roles, n_draws)) ** 2 / 2, dtype=np.float64)


def bootstrap_ratios(
    rows: Sequence[Sequence[ClusterTotals]], n_draws: int, generator: np.random.Generator
) -> FloatArray:
    """Resampled ratios (see `resample_sums`), all rows with the same pseudo-observations.

    Returns:
        Ratios, shape (n_rows, n_roles, n_draws); NaN where a resample holds no weight (never with a pseudo weight).
    """
    sums = resample_sums(rows, n_draws, generator)
    return sums.ratios(pseudo_observations(len(rows[0]), n_draws, generator))


def resample_sums(
    rows: Sequence[Sequence[ClusterTotals]], n_draws: int, generator: np.random.Generator
) -> ResampledSums:
    """Resampled sums of several roles (ID, OOD, base) in several rows (checkpoints) over common random numbers.

    Roles that have a cluster in common are resampled together, over the union of their clusters; roles that have none
    are independent and are resampled independently. What a row gets does not depend on the rows beside it.

    Args:
        rows: shape (n_rows, n_roles); within a role all rows have the same clusters.
        n_draws: resamples.
        generator: source of the counts.

    Raises:
        ValueError: rows differ in their clusters.
    """
    roles = rows[0]
    if any(tuple(one.labels for one in row) != tuple(one.labels for one in roles) for row in rows):
        raise ValueError("all rows must have the same clusters within a role")
    sums = np.empty((2, len(rows), len(roles), n_draws))
    for members in _linked(roles):
        union = sorted({label for role in members for label in roles[role].labels})
        matrix = _cluster_matrix(rows, members, {label: index for index, label in enumerate(union)})
        for start, counts in resample_counts(len(union), n_draws, generator):
            product = (counts @ matrix).reshape(len(counts), 2, len(rows), len(members))
            sums[:, :, members, start : start + len(counts)] = np.moveaxis(product, 0, -1)
    pseudo_weights = np.array([[one.pseudo_weight for one in row] for row in rows])[:, :, None]
    return ResampledSums(sums[0], sums[1], pseudo_weights)


def resample_counts(
    n_clusters: int, n_draws: int, generator: np.random.Generator, n_drawn: int | None = None
) -> Iterator[tuple[int, FloatArray]]:
    """How often each cluster is drawn in each resample: multinomial counts, row by row, in chunks.

    Indices are drawn and counted, which takes a fifth of the time of `Generator.multinomial`.

    Args:
        n_clusters: clusters that there are.
        n_draws: resamples.
        generator: source of the indices.
        n_drawn: clusters in each resample; None: as many as there are.

    Yields:
        The number of the first resample of the chunk, and counts of shape (n_in_chunk, n_clusters).
    """
    n_drawn = n_clusters if n_drawn is None else n_drawn
    size = min(n_draws, max(_CHUNK_DRAWS, _CHUNK_ENTRIES // max(n_clusters, n_drawn)))
    rows = (np.arange(size) * n_clusters)[:, None]
    for start in range(0, n_draws, size):
        n = min(size, n_draws - start)
        drawn = generator.integers(0, n_clusters, size=(n, n_drawn), dtype=np.int32)
        counts = np.bincount((drawn + rows[:n]).ravel(), minlength=n * n_clusters)
        yield start, counts.reshape(n, n_clusters).astype(np.float64)


def percentile_interval(draws: FloatArray, value: float, resampling: Resampling) -> Interval:
    """Percentile interval of resampled values; widened where needed so that it holds the estimate itself.

    Args:
        draws: shape (n_draws,); NaN is left out.
        value: the estimate.
        resampling: what the draws were made with.
    """
    tail = (1 - resampling.level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(
        min(float(low), value),
        max(float(high), value),
        resampling.level,
        "cluster bootstrap",
        resampling.n_draws,
        resampling.seed,
    )


def pooled_mean(values: FloatArray, weights: FloatArray, clusters: Sequence[str], resampling: Resampling) -> Estimate:
    """Weighted mean of a quantity without bounds (see `mean_totals`), with a cluster bootstrap interval.

    Returns:
        Sum of weight times value over sum of weights. No interval when there is a single cluster or all clusters agree:
        nothing then shows how they vary.
    """
    return pooled_means([mean_totals(values, weights, clusters)], resampling)[0]


def pooled_means(means: Sequence[ClusterTotals], resampling: Resampling) -> list[Estimate]:
    """Many means with their intervals: those over the same clusters share the resamples, which cost the time.

    Each is what it would be alone (see `pooled_mean`).
    """
    estimates = [_without_interval(one) for one in means]
    open_ones = [number for number, one in enumerate(estimates) if one.value is not None and one.reason is None]
    for numbers in same_clusters([(means[number],) for number in open_ones]):
        chosen = [open_ones[number] for number in numbers]
        drawn = bootstrap_ratios([[means[i]] for i in chosen], resampling.n_draws, resampling.generator())[:, 0]
        for number, draws in zip(chosen, drawn, strict=True):
            value = estimates[number].value
            assert value is not None, "only means that exist are resampled"
            estimates[number] = replace(
                estimates[number],
                stderr=float(np.nanstd(draws, ddof=1)),
                interval=percentile_interval(draws, value, resampling),
            )
    return estimates


def same_clusters(rows: Sequence[Sequence[ClusterTotals]]) -> list[list[int]]:
    """The rows in groups that can be resampled together: numbers of rows whose roles have the same clusters."""
    groups: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(tuple(role.labels for role in row), []).append(number)
    return list(groups.values())


def _without_interval(mean: ClusterTotals) -> Estimate:
    """Value and counts; with the reason where an interval cannot be."""
    value, used = mean.ratio, mean.weights > 0
    if value is None:
        return undefined("no value")
    ratios = mean.totals[used] / mean.weights[used]
    reason = None
    if len(ratios) < 2 or np.ptp(ratios) <= 1e-12 * max(abs(value), 1.0):
        reason = "all clusters have the same value" if len(ratios) > 1 else "a single cluster"
        reason += ": nothing shows how much results vary"
    return Estimate(value, None, None, mean.n_samples, len(ratios), reason=reason)


def _linked(roles: Sequence[ClusterTotals]) -> list[list[int]]:
    """Roles in groups: two are in one group when a chain of shared clusters leads from one to the other."""
    groups: list[tuple[set[str], list[int]]] = []
    for number, role in enumerate(roles):
        labels, members = set(role.labels), [number]
        apart = []
        for other_labels, other_members in groups:
            if labels.isdisjoint(other_labels):
                apart.append((other_labels, other_members))
            else:
                labels |= other_labels
                members = other_members + members
        groups = [*apart, (labels, members)]
    return sorted((sorted(members) for _, members in groups), key=lambda members: members[0])


def _cluster_matrix(
    rows: Sequence[Sequence[ClusterTotals]], members: list[int], position: dict[str, int]
) -> FloatArray:
    """Totals and weights by cluster, shape (n_clusters, 2 * n_rows * n_members); 0 where a role lacks a cluster."""
    matrix = np.zeros((len(position), 2, len(rows), len(members)))
    for column, role in enumerate(members):
        places = [position[label] for label in rows[0][role].labels]
        for number, row in enumerate(rows):
            matrix[places, 0, number, column] = row[role].totals
            matrix[places, 1, number, column] = row[role].weights
    return matrix.reshape(len(position), -1)
