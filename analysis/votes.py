"""Majority votes and the variety of answers, exactly: nothing here is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts
from specs_eval.analysis.vote_chances import win_chance

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
    rows_in_order = np.lexsort((answers.worth, answers.counts, answers.samples))
    counts, worth = answers.counts[rows_in_order].astype(np.int64), answers.worth[rows_in_order]
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
    # By number of rollouts, so that the tables of one are not thrown out for those of another.
    order = np.argsort([one.n_scored for one in votes], kind="stable")
    return [votes[place] for place in order], np.argsort(order)[kind]


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
            rivals = counts[:place] + counts[place + 1 :]
            total += value * win_chance(counts[place], rivals, n - sum(counts), k)
    return min(total, 1.0)
