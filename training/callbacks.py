"""What a stage hears of its trainer: progress for people, and each checkpoint as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from specs_eval.errors import TrainingError
from specs_eval.training.reporting import Report, nothing, training_values

Saved = Callable[[int], bool]
"""(step) -> whether to stop; called in every process when the checkpoint of the step is whole."""
Talk = Callable[[str], None]

_SHOWN = {
    "loss": "loss",
    "rewards/margins": "margin",
    "reward": "reward",
    "rewards/format_reward/mean": "format",
    "rewards/accuracy_reward/mean": "accuracy",
    "entropy": "entropy",
}
_PROBLEMS = {"completions/clipped_ratio": "overlong", "reward/unjudged": "unjudged"}
"""Shares that are shown when they are not 0."""
_UNJUDGED_GENERATIONS = 3
"""So many in a row without a reward end training: it would cost as much as ever and teach nothing."""
_SECONDS_BETWEEN_LINES = 10.0


def stage_callbacks(name: str, saved: Saved, talk: Talk, report: Report = nothing) -> list[Any]:
    """The callbacks of a series.

    Args:
        name: of the series.
        saved: asked after each save.
        talk: gets a line now and then.
        report: gets the numbers of every step.
    """
    from transformers import TrainerCallback

    class StageCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        """Made here, so that importing this module does not import transformers."""

        def __init__(self) -> None:
            self._last = 0.0
            self._unjudged = 0

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            """Show the first and the last step, and one every few seconds."""
            self._unjudged = unjudged_so_far(self._unjudged, logs or {})
            if self._unjudged >= _UNJUDGED_GENERATIONS:
                raise TrainingError(
                    f"{name}, step {state.global_step}: no response of the last {_UNJUDGED_GENERATIONS} generations could be "
                    "judged, so nothing is learned. Is the judge up (questions.judge)? The same command goes on from the "
                    "last checkpoint"
                )
            now, last = time.monotonic(), state.global_step >= state.max_steps
            if not state.is_world_process_zero or "loss" not in (logs or {}):
                return
            report(state.global_step, training_values(logs))
            if last or state.global_step == 1 or now - self._last > _SECONDS_BETWEEN_LINES:
                self._last = now
                talk(progress_line(name, state.global_step, state.max_steps, logs))

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
            """Evaluate, and stop where the gates say so."""
            if saved(state.global_step):
                control.should_training_stop = True
            return control

    return [StageCallback()]


def unjudged_so_far(before: int, logs: dict[str, Any]) -> int:
    """Generations in a row without any reward, this log entry included."""
    share = logs.get("reward/unjudged")
    if share is None:
        return before
    return before + 1 if share == 1.0 else 0


def progress_line(name: str, step: int, steps: int, logs: dict[str, Any]) -> str:
    """One line on where training is."""
    values = [f"{word} {logs[key]:.3f}" for key, word in _SHOWN.items() if isinstance(logs.get(key), float | int)]
    values += [f"{word} {logs[key]:.3f}" for key, word in _PROBLEMS.items() if logs.get(key)]
    return f"{name} step {step}/{steps}: {', '.join(values)}"


def quiet() -> None:
    """No progress bars and reports of transformers and datasets: what matters is said by us."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
