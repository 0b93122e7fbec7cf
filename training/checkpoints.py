"""Checkpoint folders of a series in training: which are whole, which may go, what is handed on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from specs_eval.checkpoints import step_of
from specs_eval.errors import CheckpointError

STATE_FILE = "trainer_state.json"
"""Written last into a checkpoint; its log is what the report draws."""
_RESUME_ONLY = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
_RESUME_FOLDERS = ("global_step*", "optimizer_*", "pytorch_model_fsdp_*")
"""What only a continued training reads, by the trainer, DeepSpeed and FSDP: twice the size of the weights."""


def saved_steps(series: Path) -> list[int]:
    """Steps of the whole checkpoints of a series, ascending."""
    if not series.is_dir():
        return []
    steps = (step_of(child) for child in series.iterdir() if (child / STATE_FILE).is_file())
    return sorted(step for step in steps if step is not None)


def checkpoint_folder(series: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return series / f"checkpoint-{step}"


def partial_folder(series: Path) -> Path:
    """Where a checkpoint is written before it gets its name."""
    return series / ".partial"


def can_continue(folder: Path) -> bool:
    """Whether a checkpoint still has what training needs to go on from it."""
    return (folder / STATE_FILE).is_file() and any(
        next(folder.glob(pattern), None) is not None for pattern in ("optimizer*", "global_step*")
    )


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What the trainer logged up to a checkpoint: one entry a logged step.

    Raises:
        CheckpointError: its state file cannot be read.
    """
    path = folder / STATE_FILE
    try:
        history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    return [entry for entry in history if isinstance(entry, dict)]


def prune(series: Path, keep: Collection[int] | None) -> None:
    """Free the disk: what is needed to continue stays in the last checkpoint only.

    Args:
        series: folder of the series.
        keep: steps whose weights stay beside the last one's; None: all.
    """
    steps = saved_steps(series)
    for step in steps[:-1]:
        folder = checkpoint_folder(series, step)
        if keep is not None and step not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        for pattern in _RESUME_ONLY:
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
        for pattern in _RESUME_FOLDERS:
            for path in folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
