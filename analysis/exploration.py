"""How much room a checkpoint has to explore: pass@k, unsolvable problems, majority votes, branching and entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from specs_eval.analysis.resampling import Resampling, pooled_mean
from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts, SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.analysis.votes import (
    MAX_EXACT_ROLLOUTS,
    AnswerCounts,
    count_answers,
    distinct_answers,
    effective_answers,
    majority_at_k,
)
from specs_eval.errors import ConfigError

MORE_ROLLOUTS = "one rollout a sample; draw several with: specs-eval run --rollouts 8 --temperature 1"
NO_STATISTICS = "the backend gave no token statistics; the hf backend does: specs-eval run --backend hf"
NO_ANSWERS = "the task's scorer extracts no answers"

Measure = Callable[[AnswerCounts], FloatArray]


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


@dataclass(frozen=True, slots=True)
class Exploration:
    """The exploration numbers of one run."""

    n_samples: int
    n_rollouts: int
    """Rollouts in the run, failed ones included."""
    n_unscored: int
    fewest_rollouts: int
    """Scored rollouts of the sample with the fewest."""
    most_rollouts: int
    threshold: float
    """A rollout counts as correct from this value of the metric on."""
    at_k: tuple[AtK, ...]
    rbf: Estimate
    """Rollout branching factor: nucleus size (mass 0.95) averaged over positions, >= 1."""
    entropy: Estimate
    """Entropy of the next token averaged over positions, in nats."""
    distinct: Estimate
    """Different answers a sample, averaged over samples."""
    effective: Estimate
    """Effective number of answers exp(H) a sample, averaged over samples."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return asdict(self)


def explore(
    rollouts: Rollouts,
    *,
    ks: Sequence[int] | None = None,
    threshold: float = 1.0,
    resampling: Resampling | None = None,
) -> Exploration:
    """All exploration numbers of one run. What cannot be told from it is undefined, with what to run instead.

    Args:
        rollouts: of one run; unscored ones are left out of everything that asks what is correct, and counted.
        ks: numbers of rollouts to look at; None: 1, 2, 4 ... up to the most a sample has, and that number itself.
        threshold: a rollout is correct when its value reaches it.
        resampling: draws, level and seed of the intervals of quantities without bounds.

    Raises:
        ConfigError: a k below 1, or a threshold that is no number.
    """
    if not math.isfinite(threshold):
        raise ConfigError(f"the threshold must be a number, not {threshold}")
    spec = resampling or Resampling()
    samples = rollouts.by_sample()
    scored = rollouts.scored
    n_scored = np.bincount(rollouts.samples[scored], minlength=len(rollouts.sample_ids))
    correct = np.where(scored, rollouts.values >= threshold, False)
    n_correct = np.bincount(rollouts.samples[correct], minlength=len(rollouts.sample_ids))
    most = int(n_scored.max(initial=0))
    answers = None if rollouts.answers is None else count_answers(rollouts, correct.astype(np.float64))
    return Exploration(
        n_samples=len(rollouts.sample_ids),
        n_rollouts=len(scored),
        n_unscored=samples.n_unscored,
        fewest_rollouts=int(n_scored.min(initial=most)),
        most_rollouts=most,
        threshold=threshold,
        at_k=tuple(
            _at_k(k, samples, n_correct, n_scored, answers, spec.level)
            for k in (default_ks(most) if ks is None else ks)
        ),
        rbf=_over_positions(rollouts, rollouts.nucleus, spec),
        entropy=_over_positions(rollouts, rollouts.entropy, spec),
        distinct=_variety(samples, answers, distinct_answers, most, spec),
        effective=_variety(samples, answers, effective_answers, most, spec),
    )


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


def _at_k(
    k: int, samples: SampleValues, n_correct: IntArray, n_scored: IntArray, answers: AnswerCounts | None, level: float
) -> AtK:
    """Samples with fewer than k scored rollouts are left out; the estimates say how many entered."""
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}")
    enough = n_scored >= k
    if not enough.any():
        reason = f"no sample has {k} scored rollouts (most: {int(n_scored.max(initial=0))}); raise --rollouts"
        return AtK(k, *[undefined(reason, samples.n_unscored)] * 3)
    shares = np.full(len(n_scored), np.nan)
    shares[enough] = pass_at_k(n_correct[enough], n_scored[enough], k)
    solved = summarize(samples.with_values(shares), level)
    return AtK(k, solved, _complement(solved), _majority(k, samples, answers, level))


def _complement(share: Estimate) -> Estimate:
    if share.value is None:
        return share
    flipped = share.interval and replace(share.interval, low=1 - share.interval.high, high=1 - share.interval.low)
    return replace(share, value=1 - share.value, interval=flipped)


def _majority(k: int, samples: SampleValues, answers: AnswerCounts | None, level: float) -> Estimate:
    if answers is None or not len(answers.counts):
        return undefined(NO_ANSWERS, samples.n_unscored)
    shares = majority_at_k(answers, k)
    if np.isnan(shares).all():
        reason = f"maj@k with k below n is computed for up to {MAX_EXACT_ROLLOUTS} rollouts a sample"
        return undefined(reason, samples.n_unscored)
    return summarize(samples.with_values(shares), level)


def _over_positions(rollouts: Rollouts, means: FloatArray | None, resampling: Resampling) -> Estimate:
    """Average over all generated positions: rollouts weigh by their tokens.

    The papers average over positions; a mean of per-rollout means would let a two-token answer count as much as a
    page of reasoning. `n_unscored` of the result counts the rollouts without statistics.
    """
    if means is None or rollouts.n_tokens is None:
        return undefined(NO_STATISTICS, len(rollouts.values))
    known = ~np.isnan(means) & (rollouts.n_tokens > 0)
    missing = int(len(known) - known.sum())
    if not known.any():
        return undefined(NO_STATISTICS, missing)
    n, index, tokens = len(rollouts.sample_ids), rollouts.samples[known], rollouts.n_tokens[known]
    positions = np.bincount(index, weights=tokens, minlength=n).astype(np.float64)
    totals = np.bincount(index, weights=tokens * means[known], minlength=n)
    per_sample = totals / np.maximum(positions, 1)
    return replace(pooled_mean(per_sample, positions, rollouts.clusters, resampling), n_unscored=missing)


def _variety(
    samples: SampleValues, answers: AnswerCounts | None, measure: Measure, most: int, resampling: Resampling
) -> Estimate:
    if answers is None or not len(answers.counts):
        return undefined(NO_ANSWERS, samples.n_unscored)
    if most < 2:
        return undefined(MORE_ROLLOUTS, samples.n_unscored)
    numbers = measure(answers)
    given = ~np.isnan(numbers)
    estimate = pooled_mean(np.where(given, numbers, 0.0), given.astype(np.float64), samples.clusters, resampling)
    return replace(estimate, n_unscored=samples.n_unscored)
