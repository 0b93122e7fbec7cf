"""The rollout branching factor at a given number of samples: what a smaller evaluation would have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.cluster_totals import ClusterTotals
from specs_eval.analysis.resampling import Resampling, resample_counts, same_clusters
from specs_eval.analysis.samples import FloatArray
from specs_eval.analysis.statistics import Estimate, Interval, undefined
from specs_eval.errors import ConfigError

PAPER_SAMPLES = (120, 240, 480)
"""Sample counts at which the paper reports RBF."""


@dataclass(frozen=True, slots=True)
class AtSamples:
    """RBF of a run, had it been evaluated on so many samples."""

    n_samples: int
    rbf: Estimate
    """Expected value, and the interval in which the RBF of so many samples lies. Its counts are of what is drawn."""


def rbf_at_samples(
    runs: Sequence[ClusterTotals | None], n_samples: Sequence[int] | None, resampling: Resampling
) -> list[tuple[AtSamples, ...]]:
    """RBF of each run at given numbers of samples.

    An m-out-of-n bootstrap: as many clusters as hold m samples on average are drawn with replacement, and the mean over
    positions is taken over what was drawn. With replacement, because the question is how RBF varies between samples of
    this size from all questions like these, not between subsets of the ones that happen to be there: at m = n the interval
    is that of the RBF of the run.

    Args:
        runs: nucleus sizes by cluster (weights: positions); None: a run without them.
        n_samples: numbers m of samples; None: those of 120, 240 and 480 that a run has.
        resampling: draws, level and seed.

    Returns:
        One tuple a run, in the order of `n_samples`. Undefined where a run has fewer samples than asked for.

    Raises:
        ConfigError: a number of samples below 2.
    """
    if any(n < 2 for n in n_samples or ()):
        raise ConfigError("RBF is resampled at 2 samples or more")
    asked = tuple(PAPER_SAMPLES if n_samples is None else n_samples)
    found: list[dict[int, Estimate]] = [{} for _ in runs]
    given = [number for number, one in enumerate(runs) if one is not None and one.n_clusters > 1]
    for group in same_clusters([_row(runs[number]) for number in given]):
        members = [given[place] for place in group]
        totals = [one for number in members for one in _row(runs[number])]
        for n in asked:
            for number, estimate in zip(members, _at(n, totals, resampling), strict=True):
                found[number][n] = estimate
    return [
        tuple(
            AtSamples(n, estimates.get(n, _missing(one, n)))
            for n in asked
            if n_samples is not None or (one is not None and one.n_samples >= n)
        )
        for one, estimates in zip(runs, found, strict=True)
    ]


def _row(one: ClusterTotals | None) -> tuple[ClusterTotals, ...]:
    return () if one is None else (one,)


def _missing(one: ClusterTotals | None, n: int) -> Estimate:
    if one is None or not one.n_samples:
        return undefined("no token statistics")
    if one.n_samples < n:
        return undefined(f"the run has {one.n_samples} samples with token statistics, fewer than {n}")
    return undefined("a single cluster: nothing shows how much results vary")


def _at(n: int, runs: Sequence[ClusterTotals], resampling: Resampling) -> list[Estimate]:
    """The runs have the same clusters; they share the draws."""
    n_clusters = len(runs[0].labels)
    n_drawn = max(1, round(n * n_clusters / max(max(one.n_samples for one in runs), 1)))
    matrix = np.stack([part for one in runs for part in (one.totals, one.weights)], axis=1)
    drawn = np.empty((resampling.n_draws, len(runs)))
    generator = resampling.generator()
    for start, counts in resample_counts(n_clusters, resampling.n_draws, generator, n_drawn):
        sums = counts @ matrix
        with np.errstate(invalid="ignore"):  # nothing drawn that has positions: NaN, left out
            drawn[start : start + len(counts)] = sums[:, ::2] / sums[:, 1::2]
    return [
        _missing(one, n) if one.n_samples < n else _estimate(values, n, n_drawn, resampling)
        for one, values in zip(runs, drawn.T, strict=True)
    ]


def _estimate(draws: FloatArray, n: int, n_drawn: int, resampling: Resampling) -> Estimate:
    tail = (1 - resampling.level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    value = float(np.nanmean(draws))
    if high - low <= 1e-12 * max(abs(value), 1.0):
        reason = "all clusters have the same value: nothing shows how much results vary"
        return Estimate(value, None, None, n, n_drawn, reason=reason)
    interval = Interval(
        float(low), float(high), resampling.level, "m-out-of-n bootstrap", resampling.n_draws, resampling.seed
    )
    return Estimate(value, float(np.nanstd(draws, ddof=1)), interval, n, n_drawn)
