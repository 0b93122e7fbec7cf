"""Where the key-value cache of many rollouts lies, and how they take a step together.

`SharedLayout`: rollouts of a sample sit in slots of one row. The prompt's keys and values are there once; each step
appends one key a slot, and an attention mask lets every slot see the prompt and its own past. A step reads the
prompt once for all slots, in one matrix product, where one row a rollout would copy and read it k times.

`RepeatedLayout`: one row a rollout, moved on by transformers' own generation code: for models whose caches are not
plain keys and values (sliding windows, recurrent states), or that do not take a mask of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from specs_eval.backends.hf import attention
from specs_eval.backends.hf.prompts import Prompts, advance, cache_keyword, next_logits

ALIGNMENT = 16
"""Room is made in multiples of this: CUDA kernels want rows of masks aligned."""

GROWTH_STEPS = 64
"""Steps that the cache makes room for at a time."""

COMPACT_BELOW = 0.75
"""Cells are compacted when this share of them, or less, would do."""


PromptGroups = Sequence[tuple[Prompts, Sequence[int]]]
"""Prompts that were prefilled together, and the numbers of their samples."""


class Layout(Protocol):
    """A cache with n_rows x n_slots cells, each of which holds a rollout (or nothing of interest)."""

    n_rows: int
    n_slots: int

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each cell, shape (n_rows * n_slots,); logits, float32, (n_rows * n_slots, n_vocabulary)."""
        ...

    def compact(self, active: Tensor) -> Tensor | None:
        """Drop cells that are not active (bool, shape (n_rows * n_slots,)) if that saves enough.

        Returns:
            The old index of each cell that there is now; None: nothing was changed.
        """
        ...


class _SlotLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values of one layer, written into room made ahead instead of concatenated anew at each step."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()
        self.is_initialized, self.dtype, self.device = True, keys.dtype, keys.device
        self.room = (keys, values)
        self.set_length(length)

    def set_length(self, length: int) -> None:
        """Show the first `length` keys."""
        self.length = length
        self.keys, self.values = (tensor[:, :, :length] for tensor in self.room)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append, and give everything."""
        end = self.length + key_states.shape[2]
        self.room[0][:, :, self.length : end] = key_states
        self.room[1][:, :, self.length : end] = value_states
        self.set_length(end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Keys in use."""
        return self.length


class SharedLayout:
    """Rollouts in slots of their sample's row; see the module."""

    def __init__(self, model: Any, groups: PromptGroups, rows: Sequence[int], n_slots: int, n_steps: int) -> None:
        """Lay prefilled prompts out in rows.

        Args:
            model: the model.
            groups: prefilled prompts, and the samples they are of.
            rows: the sample of each row.
            n_slots: slots a row.
            n_steps: steps that are expected at most.
        """
        self._model, self._keyword = model, cache_keyword(model)
        self._rows = list(rows)
        self.n_rows, self.n_slots = len(rows), n_slots
        self._prompt_length = max(prompts.length for prompts, _ in groups)
        self._n_steps = 0
        room = self._room_for(self._prompt_length, n_steps)
        self._groups = attention.head_groups(model.config.get_text_config(decoder=True))
        self._layers = _lay_out(groups, rows, self._prompt_length, room)
        self._cache = Cache(layers=self._layers)
        device = self._layers[0].device
        self._visible = torch.zeros(len(rows), self._prompt_length, dtype=torch.bool, device=device)
        positions = []
        for prompts, samples in groups:
            target, source = _rows_of(samples, rows)
            mask = prompts.kwargs["attention_mask"][:, :-1].bool()
            self._visible[target, self._prompt_length - prompts.length :] = mask[source]
            following = prompts.next_positions()
            assert following is not None, "the probe lets only models with positions come here"
            positions.append((target, following[..., source]))
        self._positions = positions[0][1].new_zeros((*positions[0][1].shape[:-1], len(rows)))
        for target, following in positions:
            self._positions[..., target] = following
        self._dtype = self._layers[0].dtype
        self._make_mask()

    @staticmethod
    def fits(cache: Any) -> bool:
        """Whether a prompt's cache is plain keys and values."""
        return all(type(layer) is DynamicLayer for layer in cache.layers)

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each cell."""
        if self._layers[0].length + self.n_slots > self._layers[0].room[0].shape[2]:
            self._grow()
        end = self._prompt_length + (self._n_steps + 1) * self.n_slots
        mask = self._mask[..., :end]
        if self._groups > 1:
            mask = attention.tag(mask, self._tiled[..., :end])
        positions = (self._positions + self._n_steps)[..., None].expand(*self._positions.shape, self.n_slots)
        outputs = self._model(
            input_ids=tokens.view(self.n_rows, self.n_slots),
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            return_dict=True,
            **{self._keyword: self._cache},
        )
        self._n_steps += 1
        return torch.as_tensor(outputs.logits.flatten(0, 1).float())

    def compact(self, active: Tensor) -> Tensor | None:
        """Drop rows and slots without active rollouts, if enough of them are."""
        grid = active.view(self.n_rows, self.n_slots)
        per_row = grid.sum(dim=1)
        rows = per_row.nonzero().squeeze(1)
        n_slots = int(per_row.max())
        if rows.numel() * n_slots > COMPACT_BELOW * self.n_rows * self.n_slots:
            return None
        slots = (~grid[rows]).long().argsort(dim=1, stable=True)[:, :n_slots]
        for layer in self._layers:
            self._compact_layer(layer, rows, slots)
        kept = (rows[:, None] * self.n_slots + slots).flatten()
        self._rows = [self._rows[row] for row in rows.tolist()]
        self.n_rows, self.n_slots = rows.numel(), n_slots
        self._visible, self._positions = self._visible[rows], self._positions[..., rows]
        self._make_mask()
        return kept

    def prompt_cache(self, sample: int, length: int) -> Cache:
        """The cache of one sample's prompt alone, without padding; shares memory."""
        row, first = self._rows.index(sample), self._prompt_length - length
        return Cache(
            layers=[
                plain_layer(*(tensor[row : row + 1, :, first : self._prompt_length] for tensor in layer.room))
                for layer in self._layers
            ]
        )

    def _compact_layer(self, layer: _SlotLayer, rows: Tensor, slots: Tensor) -> None:
        all_rows = rows.numel() == self.n_rows
        room = []
        for tensor in layer.room:
            n_heads, width = tensor.shape[1], tensor.shape[3]
            past = tensor[rows, :, self._prompt_length : layer.length]
            past = past.view(rows.numel(), n_heads, self._n_steps, self.n_slots, width)
            index = slots[:, None, None, :, None].expand(-1, n_heads, self._n_steps, -1, width)
            past = past.gather(3, index).flatten(2, 3)
            kept = tensor if all_rows else tensor[rows]
            kept[:, :, self._prompt_length : self._prompt_length + past.shape[2]] = past
            room.append(kept)
        layer.room = (room[0], room[1])
        layer.set_length(self._prompt_length + self._n_steps * slots.shape[1])

    def _room_for(self, length: int, n_steps: int) -> int:
        """Keys to make room for when `length` are there and `n_steps` steps may come."""
        return ALIGNMENT * -(-(length + self.n_slots * min(n_steps, GROWTH_STEPS)) // ALIGNMENT)

    def _grow(self) -> None:
        used, had = self._layers[0].length, self._layers[0].room[0].shape[2]
        more = self._room_for(used, GROWTH_STEPS) - had
        for layer in self._layers:
            padded = [torch.nn.functional.pad(tensor, (0, 0, 0, more)) for tensor in layer.room]
            layer.room = (padded[0], padded[1])
        self._make_mask()

    def _make_mask(self) -> None:
        """The mask for all the room there is: a slot sees its row's prompt and the keys of its own slot."""
        n_past = self._layers[0].room[0].shape[2] - self._prompt_length
        device = self._visible.device
        own = torch.arange(n_past, device=device) % self.n_slots == torch.arange(self.n_slots, device=device)[:, None]
        prompt = self._visible[:, None].expand(-1, self.n_slots, -1)
        seen = torch.cat([prompt, own.expand(self.n_rows, -1, -1)], dim=-1)[:, None]
        self._mask = torch.zeros(seen.shape, dtype=self._dtype, device=device)
        self._mask.masked_fill_(~seen, torch.finfo(self._dtype).min)
        if self._groups > 1:
            self._tiled = self._mask.repeat(1, 1, self._groups, 1)


class RepeatedLayout:
    """One row a rollout, by transformers' own generation code; see the module."""

    n_slots = 1

    def __init__(self, model: Any, prompts: Prompts, rows: Sequence[int]) -> None:
        """Repeat prompts that were prefilled together.

        Args:
            model: the model.
            prompts: those of all samples.
            rows: the sample of each row.
        """
        self._model = model
        self._cache = prompts.cache
        self._kwargs = prompts.kwargs
        self.n_rows = int(prompts.logits.shape[0])
        self._select(torch.as_tensor(rows, device=prompts.logits.device))

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row."""
        logits = next_logits(self._model, tokens[:, None], self._cache, self._kwargs)
        self._kwargs = advance(self._model, self._kwargs, 1)
        return logits

    def compact(self, active: Tensor) -> Tensor | None:
        """Drop rows, if enough of them are done."""
        rows = active.nonzero().squeeze(1)
        if rows.numel() > COMPACT_BELOW * self.n_rows:
            return None
        self._select(rows)
        return rows

    def _select(self, rows: Tensor) -> None:
        self._cache.reorder_cache(rows)
        for key, value in self._kwargs.items():
            if isinstance(value, Tensor) and value.dim():
                axis = value.dim() - 2 if key == "position_ids" else 0
                if value.shape[axis] == self.n_rows:
                    self._kwargs[key] = value.index_select(axis, rows)
        self.n_rows = rows.numel()


def plain_layer(keys: Tensor, values: Tensor) -> DynamicLayer:
    """A layer of an ordinary dynamic cache with these keys and values."""
    layer = DynamicLayer()
    layer.is_initialized, layer.dtype, layer.device = True, keys.dtype, keys.device
    layer.keys, layer.values = keys, values
    return layer


def _rows_of(samples: Sequence[int], rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows that belong to these samples, and where in `samples` theirs is."""
    where = {sample: index for index, sample in enumerate(samples)}
    target = [row for row, sample in enumerate(rows) if sample in where]
    return target, [where[rows[row]] for row in target]


def _lay_out(groups: PromptGroups, rows: Sequence[int], length: int, room: int) -> list[_SlotLayer]:
    layers = []
    for number in range(len(groups[0][0].cache.layers)):
        made = []
        for name in ("keys", "values"):
            first = getattr(groups[0][0].cache.layers[number], name)
            # Zeros, since the padding on the left is masked but not skipped: 0 times garbage may be NaN.
            tensor = first.new_zeros((len(rows), first.shape[1], room, first.shape[3]))
            for prompts, samples in groups:
                target, source = _rows_of(samples, rows)
                states = getattr(prompts.cache.layers[number], name)
                tensor[target, :, length - prompts.length : length] = states[source]
            made.append(tensor)
        layers.append(_SlotLayer(made[0], made[1], length))
    return layers
