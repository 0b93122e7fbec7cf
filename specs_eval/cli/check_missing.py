"""What a policy's gates need and the store lacks: which checkpoints, on which tasks, on whose terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.analysis.stored.reading import rollouts_done
from specs_eval.analysis.stored.selection import one_run_each, runs_of_task, tasks_in
from specs_eval.analysis.stored.sides import different_settings
from specs_eval.cli.check_contenders import Contender
from specs_eval.errors import ConfigError
from specs_eval.policy import Policy
from specs_eval.splits import parse_split
from specs_eval.store import StoredRun


@dataclass(frozen=True, slots=True)
class Defaults:
    """How a task is evaluated that no checkpoint of the check has any run of; None: as ``specs-eval run`` does."""

    n_rollouts: int | None = None
    limit: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """How all checkpoints of a check are evaluated on a task."""

    task: str
    reference: StoredRun | None
    """The run that the others must be like; None: there is none, so the defaults hold."""
    n_rollouts: int
    n_samples: int | None
    """The first so many; None: all."""
    temperature: float | None = None
    """For the defaults; otherwise the reference's."""
    asked: tuple[str, ...] | None = None
    """Ids of the samples, where a stored run answered a part of the task; None: `n_samples` says it."""


@dataclass(frozen=True, slots=True)
class Owed:
    """One evaluation that is missing."""

    contender: Contender
    terms: Terms
    stored: StoredRun | None
    """What there is of it."""

    @property
    def n_owed(self) -> int | None:
        """Rollouts that are missing; None: not known before the task's data is read."""
        if self.terms.n_samples is None:
            return None
        done = 0 if self.stored is None else rollouts_done(self.stored)
        return max(0, self.terms.n_samples * self.terms.n_rollouts - done)

    def to_dict(self) -> dict[str, Any]:
        """What would be evaluated, as plain JSON types."""
        terms, reference = self.terms, self.terms.reference
        manifest = None if reference is None else reference.manifest
        return {
            "role": self.contender.role,
            "checkpoint": self.contender.side.key.name,
            "fingerprint": self.contender.side.fingerprint,
            "task": terms.task,
            "n_samples": terms.n_samples,
            "n_rollouts": terms.n_rollouts,
            "n_owed": self.n_owed,
            "sampling": None if manifest is None else manifest.sampling.model_dump(mode="json"),
            "temperature": terms.temperature if manifest is None else manifest.sampling.temperature,
            "backend": None if manifest is None else manifest.backend,
            "task_version": None if manifest is None else manifest.task_version,
            "like_run": None if reference is None else reference.run_id,
        }


def needed_tasks(policy: Policy) -> dict[str, tuple[str, ...]]:
    """Who must have answered what: tasks by ``baseline``, ``candidate``, and each base of a GF gate as the policy names it."""
    tasks: dict[str, dict[str, None]] = {"baseline": {}, "candidate": {}}
    for gate in policy.gates:
        named = (gate.id, gate.ood) if gate.metric == "gf" else (gate.task,)
        roles = ["candidate", *(["baseline"] if gate.on_change else []), *([f"base {gate.base}"] if gate.base else [])]
        for role in roles:
            tasks.setdefault(role, {}).update({parse_split(text or "").task: None for text in named})
    return {role: tuple(names) for role, names in tasks.items()}


def terms_of(contenders: Sequence[Contender], selects: Sequence[str], defaults: Defaults) -> dict[str, Terms]:
    """How each task is evaluated: as the baseline was; without a run of it, as the candidate or a base was.

    A run grows but never shrinks: where one checkpoint has more samples or rollouts than the others, they catch up.

    Raises:
        ConfigError: nothing passes the selection, or defaults are given that the stored runs contradict.
        ComparisonError: a checkpoint has several runs of a task; the message says how to choose.
    """
    tasks = dict.fromkeys(task for contender in contenders for task in contender.tasks)
    return {task: _terms(task, contenders, selects, defaults) for task in tasks}


def best_run(contender: Contender, terms: Terms) -> StoredRun | None:
    """The contender's run that is like the reference: with the same seed where there is one, then the largest."""
    if terms.reference is None:
        return None
    seed = terms.reference.manifest.sampling.seed
    like = [run for run in contender.side.runs if _is_like(run, terms.reference)]

    def rank(run: StoredRun) -> tuple[bool, bool, int, int]:
        manifest = run.manifest
        return manifest.sampling.seed == seed, run.complete, manifest.n_samples, manifest.n_rollouts

    return max(like, key=rank, default=None)


def missing(contenders: Sequence[Contender], terms: Mapping[str, Terms]) -> list[Owed]:
    """Evaluations that are not in the store, not finished, or smaller than the terms ask for."""
    owed = []
    for contender in contenders:
        for task in contender.tasks:
            run = best_run(contender, terms[task])
            if run is None or not _suffices(run, terms[task]):
                owed.append(Owed(contender, terms[task], run))
    return owed


def _suffices(run: StoredRun, terms: Terms) -> bool:
    manifest = run.manifest
    if not run.complete or manifest.n_rollouts < terms.n_rollouts or manifest.n_samples < (terms.n_samples or 0):
        return False
    return terms.asked is None or set(terms.asked) <= run.samples().keys()


def _terms(task: str, contenders: Sequence[Contender], selects: Sequence[str], defaults: Defaults) -> Terms:
    reference = _reference(task, contenders, selects)
    if reference is None:
        return Terms(task, None, defaults.n_rollouts or 1, defaults.limit, defaults.temperature)
    like = [
        run
        for contender in contenders
        if task in contender.tasks
        for run in contender.side.runs
        if _is_like(run, reference)
    ]
    like = [reference, *(run for run in like if run is not reference)]
    n_rollouts = max(run.manifest.n_rollouts for run in like)
    whole = max(run.manifest.n_task_samples for run in like)
    asked = None
    if all(run.manifest.n_samples < whole for run in like):
        asked = tuple(dict.fromkeys(sample_id for run in like for sample_id in run.samples()))
    terms = Terms(task, reference, n_rollouts, whole if asked is None else len(asked), asked=asked)
    _check_defaults(terms, defaults)
    return terms


def _reference(task: str, contenders: Sequence[Contender], selects: Sequence[str]) -> StoredRun | None:
    for contender in contenders:
        if task in tasks_in(contender.side.runs):
            found = runs_of_task(contender.side.runs, task, selects)
            runs = one_run_each(found)
            return runs.get(contender.side.key) or next(iter(runs.values()))
    return None


def _is_like(run: StoredRun, reference: StoredRun) -> bool:
    """Whether two runs compare, but for how many samples and rollouts they have."""
    return run.manifest.task == reference.manifest.task and not different_settings(run, reference) - {"n_rollouts"}


def _check_defaults(terms: Terms, defaults: Defaults) -> None:
    """Refuse options that contradict what is stored, rather than ignore them."""
    if terms.reference is None:
        return
    manifest = terms.reference.manifest
    limit = None if defaults.limit is None else min(defaults.limit, manifest.n_task_samples)
    asked = {"rollouts": defaults.n_rollouts, "limit": limit, "temperature": defaults.temperature}
    stored = {
        "rollouts": terms.n_rollouts,
        "limit": terms.n_samples,
        "temperature": manifest.sampling.temperature,
    }
    for name, value in asked.items():
        if value is not None and value != stored[name]:
            raise ConfigError(
                f"--{name} {value} does not fit: {manifest.checkpoint.name} has answered {terms.task} with {name} "
                f"{stored[name]}, and the others are evaluated in the same way; leave --{name} out"
            )
