"""What an evaluation will cost: units of work, what of them is stored, tokens and time as earlier runs suggest.

A unit is a checkpoint on a task. Nothing is loaded, generated or written for it; tasks read their data, as the number of
samples is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specs_eval.checkpoints import Checkpoint
from specs_eval.records import RunIdentity
from specs_eval.runner import RunRequest, run_identity
from specs_eval.store import MARKER, RunStore, StoredRun
from specs_eval.task import Task

Key = tuple[str, int]
"""Sample id and number of the rollout."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a rollout took in earlier runs, on average."""

    value: float
    """Tokens a rollout, or seconds a rollout."""
    n_runs: int
    source: str
    """Which runs, in words."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A checkpoint on a task."""

    checkpoint: str
    series: str
    task: str
    run_id: str
    n_samples: int
    n_rollouts: int
    """Rollouts a sample."""
    n_cached: int
    """Rollouts that the store has with a score."""
    tokens: Rate | None
    """Tokens a rollout; None: no earlier run tells."""
    seconds: Rate | None
    """Seconds a rollout; None: no earlier run tells."""

    @property
    def n_owed(self) -> int:
        """Rollouts that are missing."""
        return self.n_samples * self.n_rollouts - self.n_cached

    @property
    def tokens_owed(self) -> float | None:
        """Estimate; 0 where nothing is owed, None where nothing is known."""
        return _owed(self.n_owed, self.tokens)

    @property
    def seconds_owed(self) -> float | None:
        """Estimate of generating and scoring, without the start of the engine."""
        return _owed(self.n_owed, self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """The unit as plain JSON types."""
        derived = ("n_owed", "tokens_owed", "seconds_owed")
        return asdict(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True, slots=True)
class Cost:
    """All units of an evaluation."""

    units: tuple[Unit, ...]
    backend: str
    """Engine and dtype."""

    def total(self, name: str) -> float | None:
        """The sum of one of the numbers of a unit; None where it is not known of every unit."""
        values = [getattr(unit, name) for unit in self.units]
        return None if any(value is None for value in values) else sum(values)

    def to_dict(self) -> dict[str, Any]:
        """The cost as plain JSON types."""
        totals = {name: self.total(name) for name in ("n_cached", "n_owed", "tokens_owed", "seconds_owed")}
        return {"backend": self.backend, "units": [unit.to_dict() for unit in self.units], "total": totals}


def estimate_cost(
    units: Sequence[tuple[Checkpoint, Task]], request: RunRequest, runs: Sequence[StoredRun], numerics: str
) -> Cost:
    """What a request costs.

    Args:
        units: checkpoints on tasks, in the order of the evaluation.
        request: how they are asked.
        runs: the runs of the store (see `runs_at`).
        numerics: engine and dtype, such as ``hf/float32``.

    Raises:
        TaskDataError: a task's data is missing.
        StoreError: a stored run is damaged.
    """
    history = History(runs)
    return Cost(tuple(_unit(checkpoint, task, request, history, numerics) for checkpoint, task in units), numerics)


def runs_at(root: Path) -> list[StoredRun]:
    """The runs of a store; none where there is no store yet but could be one. Writes nothing.

    Raises:
        ConfigError: the folder holds something else.
        StoreError: the store is damaged or of another schema.
    """
    if (root / MARKER).exists():
        return RunStore.open(root).runs()
    RunStore.refuse_foreign(root)
    return []


class History:
    """What earlier runs took, the ones most like a unit first."""

    def __init__(self, runs: Sequence[StoredRun]) -> None:
        self.runs = runs
        self._finished = [(run.manifest, results) for run in runs if (results := run.results()) is not None]

    def tokens(self, series: str, task: str, backend: str) -> Rate | None:
        """Tokens a rollout."""
        return self._rate(series, task, backend, lambda manifest, results: results.n_tokens, any_backend=True)

    def seconds(self, series: str, task: str, backend: str) -> Rate | None:
        """Seconds a rollout; another engine's or dtype's time tells nothing."""
        return self._rate(series, task, backend, lambda manifest, results: manifest.seconds, any_backend=False)

    def _rate(
        self, series: str, task: str, backend: str, amount: Callable[[Any, Any], float], *, any_backend: bool
    ) -> Rate | None:
        """Of the runs that are most alike, amounts over rollouts; runs that do not tell (imported ones) are left out."""
        told = [(m, amount(m, results), results.n_rollouts) for m, results in self._finished if amount(m, results) > 0]
        kinds: list[tuple[str, Callable[[Any], bool]]] = [
            (
                f"{series} on {task} with {backend}",
                lambda m: (m.checkpoint.series, m.task, m.backend) == (series, task, backend),
            ),
            (f"{task} with {backend}", lambda m: (m.task, m.backend) == (task, backend)),
        ]
        if any_backend:
            kinds.append((f"{task} with any backend", lambda m: m.task == task))
        kinds.append((f"any task with {backend}", lambda m: m.backend == backend))
        if any_backend:
            kinds.append(("any task with any backend", lambda m: True))
        for name, is_alike in kinds:
            alike = [(value, n) for manifest, value, n in told if is_alike(manifest)]
            if alike:
                value = sum(value for value, _ in alike) / sum(n for _, n in alike)
                return Rate(value, len(alike), f"{len(alike)} run{'s' if len(alike) > 1 else ''} of {name}")
        return None


def _unit(checkpoint: Checkpoint, task: Task, request: RunRequest, history: History, numerics: str) -> Unit:
    identity = run_identity(checkpoint, task, request.spec(task), numerics)
    every = [sample.sample_id for sample in task.samples()]
    chosen = None if request.chosen is None else request.chosen.get(task.name)
    named = every[: request.limit] if chosen is None else chosen
    asked, n_rollouts, n_cached = _state(identity, named, request.n_rollouts, history.runs)
    alike = (checkpoint.series, task.name, numerics)
    return Unit(
        checkpoint.name,
        checkpoint.series,
        task.name,
        identity.run_id,
        len(asked),
        n_rollouts,
        n_cached,
        history.tokens(*alike),
        history.seconds(*alike),
    )


def _state(
    identity: RunIdentity, asked: Sequence[str], n_rollouts: int, runs: Sequence[StoredRun]
) -> tuple[AbstractSet[str], int, int]:
    """Samples and rollouts that the run will have (it grows, and never shrinks), and how many rollouts are stored."""
    wanted: AbstractSet[str] = set(asked)
    digest = identity.run_id.rpartition("--")[2]
    same = [run for run in runs if run.run_id.rpartition("--")[2] == digest]
    own = next((run for run in same if run.run_id == identity.run_id), None)
    if own is not None:
        wanted, n_rollouts = wanted | set(own.samples()), max(n_rollouts, own.manifest.n_rollouts)
        done = _scored(own)
        if done:
            return wanted, n_rollouts, len(done)
    # As `OpenRun` does: a run with nothing starts from what the same weights answered under another name.
    found = {key for run in same if run is not own for key in _scored(run)}
    return wanted, n_rollouts, sum(sample in wanted and number < n_rollouts for sample, number in found)


def _scored(run: StoredRun) -> set[Key]:
    """Rollouts of a run that have a score."""
    table = run.table(["sample_id", "rollout", "score"])
    columns = (table[name].to_pylist() for name in ("sample_id", "rollout", "score"))
    return {(sample, number) for sample, number, score in zip(*columns, strict=True) if score is not None}


def _owed(n_owed: int, rate: Rate | None) -> float | None:
    if n_owed == 0:
        return 0.0
    return None if rate is None else n_owed * rate.value
