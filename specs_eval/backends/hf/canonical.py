"""Settling draws that rounding could flip.

The last bits of a logit depend on what else is computed with it: batch size, padding, cache layout. Mostly that changes
nothing, as a token flips only when the uniform number lies within rounding of a boundary between two tokens (or, at
temperature 0, when the two largest logits nearly tie). Those draws are repeated here, on a forward pass over the one
sequence alone, unpadded: prompt, then all tokens so far. Its shape, and with it its bits, depend on the sample and
the tokens so far and on nothing else. So every token does, whatever the batch was; and as the tokens are the only
thing that one step hands to the next, rounding never adds up.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from specs_eval.backends.hf.chats import Inputs
from specs_eval.backends.hf.choosing import Distribution, choose
from specs_eval.backends.hf.layouts import SharedLayout, plain_layer
from specs_eval.backends.hf.prompts import Prompts, advance, next_logits, prefill
from specs_eval.sampling import SamplingSpec


class Canonical:
    """Draws for the samples of one batch, one sequence at a time."""

    def __init__(self, model: Any, spec: SamplingSpec, inputs: Sequence[Inputs]) -> None:
        self._model, self._spec, self._inputs = model, spec, inputs
        self._prompts: dict[int, Prompts] = {}
        self._layout: SharedLayout | None = None

    def adopt(self, sample: int, prompts: Prompts, layout: SharedLayout) -> None:
        """Use a prefill that was of this sample alone anyway; its cache lies in `layout` by now."""
        prompts.cache = None
        self._prompts[sample], self._layout = prompts, layout

    def draw(self, sample: int, tokens: list[int], uniform: Tensor | None) -> int | None:
        """The token after `tokens`; None when the logits are not finite.

        Args:
            sample: number of the sample in the batch.
            tokens: what the rollout has so far.
            uniform: its uniform number at this position, shape (1,); None at temperature 0.
        """
        choice = choose(Distribution(self.logits(sample, tokens)), uniform, self._spec, noise=0.0)
        return None if bool(choice.doubtful) else int(choice.tokens)

    def logits(self, sample: int, tokens: list[int]) -> Tensor:
        """Logits after a sample's prompt and `tokens`, float32, shape (1, n_vocabulary)."""
        if sample not in self._prompts:
            self._prompts[sample] = prefill(self._model, self._inputs[sample])
        prompts = self._prompts[sample]
        if not tokens:
            return prompts.logits
        cache = _scratch(prompts.cache)
        if cache is None and self._layout is not None:
            cache = self._layout.prompt_cache(sample, prompts.length)
        following = torch.tensor([tokens], device=prompts.logits.device)
        kwargs = advance(self._model, prompts.kwargs, len(tokens) - 1)
        return next_logits(self._model, following, cache, kwargs)


def _scratch(cache: Any) -> Any:
    """A copy that may be written to. Plain layers are replaced when written to, so theirs need not be copied."""
    if cache is not None and SharedLayout.fits(cache):
        return Cache(layers=[plain_layer(layer.keys, layer.values) for layer in cache.layers])
    return copy.deepcopy(cache)
