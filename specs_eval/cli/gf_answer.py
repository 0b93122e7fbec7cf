"""From a store to the Generalization Factor of its series: which runs, what is refused, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.generalization import Gain, check_beta, choose_gain
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts, restrict
from specs_eval.analysis.series import GeneralizationSeries, generalization_series
from specs_eval.cli.reading import read_metric, stored_runs
from specs_eval.cli.selection import (
    CheckpointKey,
    check_comparable,
    check_complete,
    check_series,
    find_base,
    one_run_each,
    runs_of_task,
)
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.store import StoredRun

_PHRASES: dict[Gain, str] = {
    "score": "gain = the performance itself",
    "difference": "gain = points over the base model ({base})",
    "normalized": "gain = share of what the base model ({base}) left to gain",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    id_task: str
    ood_task: str
    base: str | None
    series: tuple[str, ...]
    metric: str
    gain: Gain | None
    beta: float
    selects: tuple[str, ...]
    allow_incomplete: bool
    resampling: Resampling


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    id_task: str
    ood_task: str
    metric: str
    gain: Gain
    beta: float
    base: str | None
    resampling: Resampling
    series: tuple[GeneralizationSeries, ...]
    notes: tuple[str, ...]
    """What is missing or was left out, one sentence each."""

    def explanation(self) -> str:
        """What GF is and which reading was used."""
        phrase = _PHRASES[self.gain].format(base=self.base)
        return (
            f"GF is high only when both ID and OOD are: an F-beta mean in which OOD weighs {self.beta**2:g} times as much "
            f"as ID (beta {self.beta:g}); here {phrase} (--gain {self.gain}), of the metric {self.metric}."
        )

    def provenance(self) -> str:
        """Where the intervals come from."""
        spec = self.resampling
        return (
            f"{100 * spec.level:g} % intervals: ID and OOD by Wilson at the effective sample size; GF by a bootstrap over "
            f"samples, paired between ID, OOD and base ({spec.n_draws:,} draws, seed {spec.seed})."
        )

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        return {
            "command": "gf",
            "id_task": self.id_task,
            "ood_task": self.ood_task,
            "metric": self.metric,
            "gain": self.gain,
            "beta": self.beta,
            "base": self.base,
            "level": self.resampling.level,
            "n_draws": self.resampling.n_draws,
            "seed": self.resampling.seed,
            "explanation": self.explanation(),
            "series": [one.to_dict() for one in self.series],
            "notes": list(self.notes),
        }


def answer_gf(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a task, series, base, metric or option that does not exist.
        ComparisonError: runs that are incomplete or do not compare; checkpoints without both tasks.
    """
    check_beta(question.beta)
    gain = choose_gain(question.gain, question.base is not None)
    runs = stored_runs(question.store)
    id_runs = runs_of_task(runs, question.id_task, question.selects)
    ood_runs = runs_of_task(runs, question.ood_task, question.selects)
    id_name, ood_name = id_runs[0].manifest.task, ood_runs[0].manifest.task
    if id_name == ood_name:
        raise ConfigError(f"--id and --ood are both {id_name}; GF compares two tasks")
    base = None if question.base is None else _base_key(question.base, id_runs, ood_runs)
    wanted, notes = _wanted_keys(id_runs, ood_runs, base, question.series)
    picked_id = one_run_each([run for run in id_runs if CheckpointKey.of(run.manifest) in wanted])
    picked_ood = one_run_each([run for run in ood_runs if CheckpointKey.of(run.manifest) in wanted])
    check_complete([*picked_id.values(), *picked_ood.values()], question.allow_incomplete)
    check_comparable([*picked_id.values()], [*picked_ood.values()])
    scores, more_notes = _scores(picked_id, picked_ood, question)
    return Answer(
        id_task=id_name,
        ood_task=ood_name,
        metric=question.metric,
        gain=gain,
        beta=question.beta,
        base=None if base is None else base.name,
        resampling=question.resampling,
        series=_all_series(scores, base, gain, question),
        notes=(*notes, *more_notes),
    )


def _base_key(text: str, id_runs: Sequence[StoredRun], ood_runs: Sequence[StoredRun]) -> CheckpointKey:
    return find_base(_keys(id_runs) & _keys(ood_runs), [*id_runs, *ood_runs], text)


def _keys(runs: Sequence[StoredRun]) -> set[CheckpointKey]:
    return {CheckpointKey.of(run.manifest) for run in runs}


def _wanted_keys(
    id_runs: Sequence[StoredRun], ood_runs: Sequence[StoredRun], base: CheckpointKey | None, series: Sequence[str]
) -> tuple[set[CheckpointKey], list[str]]:
    """Checkpoints to show, the base among them, and notes on those that lack one of the tasks."""
    id_keys, ood_keys = _keys(id_runs), _keys(ood_runs)
    tasks = (id_runs[0].manifest.task, ood_runs[0].manifest.task)
    check_series(series, (key.series for key in id_keys | ood_keys))
    asked = {key for key in id_keys | ood_keys if not series or key.series in series}
    both = asked & id_keys & ood_keys
    notes = [
        f"{key.name} is left out: it has no run of {tasks[1] if key in id_keys else tasks[0]}"
        for key in sorted(asked - both)
        if key != base
    ]
    if not both - {base}:
        found = "; ".join(notes) or "only the base model has"
        raise ComparisonError(
            f"no checkpoint with runs of both {tasks[0]} and {tasks[1]} ({found}); run what is missing"
        )
    return both | ({base} if base else set()), notes


def _scores(
    id_runs: Mapping[CheckpointKey, StoredRun], ood_runs: Mapping[CheckpointKey, StoredRun], question: Question
) -> tuple[dict[CheckpointKey, CheckpointScores], list[str]]:
    """The metric of each checkpoint on both tasks; over common samples where incomplete runs are allowed."""
    id_rollouts = {key: read_metric(run, question.metric) for key, run in id_runs.items()}
    ood_rollouts = {key: read_metric(run, question.metric) for key, run in ood_runs.items()}
    notes: list[str] = []
    if question.allow_incomplete:
        for role, rollouts in (("ID", id_rollouts), ("OOD", ood_rollouts)):
            notes += _keep_common(rollouts, role)
    scores = {
        key: CheckpointScores(
            checkpoint=key.name,
            step=key.step,
            id=id_rollouts[key].by_sample(),
            ood=ood_rollouts[key].by_sample(),
            id_run=id_runs[key].run_id,
            ood_run=ood_runs[key].run_id,
        )
        for key in id_runs
    }
    return scores, notes


def _keep_common(rollouts: dict[CheckpointKey, Rollouts], role: str) -> list[str]:
    """Cut all to the samples that all have, in place; says so where that takes something away."""
    everything = [set(one.sample_ids) for one in rollouts.values()]
    common, union = set.intersection(*everything), set.union(*everything)
    if not common:
        raise ComparisonError(f"the {role} runs have no sample in common; evaluate them with the same --limit")
    if len(common) == len(union):
        return []
    for key, one in rollouts.items():
        rollouts[key] = restrict(one, common)
    return [f"{role}: only the {len(common):,} samples that all checkpoints answered are used, of {len(union):,}"]


def _all_series(
    scores: Mapping[CheckpointKey, CheckpointScores], base: CheckpointKey | None, gain: Gain, question: Question
) -> tuple[GeneralizationSeries, ...]:
    floor = None
    if base is not None:
        # Shown at step 0 whatever its own step was: training of the series started there.
        floor = replace(scores[base], step=0)
    by_series: dict[str, list[CheckpointScores]] = {}
    for key, one in scores.items():
        if key != base:
            by_series.setdefault(key.series, []).append(one)
    return tuple(
        generalization_series(name, points, floor, gain=gain, beta=question.beta, resampling=question.resampling)
        for name, points in by_series.items()
    )
