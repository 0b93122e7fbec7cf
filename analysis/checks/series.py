"""``specs-eval check --series``: where along a training run did what a policy watches peak, and where did it break?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.checks.factors import factor_of, scores_of
from specs_eval.analysis.checks.measures import Sides, find_run, read_gate_values
from specs_eval.analysis.cluster_totals import ClusterTotals, share_totals
from specs_eval.analysis.curve_draws import Reading, draw_curves
from specs_eval.analysis.exploration import Quantity, measure_run
from specs_eval.analysis.gate_measures import UNSCORED
from specs_eval.analysis.gates import bound_of
from specs_eval.analysis.generalization import choose_gain
from specs_eval.analysis.multiplicity import holm
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios
from specs_eval.analysis.samples import FloatArray, Rollouts
from specs_eval.analysis.stored.selection import CheckpointKey, check_series
from specs_eval.analysis.stored.sides import Side, check_questions, check_settings, find_side
from specs_eval.analysis.trajectory import ChangePoint, Trajectory, trajectory
from specs_eval.errors import EXIT_PASS, EXIT_REGRESSION, ComparisonError
from specs_eval.policy import WITHOUT_BOUNDS, Gate, Policy
from specs_eval.splits import parse_split
from specs_eval.store import StoredRun
from specs_eval.verdicts import Outcome


@dataclass(frozen=True, slots=True)
class SeriesQuestion:
    """What the user asked."""

    runs: tuple[StoredRun, ...]
    series: str
    policy: Policy
    selects: tuple[str, ...] = ()
    allow_incomplete: bool = False
    n_draws: int = 2000


@dataclass(frozen=True, slots=True)
class SeriesVerdict:
    """One gate along a series."""

    gate: str
    metric: str
    rule: str
    outcome: Outcome
    """``fail``: the series changed for the worse, by more than the gate allows, and where is known. ``pass``: no such change
    is shown. ``undecided``: there are too few checkpoints, or the metric is undefined."""
    course: Trajectory | None
    p_adjusted: float | None
    """p value of "no change anywhere", after Holm's correction over the gates."""
    text: str
    """What happened, in a sentence."""

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain JSON types."""
        course = None if self.course is None else self.course.to_dict()
        names = ("gate", "metric", "rule", "outcome", "p_adjusted", "text")
        return {name: getattr(self, name) for name in names} | {"trajectory": course}


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """All gates along a series."""

    series: str
    steps: tuple[int, ...]
    verdicts: tuple[SeriesVerdict, ...]

    @property
    def exit_code(self) -> int:
        """1 when something broke. Too few checkpoints break nothing."""
        return EXIT_REGRESSION if any(one.outcome == "fail" for one in self.verdicts) else EXIT_PASS

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON types."""
        return {
            "command": "check",
            "series": self.series,
            "steps": list(self.steps),
            "exit_code": self.exit_code,
            "verdicts": [one.to_dict() for one in self.verdicts],
        }


def answer_series(question: SeriesQuestion) -> SeriesAnswer:
    """Follow every gate's metric along a series.

    Raises:
        ConfigError: no such series, metric or category.
        ComparisonError: fewer than two checkpoints with steps, or runs that are missing or do not compare.
    """
    sides = _checkpoints(question)
    steps = tuple(side.key.order for side in sides)
    resampling = Resampling(question.n_draws, 1 - question.policy.beta, question.policy.seed)
    courses = [_course(gate, sides, question, resampling) for gate in question.policy.gates]
    tested = [course.change.p for course in courses if isinstance(course, Trajectory) and course.change is not None]
    adjusted = iter(holm(tested))
    verdicts = []
    for gate, course in zip(question.policy.gates, courses, strict=True):
        has_change = isinstance(course, Trajectory) and course.change is not None
        verdicts.append(_verdict(gate, course, next(adjusted) if has_change else None, question.policy))
    return SeriesAnswer(question.series, steps, tuple(verdicts))


def find_series(store_runs: Sequence[StoredRun], text: str) -> str:
    """The series that is meant: by name, or by the folder that its checkpoints are in."""
    names = {run.manifest.checkpoint.series for run in store_runs}
    name = text.rstrip("/").rsplit("/", 1)[-1]
    found = text if text in names else name
    check_series((found,), names)
    return found


def _checkpoints(question: SeriesQuestion) -> list[Side]:
    runs = [run for run in question.runs if run.manifest.checkpoint.series == question.series]
    keys = sorted({CheckpointKey.of(run.manifest) for run in runs if run.manifest.checkpoint.step is not None})
    if len(keys) < 2:
        raise ComparisonError(
            f"series {question.series!r} has {len(keys)} checkpoints with a step in the store; a course needs two: evaluate more "
            "with 'specs-eval run'"
        )
    return [find_side(runs, key.name) for key in keys]


def _course(gate: Gate, sides: Sequence[Side], question: SeriesQuestion, resampling: Resampling) -> Trajectory | str:
    """The course of a gate's number; a sentence where there is none."""
    values, draws = (_factors if gate.metric == "gf" else _means)(gate, sides, question, resampling)
    if np.isnan(values).any():
        named = ", ".join(side.key.name for side, value in zip(sides, values, strict=True) if np.isnan(value))
        return f"{gate.metric} is undefined at {named}"
    return trajectory([side.key.order for side in sides], values, draws, resampling.level)


def _means(
    gate: Gate, sides: Sequence[Side], question: SeriesQuestion, resampling: Resampling
) -> tuple[FloatArray, FloatArray]:
    split = parse_split(gate.task or "")
    pairs = [_as_sides(side, question) for side in sides]
    runs = [find_run(one.candidate, split.task, one) for one in pairs]
    for run in runs[1:]:
        check_settings(runs[0], run)
        check_questions(runs[0], run)
    rollouts = [read_gate_values(gate, run, split) for run in runs]
    if len({frozenset(one.sample_ids) for one in rollouts}) > 1:
        raise ComparisonError(
            f"{gate.title}: the checkpoints answered different samples; evaluate all with the same --limit"
        )
    totals = [_totals(gate, one) for one in rollouts]
    if any(one is None for one in totals):
        return np.array([np.nan if one is None else 0.0 for one in totals]), np.zeros((len(totals), 1))
    known = [one for one in totals if one is not None]
    draws = bootstrap_ratios([[one] for one in known], resampling.n_draws, resampling.generator())[:, 0]
    return np.array([one.totals.sum() / one.weights.sum() for one in known]), draws


def _totals(gate: Gate, rollouts: Rollouts) -> ClusterTotals | None:
    if gate.metric in WITHOUT_BOUNDS:
        quantity: Quantity = getattr(measure_run(rollouts, gate.threshold), gate.metric)
        return quantity.totals
    if gate.metric != UNSCORED and not rollouts.scored.any():
        return None
    return share_totals(rollouts.by_sample())


def _factors(
    gate: Gate, sides: Sequence[Side], question: SeriesQuestion, resampling: Resampling
) -> tuple[FloatArray, FloatArray]:
    base_side = None if gate.base is None else find_side(list(question.runs), gate.base)
    pairs = [_as_sides(side, question) for side in sides]
    scores, base = scores_of(gate, pairs[0], [one.candidate for one in pairs], base_side)
    reading = Reading(choose_gain(gate.gain, base is not None), gate.gf_beta, resampling)
    found = [factor_of(one, base, reading) for one in scores]
    values = np.array([np.nan if value is None else value for value in found])
    return values, draw_curves([scores], base, reading)[0].first.gf


def _as_sides(side: Side, question: SeriesQuestion) -> Sides:
    return Sides(side, side, question.runs, question.selects, allow_incomplete=question.allow_incomplete)


def _verdict(gate: Gate, course: Trajectory | str, p: float | None, policy: Policy) -> SeriesVerdict:
    rule = "must not rise" if bound_of(gate).direction == "at most" else "must not fall"
    if gate.kind in ("max_drop", "max_rise") and gate.bound:
        rule += f" by more than {gate.bound:g}"
    if isinstance(course, str):
        return SeriesVerdict(gate.title, gate.metric, rule, "undecided", None, None, course)
    change = course.change
    if change is None or p is None:
        return SeriesVerdict(
            gate.title, gate.metric, rule, "undecided", course, None, course.reason or "no change point"
        )
    worse = p <= policy.beta and _beyond(gate, change)
    outcome: Outcome = "fail" if worse else "pass"
    return SeriesVerdict(gate.title, gate.metric, rule, outcome, course, p, _sentence(gate, course, change, p, policy))


def _beyond(gate: Gate, change: ChangePoint) -> bool:
    """Whether the change is for the worse, by more than the gate allows, over its whole interval."""
    allowed = gate.bound if gate.kind in ("max_drop", "max_rise") else 0.0
    return change.low > allowed if bound_of(gate).direction == "at most" else change.high < -allowed


def _sentence(gate: Gate, course: Trajectory, change: ChangePoint, p: float, policy: Policy) -> str:
    scale, unit = (1.0, "") if gate.metric in WITHOUT_BOUNDS else (100.0, " points")
    peak = f"{gate.metric} peaked at step {course.peak:,} ({scale * max(course.values):.1f})"
    if len(course.may_be_peak) > 1:
        peak += f", which may as well be step {', '.join(f'{step:,}' for step in course.may_be_peak if step != course.peak)}"
    if p > policy.beta:
        return f"{peak}; no change of level is shown (p {p:.2g})"
    verb = "fell" if change.size < 0 else "rose"
    where = f"after step {change.after:,}"
    if change.earliest != change.latest:
        where += f" (between {change.earliest:,} and {change.latest:,})"
    size = f"{scale * change.size:+.1f} [{scale * change.low:+.1f}, {scale * change.high:+.1f}]{unit}"
    return f"{peak}; it {verb} {where} by {size} (p {p:.2g})"
