"""Scoring MEGA-Bench rows in several processes, with the same scores in the same order as in one.

A word list, a dictionary or computer algebra takes a process longer to load than it takes to score hundreds of rows.
Rows that need the same one therefore go to the same process, until so many are left that a second one pays.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from specs_eval.tasks.profiles import Profile
    from specs_eval.tasks.rows import ScoredRow, Source

Row = Mapping[str, Any]

CHUNK_ROWS = 24
"""Rows that a process is given at a time."""

CHUNKS_WORTH_LOADING = 6
"""So many chunks must be left before a second process loads what the first one has loaded already."""

MAX_SECONDS, MAX_SECONDS_WITH_CODE = 120.0, 600.0
"""Elapsed time after which a process that has not returned its chunk is killed. No row that we know of takes even one
second of processor time; this is for the one that nobody thought of, and for a machine that stands still."""

LOADED_BY = {
    "latex_expr": "algebra",
    "gleu_cn": "Chinese dictionary",
    "constrained_generation": "English word lists",
    "program_judge": "sandbox",
}
"""Part of a metric's name -> what scoring by it loads."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """How rows are scored; see `specs_eval.tasks.rows.score_row`."""

    source: Source = "auto"
    profile: Profile = "official"
    allow_code: bool = False


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    chunk: list[int] | None = None
    """Numbers of the rows that it is scoring."""
    deadline: float = math.inf
    """When it must be done with them, by the monotonic clock."""


class RowWorkers:
    """Processes that score rows. Not to be shared between threads."""

    def __init__(self, n_processes: int, rules: RowRules) -> None:
        self._rules = rules
        self.n_processes = n_processes
        """How many there are once rows came."""
        self._workers: list[_Worker] = []
        self._owners: dict[str, _Worker] = {}
        """What is loaded -> the process that loaded it first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        while self._workers:
            self._end(self._workers[-1])

    def score(self, rows: Sequence[Row]) -> list[ScoredRow]:
        """The scored rows, in the order of the rows.

        A process that dies (killed for want of memory, say) or hangs is replaced, and its rows are tried once more one by one;
        a row with which a process dies or hangs alone is unscored, with the reason.
        """
        self._start()
        scored: dict[int, ScoredRow] = {}
        waiting = _chunks(rows)
        while len(scored) < len(rows):
            for worker in self._workers:
                if worker.chunk is None:
                    self._give(worker, waiting, rows)
            busy = {worker.connection: worker for worker in self._workers if worker.chunk is not None}
            ready = wait(list(busy), timeout=1.0)
            late = [worker.connection for worker in busy.values() if worker.deadline < time.monotonic()]
            for connection in ready or late:
                worker = busy[connection]  # type: ignore[index]
                chunk, worker.chunk = worker.chunk or [], None
                if not ready:
                    worker.process.kill()  # reading from it says so
                try:
                    scored.update(zip(chunk, worker.connection.recv(), strict=True))
                except (EOFError, OSError):
                    self._replace(worker)
                    scored.update(_after_death(chunk, waiting, rows))
        return [scored[number] for number in range(len(rows))]

    def _give(self, worker: _Worker, waiting: dict[str, deque[list[int]]], rows: Sequence[Row]) -> None:
        need = self._next_need(worker, waiting)
        if need is None:
            return
        if need:
            self._owners.setdefault(need, worker)
        worker.chunk = waiting[need].popleft()
        worker.deadline = time.monotonic() + (MAX_SECONDS_WITH_CODE if self._rules.allow_code else MAX_SECONDS)
        try:
            worker.connection.send([rows[number] for number in worker.chunk])
        except OSError:
            return  # it died; reading from it says so

    def _next_need(self, worker: _Worker, waiting: dict[str, deque[list[int]]]) -> str | None:
        left = {need: len(chunks) for need, chunks in waiting.items() if chunks}
        for need in left:
            if need and self._owners.get(need, worker) is worker:
                return need
        if "" in left:
            return ""
        longest = max(left, key=left.__getitem__, default="")
        return longest if left.get(longest, 0) >= CHUNKS_WORTH_LOADING else None

    def _start(self) -> None:
        if not self._workers:
            import specs_eval.tasks.megabench.rows  # noqa: F401  # once, for all processes that are forked here
        while len(self._workers) < self.n_processes:
            self._workers.append(self._new())

    def _new(self) -> _Worker:
        forks = sys.platform == "linux"
        context = get_context("fork") if forks else get_context("spawn")
        ours, theirs = context.Pipe()
        others = [*(worker.connection for worker in self._workers), ours] if forks else []
        process = context.Process(target=_serve, args=(theirs, self._rules, others), daemon=False)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> None:
        self._end(worker)
        self._workers.append(self._new())

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._owners = {need: owner for need, owner in self._owners.items() if owner is not worker}
        worker.connection.close()
        worker.process.join(timeout=5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _chunks(rows: Sequence[Row]) -> dict[str, deque[list[int]]]:
    """What has to be loaded ("" for nothing) -> chunks of the numbers of the rows that need it."""
    by_need: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_need.setdefault(_need(row), []).append(number)
    return {
        need: deque(numbers[start : start + CHUNK_ROWS] for start in range(0, len(numbers), CHUNK_ROWS))
        for need, numbers in by_need.items()
    }


def _need(row: Row) -> str:
    configuration = row.get("metric_config")
    metrics = configuration if isinstance(configuration, str) else repr(configuration)
    return next((need for metric, need in LOADED_BY.items() if metric in metrics), "")


def _after_death(chunk: list[int], waiting: dict[str, deque[list[int]]], rows: Sequence[Row]) -> dict[int, ScoredRow]:
    """Put the rows of a process that died back one by one; one that was alone is unscored."""
    if len(chunk) > 1:
        for number in chunk:
            waiting.setdefault(_need(rows[number]), deque()).append([number])
        return {}
    from specs_eval.tasks.rows import unscored

    return {number: unscored(rows[number], "the process that scored this row died or hung") for number in chunk}


def _serve(connection: Connection, rules: RowRules, others: list[Connection]) -> None:
    """A process's loop: rows in, scored rows out, until the connection is closed."""
    from specs_eval.tasks.rows import score_row

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends this one
    for other in others:
        other.close()  # ends that a fork copied: the other side would never see them closed
    while True:
        try:
            rows = connection.recv()
        except (EOFError, OSError):
            return
        scored = [
            score_row(row, source=rules.source, profile=rules.profile, allow_code=rules.allow_code) for row in rows
        ]
        try:
            connection.send(scored)
        except OSError:
            return


def usable_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
