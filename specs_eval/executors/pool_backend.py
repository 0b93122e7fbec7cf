"""A pool of workers as a backend: what the runner asks goes out in blocks, and comes back whole."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence

from specs_eval.backends.base import Request, Response, Timing
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import GenerationError
from specs_eval.executors.pool import Pool, Ticket
from specs_eval.executors.worker import N_BLOCK_SIZES, Reply, Work
from specs_eval.sampling import SamplingSpec

UNBLOCKED = 32
"""Requests in a block where the engine computes each rollout by itself."""


class PoolBackend:
    """One checkpoint's view of a pool; several may be in use at a time, each in a thread of its own."""

    name = "pool"

    def __init__(self, pool: Pool, say: Callable[[str], None]) -> None:
        self.timing = Timing()
        self._pool, self._say = pool, say
        self._checkpoint: Checkpoint | None = None

    @property
    def numerics(self) -> str:
        """That of the workers."""
        return self._pool.facts().numerics

    @property
    def environment(self) -> dict[str, str]:
        """On what responses were computed, which is not where this process runs."""
        return {"device": self._pool.facts().device, "executor": f"{self._pool.n_workers} workers"}

    def block_size(self, n_rollouts: int) -> int:
        """Samples that a worker computes together."""
        return self._pool.facts().block_sizes[min(max(n_rollouts, 1), N_BLOCK_SIZES) - 1]

    def load(self, checkpoint: Checkpoint) -> None:
        """Workers load it with the first block that they get of it."""
        self._checkpoint = checkpoint

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[tuple[Request, list[Response]]]:
        """Answer requests, blocks in the order in which they are done."""
        if self._checkpoint is None:
            raise GenerationError("the pool has no checkpoint")
        size = self.block_size(max((len(asked.rollouts) for asked in requests), default=1)) or UNBLOCKED
        replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        tickets = [
            Ticket(Work(self._checkpoint, tuple(requests[start : start + size]), spec), replies.put)
            for start in range(0, len(requests), size)
        ]
        by_id = {asked.sample_id: asked for asked in requests}
        try:
            for ticket in tickets:
                self._pool.submit(ticket)
            for _ in tickets:
                reply = replies.get()
                reply.raise_error()
                if reply.note is not None:
                    self._say(f"{self._checkpoint.name}: {reply.note}")
                for sample_id, responses in reply.answers:
                    yield by_id[sample_id], list(responses)
        finally:
            self._pool.cancel(tickets)

    def close(self) -> None:
        """The pool outlives its views."""
