"""The runner's loop for several checkpoints on tasks at a time, over one pool of workers and one store.

Each unit (a checkpoint on a task) has a thread, which waits nearly always: responses come from workers. All threads are
of one process, so the store has one writer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from specs_eval.checkpoints import Checkpoint
from specs_eval.executors.pool import Pool
from specs_eval.executors.pool_backend import PoolBackend
from specs_eval.runner import Evaluation, Observer, RunRequest, evaluate, evaluation_units, scoring_threads
from specs_eval.store import RunStore
from specs_eval.task import Sample, Score, Task


def evaluate_parallel(
    checkpoints: Sequence[Checkpoint], request: RunRequest, store: RunStore, pool: Pool, observer: Observer
) -> Evaluation:
    """As `runner.evaluate`, with the workers of a pool; the observer is called from several threads.

    Raises:
        ConfigError: no worker comes up.
        StoreError: results cannot be written; nothing that was written is lost.
    """
    pool.facts()
    tasks = {task.name: _one_at_a_time(task) for task in request.tasks}
    for task in tasks.values():
        task.samples()  # read once, here, and not by several threads at a time
    threads = ThreadPoolExecutor(pool.n_workers + 1, thread_name_prefix="unit")
    try:
        units = [
            threads.submit(
                _evaluate_unit,
                checkpoint,
                replace(request, tasks=[tasks[task.name]], shard=None),
                store,
                pool,
                observer,
            )
            for checkpoint, task in evaluation_units(checkpoints, request)
        ]
        return _merged(units)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _evaluate_unit(
    checkpoint: Checkpoint, request: RunRequest, store: RunStore, pool: Pool, observer: Observer
) -> Evaluation:
    return evaluate([checkpoint], request, store, PoolBackend(pool, observer.problem), observer)


def _merged(units: Sequence[Future[Evaluation]]) -> Evaluation:
    """All evaluations in the order of the units; a checkpoint that fails on every task is one problem."""
    evaluation = Evaluation()
    for unit in units:
        one = unit.result()
        evaluation.runs += one.runs
        evaluation.problems += [problem for problem in one.problems if problem not in evaluation.problems]
    return evaluation


class _LockedTask:
    """A task that scores one response at a time, whoever asks: scorers of others are not all made for threads."""

    def __init__(self, task: Task) -> None:
        self._task, self._lock = task, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def score(self, sample: Sample, response: str) -> Score:
        with self._lock:
            return self._task.score(sample, response)


def _one_at_a_time(task: Task) -> Task:
    locked: Callable[[Task], Any] = _LockedTask
    return task if scoring_threads(task) > 1 else locked(task)
