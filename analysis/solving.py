"""What k rollouts a sample achieve: pass@k, unsolvable problems and majority votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.analysis.votes import MAX_EXACT_ROLLOUTS, AnswerCounts, majorities
from specs_eval.errors import ConfigError

NO_ANSWERS = "the task's scorer extracts no answers"


@dataclass(frozen=True, slots=True)
class AtK:
    """What k rollouts a sample achieve."""

    k: int
    pass_at_k: Estimate
    """Share of samples that at least one of k rollouts solves; higher is better."""
    unsolvable: Estimate
    """Share of samples with no correct rollout among k: 1 - pass@k."""
    majority: Estimate
    """Share of samples that the majority of k rollouts solves (maj@k)."""


@dataclass(frozen=True, slots=True, eq=False)
class SolvedCounts:
    """How many rollouts solved each sample of a run."""

    samples: SampleValues
    n_correct: IntArray
    """Shape (n_samples,)."""
    n_scored: IntArray
    """Shape (n_samples,)."""
    answers: AnswerCounts | None
    """None: the run carries no answers."""

    @property
    def most(self) -> int:
        """Scored rollouts of the sample with the most."""
        return int(self.n_scored.max(initial=0))

    def passed(self, k: int) -> SampleValues:
        """pass@k of each sample; NaN where it has fewer than k scored rollouts."""
        enough = self.n_scored >= k
        shares = np.full(len(enough), np.nan)
        shares[enough] = pass_at_k(self.n_correct[enough], self.n_scored[enough], k)
        return self.samples.with_values(shares)


def solved_at(counts: SolvedCounts, ks: Sequence[int], level: float) -> tuple[AtK, ...]:
    """pass@k, unsolvable share and maj@k for some numbers of rollouts.

    Samples with fewer than k scored rollouts are left out of that k; the estimates say how many entered.

    Raises:
        ConfigError: a k below 1.
    """
    for k in ks:
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}")
    votes = np.full((len(ks), 0), np.nan)
    if counts.answers is not None and len(counts.answers.counts):
        votes = majorities(counts.answers, ks)
    return tuple(_at_k(k, counts, shares, level) for k, shares in zip(ks, votes, strict=True))


def default_ks(n: int) -> tuple[int, ...]:
    """1, 2, 4 ... below n, then n."""
    return (*(1 << power for power in range(max(n - 1, 0).bit_length())), n) if n else ()


def pass_at_k(correct: IntArray, n: int | IntArray, k: int) -> FloatArray:
    """Unbiased chance that at least one of k rollouts is correct, per sample; higher is better.

    Args:
        correct: correct rollouts of each sample, shape (n_samples,), 0 <= correct <= n.
        n: rollouts of each sample, one number or shape (n_samples,).
        k: rollouts allowed, 1 <= k <= n.

    Returns:
        1 - C(n - correct, k) / C(n, k), shares in [0, 1], shape (n_samples,).

    Raises:
        ConfigError: k < 1, k > n (the estimator needs at least k rollouts), or a count outside [0, n].

    Reference: Chen et al. 2021, arXiv 2107.03374, eq. 1. The ratio of binomials is a product of min(correct, k) factors,
    summed as logarithms: no binomial is ever formed, so that n = 4096 is as exact as n = 8.
    """
    counts, totals = np.broadcast_arrays(np.asarray(correct), np.asarray(n))
    if k < 1 or (totals < k).any():
        raise ConfigError(f"pass@{k} needs at least {max(k, 1)} rollouts a sample")
    if (counts < 0).any() or (counts > totals).any():
        raise ConfigError("correct rollouts must lie between 0 and the number of rollouts")
    pairs, inverse = np.unique(np.stack([counts, totals]), axis=1, return_inverse=True)
    shares = np.array([_pass_share(int(c), int(total), k) for c, total in pairs.T])
    return shares[inverse.ravel()]


def _pass_share(correct: int, n: int, k: int) -> float:
    if n - correct < k:
        return 1.0
    # C(n - c, k) / C(n, k) is symmetric in c and k: the product over the smaller one.
    fewer, more = min(correct, k), max(correct, k)
    return float(-np.expm1(np.log1p(-more / (n - np.arange(fewer))).sum()))


def _at_k(k: int, counts: SolvedCounts, votes: FloatArray, level: float) -> AtK:
    n_unscored = counts.samples.n_unscored
    if counts.most < k:
        reason = f"no sample has {k} scored rollouts (most: {counts.most}); raise --rollouts"
        return AtK(k, *[undefined(reason, n_unscored)] * 3)
    solved = summarize(counts.passed(k), level)
    return AtK(k, solved, complement(solved), _majority(counts.samples, votes, level))


def complement(share: Estimate) -> Estimate:
    """The estimate of 1 - share."""
    if share.value is None:
        return share
    flipped = share.interval and replace(share.interval, low=1 - share.interval.high, high=1 - share.interval.low)
    return replace(share, value=1 - share.value, interval=flipped)


def _majority(samples: SampleValues, shares: FloatArray, level: float) -> Estimate:
    if not len(shares):
        return undefined(NO_ANSWERS, samples.n_unscored)
    if np.isnan(shares).all():
        reason = f"maj@k with k below n is computed for up to {MAX_EXACT_ROLLOUTS} rollouts a sample"
        return undefined(reason, samples.n_unscored)
    return summarize(samples.with_values(shares), level)
