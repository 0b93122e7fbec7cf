"""How much room a checkpoint has to explore: what several rollouts solve, branching, entropy, variety of answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from specs_eval.analysis.branching import AtSamples, rbf_at_samples
from specs_eval.analysis.cluster_totals import ClusterTotals, mean_totals
from specs_eval.analysis.resampling import Resampling, pooled_means
from specs_eval.analysis.samples import FloatArray, Rollouts
from specs_eval.analysis.solving import NO_ANSWERS, AtK, SolvedCounts, default_ks, solved_at
from specs_eval.analysis.statistics import Estimate, undefined
from specs_eval.analysis.votes import AnswerCounts, count_answers, distinct_answers, effective_answers
from specs_eval.errors import ConfigError

MORE_ROLLOUTS = "one rollout a sample; draw several with: specs-eval run --rollouts 8 --temperature 1"
NO_STATISTICS = "the backend gave no token statistics; the hf backend does: specs-eval run --backend hf"

Measure = Callable[[AnswerCounts], FloatArray]


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
    rbf_at: tuple[AtSamples, ...]
    """RBF at given numbers of samples."""
    entropy: Estimate
    """Entropy of the next token averaged over positions, in nats."""
    distinct: Estimate
    """Different answers a sample, averaged over samples."""
    effective: Estimate
    """Effective number of answers exp(H) a sample, averaged over samples."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """A mean of a run by cluster, or why there is none."""

    totals: ClusterTotals | None
    reason: str | None
    n_unscored: int
    """Rollouts that are left out because they lack it."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredRun:
    """A run reduced to what its numbers are made of: arrays over samples and clusters."""

    counts: SolvedCounts
    n_rollouts: int
    threshold: float
    rbf: Quantity
    entropy: Quantity
    distinct: Quantity
    effective: Quantity

    @property
    def means(self) -> tuple[Quantity, Quantity, Quantity, Quantity]:
        """The means that are resampled: rbf, entropy, distinct, effective."""
        return (self.rbf, self.entropy, self.distinct, self.effective)


@dataclass(frozen=True, slots=True)
class ExplorationSpec:
    """What to look at, and how."""

    ks: tuple[int, ...] | None = None
    """Numbers of rollouts; None: 1, 2, 4 ... up to the most a sample has, and that number itself."""
    rbf_samples: tuple[int, ...] | None = None
    """Numbers of samples for RBF; None: those of 120, 240 and 480 that a run has."""
    threshold: float = 1.0
    """A rollout is correct when its value reaches it."""
    resampling: Resampling = field(default_factory=Resampling)
    """Draws, level and seed of the intervals of quantities without bounds."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ConfigError(f"the threshold must be a number, not {self.threshold}")


def explore(
    rollouts: Rollouts,
    *,
    ks: Sequence[int] | None = None,
    rbf_samples: Sequence[int] | None = None,
    threshold: float = 1.0,
    resampling: Resampling | None = None,
) -> Exploration:
    """All exploration numbers of one run. What cannot be told from it is undefined, with what to run instead.

    Args:
        rollouts: of one run; unscored ones are left out of everything that asks what is correct, and counted.
        ks: see `ExplorationSpec`, as the following ones.
        rbf_samples: numbers of samples for RBF.
        threshold: a rollout is correct when its value reaches it.
        resampling: draws, level and seed.

    Raises:
        ConfigError: a k below 1, fewer than 2 samples for RBF, or a threshold that is no number.
    """
    spec = ExplorationSpec(
        None if ks is None else tuple(ks),
        None if rbf_samples is None else tuple(rbf_samples),
        threshold,
        resampling or Resampling(),
    )
    return describe_runs([measure_run(rollouts, threshold)], spec)[0]


def measure_run(rollouts: Rollouts, threshold: float = 1.0) -> MeasuredRun:
    """Reduce the rollouts of one run to arrays over its samples."""
    samples, scored = rollouts.by_sample(), rollouts.scored
    n = len(rollouts.sample_ids)
    correct = np.where(scored, rollouts.values >= threshold, False)
    answers = None if rollouts.answers is None else count_answers(rollouts, correct.astype(np.float64))
    counts = SolvedCounts(
        samples=samples,
        n_correct=np.bincount(rollouts.samples[correct], minlength=n),
        n_scored=np.bincount(rollouts.samples[scored], minlength=n),
        answers=answers,
    )
    return MeasuredRun(
        counts=counts,
        n_rollouts=len(scored),
        threshold=threshold,
        rbf=_over_positions(rollouts, rollouts.nucleus),
        entropy=_over_positions(rollouts, rollouts.entropy),
        distinct=_variety(counts, distinct_answers),
        effective=_variety(counts, effective_answers),
    )


def describe_runs(runs: Sequence[MeasuredRun], spec: ExplorationSpec | None = None) -> list[Exploration]:
    """The numbers of many runs. Runs over the same samples share their resamples, which cost most of the time."""
    spec = spec or ExplorationSpec()
    quantities = [one for run in runs for one in run.means]
    given = [one.totals for one in quantities if one.totals is not None]
    resampled = iter(pooled_means(given, spec.resampling))
    estimates = [
        undefined(one.reason or "no value", one.n_unscored)
        if one.totals is None
        else replace(next(resampled), n_unscored=one.n_unscored)
        for one in quantities
    ]
    at_samples = rbf_at_samples([run.rbf.totals for run in runs], spec.rbf_samples, spec.resampling)
    return [
        _described(run, spec, estimates[4 * number : 4 * number + 4], at_samples[number])
        for number, run in enumerate(runs)
    ]


def _described(
    run: MeasuredRun, spec: ExplorationSpec, means: Sequence[Estimate], rbf_at: tuple[AtSamples, ...]
) -> Exploration:
    counts = run.counts
    rbf, entropy, distinct, effective = means
    ks = default_ks(counts.most) if spec.ks is None else spec.ks
    return Exploration(
        n_samples=len(counts.n_scored),
        n_rollouts=run.n_rollouts,
        n_unscored=counts.samples.n_unscored,
        fewest_rollouts=int(counts.n_scored.min(initial=counts.most)),
        most_rollouts=counts.most,
        threshold=run.threshold,
        at_k=solved_at(counts, ks, spec.resampling.level),
        rbf=rbf,
        rbf_at=rbf_at,
        entropy=entropy,
        distinct=distinct,
        effective=effective,
    )


def _over_positions(rollouts: Rollouts, means: FloatArray | None) -> Quantity:
    """Average over all generated positions: rollouts weigh by their tokens.

    The papers average over positions; a mean of per-rollout means would let a two-token answer count as much as a
    page of reasoning. `n_unscored` of the result counts the rollouts without statistics.
    """
    if means is None or rollouts.n_tokens is None:
        return Quantity(None, NO_STATISTICS, len(rollouts.values))
    known = ~np.isnan(means) & (rollouts.n_tokens > 0)
    missing = int(len(known) - known.sum())
    if not known.any():
        return Quantity(None, NO_STATISTICS, missing)
    n, index, tokens = len(rollouts.sample_ids), rollouts.samples[known], rollouts.n_tokens[known]
    positions = np.bincount(index, weights=tokens, minlength=n).astype(np.float64)
    totals = np.bincount(index, weights=tokens * means[known], minlength=n)
    return Quantity(mean_totals(totals / np.maximum(positions, 1), positions, rollouts.clusters), None, missing)


def _variety(counts: SolvedCounts, measure: Measure) -> Quantity:
    n_unscored = counts.samples.n_unscored
    if counts.answers is None or not len(counts.answers.counts):
        return Quantity(None, NO_ANSWERS, n_unscored)
    if counts.most < 2:
        return Quantity(None, MORE_ROLLOUTS, n_unscored)
    numbers = measure(counts.answers)
    given = ~np.isnan(numbers)
    totals = mean_totals(np.where(given, numbers, 0.0), given.astype(np.float64), counts.samples.clusters)
    return Quantity(totals, None, n_unscored)
