"""One plain training loop: AdamW, warm-up and cosine, clipped gradients; shared by all stages of the tiny VLM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate over a run."""

    steps: int
    learning_rate: float
    """The peak, reached after `warmup` steps."""
    warmup: int = 50
    floor: float = 0.02
    """Share of the peak that the cosine ends at; 1 keeps the rate constant after the warm-up."""

    def at(self, step: int) -> float:
        """Learning rate of a step, 0 <= step < steps."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model: torch.nn.Module, schedule: Schedule, loss: Callable[[], torch.Tensor], weight_decay: float = 0.01
) -> Iterator[tuple[int, float]]:
    """Minimize, yielding (steps done, loss of the step in nats) after each step; the caller may stop at any time.

    Args:
        model: all its parameters that require gradients are trained.
        schedule: steps and learning rate.
        loss: draws a batch and returns its loss; called once a step.
        weight_decay: for matrices only.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))
    model.train()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(step)
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        yield step + 1, float(value.detach())
    model.eval()
