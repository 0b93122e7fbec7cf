"""What each gate of a policy sees in the store: the runs of both checkpoints, and a fixed-sample test of the bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.bound_tests import BoundTest, ErrorLevels, counted, difference_test, draws_test, share_test
from specs_eval.analysis.exploration import Quantity, measure_run
from specs_eval.analysis.gate_measures import UNSCORED, is_derived, sample_measure
from specs_eval.analysis.gates import Measured, bound_of
from specs_eval.analysis.pairs import pair_samples
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios
from specs_eval.analysis.samples import Rollouts, restrict
from specs_eval.analysis.statistics import Estimate, undefined
from specs_eval.analysis.stored.reading import metric_names, read_rollouts
from specs_eval.analysis.stored.selection import check_complete, one_run_each, runs_of_task
from specs_eval.analysis.stored.sides import Side, check_questions, check_settings
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.policy import WITHOUT_BOUNDS, Gate, Policy
from specs_eval.splits import Split, parse_split
from specs_eval.store import StoredRun

COMPUTED = ("unscored", "wrong_mode", "pass@k", "unsolvable@k", "maj@k", *WITHOUT_BOUNDS)
"""Metrics that every task has, computed from its rollouts."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two checkpoints of a check, and how to read their runs."""

    baseline: Side
    candidate: Side
    stored: tuple[StoredRun, ...]
    """All runs of the store, where the base of a GF gate is looked up."""
    selects: tuple[str, ...] = ()
    overlap: bool = False
    """Use the samples that both have, where they differ."""
    allow_incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """How a policy measures."""

    levels: ErrorLevels
    resampling: Resampling


def measure(gate: Gate, sides: Sides, policy: Policy, n_draws: int) -> Measured:
    """Test one gate on what is stored.

    Raises:
        ConfigError: a metric, category or checkpoint that does not exist.
        ComparisonError: a run is missing or incomplete, or the two do not compare.
    """
    levels = ErrorLevels(policy.alpha, policy.beta)
    resources = Resources(levels, Resampling(n_draws, levels.level, policy.seed))
    if gate.metric == "gf":
        from specs_eval.analysis.checks.factors import measure_factor

        return measure_factor(gate, sides, resources)
    split = parse_split(gate.task or "")
    runs = _runs(gate, split, sides)
    rollouts = [read_gate_values(gate, run, split) for run in runs]
    test, n_all = _test(gate, rollouts, sides, resources)
    return Measured(gate, test, f"{gate.metric} of {split}", n_all, tuple(run.run_id for run in runs))


def _runs(gate: Gate, split: Split, sides: Sides) -> list[StoredRun]:
    """The candidate's run, after the baseline's where the gate compares them."""
    chosen = [find_run(side, split.task, sides) for side in sides_of(gate, sides)]
    if len(chosen) == 2:
        check_settings(*chosen, overlap=sides.overlap)
        check_questions(*chosen)
    return chosen


def sides_of(gate: Gate, sides: Sides) -> list[Side]:
    """Whose runs a gate needs."""
    return [sides.baseline, sides.candidate] if gate.on_change else [sides.candidate]


def find_run(side: Side, task: str, sides: Sides) -> StoredRun:
    """The one run of a checkpoint and task.

    Raises:
        ComparisonError: there is none, it is not finished, or there are several.
    """
    try:
        found = runs_of_task(side.runs, task, sides.selects)
    except ConfigError as error:
        raise ComparisonError(f"{side.key.name}: {error}; evaluate what is missing with --run") from error
    run = next(iter(one_run_each(found).values()))
    check_complete([run], sides.allow_incomplete)
    return run


def read_gate_values(gate: Gate, run: StoredRun, split: Split) -> Rollouts:
    """The rollouts of a run with the gate's metric as values; one value a sample where the metric is derived.

    Raises:
        ConfigError: the run has no such metric; the message lists what gates can use.
        ComparisonError: the run cannot show it.
    """
    computed = is_derived(gate.metric) or gate.metric in WITHOUT_BOUNDS
    metric = gate.of if computed else gate.metric
    found = read_rollouts(run, [metric], statistics=computed, split=split)
    if metric not in found:
        names = ", ".join([*metric_names(run), *COMPUTED, "gf"])
        raise ConfigError(f"{gate.title}: {run.manifest.task} has no metric {metric!r}; gates can use: {names}")
    rollouts = found[metric]
    return sample_measure(rollouts, gate.metric, gate.threshold) if is_derived(gate.metric) else rollouts


def _test(gate: Gate, rollouts: Sequence[Rollouts], sides: Sides, resources: Resources) -> tuple[BoundTest, int]:
    bound = bound_of(gate)
    if sides.overlap:
        rollouts = common_rollouts(rollouts)
    if gate.metric == UNSCORED:
        shares = [float(one.values.mean()) for one in rollouts]
        value = shares[-1] - (shares[0] if gate.on_change else 0.0)
        return counted(value, bound, len(rollouts[-1].sample_ids)), len(rollouts[-1].sample_ids)
    if gate.metric in WITHOUT_BOUNDS:
        return _pooled(gate, rollouts, resources.resampling), len(rollouts[-1].sample_ids)
    if len(rollouts) == 1:
        samples = rollouts[0].by_sample()
        values = samples.values[~np.isnan(samples.values)]
        if len(values) and not (values.min() >= 0 and values.max() <= 1):
            raise ConfigError(
                f"{gate.title}: min and max are for shares, and {gate.metric} leaves 0 to 1; use a rule on change"
            )
        return share_test(samples, bound, resources.levels), len(rollouts[0].sample_ids)
    try:
        pairs = pair_samples(rollouts[0], rollouts[1], overlap=sides.overlap)
    except ComparisonError as error:
        raise ComparisonError(f"{gate.title}: {error}") from error
    return difference_test(pairs, bound, resources.levels), len(pairs.sample_ids)


def common_rollouts(rollouts: Sequence[Rollouts]) -> list[Rollouts]:
    """Cut to the samples that all of them have.

    Raises:
        ComparisonError: there is none.
    """
    common = frozenset(rollouts[0].sample_ids).intersection(*(one.sample_ids for one in rollouts[1:]))
    if not common:
        raise ComparisonError("the runs have no sample in common; evaluate both on the same samples")
    return [one if len(common) == len(one.sample_ids) else restrict(one, common) for one in rollouts]


def _pooled(gate: Gate, rollouts: Sequence[Rollouts], resampling: Resampling) -> BoundTest:
    """A mean without bounds (RBF, entropy, answers), or its change, by the paired cluster bootstrap."""
    measured: list[Quantity] = [getattr(measure_run(one, gate.threshold), gate.metric) for one in rollouts]
    n_unscored = sum(one.n_unscored for one in measured)
    totals = [one.totals for one in measured if one.totals is not None]
    if len(totals) < len(measured):
        reason = next(one.reason for one in measured if one.totals is None)
        return BoundTest(undefined(reason or "undefined", n_unscored), 1.0, 1.0, "paired cluster bootstrap")
    if len({one.labels for one in totals}) > 1:
        raise ComparisonError(
            f"{gate.title}: the runs answered different samples; evaluate both on the same, with statistics for all of them"
        )
    draws = bootstrap_ratios([[one] for one in totals], resampling.n_draws, resampling.generator())[:, 0]
    values = [float(one.totals.sum() / one.weights.sum()) for one in totals]
    change, drawn = values[-1], draws[-1]
    if gate.on_change:
        change, drawn = values[1] - values[0], draws[1] - draws[0]
    estimate = Estimate(change, None, None, len(rollouts[-1].sample_ids), len(totals[-1].labels), n_unscored)
    return draws_test(estimate, drawn, bound_of(gate), resampling)
