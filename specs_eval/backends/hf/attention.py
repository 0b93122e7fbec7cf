"""Attention for several rollouts on one prompt, where query heads share key-value heads.

With more than one query a row, transformers repeats the whole key-value cache for every query head at every step. Here
the query heads of a group become further queries instead, so that the cache is read as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "specs_eval_slots"
"""Name under which models find it (`set_attn_implementation`)."""

_UNUSUAL = ("softcap", "position_bias", "s_aux", "cache")


def install(model: Any) -> None:
    """Let a model's decoder use `slot_attention`, where it uses PyTorch's attention and shares key-value heads."""
    text = model.config.get_text_config(decoder=True)
    if head_groups(text) == 1 or text._attn_implementation != "sdpa":
        return
    for key in model.config.sub_configs:
        if getattr(model.config, key, None) is text:
            model.set_attn_implementation({key: NAME})


def head_groups(text_config: Any) -> int:
    """Query heads for each key-value head."""
    n_heads = getattr(text_config, "num_attention_heads", None)
    n_shared = getattr(text_config, "num_key_value_heads", None)
    return n_heads // n_shared if isinstance(n_heads, int) and isinstance(n_shared, int) and n_shared else 1


def tag(mask: Tensor, tiled: Tensor) -> Tensor:
    """Mark a mask of a decoding step, so that `slot_attention` knows it.

    Args:
        mask: additive, shape (n_rows, 1, n_slots, n_keys): what models get.
        tiled: the same for each head group, shape (n_rows, 1, n_groups * n_slots, n_keys).
    """
    mask.specs_eval_tiled = tiled  # type: ignore[attr-defined]  # an attribute of this one tensor object
    return mask


def slot_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Scaled dot-product attention; see the module. Anything but a decoding step of ours goes the usual way."""
    tiled: Tensor | None = getattr(attention_mask, "specs_eval_tiled", None)
    n_rows, n_heads, n_slots, width = query.shape
    n_shared = key.shape[1]
    n_queries = n_heads // n_shared * n_slots
    if tiled is None or tiled.shape[2] != n_queries or any(kwargs.get(name) is not None for name in _UNUSUAL):
        outputs: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return outputs
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(n_rows, n_shared, n_queries, width), key, value, attn_mask=tiled, scale=kwargs.get("scaling")
    )
    return attended.reshape(n_rows, n_heads, n_slots, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, slot_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
