"""Likelihoods as means over the tokens of a whole optimizer step, however it is cut into forward passes and devices.

TRL's trainers average over each forward pass and then over passes, for models (Qwen2.5-VL among them) whose forward takes
no token count: short responses then weigh more, and the loss depends on how many sequences fit into memory.
"""

from __future__ import annotations

from typing import Any, cast


class StepTokenMean:
    """Mixed into TRL's DPO trainer with the loss types ``sigmoid`` and ``sft``: the second becomes such a mean.

    Each pass computes weight * mean over its own n tokens. With N tokens in all passes of the step on all devices, a
    weight of lambda * n * passes / N makes the average over passes lambda * (sum over all tokens) / N.
    """

    accelerator: Any
    loss_weights: list[float]
    sft_weight: float
    """lambda; set after construction."""
    _scale = 0.0

    def get_batch_samples(self, *arguments: Any, **options: Any) -> Any:
        """The batches of one optimizer step; counts their tokens."""
        batches, n_items = cast(Any, super()).get_batch_samples(*arguments, **options)
        if batches:
            tokens = sum(_chosen_tokens(batch) for batch in batches).to(self.accelerator.device)
            total = self.accelerator.reduce(tokens.float(), reduction="sum").item()
            self._scale = self.sft_weight * len(batches) * self.accelerator.num_processes / max(total, 1.0)
        return batches, n_items

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """The loss of one pass."""
        if model.training:
            self.loss_weights = [self.loss_weights[0], self._scale * float(_chosen_tokens(inputs))]
        return cast(Any, super()).compute_loss(model, inputs, *arguments, **options)


def _chosen_tokens(batch: Any) -> Any:
    """Tokens of the chosen responses: the first half of the rows."""
    mask = batch["completion_mask"][:, 1:]
    return mask[: len(mask) // 2].sum()
