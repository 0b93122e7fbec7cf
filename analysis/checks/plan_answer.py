"""``plan``: what a policy's checks will take, from the baseline's own runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.checks.factor_streams import FactorStream
from specs_eval.analysis.checks.measures import Sides, read_gate_values
from specs_eval.analysis.checks.planning import GatePlan, Simulation, plan_gate
from specs_eval.analysis.checks.sequential import gate_reader
from specs_eval.analysis.checks.sources import StoredSource
from specs_eval.analysis.checks.stream_choice import choose_stream
from specs_eval.analysis.checks.streams import Stream
from specs_eval.analysis.gates import levels_of
from specs_eval.analysis.pairs import pair_samples, spread_of
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.analysis.stored.sides import Side, different_settings, find_side
from specs_eval.errors import ConfigError
from specs_eval.policy import Gate, Policy
from specs_eval.splits import Split
from specs_eval.store import StoredRun

ASSUMED_DISCORDANT = 0.25
"""Share of samples on which two checkpoints differ, where nothing says."""

FEWER_CHECKS = 5
"""Simulated checks of a change of GF cost more: a fifth of them are made."""


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What the user asked."""

    policy: Policy
    baseline: Side
    stored: tuple[StoredRun, ...]
    selects: tuple[str, ...] = ()
    like: str | None = None
    """A checkpoint whose difference to the baseline is typical."""
    discordant: float | None = None
    n_checks: int = 200
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        if self.discordant is not None and not 0 < self.discordant <= 1:
            raise ConfigError(f"--discordant is a share in (0, 1], such as 0.25, not {self.discordant:g}")
        if self.n_checks < 10:
            raise ConfigError(f"--checks must be at least 10, not {self.n_checks}")
        if self.like is not None and self.discordant is not None:
            raise ConfigError("give --like or --discordant, not both")


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """A gate, what it will take, and where the figures come from."""

    gate: Gate
    plan: GatePlan | None
    """None: it cannot stop early."""
    difference: str
    """Where the difference of two checkpoints is from; or why there is no plan."""
    n_rollouts: int
    """A sample."""
    seconds: float | None
    """A sample, as the baseline took; None: not known."""

    def minutes(self, n_samples: float) -> float | None:
        """For so many samples."""
        return None if self.seconds is None else n_samples * self.seconds / 60

    def warning(self) -> str | None:
        """What must be known before anything is spent."""
        if self.plan is None:
            return None
        equal = self.plan.scenarios[0]
        decided = 1 - equal.sequential.undecided
        if max(decided, equal.fixed.power) >= 0.8:
            return None
        if equal.fixed.n_samples is None:
            return "a candidate that equals the baseline is exactly at the bound: no number of samples decides"
        return (
            f"even all {self.plan.n_samples:,} samples decide only with {100 * max(decided, equal.fixed.power):.0f} % when the "
            f"candidate equals the baseline ({100 * decided:.0f} % sequentially); a wider bound, or about "
            f"{equal.fixed.n_samples:,} samples, would"
        )

    def to_dict(self) -> dict[str, Any]:
        """The gate as plain JSON types."""
        facts: dict[str, Any] = {
            "gate": self.gate.title,
            "plan": None if self.plan is None else self.plan.to_dict(),
            "difference": self.difference,
            "n_rollouts": self.n_rollouts,
            "seconds_per_sample": self.seconds,
            "warning": self.warning(),
        }
        return facts


def plan_policy(question: PlanQuestion) -> list[PlannedGate]:
    """Plan every gate of a policy. No model is loaded.

    Raises:
        ConfigError: a metric, task or checkpoint that does not exist.
        ComparisonError: the baseline has no run of a task.
    """
    side = question.baseline
    sides = Sides(side, side, question.stored, question.selects, allow_incomplete=question.allow_incomplete)
    source = StoredSource(sides)
    return [_planned(gate, source, question) for gate in question.policy.gates]


def _planned(gate: Gate, source: StoredSource, question: PlanQuestion) -> PlannedGate:
    stream, why_not = choose_stream(gate, source, question.policy.seed)
    if stream is None:
        return PlannedGate(gate, None, why_not, 1, None)
    runs = [source.run("baseline", split.task) for split in stream.splits]
    variance, told = _variance(stream, runs, question)
    slow = isinstance(stream, FactorStream) and gate.on_change
    n_checks = max(question.n_checks // FEWER_CHECKS, 10) if slow else question.n_checks
    simulation = Simulation(levels_of(question.policy), len(question.policy.gates), n_checks, question.policy.seed)
    plan = plan_gate(stream, gate_reader(source)(gate), variance, simulation)
    seconds = [_seconds(run) for run in runs]
    sizes = [len(ids) for ids in stream.order.ids]
    mean = None if None in seconds else float(np.average([one or 0.0 for one in seconds], weights=sizes))
    return PlannedGate(gate, plan, told, max(run.manifest.n_rollouts for run in runs), mean)


def _seconds(run: StoredRun) -> float | None:
    """That the baseline took for a sample."""
    manifest = run.manifest
    return manifest.seconds / manifest.n_samples if manifest.seconds > 0 and manifest.n_samples else None


def _variance(stream: Stream, runs: Sequence[StoredRun], question: PlanQuestion) -> tuple[float, str]:
    """Variance of a sample's difference between two checkpoints, and where it is from."""
    if not stream.gate.on_change:
        return 0.0, "the baseline's answers"
    if question.discordant is not None:
        return question.discordant, f"--discordant {question.discordant:g}"
    found = [
        _from_checkpoint(stream.gate, run, split, question) for run, split in zip(runs, stream.splits, strict=True)
    ]
    known = [one for one in found if one is not None]
    sizes = [len(ids) for ids in stream.order.ids]
    if len(known) == len(found):
        variance = float(np.average([one for one, _ in known], weights=sizes))
        return variance, f"the baseline against {', '.join(dict.fromkeys(name for _, name in known))}"
    if question.like is not None:
        raise ConfigError(f"{stream.gate.title}: {question.like!r} has no run that compares with the baseline's")
    noise = [_from_rollouts(stream.gate, run, split) for run, split in zip(runs, stream.splits, strict=True)]
    if all(one is not None for one in noise):
        variance = float(np.average([one or 0.0 for one in noise], weights=sizes))
        return variance, "the baseline's rollouts against each other, the least that two checkpoints can differ"
    return (
        ASSUMED_DISCORDANT,
        f"an assumed {ASSUMED_DISCORDANT:.0%} of samples (say better with --discordant or --like)",
    )


def _from_checkpoint(gate: Gate, run: StoredRun, split: Split, question: PlanQuestion) -> tuple[float, str] | None:
    """By another checkpoint: the one that is named, else the nearest of the series."""
    named = None if question.like is None else find_side(list(question.stored), question.like)
    others = (
        named.runs
        if named is not None
        else [one for one in question.stored if one.manifest.checkpoint.series == run.manifest.checkpoint.series]
    )
    mine = CheckpointKey.of(run.manifest)
    comparable = [
        one
        for one in others
        if one.manifest.task == run.manifest.task
        and one.complete
        and one.manifest.checkpoint.fingerprint != run.manifest.checkpoint.fingerprint
        and not different_settings(one, run)
    ]
    for other in sorted(comparable, key=lambda one: abs(CheckpointKey.of(one.manifest).order - mine.order)):
        rollouts = [_values(gate, one, split) for one in (run, other)]
        if set(rollouts[0].sample_ids).isdisjoint(rollouts[1].sample_ids):
            continue
        spread = spread_of(pair_samples(rollouts[0], rollouts[1], overlap=True))
        if spread is not None and spread.stderr > 0:
            return spread.stderr**2 * spread.n_samples, other.manifest.checkpoint.name
    return None


def _from_rollouts(gate: Gate, run: StoredRun, split: Split) -> float | None:
    """By chance alone: two sets of rollouts of the same weights."""
    rollouts = _values(gate, run, split)
    scored = rollouts.scored
    n = len(rollouts.sample_ids)
    counts = np.bincount(rollouts.samples[scored], minlength=n)
    sums = np.bincount(rollouts.samples[scored], weights=rollouts.values[scored], minlength=n)
    squares = np.bincount(rollouts.samples[scored], weights=rollouts.values[scored] ** 2, minlength=n)
    several = counts >= 2
    if not several.any():
        return None
    counts, sums, squares = counts[several], sums[several], squares[several]
    within = np.maximum(squares - sums**2 / counts, 0.0) / (counts - 1)
    variance = float((2 * within / counts).mean())
    return variance or None


def _values(gate: Gate, run: StoredRun, split: Split) -> Rollouts:
    wanted = gate.model_copy(update={"metric": gate.of}) if gate.metric == "gf" else gate
    return read_gate_values(wanted, run, split)
