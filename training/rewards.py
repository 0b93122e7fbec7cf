"""Rewards of RL: 0.5 for the asked format, 1.0 for the right answer, by the scorers that evaluate.

A response that cannot be judged (no gold answer, a judge that failed) has no reward: None, which GRPO leaves out of its
group. It is never 0.

Alone::

    reward = TaskReward(task)
    reward.score("train_00012/think_answer", "<think>...</think><answer>teal</answer>").total   # 1.5

With TRL, whose data set then has a column ``sample_id`` (`TaskReward.rows`)::

    GRPOTrainer(reward_funcs=[reward], ...)            # one reward; format and accuracy are logged beside it
    GRPOTrainer(reward_funcs=reward.parts(), ...)      # two; give reward_weights=[0.5, 1.0]

Source: SPECS (arXiv 2510.25801), final RL stage. Where it is silent: an answer counts wherever it is found, in the asked
format or not, so that the two parts teach different things.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.in_order import in_order
from specs_eval.runner import score_response, scoring_threads
from specs_eval.task import Sample, Task
from specs_eval.tasks.formats.styles import THINK_ANSWER, AnswerFormat
from specs_eval.tasks.formats.task import FormatTask

ID_COLUMN = "sample_id"
"""Column of a training data set that names the sample behind each row."""

Completion = str | Sequence[Any]
"""Text, or messages as TRL gives them in conversational form."""

LogMetric = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """What each part is worth."""

    format: float = 0.5
    accuracy: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("format", self.format), ("accuracy", self.accuracy)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"the weight of the {name} reward must be a finite number >= 0, not {value}")


@dataclass(frozen=True, slots=True)
class Reward:
    """What one response earned."""

    total: float | None
    """Weighted sum; None: the response could not be judged."""
    format: float | None = None
    """1 when the strict parser of the asked format accepts the response, else 0."""
    accuracy: float | None = None
    """Share in [0, 1] by the task's own scorer."""
    reason: str | None = None
    """Why there is no total, or which rule of the format was broken."""


class TaskReward:
    """The reward of responses to a task's samples, under one or several answer formats."""

    def __init__(
        self, task: Task, styles: Sequence[AnswerFormat] = (THINK_ANSWER,), weights: RewardWeights | None = None
    ) -> None:
        """Take a task, or a format-following view of one.

        Args:
            task: what is asked. A `FormatTask` is taken as it is; any other task is asked under `styles`.
            styles: the answer formats; not used with a `FormatTask`.
            weights: default: 0.5 and 1.0.
        """
        self.task = task if isinstance(task, FormatTask) else FormatTask(f"{task.name}_formats", task, styles)
        self.weights = weights or RewardWeights()
        self.__name__ = "reward"
        self._samples: dict[str, Sample] = {sample.sample_id: sample for sample in self.task.samples()}
        self._last: tuple[tuple[list[Completion], list[str]], list[Reward]] | None = None

    def rows(self) -> Iterator[tuple[str, Sample]]:
        """(sample id, sample) of everything that can be asked: what a training data set is made of."""
        return iter(self._samples.items())

    def score(self, sample_id: str, response: str) -> Reward:
        """The reward of one response; never raises for what a model wrote.

        Raises:
            ConfigError: the task has no such sample.
            StoreError: a judge's replies cannot be kept.
        """
        found = score_response(self.task, self._sample(sample_id), response)
        if found.score is None:
            return Reward(None, reason=found.reason or found.rule)
        formatted, accuracy = found.metrics["format"], found.metrics["accuracy"]
        total = self.weights.format * formatted + self.weights.accuracy * accuracy
        return Reward(total, formatted, accuracy, found.reason)

    def score_all(self, sample_ids: Sequence[str], completions: Sequence[Completion]) -> list[Reward]:
        """The rewards of a batch, in its order; a judge is asked about several at a time.

        Raises:
            ConfigError: a sample is unknown, or there are not as many ids as completions.
        """
        if len(sample_ids) != len(completions):
            raise ConfigError(f"{len(completions)} completions but {len(sample_ids)} values of {ID_COLUMN!r}")
        batch = [[pair] for pair in zip(sample_ids, map(completion_text, completions), strict=True)]
        return [one[0] for one in in_order(batch, lambda pair: self.score(*pair), scoring_threads(self.task))]

    def __call__(
        self,
        completions: Sequence[Completion],
        sample_id: Sequence[str] | None = None,
        log_metric: LogMetric | None = None,
        **_columns: object,
    ) -> list[float | None]:
        """TRL's signature: one reward a completion, None where it could not be judged.

        Args:
            completions: texts or conversations.
            sample_id: the column of that name.
            log_metric: given by TRL; gets the shares of format, accuracy and unjudged responses.

        Raises:
            ConfigError: the data set has no such column, or it names an unknown sample.
        """
        rewards = self._batch(completions, sample_id)
        if log_metric is not None:
            _log(rewards, log_metric)
        return [reward.total for reward in rewards]

    def parts(self) -> list[Callable[..., list[float | None]]]:
        """The format and the accuracy reward as two functions for TRL, unweighted; responses are scored once.

        Both are None where the response could not be judged: one None alone would count as 0 in TRL's sum. TRL logs their
        means; the share of unjudged responses is logged beside them.
        """

        def format_reward(
            completions: Sequence[Completion], log_metric: LogMetric | None = None, **columns: Any
        ) -> list[float | None]:
            rewards = self._batch(completions, columns.get(ID_COLUMN))
            if log_metric is not None:
                _log_unjudged(rewards, log_metric)
            return [reward.format for reward in rewards]

        def accuracy_reward(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
            return [reward.accuracy for reward in self._batch(completions, columns.get(ID_COLUMN))]

        return [format_reward, accuracy_reward]

    def _batch(self, completions: Sequence[Completion], sample_ids: Sequence[str] | None) -> list[Reward]:
        if sample_ids is None:
            raise ConfigError(f"the training data has no column {ID_COLUMN!r}, which says what each row asks")
        batch = (list(completions), list(sample_ids))
        # TRL hands the same batch to each part in turn. Comparing the same objects costs nothing.
        if self._last is None or self._last[0] != batch:
            self._last = (batch, self.score_all(batch[1], batch[0]))
        return self._last[1]

    def _sample(self, sample_id: str) -> Sample:
        try:
            return self._samples[sample_id]
        except KeyError:
            raise ConfigError(
                f"{self.task.name} has no sample {sample_id!r}; the reward must be of the task that made the data"
            ) from None


def completion_text(completion: object) -> str:
    """The text of a completion: a string, or the last message of a conversation; anything else is empty."""
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence) or not completion:
        return ""
    content = completion[-1].get("content") if isinstance(completion[-1], dict) else None
    if isinstance(content, str):
        return content
    parts: Iterable[object] = content if isinstance(content, (list, tuple)) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _log(rewards: Sequence[Reward], log_metric: LogMetric) -> None:
    for name in ("format", "accuracy"):
        known = [value for reward in rewards if (value := getattr(reward, name)) is not None]
        if known:
            log_metric(f"reward/{name}", sum(known) / len(known))
    _log_unjudged(rewards, log_metric)


def _log_unjudged(rewards: Sequence[Reward], log_metric: LogMetric) -> None:
    if rewards:
        log_metric("reward/unjudged", sum(reward.total is None for reward in rewards) / len(rewards))
