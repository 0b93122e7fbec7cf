"""The logits processor that an engine loads by its class path. Runs in the engine's process.

vLLM has two model runners with different interfaces for processors, and which one an engine uses depends on version,
platform and features. This class answers to both: the older one calls ``update_state`` and ``apply(logits)``, the newer one
``add_request`` and ``apply(logits, context)``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorV1

from specs_eval.backends.vllm.observing import OBSERVER, Seat

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorV2
except ImportError:  # older than the second runner's processors

    class ProcessorV2:  # type: ignore[no-redef]
        """Stands in for an interface that this version does not have."""


class RolloutProcessor(ProcessorV1, ProcessorV2):  # type: ignore[misc]
    """Measures every row of ours and, when it is asked to, draws its token."""

    def __init__(self, vllm_config: Any, *rest: Any) -> None:
        """Made by the engine: with device and pinning by the older runner, with its request states by the newer."""
        self._seats: dict[int, Seat] = {}
        self._outputs: dict[int, list[int]] = {}
        """Of the older runner: the tokens of each row so far, a list that it goes on filling."""
        self._states = rest[0] if len(rest) == 1 else None

    def is_argmax_invariant(self) -> bool:
        """No: else it would not be called for greedy requests."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the batch of the older runner: removed, added, moved, in this order."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._leave(row)
        for row, params, _, output_ids in batch_update.added:
            self._leave(row)
            seat = Seat.of(params.extra_args)
            if seat is not None:
                self._seats[row], self._outputs[row] = seat, output_ids
        for here, there, direction in batch_update.moved:
            self._move(here, there, swap=direction.name == "SWAP")

    def _leave(self, row: int) -> None:
        self._seats.pop(row, None)
        self._outputs.pop(row, None)

    def _move(self, here: int, there: int, *, swap: bool) -> None:
        for table in (self._seats, self._outputs):
            moved: Any = table.pop(here, None)
            displaced: Any = table.pop(there, None)
            if moved is not None:
                table[there] = moved
            if swap and displaced is not None:
                table[here] = displaced

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Take a slot of the newer runner."""
        self._leave(req_idx)
        seat = Seat.of(sampling_params.extra_args)
        if seat is not None:
            self._seats[req_idx] = seat
        return seat is not None

    def apply(self, logits: Tensor, context: Any = None) -> Tensor:
        """Measure and draw, at every step.

        A row whose prefill is not done yet is treated like any other: what is drawn there is thrown away, and what was
        noted is replaced when its position is really reached.
        """
        if context is None:
            found = [(row, seat, len(self._outputs[row])) for row, seat in self._seats.items()]
        else:
            found = self._rows(context)
        seats = sorted((place for place in found if place[0] < logits.shape[0]), key=lambda place: place[0])
        return OBSERVER.observe(logits, seats) if seats else logits

    def _rows(self, context: Any) -> list[tuple[int, Seat, int]]:
        """The rows of the newer runner: one a request, as speculative decoding is refused."""
        found = []
        for row, slot in enumerate(context.idx_mapping_np.tolist()):
            seat = self._seats.get(slot)
            position = int(context.seq_lens_upper_bound_np[row]) - int(self._states.prompt_len.np[slot])  # type: ignore[union-attr]
            if seat is not None and position >= 0:
                found.append((row, seat, position))
        return found
