"""All numbers of one task over all its checkpoints, from one reading of each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from specs_eval.analysis.exploration import Exploration, ExplorationSpec, describe_runs, measure_run
from specs_eval.analysis.flips import Flips, find_flips
from specs_eval.analysis.movement import Movement, PlacedRun, movement
from specs_eval.analysis.pairs import PairedValues, pair_samples
from specs_eval.analysis.report.content import Measurement
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts, SampleValues
from specs_eval.analysis.statistics import summarize
from specs_eval.analysis.stored.reading import metric_names, read_rollouts
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.analysis.stuck_series import (
    CheckpointRollouts,
    MeasuredSeries,
    StuckSeries,
    measure_series,
    stuck_series,
)
from specs_eval.cli.chosen_runs import along_series
from specs_eval.cli.report_runs import Runs
from specs_eval.errors import SpecsEvalError
from specs_eval.splits import category_values, values_by_dimension

_CORRECT = ("accuracy", "score")
"""What makes a rollout correct: where the score is about form, accuracy is about the answer."""
_MAX_DIMENSIONS = 6
_MAX_VALUES = 40


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """A checkpoint and the one that it is compared with."""

    checkpoint: CheckpointKey
    against: CheckpointKey


@dataclass(slots=True)
class TaskNumbers:
    """What one task says."""

    task: str
    correctness: str = "score"
    measurements: list[Measurement] = field(default_factory=list)
    stuckness: list[StuckSeries] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    """Exploration of the compared checkpoints."""
    measured: list[MeasuredSeries] = field(default_factory=list)
    """Stuckness with its arrays."""
    pairs: dict[tuple[ComparedPair, str], PairedValues] = field(default_factory=dict)
    """By compared checkpoints and metric."""
    flips: dict[ComparedPair, Flips] = field(default_factory=dict)
    """In the score."""
    stuck: dict[str, CheckpointKey] = field(default_factory=dict)
    """Samples stuck at the last checkpoint of a series, and that checkpoint."""
    failed: dict[str, CheckpointKey] = field(default_factory=dict)
    """Samples with a rollout without a score, and the last checkpoint where that is so."""
    sample_ids: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


Read = dict[CheckpointKey, dict[str, Rollouts]]


def measure_task(
    task: str, runs: Runs, compared: list[ComparedPair], base: CheckpointKey | None, resampling: Resampling
) -> TaskNumbers:
    """Read the runs of a task and compute everything that a report shows of it."""
    read = {key: read_rollouts(run, metric_names(run), statistics=True, categories=True) for key, run in runs.items()}
    numbers = TaskNumbers(task)
    first = next(iter(read.values()))
    numbers.correctness = next(name for name in _CORRECT if name in first)
    numbers.sample_ids = tuple(dict.fromkeys(s for metrics in read.values() for s in metrics["score"].sample_ids))
    correct = {key: metrics.get(numbers.correctness, metrics["score"]) for key, metrics in read.items()}
    measured = {key: measure_run(one) for key, one in correct.items()}
    explored = describe_runs(list(measured.values()), ExplorationSpec(resampling=resampling))
    for (key, metrics), exploration in zip(read.items(), explored, strict=True):
        place, score = _Place(task, key, runs[key].run_id), metrics["score"]
        numbers.measurements += _means(place, metrics, resampling.level)
        numbers.measurements += _exploration(place, exploration)
        numbers.measurements += _parts(place, score, resampling.level)
        numbers.failed |= {score.sample_ids[i]: key for i in np.unique(score.samples[~score.scored]).tolist()}
    _add_stuckness(numbers, read, runs, base, resampling.level)
    for pair in compared:
        if pair.checkpoint in read and pair.against in read:
            _add_pairs(numbers, read, pair)
            placed = [PlacedRun(key.name, key.step, measured[key]) for key in (pair.against, pair.checkpoint)]
            _add_movement(numbers, pair, placed, resampling)
    return numbers


@dataclass(frozen=True, slots=True)
class _Place:
    """Where numbers belong."""

    task: str
    key: CheckpointKey
    run: str

    def measurement(self, quantity: str, estimate: Any, **more: Any) -> Measurement:
        """A number of this place."""
        key = self.key
        return Measurement(quantity, self.task, key.name, key.series, key.step, estimate, (self.run,), **more)


def _means(place: _Place, metrics: Mapping[str, Rollouts], level: float) -> Iterator[Measurement]:
    for name, rollouts in metrics.items():
        yield place.measurement(name, summarize(rollouts.by_sample(), level))


def _exploration(place: _Place, explored: Exploration) -> Iterator[Measurement]:
    for at in explored.at_k:
        yield place.measurement("pass@k", at.pass_at_k, k=at.k)
        yield place.measurement("unsolvable@k", at.unsolvable, k=at.k)
        yield place.measurement("maj@k", at.majority, k=at.k)
    for one in explored.rbf_at:
        yield place.measurement("rbf@samples", one.rbf, k=one.n_samples)
    for name in ("rbf", "entropy", "distinct", "effective"):
        yield place.measurement(name, getattr(explored, name))


def _parts(place: _Place, rollouts: Rollouts, level: float) -> Iterator[Measurement]:
    """The score by category; dimensions with one value only, or with too many, say nothing in a map."""
    if not rollouts.categories:
        return
    samples = rollouts.by_sample()
    n_samples = len(rollouts.sample_ids)
    unscored = np.bincount(rollouts.samples[~rollouts.scored], minlength=n_samples)
    asked = np.bincount(rollouts.samples, minlength=n_samples)
    known = values_by_dimension({id(one): one for one in rollouts.categories}.values())
    useful = {name: values for name, values in known.items() if 1 < len(values) <= _MAX_VALUES}
    for dimension in list(useful)[:_MAX_DIMENSIONS]:
        has = {id(one): category_values(one, dimension) for one in rollouts.categories}
        for value in useful[dimension]:
            inside = np.array([value in has[id(one)] for one in rollouts.categories], dtype=bool)
            part = SampleValues(
                samples.sample_ids,
                samples.clusters,
                np.where(inside, samples.values, np.nan),
                int(asked[inside].sum()),
                int(unscored[inside].sum()),
            )
            yield place.measurement("score", summarize(part, level), dimension=dimension, value=value)


def _add_stuckness(numbers: TaskNumbers, read: Read, runs: Runs, base: CheckpointKey | None, level: float) -> None:
    """Wrong modes, persistence and flow of each series from the base on, and which samples are stuck at its end."""
    points = {key: _checkpoint(key, runs[key].run_id, found, numbers.correctness) for key, found in read.items()}
    if base in points:
        points[base] = replace(points[base], step=0)
    places = {key.name: _Place(numbers.task, key, runs[key].run_id) for key in read}
    shares: dict[str, Measurement] = {}
    for series, keys in along_series(points, base).items():
        try:
            measured = measure_series(series, [points[key] for key in keys])
        except SpecsEvalError as error:
            numbers.notes.append(f"{numbers.task}: no stuckness of {series}: {error}")
            continue
        found = stuck_series(measured, numbers.task, numbers.correctness, level)
        numbers.measured.append(measured)
        numbers.stuck |= {sample.sample_id: keys[-1] for sample in found.points[-1].samples}
        numbers.stuckness.append(found)
        # The base is in every series, and its share is one number.
        shares |= {
            point.checkpoint: places[point.checkpoint].measurement("wrong_mode", point.wrong_mode)
            for point in found.points
        }
        for one in found.transitions:
            numbers.measurements.append(places[one.after].measurement("persistence", one.persistence))
    numbers.measurements += shares.values()


def _checkpoint(key: CheckpointKey, run: str, metrics: Mapping[str, Rollouts], correctness: str) -> CheckpointRollouts:
    formats = {name: metrics[name].by_sample() for name in ("lock_in", "format") if name in metrics}
    asked = formats.get("format")
    return CheckpointRollouts(
        key.name,
        key.step,
        metrics.get(correctness, metrics["score"]),
        trained_format=formats.get("lock_in", asked),
        asked_format=asked,
        run=run,
    )


def _add_pairs(numbers: TaskNumbers, read: Read, pair: ComparedPair) -> None:
    """Pair the samples of two checkpoints: in the score and in accuracy."""
    candidate, baseline = read[pair.checkpoint], read[pair.against]
    try:
        for metric in ("score", "accuracy"):
            if metric in candidate and metric in baseline:
                numbers.pairs[pair, metric] = pair_samples(baseline[metric], candidate[metric])
        numbers.flips[pair] = find_flips(numbers.pairs[pair, "score"])
    except SpecsEvalError as error:
        numbers.notes.append(f"{numbers.task}: {pair.checkpoint.name} and {pair.against.name} do not compare: {error}")


def _add_movement(
    numbers: TaskNumbers, pair: ComparedPair, placed: Sequence[PlacedRun], resampling: Resampling
) -> None:
    before, after = placed
    try:
        numbers.movements.append(movement(pair.checkpoint.series, numbers.task, before, after, resampling))
    except SpecsEvalError as error:
        numbers.notes.append(f"{numbers.task}: exploration does not compare: {error}")
