"""How many samples fit into memory at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

CPU_SHARE = 0.25
"""Share of the machine's memory for caches. On the CPU there is no second try: the kernel kills the process."""

GPU_SHARE = 0.6
"""Share of what the weights leave free; the rest is for activations. Running out all the same halves the batch."""

INPUT_BYTES = 2 << 30
"""Processed images of one batch, which wait in main memory for their prefill."""

GPU_STEPS = 512
"""On the GPU, longer responses are taken to be rare; room is made as they grow."""


def cache_bytes_per_token(model: Any) -> int:
    """Bytes that one token takes in the key-value cache; 0 when the configuration does not tell."""
    config = model.config.get_text_config(decoder=True)
    n_heads: Any = getattr(config, "num_attention_heads", None)
    n_shared: Any = getattr(config, "num_key_value_heads", None) or n_heads
    n_layers: Any = getattr(config, "num_hidden_layers", None)
    width: Any = getattr(config, "hidden_size", None)
    if not all(isinstance(number, int) and number > 0 for number in (n_heads, n_shared, n_layers, width)):
        return 0
    head = getattr(config, "head_dim", None) or width // n_heads
    return int(2 * n_layers * n_shared * head * model.dtype.itemsize)


def cache_budget(model: Any) -> int:
    """Bytes that caches may take on the model's device; the same at every start, so that batches are."""
    if model.device.type == "cpu":
        return int(CPU_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    total = torch.cuda.get_device_properties(model.device).total_memory
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return int(GPU_SHARE * max(0, total - weights))


@dataclass(slots=True)
class Room:
    """What one batch may still take."""

    cache: int
    """Bytes of key-value cache."""
    inputs: int = INPUT_BYTES
    """Bytes of processed images and the like."""
    empty: bool = True

    def take(self, cache: int, inputs: int) -> bool:
        """Take in one more sample, if it fits; the first always does."""
        if not self.empty and (cache > self.cache or inputs > self.inputs):
            return False
        self.cache, self.inputs, self.empty = self.cache - cache, self.inputs - inputs, False
        return True


def final_tokens(prompt_length: int, n_rollouts: int, n_rows: int, max_new_tokens: int, device: torch.device) -> int:
    """Tokens in the caches of one sample at the end: its prompt as prefilled and once a row, and the rollouts."""
    steps = max_new_tokens if device.type == "cpu" else min(max_new_tokens, GPU_STEPS)
    return (1 + n_rows) * prompt_length + n_rollouts * steps
