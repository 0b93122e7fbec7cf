"""What happens at each step in the engine's process: rows of logits are measured, and their tokens drawn.

Entropy and nucleus size are of the model's own distribution (T = 1, full vocabulary). A token is drawn as the hf backend
draws it: by inverse CDF from the one uniform number of (seed, sample, rollout, position). The engine is then left with
that token alone, whatever its own sampler does. So a draw depends on no other request, on no generator state, on no
preemption and on no chunk of a prefill; what is left is rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specs_eval.backends.hf.choosing import Distribution, choose
from specs_eval.backends.hf.token_statistics import entropy_nats, nucleus_sizes
from specs_eval.sampling import SamplingSpec, rollout_uniforms

EXTRA_ARGS_KEY = "specs_eval"
"""Under this name a request carries its `Order` in ``SamplingParams.extra_args``."""

FOLD_AFTER = 32
"""Steps whose measures wait on the device before they are copied to the host in one go."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with the rows of one rollout. Crosses a process boundary as plain numbers and strings."""

    tag: int
    """Names the rollout."""
    key: int
    """Noise key of its sample."""
    rollout: int
    spec: SamplingSpec
    draw: bool
    """Draw tokens here; else the engine's sampler does."""
    measure: bool

    def packed(self) -> list[int | float | str | bool]:
        """As plain values. The seed is a string, for it may be any integer."""
        spec = self.spec
        numbers = [spec.temperature, spec.top_p, spec.max_new_tokens]
        return [self.tag, self.key, self.rollout, str(spec.seed), *numbers, self.draw, self.measure]

    @classmethod
    def unpacked(cls, values: Sequence[Any]) -> Order:
        """From `packed`."""
        tag, key, rollout, seed, temperature, top_p, max_new_tokens, draw, measure = values
        spec = SamplingSpec(temperature, int(max_new_tokens), int(seed), top_p)
        return cls(int(tag), int(key), int(rollout), spec, bool(draw), bool(measure))


@dataclass(slots=True)
class Notes:
    """What was measured of one rollout; a position that is computed again replaces what was there."""

    entropies: dict[int, float] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    """Positions whose logits were not finite."""

    def packed(self, n_tokens: int) -> tuple[list[float] | None, list[int] | None, bool]:
        """Entropies and sizes of the first positions (None: one is missing), and whether any of them is broken."""
        positions = range(n_tokens)
        whole = all(position in self.entropies for position in positions)
        broken = any(position in self.broken for position in positions)
        if not whole:
            return None, None, broken
        return [self.entropies[p] for p in positions], [self.sizes[p] for p in positions], broken


@dataclass(slots=True)
class Seat:
    """A rollout in the engine's batch."""

    order: Order
    uniforms: NDArray[np.float64] | None

    @classmethod
    def of(cls, extra_args: Any) -> Seat | None:
        """From a request's ``extra_args``; None: the request is not one of ours."""
        values = (extra_args or {}).get(EXTRA_ARGS_KEY)
        if values is None:
            return None
        order = Order.unpacked(values)
        spec = order.spec
        draws = order.draw and spec.temperature > 0
        noise = rollout_uniforms(spec.seed, order.key, order.rollout, spec.max_new_tokens) if draws else None
        return cls(order, noise)


@dataclass(frozen=True, slots=True)
class _Step:
    """Measures of one step that were not copied to the host yet."""

    tags: list[int]
    positions: list[int]
    finite: Tensor
    entropies: Tensor
    sizes: Tensor


class Observer:
    """Measures and draws for one engine; its notes are fetched when rollouts have ended."""

    def __init__(self) -> None:
        self._notes: dict[int, Notes] = {}
        self._steps: list[_Step] = []

    def observe(self, logits: Tensor, seats: Sequence[tuple[int, Seat, int]]) -> Tensor:
        """Measure rows and leave in them only the drawn token.

        Args:
            logits: float32, shape (n_rows, n_vocabulary); changed in place.
            seats: (row, its rollout, its position) of the rows that are ours.
        """
        groups: dict[tuple[float, float, bool, bool], list[tuple[int, Seat, int]]] = {}
        for row, seat, position in seats:
            spec = seat.order.spec
            kind = (spec.temperature, spec.top_p, seat.uniforms is not None, seat.order.measure)
            groups.setdefault(kind, []).append((row, seat, position))
        for group in groups.values():
            self._observe_alike(logits, group)
        return logits

    def _observe_alike(self, logits: Tensor, group: Sequence[tuple[int, Seat, int]]) -> None:
        """Rows with one sampling spec."""
        rows = [row for row, _, _ in group]
        every = rows == list(range(logits.shape[0]))
        places = None if every else torch.tensor(rows, device=logits.device)
        distribution = Distribution(logits if places is None else logits[places])
        first = group[0][1]
        if first.order.measure:
            self._note(distribution, group)
        if first.uniforms is None:
            return
        last = first.order.spec.max_new_tokens - 1
        noise = [float(seat.uniforms[min(p, last)]) for _, seat, p in group if seat.uniforms is not None]
        uniforms = torch.tensor(noise, dtype=torch.float64).to(logits.device)
        tokens = choose(distribution, uniforms, first.order.spec, noise=0.0).tokens
        if places is None:
            logits.fill_(float("-inf")).scatter_(1, tokens[:, None], 0.0)
        else:
            logits[places] = float("-inf")
            logits[places, tokens] = 0.0

    def _note(self, distribution: Distribution, group: Sequence[tuple[int, Seat, int]]) -> None:
        tags = [seat.order.tag for _, seat, _ in group]
        positions = [position for _, _, position in group]
        entropies, sizes = entropy_nats(distribution), nucleus_sizes(distribution)
        self._steps.append(_Step(tags, positions, distribution.finite, entropies, sizes))
        if len(self._steps) >= FOLD_AFTER:
            self._fold()

    def _fold(self) -> None:
        for step in self._steps:
            columns = step.finite.tolist(), step.entropies.tolist(), step.sizes.tolist()
            for tag, position, finite, entropy, size in zip(step.tags, step.positions, *columns, strict=True):
                notes = self._notes.setdefault(tag, Notes())
                notes.entropies[position], notes.sizes[position] = entropy, size
                if finite:
                    notes.broken.discard(position)
                else:
                    notes.broken.add(position)
        self._steps.clear()

    def take(self, ended: Sequence[Sequence[int]]) -> dict[int, tuple[list[float] | None, list[int] | None, bool]]:
        """Hand out and forget the notes of rollouts that have ended.

        Args:
            ended: (tag, number of tokens) of each.
        """
        self._fold()
        taken = ((tag, n_tokens, self._notes.pop(tag, None)) for tag, n_tokens in ended)
        return {tag: notes.packed(n_tokens) for tag, n_tokens, notes in taken if notes is not None}

    def forget_all(self) -> None:
        """Forget rollouts that nobody waits for any more."""
        self._steps.clear()
        self._notes.clear()


OBSERVER = Observer()
"""The one of this process: the engine makes its processors itself, and a worker holds one engine at a time."""
