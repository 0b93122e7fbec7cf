"""From examples to tensors: images with label-keeping augmentation, prompts as token ids, completion-only labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2_5_VLProcessor

from specs_eval.chat import images_of
from specs_eval.task import Sample
from specs_eval.tasks.easyvqa.task import EasyVQA
from specs_eval.training.tiny.corpus import Example

IGNORED = -100
"""Label of positions that carry no loss (the convention of transformers)."""


class ImageBank:
    """All train images in memory, with the box that each one's shape fills."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        parts = {str(sample.group): images_of(sample.chat)[0] for sample in samples}
        self.index = {group: row for row, group in enumerate(parts)}
        arrays = np.stack([np.asarray(part.load(), dtype=np.uint8) for part in parts.values()])
        self.pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
        """uint8, shape (n_images, 3, height, width)."""
        self.slack = [_slack(array) for array in arrays]

    def take(self, groups: Sequence[str], rng: random.Random | None = None, rotate: bool = False) -> torch.Tensor:
        """Images of groups, uint8, shape (n, 3, height, width).

        Args:
            groups: image groups (`Sample.group`).
            rng: moves each shape within its frame and mirrors it at random; None: images as they are.
            rotate: also flip upside down and transpose (labels hold, but such triangles are not in the data).
        """
        rows = [self.index[group] for group in groups]
        if rng is None:
            return self.pixels[rows]
        return torch.stack([_moved(self.pixels[row], self.slack[row], rng, rotate) for row in rows])


@dataclass(frozen=True, slots=True)
class Slack:
    """How many pixels a shape can move in each direction before it leaves the frame."""

    up: int
    down: int
    left: int
    right: int


def _slack(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Slack:
    packed = image.astype(np.uint32) @ np.array([1, 256, 65536], dtype=np.uint32)
    colors, counts = np.unique(packed, return_counts=True)
    shape = packed != colors[counts.argmax()]
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    if not len(rows):
        return Slack(0, 0, 0, 0)
    height, width = shape.shape
    return Slack(int(rows[0]), int(height - 1 - rows[-1]), int(columns[0]), int(width - 1 - columns[-1]))


def _moved(image: torch.Tensor, slack: Slack, rng: random.Random, rotate: bool) -> torch.Tensor:
    # The background is one flat color, so rolling by less than the slack is exactly a translation.
    shift = (rng.randint(-slack.up, slack.down), rng.randint(-slack.left, slack.right))
    moved = torch.roll(image, shift, dims=(1, 2))
    flips = [2] if rng.random() < 0.5 else []
    if rotate and rng.random() < 0.5:
        flips.append(1)
    if flips:
        moved = moved.flip(flips)
    return moved.transpose(1, 2) if rotate and rng.random() < 0.5 else moved


class Collator:
    """Makes model inputs: left padding, one image at the start of each prompt, loss on the response only."""

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self.processor = processor
        self._prompts: dict[str, list[int]] = {}
        self._responses: dict[str, list[int]] = {}

    def pixels(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """``pixel_values`` and ``image_grid_thw`` of uint8 images, shape (n, 3, height, width)."""
        encoded = self.processor.image_processor(list(images), return_tensors="pt")
        return {"pixel_values": encoded["pixel_values"], "image_grid_thw": encoded["image_grid_thw"]}

    def prompt(self, text: str, n_image_tokens: int) -> list[int]:
        """Token ids of a user turn with one image before `text`, up to the start of the assistant's turn."""
        if text not in self._prompts:
            content = [{"type": "image"}, {"type": "text", "text": text}]
            chat = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            image = self.processor.image_token
            self._prompts[text] = self.processor.tokenizer(chat.replace(image, image * n_image_tokens))["input_ids"]
        return self._prompts[text]

    def response(self, text: str) -> list[int]:
        """Token ids of an assistant's turn, end token included."""
        if text not in self._responses:
            ids = self.processor.tokenizer(text)["input_ids"]
            self._responses[text] = [*ids, self.processor.tokenizer.eos_token_id]
        return self._responses[text]

    def collate(self, examples: Sequence[Example], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Inputs of one training step; sequences end together, so that the last positions hold all labels."""
        inputs = self.pixels(images)
        merged = self.processor.image_processor.merge_size**2
        n_image_tokens = int(inputs["image_grid_thw"][0].prod()) // merged
        prompts = [self.prompt(example.prompt, n_image_tokens) for example in examples]
        responses = [self.response(example.response) for example in examples]
        length = max(len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True))
        ids = torch.full((len(examples), length), int(self.processor.tokenizer.pad_token_id))
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            ids[row, length - len(prompt) - len(response) :] = torch.tensor(prompt + response)
            labels[row, length - len(response) :] = torch.tensor(response)
            mask[row, length - len(prompt) - len(response) :] = 1
        kinds = (ids == self.processor.image_token_id).int()
        return {**inputs, "input_ids": ids, "labels": labels, "attention_mask": mask, "mm_token_type_ids": kinds}


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the response tokens; a scalar."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    longest = int((batch["labels"] != IGNORED).sum(dim=1).max())
    logits = model(**inputs, logits_to_keep=longest + 1).logits[:, :-1]
    labels = batch["labels"][:, -longest:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def train_samples() -> list[Sample]:
    """The easy-VQA train split: all that the tiny VLM ever learns from."""
    return list(EasyVQA("train").samples())
