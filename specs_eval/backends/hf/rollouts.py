"""The loop: one batch of samples, k rollouts of each, from prompt to text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specs_eval.backends.base import FinishReason, Request, Response
from specs_eval.backends.hf.canonical import Canonical
from specs_eval.backends.hf.chats import Inputs
from specs_eval.backends.hf.choosing import LOGIT_NOISE, Distribution, choose
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.layouts import COMPACT_BELOW, Layout, RepeatedLayout, SharedLayout
from specs_eval.backends.hf.prompts import PREFILL_TOKENS, Prompts, collate, group_by_length, prefill
from specs_eval.backends.hf.token_statistics import entropy_nats, nucleus_sizes, rounded
from specs_eval.sampling import SamplingSpec, rollout_uniforms

Answer = tuple[Request, list[Response]]

MAX_SLOTS = 8
"""Rollouts that share a row. More would spend more on each other's masked keys than they save on the prompt's."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request with its tensors."""

    request: Request
    inputs: Inputs


@dataclass(frozen=True, slots=True)
class _Seat:
    """The rollout that a cell of the layout holds at the start."""

    sample: int
    rollout: int


class RolloutBatch:
    """Answers some questions together."""

    def __init__(self, engine: Engine, questions: Sequence[Question], spec: SamplingSpec) -> None:
        self._engine, self._questions, self._spec = engine, questions, spec
        self._noise = LOGIT_NOISE if engine.settings.verify else 0.0
        self._canonical = Canonical(engine.model, spec, [question.inputs for question in questions])
        max_slots = MAX_SLOTS if engine.layout == "shared" else 1
        self._rows, seats = seat_rollouts([question.request.rollouts for question in questions], max_slots)
        self._n_slots = len(seats) // max(1, len(self._rows))
        self._seats = [_Seat(*seat) for seat in seats if seat is not None]
        self._homes: dict[int, list[int]] = {sample: [] for sample in range(len(questions))}
        for number, seated in enumerate(self._seats):
            self._homes[seated.sample].append(number)
        order = iter(range(len(self._seats)))
        # Empty cells count as rollout n, whose row in every table below is scratch.
        home = [len(self._seats) if seat is None else next(order) for seat in seats]
        device = engine.eos_ids.device
        self._home = torch.tensor(home, device=device)
        """Number of the rollout in each cell of the layout."""
        self._active = self._home < len(self._seats)
        """Cells whose rollout goes on."""
        n_tables, n_steps = len(self._seats) + 1, spec.max_new_tokens
        self._tokens = torch.zeros(n_tables, n_steps, dtype=torch.long, device=device)
        self._entropies = torch.zeros(n_tables, n_steps, device=device)
        self._nuclei = torch.zeros(n_tables, n_steps, dtype=torch.int32, device=device)
        self._lengths = torch.full((n_tables,), n_steps, device=device)
        self._stopped = torch.zeros(n_tables, dtype=torch.bool, device=device)
        self._uniforms = None if spec.temperature == 0 else self._draw_uniforms().to(device)
        self._errors: dict[int, str] = {}
        self._waiting = list(range(len(questions)))
        self._stop_window = max((4 * len(stop) + 4 for stop in spec.stop), default=0)

    def answers(self) -> Iterator[Answer]:
        """Answer everything; each sample as soon as its last rollout has ended."""
        # Inference mode must not be on while the caller has the word, so it ends before each yield.
        with torch.inference_mode():
            started = time.perf_counter()
            layout, logits = self._prefill()
            self._engine.timing.prefill += time.perf_counter() - started
        n_active = len(self._seats)
        for step in range(self._spec.max_new_tokens):
            with torch.inference_mode():
                tokens = self._draw(logits, step)
            n_before, n_active = n_active, int(self._active.sum())
            if n_active < n_before or step + 1 == self._spec.max_new_tokens:
                yield from self._finished(last=step + 1 == self._spec.max_new_tokens)
            if not n_active:
                return
            if step + 1 < self._spec.max_new_tokens:
                with torch.inference_mode():
                    started = time.perf_counter()
                    if n_active <= COMPACT_BELOW * self._active.numel():
                        tokens = self._compact(layout, tokens)
                    logits = layout.step(tokens)
                    self._engine.timing.decode += time.perf_counter() - started

    def _prefill(self) -> tuple[Layout, Tensor]:
        """Prefill all prompts; the layout, and each cell's first logits."""
        engine = self._engine
        lengths = [question.inputs["input_ids"].shape[1] for question in self._questions]
        budget = PREFILL_TOKENS[engine.settings.device.type] if engine.joint_prefill else 0
        together = [list(range(len(lengths)))]
        groups = group_by_length(lengths, budget) if engine.layout == "shared" else together
        prefilled = [(self._prefill_group(samples), samples) for samples in groups]
        n_cells = self._n_slots * len(self._rows)
        by_sample = torch.cat([prompts.logits for prompts, _ in prefilled])
        logits = by_sample[torch.tensor(self._rows, device=by_sample.device)]
        first = logits[:, None].expand(-1, self._n_slots, -1).reshape(n_cells, -1)
        if engine.layout == "repeated":
            return RepeatedLayout(engine.model, prefilled[0][0], self._rows), first
        layout = SharedLayout(engine.model, prefilled, self._rows, self._n_slots, self._spec.max_new_tokens)
        for prompts, samples in prefilled:
            if len(samples) == 1:
                self._canonical.adopt(samples[0], prompts, layout)
        return layout, first

    def _prefill_group(self, samples: list[int]) -> Prompts:
        inputs = [self._questions[sample].inputs for sample in samples]
        return prefill(self._engine.model, collate(inputs, self._engine.pad_id))

    def _draw(self, logits: Tensor, step: int) -> Tensor:
        """Measure and draw at one position; rollouts that end leave the active ones."""
        timing = self._engine.timing
        started = time.perf_counter()
        distribution = Distribution(logits)
        made = time.perf_counter()
        self._entropies[self._home, step] = entropy_nats(distribution)
        self._nuclei[self._home, step] = nucleus_sizes(distribution).int()
        measured = time.perf_counter()
        tokens = self._choose(distribution, step)
        self._active = self._active & ~self._ended(tokens, step)
        timing.statistics += measured - made
        timing.decode += time.perf_counter() - measured + made - started
        return tokens

    def _choose(self, distribution: Distribution, step: int) -> Tensor:
        uniforms = None if self._uniforms is None else self._uniforms[self._home, step]
        choice = choose(distribution, uniforms, self._spec, self._noise)
        tokens, doubtful = choice.tokens, choice.doubtful & self._active
        if bool(doubtful.any()):
            for cell in doubtful.nonzero().squeeze(1).tolist():
                tokens[cell] = self._settle(int(self._home[cell]), step)
        self._tokens[self._home, step] = tokens
        return tokens

    def _settle(self, rollout: int, step: int) -> int:
        """The token of a doubtful draw; an end, and an error, when there is none."""
        token = None
        if self._noise:
            self._engine.n_settled += 1
            past = self._tokens[rollout, :step].tolist()
            uniform = None if self._uniforms is None else self._uniforms[rollout, step : step + 1]
            token = self._canonical.draw(self._seats[rollout].sample, past, uniform)
        if token is None:
            self._errors[rollout] = f"the model's logits are not finite at position {step}"
            return self._engine.pad_id
        return token

    def _ended(self, tokens: Tensor, step: int) -> Tensor:
        """Cells that end with this token; remembers where."""
        ended = torch.isin(tokens, self._engine.eos_ids)
        if self._stop_window or self._errors:
            for cell in self._active.nonzero().squeeze(1).tolist():
                rollout = int(self._home[cell])
                ended[cell] |= rollout in self._errors or self._hits_stop(rollout, step)
        ended &= self._active
        homes = self._home[ended]
        self._lengths[homes] = step + 1
        self._stopped[homes] = True
        return ended

    def _hits_stop(self, rollout: int, step: int) -> bool:
        if not self._stop_window:
            return False
        first = max(0, step + 1 - self._stop_window)
        (tail,) = self._engine.decode([self._tokens[rollout, first : step + 1].tolist()])
        if not any(stop in tail for stop in self._spec.stop):
            return False
        # A token may read differently at the start of a text, so the whole text has the last word.
        (text,) = self._engine.decode([self._tokens[rollout, : step + 1].tolist()])
        return any(stop in text for stop in self._spec.stop)

    def _compact(self, layout: Layout, tokens: Tensor) -> Tensor:
        kept = layout.compact(self._active)
        if kept is None:
            return tokens
        self._home, self._active = self._home[kept], self._active[kept]
        return tokens[kept]

    def _draw_uniforms(self) -> Tensor:
        rows = [
            rollout_uniforms(
                self._spec.seed,
                self._questions[seat.sample].request.key,
                seat.rollout,
                self._spec.max_new_tokens,
            )
            for seat in self._seats
        ]
        return torch.from_numpy(np.stack([*rows, np.zeros(self._spec.max_new_tokens)]))

    def _finished(self, *, last: bool) -> list[Answer]:
        """Answers of the samples whose rollouts have all ended and that were not given yet."""
        started = time.perf_counter()
        running = set() if last else {self._seats[home].sample for home in self._home[self._active].tolist()}
        samples = [sample for sample in self._waiting if sample not in running]
        self._waiting = [sample for sample in self._waiting if sample in running]
        answers = [self._answer(sample) for sample in samples]
        self._engine.timing.decode += time.perf_counter() - started
        return answers

    def _answer(self, sample: int) -> Answer:
        homes = self._homes[sample]
        lengths, stopped = self._lengths[homes].tolist(), self._stopped[homes].tolist()
        rows = self._tokens[homes, : max(lengths)].tolist()
        texts = self._engine.decode([self._text_tokens(row, n) for row, n in zip(rows, lengths, strict=True)])
        entropies = self._entropies[homes].double().cpu().numpy()
        nuclei = self._nuclei[homes].cpu().numpy()
        responses = []
        for index, (home, n_tokens) in enumerate(zip(homes, lengths, strict=True)):
            self._engine.n_draws += n_tokens
            self._engine.timing.n_rollouts += 1
            rollout, error = self._seats[home].rollout, self._errors.get(home)
            if error is not None:
                responses.append(Response(rollout, finish_reason="error", error=error))
                continue
            self._engine.timing.n_tokens += n_tokens
            reason: FinishReason = "stop" if stopped[index] else "length"
            measures = self._measures(entropies[index, :n_tokens], nuclei[index, :n_tokens])
            responses.append(Response(rollout, self._cut(texts[index]), n_tokens, reason, **measures))
        return self._questions[sample].request, responses

    def _measures(self, entropies: Any, nuclei: Any) -> dict[str, Any]:
        measures: dict[str, Any] = {"entropy": rounded(entropies.mean()), "nucleus": rounded(nuclei.mean())}
        if self._engine.settings.per_position:
            measures["nucleus_sizes"] = tuple(nuclei.tolist())
            measures["entropies"] = tuple(rounded(value) for value in entropies.tolist())
        return measures

    def _text_tokens(self, tokens: list[int], length: int) -> list[int]:
        """Without the end token, and without what was drawn after it."""
        return tokens[: length - 1] if tokens[length - 1] in self._engine.eos_set else tokens[:length]

    def _cut(self, text: str) -> str:
        """The text before the first stop string."""
        found = [text.find(stop) for stop in self._spec.stop]
        return text[: min((at for at in found if at >= 0), default=len(text))]


def seat_rollouts(owed: Sequence[Sequence[int]], max_slots: int) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Spread rollouts over rows of equally many slots.

    Args:
        owed: the rollouts that each sample owes.
        max_slots: rollouts a row may hold.

    Returns:
        The sample of each row, and (sample, rollout) of each cell, row by row; None: the cell is empty.
    """
    rows: list[int] = []
    seated: list[Sequence[int]] = []
    for sample, rollouts in enumerate(owed):
        n_rows = -(-len(rollouts) // max_slots)
        per_row = -(-len(rollouts) // max(1, n_rows))
        for row in range(n_rows):
            rows.append(sample)
            seated.append(rollouts[row * per_row : (row + 1) * per_row])
    n_slots = max((len(row) for row in seated), default=0)
    cells: list[tuple[int, int] | None] = []
    for sample, seats in zip(rows, seated, strict=True):
        cells += [(sample, rollout) for rollout in seats]
        cells += [None] * (n_slots - len(seats))
    return rows, cells
