"""Prefilling prompts, alone or several in one forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from specs_eval.backends.hf.chats import Inputs
from specs_eval.errors import CheckpointError

CACHE_KEYWORDS = ("cache", "past_key_values")
"""What models call their key-value cache: since transformers 5.24, and before."""

PREFILL_TOKENS = {"cpu": 2048, "cuda": 8192}
"""Prompt tokens (with padding) of one prefill. Longer prompts go alone: batching them saves nothing any more."""

_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_VISION_PREFIXES = ("pixel_", "image_", "video_", "num_", "batch_num_")


@dataclass(slots=True)
class Prompts:
    """Prefilled prompts."""

    logits: Tensor
    """At the last position, float32, shape (n_prompts, n_vocabulary)."""
    cache: Any
    """Key-value cache of the prompts, left padded to a common length."""
    kwargs: dict[str, Any]
    """What the model's forward takes beside tokens and cache, for the next token: attention mask of shape
    (n_prompts, length + 1) and the like, as `GenerationMixin` keeps it."""

    @property
    def length(self) -> int:
        """Length with padding."""
        return int(self.kwargs["attention_mask"].shape[1]) - 1

    def next_positions(self) -> Tensor | None:
        """Position of the first generated token, shape (..., n_prompts); None: the model takes no positions.

        M-RoPE models have several numbers a position, in the leading dimensions.
        """
        positions = self.kwargs.get("position_ids")
        return None if positions is None else positions[..., -1]


def cache_keyword(model: Any) -> str:
    """The name under which a model takes its key-value cache.

    Raises:
        CheckpointError: under none that we know.
    """
    parameters = inspect.signature(model.forward).parameters
    for name in CACHE_KEYWORDS:
        if name in parameters:
            return name
    raise _foreign_cache(model, f"its forward takes neither {' nor '.join(CACHE_KEYWORDS)}")


def prefill(model: Any, inputs: Inputs) -> Prompts:
    """One forward pass over prompts; the only one that sees images.

    Raises:
        CheckpointError: transformers hands the cache on in a way that we do not follow.
    """
    kwargs: dict[str, Any] = {key: tensor.to(model.device) for key, tensor in inputs.items()}
    tokens = kwargs.pop("input_ids")
    parameters = inspect.signature(model.forward).parameters
    if "position_ids" in parameters:
        # The model's own rule (M-RoPE and others), with padding taken into account; decoding goes on from the last.
        kwargs["position_ids"] = model._prepare_position_ids_for_generation(tokens, kwargs)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    keyword = cache_keyword(model)
    kwargs |= {keyword: cache, "use_cache": True}
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
    prepared = model.prepare_inputs_for_generation(tokens, is_first_iteration=True, **kwargs, **last_only)
    outputs = model(**prepared, return_dict=True)
    kwargs = model._update_model_kwargs_for_generation(outputs, kwargs)
    kept = {key: value for key, value in kwargs.items() if not key.startswith(_VISION_PREFIXES)}
    cache = kept.pop(keyword)
    stray = [key for key, value in kept.items() if isinstance(value, Cache)]
    if stray:  # the next steps would be given two caches, and might read the one that we do not move on
        raise _foreign_cache(model, f"it was given as {keyword} and came back as {', '.join(stray)}")
    return Prompts(outputs.logits[:, -1].float(), cache, kept)


def next_logits(model: Any, tokens: Tensor, cache: Any, kwargs: dict[str, Any]) -> Tensor:
    """Logits after `tokens` (shape (n_rows, n_new)), which follow what is in the cache; float32, last position only."""
    given = {**kwargs, cache_keyword(model): cache}
    prepared = model.prepare_inputs_for_generation(tokens, next_sequence_length=tokens.shape[1], **given)
    outputs = model(**prepared, return_dict=True)
    return torch.as_tensor(outputs.logits[:, -1].float())


def advance(model: Any, kwargs: dict[str, Any], n_tokens: int) -> dict[str, Any]:
    """The kwargs for `n_tokens` tokens later."""
    if n_tokens == 0:
        return kwargs
    return dict(model._update_model_kwargs_for_generation({}, dict(kwargs), num_new_tokens=n_tokens))


def collate(inputs: Sequence[Inputs], pad_token: int) -> Inputs:
    """Inputs of several samples as one batch, in the form in which the processors of the library make batches.

    Per-token tensors are padded on the left; all others are joined along their first dimension, padded with zeros in
    the others (LLaVA-OneVision's patches, Idefics3's images a sample). `probe` checks that a model agrees.
    """
    if len(inputs) == 1:
        return inputs[0]
    length = max(item["input_ids"].shape[1] for item in inputs)
    keys = dict.fromkeys(key for item in inputs for key in item)
    batch: Inputs = {}
    for key in keys:
        tensors = [item[key] for item in inputs if key in item]
        if key in _PER_TOKEN:
            fill = pad_token if key == "input_ids" else 0
            batch[key] = torch.cat([_pad_left(tensor, length, fill) for tensor in tensors])
        else:
            batch[key] = _join(tensors)
    return batch


def group_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Consecutive prompts in groups of at most `budget` tokens with padding; at least one each."""
    groups: list[list[int]] = []
    for index, length in enumerate(lengths):
        longest = max(length, max((lengths[i] for i in groups[-1]), default=0)) if groups else length
        if groups and longest * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _foreign_cache(model: Any, how: str) -> CheckpointError:
    return CheckpointError(
        f"transformers {transformers.__version__} hands on the key-value cache of {type(model).__name__} in a way that "
        f"this version of specs-eval does not know ({how}): install an older transformers or a newer specs-eval"
    )


def _pad_left(tensor: Tensor, length: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (length - tensor.shape[1], 0), value=fill)


def _join(tensors: list[Tensor]) -> Tensor:
    sizes = [max(dims) for dims in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        gaps = [room - size for room, size in zip(sizes, tensor.shape[1:], strict=True)]
        padding = [side for gap in reversed(gaps) for side in (0, gap)]
        padded.append(torch.nn.functional.pad(tensor, padding) if any(gaps) else tensor)
    return torch.cat(padded)
