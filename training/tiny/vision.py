"""Warm-up of the vision tower: it learns to tell shapes and colors before any language is trained on top."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from specs_eval.tasks.easyvqa.task import COLORS, SHAPES
from specs_eval.training.tiny.batches import IGNORED, Collator, ImageBank
from specs_eval.training.tiny.corpus import ImageFacts
from specs_eval.training.tiny.loop import Schedule, train

logger = logging.getLogger(__name__)

BATCH_IMAGES = 64


class VisionProbe(torch.nn.Module):
    """The vision tower with two linear heads on its mean token; the heads are thrown away afterwards."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        super().__init__()
        width = model.config.vision_config.out_hidden_size
        self.tower = model.model.visual
        self.shape = torch.nn.Linear(width, len(SHAPES))
        self.color = torch.nn.Linear(width, len(COLORS))

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of shape and color, shapes (n_images, 3) and (n_images, 8)."""
        tokens = self.tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        pooled = tokens.view(len(inputs["image_grid_thw"]), -1, tokens.shape[-1]).mean(dim=1)
        return self.shape(pooled), self.color(pooled)


def warm_up_vision(
    model: Qwen2_5_VLForConditionalGeneration,
    collator: Collator,
    bank: ImageBank,
    facts: Mapping[str, ImageFacts],
    schedule: Schedule,
    seed: int,
) -> None:
    """Train the vision tower (in place) as a classifier of what the questions tell about each train image."""
    rng = random.Random(f"vision {seed}")
    groups = sorted(bank.index)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = VisionProbe(model)
    hits: list[float] = []

    def loss() -> torch.Tensor:
        drawn = rng.choices(groups, k=BATCH_IMAGES)
        shape_logits, color_logits = probe(collator.pixels(bank.take(drawn, rng, rotate=True)))
        shapes = _labels([facts[group].shape for group in drawn], SHAPES)
        colors = _labels([facts[group].color for group in drawn], COLORS)
        known = shapes != IGNORED
        hits.append(float((shape_logits.argmax(dim=-1) == shapes)[known].float().mean()))
        return torch.nn.functional.cross_entropy(
            shape_logits, shapes, ignore_index=IGNORED
        ) + torch.nn.functional.cross_entropy(color_logits, colors, ignore_index=IGNORED)

    for step, value in train(probe, schedule, loss):
        if step % 100 == 0 or step == schedule.steps:
            recent = hits[-100:]
            share = sum(recent) / len(recent)
            logger.info("vision step %d/%d: loss %.3f, shape right %.3f", step, schedule.steps, value, share)


def _labels(words: list[str | None], classes: tuple[str, ...]) -> torch.Tensor:
    return torch.tensor([IGNORED if word is None else classes.index(word) for word in words])
