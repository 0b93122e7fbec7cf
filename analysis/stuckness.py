"""Stuck in a wrong answer: what each sample of a run is stuck in, and what becomes of it at the next checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from specs_eval.analysis.samples import BoolArray, IntArray, Rollouts, SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.analysis.votes import count_answers
from specs_eval.errors import ComparisonError, ConfigError

DEFAULT_MODE_SHARE = 0.8
MIN_ROLLOUTS = 2
"""One rollout always agrees with itself: a sample needs two before it can be called stuck, or not stuck."""

ONE_ROLLOUT = (
    "being stuck shows in several rollouts of a sample, and none has two with a score; draw them with: "
    "specs-eval run --rollouts 8 --temperature 1"
)
NO_ANSWERS = "no rollout has an extracted answer: the task's scorer extracts none, or the model gave none"


@dataclass(frozen=True, slots=True)
class StuckRule:
    """When a sample is stuck."""

    mode_share: float = DEFAULT_MODE_SHARE
    """The share of a sample's scored rollouts that one wrong answer must hold, in (0.5, 1]."""
    threshold: float = 1.0
    """A rollout is correct from this value of the metric on."""

    def __post_init__(self) -> None:
        if not 0.5 < self.mode_share <= 1:
            raise ConfigError(
                f"the share of the wrong mode must lie above 0.5, so that one answer only can hold it, and be at most 1 "
                f"(80 % is 0.8), not {self.mode_share}"
            )
        if not np.isfinite(self.threshold):
            raise ConfigError(f"the threshold must be a number, not {self.threshold}")


@dataclass(frozen=True, slots=True, eq=False)
class WrongModes:
    """What the samples of one run are stuck in, as arrays over the samples."""

    samples: SampleValues
    """1: stuck, 0: not stuck, NaN: fewer than two scored rollouts, or no answers at all."""
    answers: IntArray
    """Code of the wrong answer that a sample is stuck in, shape (n_samples,); -1: not stuck."""
    answer_texts: tuple[str, ...]
    n_mode: IntArray
    """Rollouts that gave this answer, shape (n_samples,); 0: not stuck."""
    n_scored: IntArray
    """Scored rollouts, with an answer or without, shape (n_samples,)."""
    solved: BoolArray
    """At least half of the scored rollouts are correct, shape (n_samples,)."""
    reason: str | None
    """Why no sample can be judged, when none can."""

    @property
    def stuck(self) -> BoolArray:
        """Which samples are stuck, shape (n_samples,)."""
        return self.answers >= 0

    @property
    def judged(self) -> BoolArray:
        """Which samples can be called stuck or not stuck, shape (n_samples,)."""
        return ~np.isnan(self.samples.values)

    def share(self, level: float = 0.95) -> Estimate:
        """Wrong-mode share: share of the judged samples that are stuck; lower is better."""
        if self.reason is not None:
            return undefined(self.reason, self.samples.n_unscored)
        return summarize(self.samples, level)


@dataclass(frozen=True, slots=True)
class Transition:
    """What became of the samples between two consecutive checkpoints: the counts add up to all samples."""

    before: str
    """Names of the two checkpoints, and their steps."""
    after: str
    before_step: int | None
    after_step: int | None
    stuck_same: int
    """Stuck at both in the same wrong answer."""
    stuck_other: int
    """Stuck at both, in another wrong answer."""
    unstuck_solved: int
    """Stuck before; after, at least half of the rollouts are correct."""
    unstuck_other: int
    """Stuck before; after, neither stuck nor solved."""
    newly_stuck: int
    """Not stuck before, stuck after."""
    never: int
    """Stuck at neither."""
    unjudged: int
    """Fewer than two scored rollouts at one of the two."""
    persistence: Estimate
    """Of the samples stuck before (and judged after), the share stuck after in the same wrong answer."""

    def to_dict(self) -> dict[str, Any]:
        """The transition as plain JSON types."""
        return asdict(self)


def wrong_modes(rollouts: Rollouts, rule: StuckRule | None = None) -> WrongModes:
    """Which samples are stuck, and in which wrong answer.

    A sample is stuck when one wrong answer holds at least `rule.mode_share` of its scored rollouts. Answers are compared
    as they are stored, after the task's own extraction. A rollout without an answer counts in the denominator and
    agrees with nothing: ten empty responses are no answer to be stuck in. A failed rollout counts nowhere. An answer is wrong
    when fewer than half of the rollouts that gave it are correct (they may differ where more than the answer decides).

    Args:
        rollouts: of one run, with answers; the values decide what is correct.
        rule: the thresholds.
    """
    rule = rule or StuckRule()
    n, scored = len(rollouts.sample_ids), rollouts.scored
    correct = np.where(scored, rollouts.values >= rule.threshold, False)
    n_scored = np.bincount(rollouts.samples[scored], minlength=n)
    n_correct = np.bincount(rollouts.samples[correct], minlength=n)
    answers, n_mode = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    reason = _why_nothing_is_judged(rollouts, n_scored)
    judged = (n_scored >= MIN_ROLLOUTS) & (reason is None)
    if reason is None:
        counted = count_answers(rollouts, correct.astype(np.float64))
        # The tolerance keeps 4 of 5 at 80 %, whatever 0.8 * 5 is in binary.
        holds = counted.counts >= rule.mode_share * n_scored[counted.samples] - 1e-9
        held = holds & (counted.worth < 0.5) & judged[counted.samples]
        answers[counted.samples[held]] = counted.answers[held]
        n_mode[counted.samples[held]] = counted.counts[held]
    return WrongModes(
        samples=rollouts.by_sample().with_values(np.where(judged, answers >= 0, np.nan)),
        answers=answers,
        answer_texts=rollouts.answer_texts,
        n_mode=n_mode,
        n_scored=n_scored,
        solved=(2 * n_correct >= n_scored) & (n_scored > 0),
        reason=reason,
    )


def same_order(before: WrongModes, after: WrongModes) -> WrongModes:
    """`after` with its samples in the order of `before`.

    Raises:
        ComparisonError: the two are of different samples, or group them differently.
    """
    if after.samples.sample_ids == before.samples.sample_ids:
        found = after
    else:
        place = {sample_id: index for index, sample_id in enumerate(after.samples.sample_ids)}
        missing = [sample_id for sample_id in before.samples.sample_ids if sample_id not in place]
        if missing or len(place) != len(before.samples.sample_ids):
            raise ComparisonError(
                f"two checkpoints answered different samples ({len(before.samples.sample_ids)} and {len(place)}); evaluate "
                "both with the same --limit, or use the common ones with --allow-incomplete"
            )
        found = _take(after, np.array([place[sample_id] for sample_id in before.samples.sample_ids], dtype=np.int64))
    if found.samples.clusters != before.samples.clusters:
        raise ComparisonError(
            "two checkpoints group the same samples differently; evaluate both with the same version of the task"
        )
    return found


def stays(before: WrongModes, after: WrongModes) -> BoolArray:
    """Which samples are stuck in the same answer at both, shape (n_samples,); samples in the same order."""
    codes = {text: code for code, text in enumerate(before.answer_texts)}
    translated = np.array([codes.get(text, -1) for text in after.answer_texts] or [-1], dtype=np.int64)
    same: BoolArray = translated[np.maximum(after.answers, 0)] == before.answers
    return before.stuck & after.stuck & same


def persisting(before: WrongModes, after: WrongModes) -> SampleValues:
    """1: stuck in the same answer at both; 0: stuck before only, or in another; NaN: not stuck before, or not judged."""
    asked = before.stuck & after.judged
    return before.samples.with_values(np.where(asked, stays(before, after), np.nan))


def persistence(rows: Sequence[SampleValues], level: float = 0.95) -> Estimate:
    """Share of stuck samples that stay stuck in the same answer, over one transition or pooled over several.

    The interval is Wilson's at the effective sample size; all rows of a cluster count together, so that a sample that
    is stuck at ten checkpoints is not taken for ten samples.
    """
    rows = [row for row in rows if not np.isnan(row.values).all()]
    if not rows:
        return undefined("no sample is stuck at the earlier checkpoint")
    pooled = SampleValues(
        sample_ids=tuple(sample_id for row in rows for sample_id in row.sample_ids),
        clusters=tuple(cluster for row in rows for cluster in row.clusters),
        values=np.concatenate([row.values for row in rows]),
        n_rollouts=sum(row.n_rollouts for row in rows),
        n_unscored=0,
    )
    return summarize(pooled, level)


def transition(
    before: WrongModes, after: WrongModes, names: tuple[str, str], steps: tuple[int | None, int | None], level: float
) -> Transition:
    """Counts and persistence between two checkpoints.

    Args:
        before: the earlier one.
        after: the later one, with the same samples in the same order (`same_order`).
        names: of the two checkpoints.
        steps: of the two checkpoints.
        level: nominal coverage of the interval of persistence.
    """
    both = before.judged & after.judged
    was, now, same = before.stuck & both, after.stuck & both, stays(before, after) & both
    kept = persistence([persisting(before, after)], level)
    if kept.value is None:
        kept = replace(kept, reason=before.reason or after.reason or kept.reason)
    return Transition(
        before=names[0],
        after=names[1],
        before_step=steps[0],
        after_step=steps[1],
        stuck_same=int(same.sum()),
        stuck_other=int((was & now & ~same).sum()),
        unstuck_solved=int((was & ~now & after.solved).sum()),
        unstuck_other=int((was & ~now & ~after.solved).sum()),
        newly_stuck=int((~was & now).sum()),
        never=int((both & ~was & ~now).sum()),
        unjudged=int((~both).sum()),
        persistence=kept,
    )


def _why_nothing_is_judged(rollouts: Rollouts, n_scored: IntArray) -> str | None:
    if not rollouts.scored.any():
        return "no rollout was scored"
    if rollouts.answers is None or not (rollouts.answers >= 0).any():
        return NO_ANSWERS
    return ONE_ROLLOUT if n_scored.max(initial=0) < MIN_ROLLOUTS else None


def _take(modes: WrongModes, order: IntArray) -> WrongModes:
    samples = modes.samples
    return replace(
        modes,
        samples=replace(
            samples,
            sample_ids=tuple(samples.sample_ids[index] for index in order.tolist()),
            clusters=tuple(samples.clusters[index] for index in order.tolist()),
            values=samples.values[order],
        ),
        answers=modes.answers[order],
        n_mode=modes.n_mode[order],
        n_scored=modes.n_scored[order],
        solved=modes.solved[order],
    )
