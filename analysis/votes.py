"""Majority votes and the variety of answers, exactly: nothing here is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts

MAX_EXACT_ROLLOUTS = 128
"""Above this many rollouts a sample, maj@k is given for k = n only: subsets are too many to count in passing."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerCounts:
    """How often each answer was given to each sample, one row a pair of sample and answer, sorted by sample."""

    n_samples: int
    samples: IntArray
    """Index of the sample, shape (n_pairs,)."""
    answers: IntArray
    """Code of the answer, shape (n_pairs,)."""
    counts: IntArray
    """Scored rollouts with this answer, >= 1, shape (n_pairs,)."""
    worth: FloatArray
    """Share of them that is correct, shape (n_pairs,): 0 or 1 where the answer alone decides."""
    n_scored: IntArray
    """Scored rollouts of each sample, with an answer or without, shape (n_samples,)."""


def count_answers(rollouts: Rollouts, correct: FloatArray) -> AnswerCounts:
    """Count the answers of the scored rollouts.

    Args:
        rollouts: with `answers`; rollouts without an answer give none.
        correct: 1 for correct, 0 for wrong, shape (n_rollouts,); read where a rollout is scored.
    """
    assert rollouts.answers is not None, "these rollouts carry no answers"
    n, scored = len(rollouts.sample_ids), rollouts.scored
    voting = scored & (rollouts.answers >= 0)
    span = int(rollouts.answers.max(initial=0)) + 1
    keys, inverse = np.unique(rollouts.samples[voting] * span + rollouts.answers[voting], return_inverse=True)
    counts = np.bincount(inverse, minlength=len(keys))
    worth = np.bincount(inverse, weights=correct[voting], minlength=len(keys)) / np.maximum(counts, 1)
    n_scored = np.bincount(rollouts.samples[scored], minlength=n)
    return AnswerCounts(n, keys // span, keys % span, counts.astype(np.int64), worth, n_scored.astype(np.int64))


def distinct_answers(answers: AnswerCounts) -> FloatArray:
    """Number of different answers to each sample, shape (n_samples,); NaN where no rollout gave an answer."""
    numbers = np.bincount(answers.samples, minlength=answers.n_samples).astype(np.float64)
    return np.where(numbers > 0, numbers, np.nan)


def effective_answers(answers: AnswerCounts) -> FloatArray:
    """Effective number of answers exp(H), H the entropy (nats) of the answers' shares, shape (n_samples,).

    Between 1 (all the same) and the number of different answers (all equally often); NaN where no rollout gave an
    answer. The plug-in entropy: with few rollouts it is below that of the model, so compare at equal rollouts only.
    """
    totals = np.bincount(answers.samples, weights=answers.counts, minlength=answers.n_samples)
    shares = answers.counts / totals[answers.samples]
    entropy = np.bincount(answers.samples, weights=-shares * np.log(shares), minlength=answers.n_samples)
    return np.where(totals > 0, np.exp(entropy), np.nan)


def majority_at_k(answers: AnswerCounts, k: int) -> FloatArray:
    """Chance that the most frequent answer of k rollouts, drawn from those there are, is correct, per sample.

    Ties are broken at random, and counted by their expected value. A rollout without an answer does not vote; when
    nobody votes, the majority is wrong.

    Args:
        answers: counts by sample and answer.
        k: rollouts that vote, >= 1.

    Returns:
        Shares in [0, 1], shape (n_samples,); NaN where a sample has fewer than k scored rollouts, or more than
        MAX_EXACT_ROLLOUTS and k is not all of them.
    """
    shares: FloatArray = majorities(answers, [k])[0]
    return shares


def majorities(answers: AnswerCounts, ks: Sequence[int]) -> FloatArray:
    """`majority_at_k` for several k, shape (len(ks), n_samples): samples with the same votes are counted once."""
    votes, kind = _kinds(answers)
    shares = np.array([[_vote_share(one, k) for one in votes] for k in ks], dtype=np.float64)
    return shares.reshape(len(ks), len(votes)).take(kind, axis=1)


@dataclass(frozen=True, slots=True)
class _Votes:
    """How one sample was answered."""

    counts: tuple[int, ...]
    worth: tuple[float, ...]
    n_scored: int


def _kinds(answers: AnswerCounts) -> tuple[list[_Votes], IntArray]:
    """The different ways in which samples were answered, and which of them each sample is, shape (n_samples,)."""
    order = np.lexsort((answers.worth, answers.counts, answers.samples))
    counts, worth = answers.counts[order].astype(np.int64), answers.worth[order]
    ends = np.cumsum(np.bincount(answers.samples, minlength=answers.n_samples)).tolist()
    # Rows as bytes are compared and hashed without a Python object for each number.
    rows = np.stack([counts, worth.view(np.int64)], axis=1).tobytes()
    known: dict[tuple[int, bytes], int] = {}
    votes: list[_Votes] = []
    kind = np.empty(answers.n_samples, dtype=np.int64)
    for sample, (start, end, n) in enumerate(zip([0, *ends], ends, answers.n_scored.tolist(), strict=False)):
        key = (n, rows[16 * start : 16 * end])
        if key not in known:
            known[key] = len(votes)
            votes.append(_Votes(tuple(counts[start:end].tolist()), tuple(worth[start:end].tolist()), n))
        kind[sample] = known[key]
    return votes, kind


def _vote_share(votes: _Votes, k: int) -> float:
    n = votes.n_scored
    if k > n or (k < n > MAX_EXACT_ROLLOUTS):
        return math.nan
    return _vote(votes.counts, votes.worth, n, k)


@lru_cache(maxsize=65536)
def _vote(counts: tuple[int, ...], worth: tuple[float, ...], n: int, k: int) -> float:
    """Expected worth of the winner; answers that are worth nothing need not be followed."""
    total = 0.0
    for place, value in enumerate(worth):
        if value > 0:
            rivals = tuple(sorted(counts[:place] + counts[place + 1 :]))
            total += value * _win_share(counts[place], rivals, n - sum(counts), k)
    return min(total, 1.0)


@lru_cache(maxsize=65536)
def _win_share(count: int, rivals: tuple[int, ...], n_silent: int, k: int) -> float:
    """Chance that an answer wins the vote among k rollouts drawn without replacement.

    Summed over the number m of its votes: the ways in which every rival has fewer than m votes, or ties at m. With j
    rivals tied it wins 1 time in j + 1, and 1 / (j + 1) is the integral of y^j over [0, 1]: so each tie carries a
    factor y, and Gauss-Legendre nodes integrate the polynomial in y exactly. Ways are polynomials in x, one power a vote.
    """
    n = count + sum(rivals) + n_silent
    if k == n:
        return _plurality(count, rivals)
    votes, y, weight = _tie_nodes(min(count, k), k, len(rivals))
    ways = np.zeros((len(votes), k + 1))
    ways[:, 0] = 1.0
    for rival in rivals:
        spread = np.zeros_like(ways)
        for taken in range(min(rival, k) + 1):
            factor = float(math.comb(rival, taken)) * np.where(taken < votes, 1.0, np.where(taken == votes, y, 0.0))
            spread[:, taken:] += factor[:, None] * ways[:, : k + 1 - taken]
        ways = spread
    rest = k - votes
    silent = np.array([[math.comb(n_silent, j) for j in range(k + 1)]], dtype=np.float64)
    exact = np.array([ways[i, : r + 1] @ silent[0, r::-1] for i, r in enumerate(rest.tolist())])
    own = np.array([math.comb(count, m) for m in votes.tolist()], dtype=np.float64)
    return float(np.sum(weight * own * exact) / math.comb(n, k))


def _plurality(count: int, rivals: tuple[int, ...]) -> float:
    """All rollouts vote: nothing is left to chance but ties."""
    if count < max(rivals, default=0):
        return 0.0
    return 1 / (1 + rivals.count(count))


def _tie_nodes(most: int, k: int, n_rivals: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Votes m of the winner, with nodes and weights on [0, 1] for the ties that are possible at each m."""
    votes, nodes, weights = [], [], []
    for m in range(1, most + 1):
        ties = min(n_rivals, (k - m) // m)
        points, mass = np.polynomial.legendre.leggauss(ties // 2 + 1)
        votes += [m] * len(points)
        nodes += ((points + 1) / 2).tolist()
        weights += (mass / 2).tolist()
    return np.array(votes, dtype=np.int64), np.array(nodes), np.array(weights)
