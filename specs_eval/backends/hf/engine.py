"""A loaded model and everything that generating with it needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from specs_eval.backends.base import Timing
from specs_eval.backends.hf.chats import ChatEncoder
from specs_eval.backends.hf.settings import Settings


@dataclass(slots=True)
class Engine:
    """A model that is ready to answer."""

    model: Any
    encoder: ChatEncoder
    settings: Settings
    timing: Timing
    eos_ids: torch.Tensor
    """Ids of all end tokens, shape (n_eos,), on the model's device; may be empty."""
    eos_set: frozenset[int]
    """The same."""
    pad_id: int
    layout: str = "shared"
    """``shared`` or ``repeated``, see `layouts`; settled by `probe`."""
    joint_prefill: bool = True
    """Whether several prompts may be prefilled in one pass; settled by `probe`."""
    n_settled: int = 0
    """Draws that were settled by `canonical` so far."""
    n_draws: int = 0
    """Draws so far."""

    def decode(self, token_ids: list[list[int]]) -> list[str]:
        """Texts of token sequences, without special tokens."""
        tokenizer = self.encoder.tokenizer
        texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [str(text) for text in texts]
