"""``specs-eval run --executor ray``: the same evaluation with engines on a Ray cluster."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import TYPE_CHECKING

from rich.console import Console

from specs_eval.cli.progress import LineObserver
from specs_eval.errors import EXIT_INTERRUPTED, ConfigError
from specs_eval.executors.parallel import evaluate_parallel
from specs_eval.executors.placement import RaySettings
from specs_eval.executors.pool import Pool
from specs_eval.executors.ray_cluster import RayCluster
from specs_eval.runner import evaluation_units

if TYPE_CHECKING:
    from specs_eval.backends.base import BackendOptions
    from specs_eval.checkpoints import Checkpoint, Resolution
    from specs_eval.runner import Evaluation, RunRequest
    from specs_eval.store import RunStore, StoredRun


def run_on_ray(
    resolution: Resolution,
    request: RunRequest,
    store: RunStore,
    engine: tuple[str, BackendOptions],
    settings: RaySettings,
) -> Evaluation:
    """Evaluate with an engine (backend and its options) on each worker of a Ray cluster, progress on stderr.

    Raises:
        ConfigError: Ray is missing or gives no worker.
    """
    if engine[0] == "openai":
        raise ConfigError("--backend openai asks an endpoint, which needs no workers; leave --executor ray out")
    console = Console(stderr=True)
    observer = ThreadedLines(console, len(evaluation_units(resolution.checkpoints, request)))
    for note in (*resolution.notes, *resolution.problems):
        observer.problem(note)
    try:
        cluster = RayCluster(*engine, settings, observer.problem)
        with Pool(cluster, cluster.n_workers, observer.problem) as pool:
            evaluation = evaluate_parallel(resolution.checkpoints, request, store, pool, observer)
    except KeyboardInterrupt:
        console.print("Interrupted. Everything finished is stored; the same command continues.", highlight=False)
        sys.exit(EXIT_INTERRUPTED)
    evaluation.problems[:0] = resolution.problems
    return evaluation


class ThreadedLines:
    """Lines of progress where several runs go on at a time, each in a thread of its own."""

    def __init__(self, console: Console, n_runs: int) -> None:
        self._console, self._n_runs = console, n_runs
        self._numbers = itertools.count()
        self._mine = threading.local()

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """Announce a run."""
        self._mine.lines = LineObserver(self._console, self._n_runs, first=next(self._numbers))
        self._mine.lines.run_started(checkpoint, task, owed, total)

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Count."""
        self._mine.lines.rollouts_done(n_rollouts, n_tokens, n_failed)

    def run_finished(self, run: StoredRun) -> None:
        """Announce the result."""
        self._mine.lines.run_finished(run)

    def problem(self, text: str) -> None:
        """Say it at once."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
