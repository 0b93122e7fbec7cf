"""Stuckness along the checkpoints of a training run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from specs_eval.analysis.samples import IntArray, Rollouts, SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.analysis.stuckness import (
    StuckRule,
    Transition,
    WrongModes,
    persistence,
    persisting,
    same_order,
    stays,
    transition,
    wrong_modes,
)


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointRollouts:
    """One checkpoint's rollouts on one task, as the analysis needs them."""

    checkpoint: str
    step: int | None
    rollouts: Rollouts
    """With answers; the values decide what is correct."""
    trained_format: SampleValues | None = None
    """Whether a response is in the trained format: ``lock_in`` under a changed instruction, ``format`` under the trained one;
    None: not measured."""
    asked_format: SampleValues | None = None
    """Whether a response is in the format that was asked for; None: not measured."""
    run: str = ""
    targets: Mapping[str, str] = field(default_factory=dict)
    """Right answer by sample id; goes to the lists of stuck samples."""


@dataclass(frozen=True, slots=True)
class FormatLockIn:
    """In which format a task's prompts were answered: shares of the prompts that add up to 1."""

    trained: Estimate
    """Answered in the trained format. Under a changed instruction this is the lock-in; lower is better."""
    asked: Estimate
    """Answered in the format that was asked for; under the trained instruction the same as `trained`."""
    neither: Estimate
    """Answered in neither: no parser of the two accepts the response."""
    changed: bool
    """Whether the prompts ask for a changed format; False: for the trained one, so that nothing can be locked in."""


@dataclass(frozen=True, slots=True)
class StuckSample:
    """A sample that is stuck at a checkpoint."""

    sample_id: str
    answer: str
    """The wrong answer, as stored."""
    n_answer: int
    """Rollouts that gave it."""
    n_rollouts: int
    """Scored rollouts of the sample."""
    share: float
    """n_answer / n_rollouts."""
    target: str | None
    """The right answer; None: not known."""
    streak: int
    """Consecutive checkpoints, this one included, at which the sample is stuck in this answer."""


@dataclass(frozen=True, slots=True)
class StuckPoint:
    """Stuckness of one checkpoint on one task."""

    checkpoint: str
    step: int | None
    run: str
    n_rollouts: int
    """Most scored rollouts of a sample."""
    wrong_mode: Estimate
    """Wrong-mode share; lower is better."""
    lock_in: FormatLockIn | None
    """None: the task does not measure formats."""
    samples: tuple[StuckSample, ...]
    """The stuck samples: longest streak first, then largest share, then by id."""


@dataclass(frozen=True, slots=True)
class StuckSeries:
    """Stuckness along one series on one task."""

    series: str
    task: str
    """The task, or the part of it."""
    metric: str
    """What decides whether a rollout is correct."""
    points: tuple[StuckPoint, ...]
    """In step order; the base first, when there is one."""
    transitions: tuple[Transition, ...]
    """Between consecutive points."""
    persistence: Estimate
    """Pooled over all transitions."""

    def to_dict(self) -> dict[str, Any]:
        """The series as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSeries:
    """A series with its arrays: what both its description and its gap to another task are made from."""

    series: str
    checkpoints: tuple[CheckpointRollouts, ...]
    modes: tuple[WrongModes, ...]
    """Of each checkpoint, all with their samples in the same order."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """The samples that all checkpoints answered."""
        return self.modes[0].samples.sample_ids

    @property
    def transitions(self) -> list[tuple[int, int]]:
        """Numbers of consecutive checkpoints."""
        return list(itertools.pairwise(range(len(self.modes))))

    def persisting(self, number: int) -> SampleValues | None:
        """See `stuckness.persisting`, from this checkpoint to the next; None at the last."""
        if number + 1 >= len(self.modes):
            return None
        return persisting(self.modes[number], self.modes[number + 1])


def measure_series(
    series: str, checkpoints: Sequence[CheckpointRollouts], rule: StuckRule | None = None
) -> MeasuredSeries:
    """Find what each sample is stuck in at each checkpoint.

    Args:
        series: its name.
        checkpoints: in step order, at least one.
        rule: when a sample is stuck.

    Raises:
        ComparisonError: checkpoints that answered different samples, or group them differently.
    """
    first = wrong_modes(checkpoints[0].rollouts, rule)
    later = [same_order(first, wrong_modes(one.rollouts, rule)) for one in checkpoints[1:]]
    return MeasuredSeries(series, tuple(checkpoints), (first, *later))


def stuck_series(measured: MeasuredSeries, task: str, metric: str, level: float = 0.95) -> StuckSeries:
    """Shares, transitions and lists of stuck samples of one series.

    Args:
        measured: see `measure_series`.
        task: its name, for the result.
        metric: what decides whether a rollout is correct, for the result.
        level: nominal coverage of the intervals.
    """
    streaks = _streaks(measured.modes)
    points = [
        _point(one, modes, streak, level)
        for one, modes, streak in zip(measured.checkpoints, measured.modes, streaks, strict=True)
    ]
    between = [
        transition(
            measured.modes[i],
            measured.modes[j],
            (points[i].checkpoint, points[j].checkpoint),
            (points[i].step, points[j].step),
            level,
        )
        for i, j in measured.transitions
    ]
    kept = persistence([persisting(measured.modes[i], measured.modes[j]) for i, j in measured.transitions], level)
    if not between:
        kept = undefined("a single checkpoint: persistence needs the next one")
    return StuckSeries(measured.series, task, metric, tuple(points), tuple(between), kept)


def _streaks(modes: Sequence[WrongModes]) -> list[IntArray]:
    """How many checkpoints in a row each sample has been stuck in the answer of now; 0: not stuck."""
    streaks = [modes[0].stuck.astype(np.int64)]
    for before, after in itertools.pairwise(modes):
        streaks.append(np.where(stays(before, after), streaks[-1] + 1, after.stuck).astype(np.int64))
    return streaks


def _point(one: CheckpointRollouts, modes: WrongModes, streaks: IntArray, level: float) -> StuckPoint:
    return StuckPoint(
        checkpoint=one.checkpoint,
        step=one.step,
        run=one.run,
        n_rollouts=int(modes.n_scored.max(initial=0)),
        wrong_mode=modes.share(level),
        lock_in=_lock_in(one, level),
        samples=_listed(modes, streaks, one.targets),
    )


def _lock_in(one: CheckpointRollouts, level: float) -> FormatLockIn | None:
    trained, asked = one.trained_format, one.asked_format
    if trained is None:
        return None
    if asked is None:
        # Nothing but lock-in was measured: what was asked for, and the rest, are not known.
        unknown = undefined("the run has no metric format")
        return FormatLockIn(summarize(trained, level), unknown, unknown, changed=True)
    if asked is trained:
        share = summarize(trained, level)
        return FormatLockIn(share, share, summarize(trained.with_values(1 - trained.values), level), changed=False)
    # A response in both formats at once would be counted twice; no two of our parsers accept the same response.
    neither = np.clip(1 - trained.values - asked.values, 0, 1)
    left = summarize(trained.with_values(neither), level)
    return FormatLockIn(summarize(trained, level), summarize(asked, level), left, changed=True)


def _listed(modes: WrongModes, streaks: IntArray, targets: Mapping[str, str]) -> tuple[StuckSample, ...]:
    ids = modes.samples.sample_ids
    rows = [
        StuckSample(
            sample_id=ids[i],
            answer=modes.answer_texts[modes.answers[i]],
            n_answer=int(modes.n_mode[i]),
            n_rollouts=int(modes.n_scored[i]),
            share=int(modes.n_mode[i]) / int(modes.n_scored[i]),
            target=targets.get(ids[i]),
            streak=int(streaks[i]),
        )
        for i in np.flatnonzero(modes.stuck).tolist()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.streak, -row.share, row.sample_id)))
