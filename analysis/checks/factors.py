"""Gates on the Generalization Factor: runs of four to six roles, and the bootstrap of a function of their means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specs_eval.analysis.bound_tests import BoundTest, draws_test
from specs_eval.analysis.checkpoint_scores import ROLES, CheckpointScores, Role, check_same_samples
from specs_eval.analysis.checks.measures import Resources, Sides, common_rollouts, find_run, sides_of
from specs_eval.analysis.curve_draws import Reading, draw_curves
from specs_eval.analysis.gates import Measured, bound_of
from specs_eval.analysis.generalization import choose_gain, gain_over, generalization_factor
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.statistics import Estimate, undefined
from specs_eval.analysis.stored.reading import metric_names, read_rollouts
from specs_eval.analysis.stored.sides import Side, check_questions, check_settings, find_side
from specs_eval.errors import ConfigError
from specs_eval.policy import Gate
from specs_eval.splits import Split, parse_split
from specs_eval.store import StoredRun


def measure_factor(gate: Gate, sides: Sides, resources: Resources) -> Measured:
    """GF of the candidate, or its change, by the paired bootstrap.

    Raises:
        ConfigError: a metric, category or base that does not exist.
        ComparisonError: a run is missing or incomplete, or runs do not compare.
    """
    gain = choose_gain(gate.gain, gate.base is not None)
    base_side = None if gate.base is None else find_side(list(sides.stored), gate.base)
    checkpoints, base = scores_of(gate, sides, sides_of(gate, sides), base_side)
    test = _factor_test(gate, checkpoints, base, Reading(gain, gate.gf_beta, resources.resampling))
    n_all = len(checkpoints[-1].id.sample_ids) + len(checkpoints[-1].ood.sample_ids)
    runs = [run for one in (*checkpoints, *([base] if base else [])) for run in (one.id_run, one.ood_run)]
    measures = f"GF ({gain}) of {parse_split(gate.id or '')} / {parse_split(gate.ood or '')}"
    return Measured(gate, test, measures, n_all, tuple(dict.fromkeys(runs)))


def scores_of(
    gate: Gate, sides: Sides, checkpoints: Sequence[Side], base: Side | None
) -> tuple[list[CheckpointScores], CheckpointScores | None]:
    """The ID and OOD performance that a GF gate is about, of some checkpoints and the base.

    Raises:
        ConfigError: a metric or category that does not exist, or ID and OOD that share samples.
        ComparisonError: a run is missing or incomplete, or runs do not compare.
    """
    splits = parse_split(gate.id or ""), parse_split(gate.ood or "")
    first: dict[str, StoredRun] = {}

    def found_by(side: Side) -> tuple[Side, list[StoredRun], list[Rollouts]]:
        found = [find_run(side, split.task, sides) for split in splits]
        for run in found:
            other = first.setdefault(run.manifest.task, run)
            if other is not run:
                check_settings(other, run, overlap=sides.overlap)
                check_questions(other, run)
        return side, found, [_performance(gate, run, split) for run, split in zip(found, splits, strict=True)]

    every = [found_by(side) for side in (*checkpoints, *([base] if base else []))]
    by_role = [[roles[role] for _, _, roles in every] for role in (0, 1)]
    if sides.overlap:
        by_role = [common_rollouts(rollouts) for rollouts in by_role]
    scores = [
        CheckpointScores(
            side.key.name, side.key.step, one.by_sample(), other.by_sample(), runs[0].run_id, runs[1].run_id
        )
        for (side, runs, _), one, other in zip(every, *by_role, strict=True)
    ]
    measured, floor = scores[: len(checkpoints)], scores[-1] if base else None
    check_same_samples([*measured, *([floor] if floor else [])])
    shared = set(measured[0].id.sample_ids) & set(measured[0].ood.sample_ids)
    if splits[0].task == splits[1].task and shared:
        raise ConfigError(f"{gate.title}: id and ood share {len(shared):,} samples (such as {min(shared)!r})")
    return measured, floor


def _performance(gate: Gate, run: StoredRun, split: Split) -> Rollouts:
    found = read_rollouts(run, [gate.of], split=split)
    if gate.of not in found:
        raise ConfigError(
            f"{gate.title}: {run.manifest.task} has no metric {gate.of!r}; it has: {', '.join(metric_names(run))}"
        )
    return found[gate.of]


def _factor_test(
    gate: Gate, checkpoints: Sequence[CheckpointScores], base: CheckpointScores | None, reading: Reading
) -> BoundTest:
    values = [factor_of(one, base, reading) for one in checkpoints]
    n_unscored = sum(one.id.n_unscored + one.ood.n_unscored for one in checkpoints)
    if any(value is None for value in values):
        missing = undefined("GF is undefined: a task has no scored rollout, or the base is at 100 %", n_unscored)
        return BoundTest(missing, 1.0, 1.0, "paired cluster bootstrap")
    drawn = draw_curves([[one] for one in checkpoints], base, reading)
    draws, value = drawn[-1].first.gf[0], values[-1] or 0.0
    if len(checkpoints) == 2:
        draws, value = drawn[1].second.gf[0] - drawn[0].first.gf[0], value - (values[0] or 0.0)
    one = checkpoints[-1]
    n_samples = sum(int((~np.isnan(role.values)).sum()) for role in (one.id, one.ood))
    n_clusters = min(len(set(one.id.clusters)), len(set(one.ood.clusters)))
    estimate = Estimate(value, None, None, n_samples, n_clusters, n_unscored)
    if n_clusters < 2:
        return BoundTest(estimate, 1.0, 1.0, "paired cluster bootstrap")
    return draws_test(estimate, draws, bound_of(gate), reading.resampling)


def factor_of(one: CheckpointScores, base: CheckpointScores | None, reading: Reading) -> float | None:
    """GF itself; None where a role has no score, or the base leaves nothing to gain."""
    if not one.has_scores or (base is not None and not base.has_scores):
        return None
    gains = [
        float(gain_over(_mean(one, role), None if base is None else _mean(base, role), reading.gain)) for role in ROLES
    ]
    return None if any(map(math.isnan, gains)) else generalization_factor(gains[0], gains[1], reading.beta)


def _mean(one: CheckpointScores, role: Role) -> float:
    return float(np.nanmean(one.role(role).values))
