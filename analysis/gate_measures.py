"""What a gate can measure, as one number a sample: from the rollouts of a run to values that paired tests understand."""

from __future__ import annotations

import numpy as np

from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts
from specs_eval.analysis.solving import pass_at_k
from specs_eval.analysis.stuckness import StuckRule, wrong_modes
from specs_eval.analysis.votes import count_answers, majority_at_k
from specs_eval.errors import ComparisonError

UNSCORED = "unscored"
WRONG_MODE = "wrong_mode"
DERIVED = (UNSCORED, WRONG_MODE)
"""Metrics that are computed from rollouts and not stored; so are those with ``@k``."""


def is_derived(metric: str) -> bool:
    """Whether a metric is computed from several rollouts of a sample, rather than stored with each."""
    return metric in DERIVED or "@" in metric


def sample_measure(rollouts: Rollouts, metric: str, threshold: float = 1.0) -> Rollouts:
    """A derived metric as one value a sample.

    Args:
        rollouts: of one run, with the metric that makes a rollout right as values, and answers for maj@k and wrong_mode.
        metric: ``unscored``, ``wrong_mode``, ``pass@k``, ``unsolvable@k`` or ``maj@k``.
        threshold: a rollout is right from this value on.

    Returns:
        One value a sample in [0, 1]; NaN where the sample has too few scored rollouts.

    Raises:
        ComparisonError: the run cannot show the metric; the message says what to run.
    """
    if metric == UNSCORED:
        return _one_each(rollouts, 1 - _mean_by_sample(rollouts, rollouts.scored.astype(np.float64)))
    if metric == WRONG_MODE:
        modes = wrong_modes(rollouts, StuckRule(threshold=threshold))
        if modes.reason is not None:
            raise ComparisonError(f"no {metric}: {modes.reason}")
        return _one_each(rollouts, modes.samples.values)
    name, _, number = metric.partition("@")
    return _one_each(rollouts, _at_k(rollouts, name, int(number), threshold))


def _at_k(rollouts: Rollouts, name: str, k: int, threshold: float) -> FloatArray:
    n_scored, n_correct = _counts(rollouts, threshold)
    enough = n_scored >= k
    if not enough.any():
        most = int(n_scored.max(initial=0))
        raise ComparisonError(
            f"{name}@{k} needs {k} scored rollouts a sample, and the most that one has is {most}; draw them with: "
            f"specs-eval run --rollouts {k}"
        )
    values = np.full(len(n_scored), np.nan)
    if name == "maj":
        return np.where(enough, _majority(rollouts, k, threshold), values)
    values[enough] = pass_at_k(n_correct[enough], n_scored[enough], k)
    return values if name == "pass" else 1 - values


def _majority(rollouts: Rollouts, k: int, threshold: float) -> FloatArray:
    if rollouts.answers is None or (rollouts.answers < 0).all():
        raise ComparisonError(f"maj@{k} needs answers, and the task's scorer extracts none")
    correct = np.where(rollouts.scored, rollouts.values >= threshold, False)
    return majority_at_k(count_answers(rollouts, correct.astype(np.float64)), k)


def _counts(rollouts: Rollouts, threshold: float) -> tuple[IntArray, IntArray]:
    """Scored and correct rollouts of each sample, both of shape (n_samples,)."""
    n, scored = len(rollouts.sample_ids), rollouts.scored
    correct = np.where(scored, rollouts.values >= threshold, False)
    return (
        np.bincount(rollouts.samples[scored], minlength=n),
        np.bincount(rollouts.samples[correct], minlength=n),
    )


def _mean_by_sample(rollouts: Rollouts, values: FloatArray) -> FloatArray:
    n = len(rollouts.sample_ids)
    counts = np.bincount(rollouts.samples, minlength=n)
    means: FloatArray = np.bincount(rollouts.samples, weights=values, minlength=n) / np.maximum(counts, 1)
    return means


def _one_each(rollouts: Rollouts, values: FloatArray) -> Rollouts:
    n = len(rollouts.sample_ids)
    return Rollouts(rollouts.sample_ids, rollouts.clusters, np.arange(n), values, categories=rollouts.categories)
