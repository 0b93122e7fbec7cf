"""What a stage hears of its trainer: progress for people, and each checkpoint as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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
    "completions/clipped_ratio": "overlong",
}
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

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            """Show the first and the last step, and one every few seconds."""
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


def progress_line(name: str, step: int, steps: int, logs: dict[str, Any]) -> str:
    """One line on where training is."""
    values = [f"{word} {logs[key]:.3f}" for key, word in _SHOWN.items() if isinstance(logs.get(key), float | int)]
    return f"{name} step {step}/{steps}: {', '.join(values)}"


def quiet() -> None:
    """No progress bars and reports of transformers and datasets: what matters is said by us."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
