"""Checkpoints in training, measured by the harness: the ordinary runner, the ordinary store, the same GF as everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specs_eval.analysis.best_checkpoint import BestCheckpoint, Contender, best_checkpoint
from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.checks.factors import factor_of, scores_of
from specs_eval.analysis.checks.measures import Sides
from specs_eval.analysis.curve_draws import Reading, draw_curves
from specs_eval.analysis.generalization import choose_gain
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.statistics import summarize
from specs_eval.analysis.stored.sides import Side, find_side
from specs_eval.backends.base import BackendOptions
from specs_eval.backends.registry import create_backend
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.errors import TrainingError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.policy import Gate
from specs_eval.runner import Observer, RunRequest, evaluate
from specs_eval.splits import parse_split
from specs_eval.store import RunStore, StoredRun
from specs_eval.task import Task
from specs_eval.task_names import canonical_task_name
from specs_eval.tasks.registry import get_task
from specs_eval.training.config import EvaluationSettings
from specs_eval.training.isolation import undisturbed

N_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint as the harness sees it."""

    id: float | None
    """Share; None: nothing was scored."""
    ood: float | None
    gf: float | None
    """In the recipe's reading; None: undefined."""
    rank: float | None
    """GF of performance itself: what tells checkpoints apart where gains over the base are 0."""


def evaluation_tasks(settings: EvaluationSettings) -> list[Task]:
    """The tasks of a recipe's evaluations, each once.

    Raises:
        ConfigError: no such task.
        TaskDataError: its data cannot be found.
    """
    return [get_task(name, settings.data_dir, profile=settings.profile) for name in task_names(settings)]


def task_names(settings: EvaluationSettings) -> list[str]:
    """Their names, ID and OOD first."""
    named = (parse_split(settings.id).task, parse_split(settings.ood).task, *map(canonical_task_name, settings.tasks))
    return list(dict.fromkeys(named))


def limit_of(settings: EvaluationSettings, task: str) -> int | None:
    """Samples of a task that are asked."""
    if not isinstance(settings.limit, Mapping):
        return settings.limit
    by_name = {canonical_task_name(name): limit for name, limit in settings.limit.items()}
    return by_name.get(task)


class Harness:
    """Evaluates checkpoints into one store and reads the results back. For the first process only."""

    def __init__(self, settings: EvaluationSettings, store: Path, tasks: Sequence[Task], observer: Observer) -> None:
        self.settings = settings
        self.tasks = tasks
        self.store = RunStore.create(store)
        self.observer = observer
        options = BackendOptions(settings.batch_size, settings.device, settings.dtype)
        self.backend = create_backend(settings.backend, options)
        self._fingerprinter = Fingerprinter(self.store.root / "fingerprints.json")

    def evaluate(self, folder: Path, series: str = "") -> Checkpoint:
        """Evaluate a checkpoint on every task of the recipe; what the store has is not done again.

        Args:
            folder: of the checkpoint.
            series: its series; empty: the folder above it.

        Raises:
            TrainingError: it could not be evaluated.
        """
        requests: dict[int | None, list[Task]] = {}
        for task in self.tasks:
            requests.setdefault(limit_of(self.settings, task.name), []).append(task)
        checkpoint = self._find(folder, series)
        for limit, tasks in requests.items():
            self.sample(checkpoint, self._request(tasks, limit))
        return checkpoint

    def sample(self, checkpoint: Checkpoint, request: RunRequest) -> list[StoredRun]:
        """The runs of a request, as complete as the model made them; training is not disturbed.

        Raises:
            TrainingError: the checkpoint could not be evaluated.
        """
        with undisturbed():
            try:
                found = evaluate([checkpoint], request, self.store, self.backend, self.observer)
            finally:
                self.backend.close()
        if found.problems:
            raise TrainingError(f"the evaluation failed: {'; '.join(found.problems)}")
        return found.runs

    def _find(self, folder: Path, series: str) -> Checkpoint:
        name = f"{series}={folder}/." if series else f"{folder}/."
        return resolve_checkpoints([name], self._fingerprinter).checkpoints[0]

    def find(self, folder: Path, series: str = "") -> Checkpoint:
        """The checkpoint of a folder, checked to be whole."""
        return self._find(folder, series)

    def _request(self, tasks: Sequence[Task], limit: int | None) -> RunRequest:
        one = self.settings
        return RunRequest(
            tasks=tasks,
            n_rollouts=one.rollouts,
            temperature=one.temperature,
            limit=limit,
            seed=one.seed,
            max_new_tokens=one.max_new_tokens,
        )

    def selects(self) -> tuple[str, ...]:
        """Which runs are the recipe's, in a store that may hold others of the same checkpoints."""
        one = self.settings
        return (f"temperature={one.temperature}", f"seed={one.seed}", f"backend={self.backend.numerics}", "top_p=1.0")

    def sides(self, baseline: str, candidate: str) -> Sides:
        """Two checkpoints of the store by their fingerprints."""
        runs = tuple(self.store.runs())
        return Sides(find_side(runs, baseline), find_side(runs, candidate), runs, self.selects())

    def reading(self) -> Reading:
        """How performance becomes GF."""
        return Reading(choose_gain(self.settings.gain, True), self.settings.gf_beta, Resampling(N_DRAWS))

    def points(self, fingerprints: Sequence[str], base: str) -> list[Point]:
        """ID, OOD and GF of checkpoints."""
        scores, floor = self._scores(fingerprints, base)
        reading = self.reading()
        plain = replace(reading, gain="score")
        return [
            Point(
                summarize(one.id).value,
                summarize(one.ood).value,
                factor_of(one, floor, reading),
                factor_of(one, None, plain),
            )
            for one in scores
        ]

    def best(self, fingerprints: Sequence[str], base: str) -> BestCheckpoint:
        """The highest GF among checkpoints, and which of them it cannot be told apart from."""
        scores, floor = self._scores(fingerprints, base)
        reading = self.reading()
        values = [factor_of(one, floor, reading) for one in scores]
        known = [number for number, value in enumerate(values) if value is not None]
        contenders = [Contender(scores[i].checkpoint, scores[i].step, values[i] or 0.0, None) for i in known]
        return best_checkpoint(contenders, draw_curves([scores], floor, reading)[0].apart[known])

    def _scores(self, fingerprints: Sequence[str], base: str) -> tuple[list[CheckpointScores], CheckpointScores]:
        runs = self.store.runs()
        sides: list[Side] = [find_side(runs, one) for one in fingerprints]
        gate = Gate(metric="gf", id=self.settings.id, ood=self.settings.ood, of=self.settings.metric, min=0.0)
        found, floor = scores_of(gate, self.sides(base, base), sides, find_side(runs, base))
        assert floor is not None
        return found, floor
