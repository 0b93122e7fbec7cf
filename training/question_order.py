"""The order of questions in RL is the same whether or not training was interrupted.

TRL shuffles the questions anew in each epoch by a generator that lives in memory. Its trainer, started again, would go
through a later epoch in the order of the first one.
"""

from __future__ import annotations

from typing import Any, cast


class QuestionOrder:
    """Mixed into TRL's GRPO trainer."""

    _sampler: Any = None

    def _get_train_sampler(self, *arguments: Any, **options: Any) -> Any:
        self._sampler = cast(Any, super())._get_train_sampler(*arguments, **options)
        return self._sampler

    def _init_training_state(self, *arguments: Any, **options: Any) -> tuple[int, int]:
        """Where training starts: (epochs done, passes done in the next one); shuffles as often as it was done before."""
        import torch

        epochs, passes = cast(Any, super())._init_training_state(*arguments, **options)
        if self._sampler.shuffle:
            for _ in range(epochs):
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        return epochs, passes
