"""Blocks of requests to workers: each to one that has its checkpoint loaded where it can be, again when a worker is lost.

A block's responses are handed on only when all of them are there, so that nothing of a lost worker's block is lost (it is
asked again) and nothing comes twice. Responses do not depend on who gives them (`specs_eval.sampling`).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from specs_eval.backends.base import Response
from specs_eval.errors import ConfigError
from specs_eval.executors.worker import Reply, Work, WorkerFacts

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Workers that one block may cost before its rollouts count as failed."""

LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 60.0
"""Without any worker, before a word about it."""

Deliver = Callable[[Reply], None]


class WorkerLostError(Exception):
    """A worker died, or was taken away; its text says why."""


class Cluster(Protocol):
    """Starts workers and talks to them. Only the pool's own thread calls it after `start`."""

    def start(self) -> Hashable:
        """A new worker, which may come up later or never."""

    def describe(self, worker: Any) -> Hashable:
        """A future of its `WorkerFacts`."""

    def answer(self, worker: Any, work: Work) -> Hashable:
        """A future of the `Reply` to a block."""

    def wait(self, futures: Sequence[Any], timeout: float) -> Sequence[Hashable]:
        """Those of the futures that are done, after at most so many seconds."""

    def result(self, future: Any) -> Any:
        """What a future that is done came to.

        Raises:
            WorkerLostError: the worker is lost.
        """

    def stop(self, worker: Any) -> None:
        """End a worker, which may be lost already."""

    def close(self) -> None:
        """End everything that was started."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A block that waits for its answers."""

    work: Work
    deliver: Deliver
    n_attempts: int = 0
    cancelled: bool = False


@dataclass(slots=True)
class _State:
    """What the pool knows; all of it under one lock."""

    pending: deque[Ticket] = field(default_factory=deque)
    idle: dict[Hashable, str] = field(default_factory=dict)
    """Worker -> fingerprint of the checkpoint that it has; empty: none."""
    running: dict[Hashable, tuple[Hashable, Ticket | None]] = field(default_factory=dict)
    """Future -> its worker, and the block; no block: the worker is starting."""
    workers: set[Hashable] = field(default_factory=set)
    """All that were started and are not known to be lost."""
    facts: WorkerFacts | None = None
    n_lost_in_a_row: int = 0
    broken: str | None = None
    """Why nothing is answered any more."""
    closed: bool = False


class Pool:
    """Workers on a cluster. Use as a context manager."""

    def __init__(self, cluster: Cluster, n_workers: int, say: Callable[[str], None]) -> None:
        self.n_workers = n_workers
        self._cluster, self._say = cluster, say
        self._state = _State()
        self._said_to_wait = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(self.n_workers):
            self._start_worker()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._state.closed = True
            self._changed.notify_all()
        self._thread.join()
        for worker in self._state.workers:
            self._cluster.stop(worker)
        self._cluster.close()

    def facts(self) -> WorkerFacts:
        """What the workers are; waits for the first of them.

        Raises:
            ConfigError: none comes up.
        """
        with self._changed:
            while not self._changed.wait_for(self._is_settled, PATIENCE_SECONDS):
                if not self._said_to_wait:
                    self._say(
                        f"no worker has come up in {PATIENCE_SECONDS:g} s; if others use the cluster, one does when it has "
                        "room (interrupt to stop waiting)"
                    )
                self._said_to_wait = True
            if self._state.facts is None:
                raise ConfigError(f"no worker came up: {self._state.broken or 'stopped'}")
            return self._state.facts

    def _is_settled(self) -> bool:
        return bool(self._state.facts or self._state.broken or self._state.closed)

    def submit(self, ticket: Ticket) -> None:
        """Take in a block; its reply comes in the pool's thread, or at once where nothing is answered any more."""
        with self._changed:
            refusal = "stopped" if self._state.closed else self._state.broken
            if refusal is None:
                self._state.pending.append(ticket)
                self._changed.notify_all()
        if refusal is not None:
            ticket.deliver(Reply(error=refusal, kind="generation"))

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Forget blocks that nobody waits for any more."""
        with self._changed:
            for ticket in tickets:
                ticket.cancelled = True

    def _run(self) -> None:
        """The pool's thread. Whoever waits for a reply gets one, however this ends."""
        reason = "stopped"
        try:
            while self._go_on():
                pass
        except Exception as error:
            logger.exception("the pool failed")
            reason = f"the pool of workers failed: {type(error).__name__}: {error}"
        with self._changed:
            self._state.broken = self._state.broken or reason
            self._state.pending.extend(ticket for _, ticket in self._state.running.values() if ticket is not None)
            self._state.running.clear()
            self._refuse_pending(reason)
            self._changed.notify_all()

    def _go_on(self) -> bool:
        """One round: give out what can be given out, take in what is done. Whether there is another."""
        with self._changed:
            if self._state.closed:
                return False
            if self._state.broken is not None:
                self._refuse_pending(self._state.broken)
            self._assign()
            futures = list(self._state.running)
            if not futures:
                self._changed.wait(LOOK_SECONDS)
        for future in self._cluster.wait(futures, LOOK_SECONDS) if futures else ():
            self._take(future)
        return True

    def _assign(self) -> None:
        """Give blocks to idle workers."""
        state = self._state
        for worker, loaded in list(state.idle.items()):
            ticket = self._choose(loaded)
            if ticket is None:
                return
            del state.idle[worker]
            state.pending.remove(ticket)
            state.running[self._cluster.answer(worker, ticket.work)] = (worker, ticket)

    def _choose(self, loaded: str) -> Ticket | None:
        """A block for a worker: of its own checkpoint, else of one that nobody has, else the oldest."""
        state = self._state
        while state.pending and state.pending[0].cancelled:
            state.pending.popleft()
        waiting = [ticket for ticket in state.pending if not ticket.cancelled]
        if not waiting:
            return None
        held = Counter(state.idle.values())
        held.update(ticket.work.checkpoint.fingerprint for _, ticket in state.running.values() if ticket is not None)
        for is_fit in (lambda mark: mark == loaded, lambda mark: not held[mark]):
            for ticket in waiting:
                if is_fit(ticket.work.checkpoint.fingerprint):
                    return ticket
        return waiting[0]

    def _take(self, future: Hashable) -> None:
        """What a future came to: a worker that is up, a reply, or a loss."""
        with self._changed:
            worker, ticket = self._state.running.pop(future)
        try:
            result = self._cluster.result(future)
        except WorkerLostError as error:
            self._lose(worker, ticket, str(error))
            return
        with self._changed:
            self._state.n_lost_in_a_row = 0
            if ticket is None:
                self._welcome(worker, result)
            else:
                self._state.idle[worker] = ticket.work.checkpoint.fingerprint if result.error is None else ""
            self._changed.notify_all()
        if ticket is not None and not ticket.cancelled:
            ticket.deliver(result)

    def _welcome(self, worker: Hashable, facts: WorkerFacts) -> None:
        """A worker is up: all must answer alike."""
        state = self._state
        if state.facts is None:
            state.facts = facts
        if (facts.numerics, facts.block_sizes) != (state.facts.numerics, state.facts.block_sizes):
            self._cluster.stop(worker)
            state.workers.discard(worker)
            self._say(
                f"the worker on {facts.node} ({facts.device}, {facts.numerics}) would not answer as the one on "
                f"{state.facts.node} ({state.facts.device}, {state.facts.numerics}) and is not used; name --device, --dtype "
                "and --batch-size to make them alike"
            )
            return
        state.idle[worker] = ""

    def _lose(self, worker: Hashable, ticket: Ticket | None, reason: str) -> None:
        """A worker is lost: another is started, and its block is asked again."""
        self._cluster.stop(worker)
        self._say(f"a worker was lost ({reason}); its {_samples(ticket)}another is started")
        with self._changed:
            state = self._state
            state.workers.discard(worker)
            state.n_lost_in_a_row += 1
            if state.n_lost_in_a_row > MAX_ATTEMPTS + 2 * self.n_workers:
                state.broken = f"{state.n_lost_in_a_row} workers in a row were lost, the last one as {reason}"
            failed = False
            if ticket is not None:
                ticket.n_attempts += 1
                failed = ticket.n_attempts >= MAX_ATTEMPTS
                if not failed:
                    state.pending.appendleft(ticket)
            if state.broken is None:
                self._start_worker()
            self._changed.notify_all()
        if failed and ticket is not None and not ticket.cancelled:
            ticket.deliver(_all_failed(ticket.work, f"it cost {MAX_ATTEMPTS} workers, the last one as {reason}"))

    def _start_worker(self) -> None:
        worker = self._cluster.start()
        self._state.workers.add(worker)
        self._state.running[self._cluster.describe(worker)] = (worker, None)

    def _refuse_pending(self, reason: str) -> None:
        while self._state.pending:
            ticket = self._state.pending.popleft()
            if not ticket.cancelled:
                ticket.deliver(Reply(error=reason, kind="generation"))


def _samples(ticket: Ticket | None) -> str:
    return "" if ticket is None else f"{len(ticket.work.requests)} samples are asked again, and "


def _all_failed(work: Work, reason: str) -> Reply:
    """Every rollout of a block, failed: data, as any failed rollout is."""
    return Reply(
        tuple(
            (asked.sample_id, tuple(Response(number, finish_reason="error", error=reason) for number in asked.rollouts))
            for asked in work.requests
        )
    )
