"""Entropy and branching over the position in a response: where a checkpoint still has a choice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.cluster_totals import mean_totals
from specs_eval.analysis.resampling import Resampling, pooled_means
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.analysis.statistics import Estimate

NOT_STORED = "statistics of single positions are not stored; store them with: specs-eval run --per-position"


@dataclass(frozen=True, slots=True, eq=False)
class PositionStatistics:
    """What a run stored at each generated position, all rollouts one after the other."""

    clusters: tuple[str, ...]
    """Group of each sample."""
    samples: IntArray
    """Index of the sample of each rollout, shape (n_rollouts,)."""
    lengths: IntArray
    """Positions of each rollout, shape (n_rollouts,); 0: none stored."""
    entropies: FloatArray
    """Nats, shape (n_positions,)."""
    nucleus_sizes: FloatArray
    """Tokens in the 95 % nucleus, shape (n_positions,)."""


@dataclass(frozen=True, slots=True)
class PositionBin:
    """Some positions of the responses."""

    first: int
    """First position, counted from 1."""
    last: int
    n_positions: int
    """Generated tokens there, over all rollouts."""
    n_rollouts: int
    """Rollouts that reach the bin."""
    entropy: Estimate
    """Mean over these positions, in nats."""
    nucleus: Estimate
    """Mean nucleus size (RBF) over these positions."""

    def to_dict(self) -> dict[str, Any]:
        """The bin as plain JSON types."""
        return asdict(self)


def over_positions(statistics: PositionStatistics, resampling: Resampling | None = None) -> tuple[PositionBin, ...]:
    """Entropy and nucleus size in bins of positions that double in width: 1, 2-3, 4-7, 8-15 ...

    Bins do not depend on the data, so that checkpoints compare bin by bin, and sixteen of them reach 65,535 tokens. A bin
    averages over the positions that were generated: later ones are reached by the longer responses only.

    Returns:
        Bins up to the longest response; none where nothing is stored.
    """
    spec = resampling or Resampling()
    lengths = statistics.lengths
    longest = int(lengths.max(initial=0))
    if not longest:
        return ()
    n_bins, n = longest.bit_length(), len(statistics.clusters)
    # frexp gives the exponent exactly: position 2^b, counted from 1, opens bin b.
    starts = np.cumsum(lengths) - lengths
    place = np.arange(1, int(lengths.sum()) + 1) - np.repeat(starts, lengths)
    cell = np.repeat(statistics.samples, lengths) * n_bins + (np.frexp(place.astype(np.float64))[1] - 1)
    counts = np.bincount(cell, minlength=n * n_bins).reshape(n, n_bins).astype(np.float64)
    sums = [
        np.bincount(cell, weights=values, minlength=n * n_bins).reshape(n, n_bins)
        for values in (statistics.entropies, statistics.nucleus_sizes)
    ]
    weights = np.maximum(counts, 1)
    totals = [
        mean_totals(total[:, b] / weights[:, b], counts[:, b], statistics.clusters)
        for total in sums
        for b in range(n_bins)
    ]
    estimates = pooled_means(totals, spec)
    return tuple(
        PositionBin(
            first=1 << b,
            last=min((1 << (b + 1)) - 1, longest),
            n_positions=int(counts[:, b].sum()),
            n_rollouts=int((lengths >= 1 << b).sum()),
            entropy=estimates[b],
            nucleus=estimates[n_bins + b],
        )
        for b in range(n_bins)
    )
