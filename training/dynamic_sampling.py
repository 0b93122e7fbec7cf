"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): prompts whose rollouts all earned the same are replaced.

Such a group has no advantages, so it takes part in a step without teaching anything. TRL counts these groups and keeps
them. Here they are replaced by groups of fresh prompts that do differ, up to a number of rounds; every process draws as
many as it has slots, so that all of them generate together. DAPO filters by accuracy; we do by the whole reward.

Which prompts are fresh follows from seed, step and round alone: a continued training draws the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

from specs_eval.errors import TrainingError
from specs_eval.training.ranks import any_process

_PROMPT = ("prompt_ids", "prompt_mask")
_COMPLETION = (
    "completion_ids",
    "completion_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)
_BOTH = ("mm_token_type_ids", "token_type_ids")
_PER_SAMPLE = ("advantages", "num_images", "pixel_values", "image_grid_thw", "image_position_ids")
_TOTALS = ("num_items_in_batch",)

Batch = dict[str, Any]


class DynamicSampling:
    """Mixed into TRL's GRPO trainer."""

    model: Any
    args: Any
    state: Any
    accelerator: Any
    train_dataset: Any
    num_generations: int
    _metrics: Any
    _tokenizer: Any
    dynamic_rounds = 0
    """Rounds of replacing; set after construction."""

    def _generate_and_score_completions(self, inputs: Any) -> Batch:
        batch: Batch = cast(Any, super())._generate_and_score_completions(inputs)
        if not self.model.training or not self.dynamic_rounds:
            return batch
        n_groups = len(inputs) // self.num_generations
        for number in range(self.dynamic_rounds):
            idle = idle_groups(batch["advantages"], self.num_generations)
            if not any_process(bool(idle), self.accelerator):
                break
            fresh = [row for row in self._fresh_rows(n_groups, number) for _ in range(self.num_generations)]
            candidates = cast(Any, super())._generate_and_score_completions(fresh)
            batch = replace_groups(batch, candidates, self.num_generations, self._tokenizer.pad_token_id)
        idle = idle_groups(batch["advantages"], self.num_generations)
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        self._metrics["train"]["idle_groups_left"].append(len(idle) / n_groups)
        return batch

    def _fresh_rows(self, n: int, number: int) -> list[Any]:
        """This process's share of the prompts of a round."""
        everywhere = n * self.accelerator.num_processes
        draw = random.Random(f"dynamic sampling {self.args.seed} {self.state.global_step} {number}")
        drawn = [draw.randrange(len(self.train_dataset)) for _ in range(everywhere)]
        first = self.accelerator.process_index * n
        return [self.train_dataset[index] for index in drawn[first : first + n]]


def idle_groups(advantages: Any, size: int) -> list[int]:
    """Numbers of the groups without any advantage."""
    grouped = advantages.view(-1, size)
    return [number for number, row in enumerate(grouped) if not bool(row.any())]


def replace_groups(batch: Batch, candidates: Batch, size: int, pad: int) -> Batch:
    """The batch with its idle groups replaced by candidates that are not, as many as there are.

    Args:
        batch: of TRL's GRPO trainer, `size` rows a group.
        candidates: of the same form.
        size: rollouts a prompt.
        pad: id of the padding token.

    Raises:
        TrainingError: the model has inputs that we do not know how to cut apart.
    """
    idle = idle_groups(batch["advantages"], size)
    useless = set(idle_groups(candidates["advantages"], size))
    useful = [number for number in range(len(candidates["advantages"]) // size) if number not in useless]
    taken = dict(zip(idle, useful, strict=False))
    if not taken:
        return batch
    from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

    mine, theirs = _aligned(split_pixel_values_by_grid(batch), split_pixel_values_by_grid(candidates), pad)
    for group, other in taken.items():
        for row in range(size):
            for name, values in mine.items():
                if name not in _TOTALS and values is not None:
                    values[group * size + row] = theirs[name][other * size + row]
    merged: Batch = unsplit_pixel_values_by_grid(mine)
    return merged


def _aligned(batch: Mapping[str, Any], other: Mapping[str, Any], pad: int) -> tuple[Batch, Batch]:
    """Copies of both, padded to common lengths."""
    known = (*_PROMPT, *_COMPLETION, *_BOTH, *_PER_SAMPLE, *_TOTALS)
    strange = sorted(set(batch) - set(known)) + sorted(set(batch) ^ set(other))
    if strange:
        raise TrainingError(
            f"dynamic sampling does not know how to move {', '.join(strange)} of this model's inputs; set dynamic_sampling: 0"
        )
    prompt = max(one["prompt_ids"].shape[1] for one in (batch, other))
    length = max(one["completion_ids"].shape[1] for one in (batch, other))

    def widened(one: Mapping[str, Any]) -> Batch:
        missing = prompt - one["prompt_ids"].shape[1], length - one["completion_ids"].shape[1]
        return {name: _padded(name, values, missing, pad) for name, values in one.items()}

    return widened(batch), widened(other)


def _padded(name: str, values: Any, missing: tuple[int, int], pad: int) -> Any:
    """Values with more columns: before the prompt, after the completion."""
    import torch

    before, after = missing
    fill = pad if name in ("prompt_ids", "completion_ids") else 0
    if values is None or name in _TOTALS:
        return values
    if name in _PROMPT:
        return torch.nn.functional.pad(values, (before, 0), value=fill)
    if name in _BOTH:
        return torch.nn.functional.pad(values, (before, after), value=fill)
    if name in _COMPLETION and values.ndim > 1 and (values.shape[1] > 1 or name in _COMPLETION[:2]):
        return torch.nn.functional.pad(values, (0, after), value=fill)
    return list(values) if isinstance(values, list | tuple) else values.clone()
