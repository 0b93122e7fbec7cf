"""Numbers of an evaluation to the trackers that a training logs to: TensorBoard, Weights & Biases, trackio.

Nothing is imported and nothing leaves this machine unless a tracker is asked for. Checkpoints may come out of order
(the newest first), so each number carries its checkpoint's step as a value of its own where a tracker wants rising steps.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from specs_eval.errors import ConfigError

STEP = "checkpoint_step"


class Tracker(Protocol):
    """Takes numbers."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the checkpoint at a step; names like ``mmmu/score``."""

    def close(self) -> None:
        """Write out everything."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Where numbers go."""

    project: str = "specs-eval"
    run: str = "evaluation"
    """Name of the run among the trainings of the project."""
    folder: Path = Path("tensorboard")
    """For TensorBoard."""
    kind: str = "evaluation"
    """What W&B calls the job type."""
    run_id: str = ""
    """Of W&B: a run of this id is gone on with; empty: a new run."""


class TensorBoard:
    """Event files."""

    def __init__(self, settings: TrackerSettings) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer: Any = SummaryWriter(str(settings.folder / settings.run))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar each; on disk when this returns."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WandB:
    """Weights & Biases; offline with its own ``WANDB_MODE=offline``."""

    def __init__(self, settings: TrackerSettings) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        again: dict[str, Any] = {"id": settings.run_id, "resume": "allow"} if settings.run_id else {}
        try:
            self._run: Any = wandb.init(project=settings.project, name=settings.run, job_type=settings.kind, **again)
        except wandb.Error as error:
            raise ConfigError(f"wandb refuses: {str(error).rstrip('.')}; log in, or set WANDB_MODE=offline") from error
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row, plotted over the checkpoint's step."""
        self._run.log({STEP: step, **values})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class Trackio:
    """trackio, which keeps its runs on this machine."""

    def __init__(self, settings: TrackerSettings) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio") from error
        self._trackio: Any = trackio
        trackio.init(project=settings.project, name=settings.run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row at the checkpoint's step."""
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self._trackio.finish()


TRACKERS: dict[str, Callable[[TrackerSettings], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


class Trackers:
    """All trackers that were asked for, as one."""

    def __init__(self, names: tuple[str, ...], settings: TrackerSettings) -> None:
        """Start them.

        Raises:
            ConfigError: a name that is none, or a package that is not installed.
        """
        for name in names:
            if name not in TRACKERS:
                near = difflib.get_close_matches(name, TRACKERS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"unknown tracker {name!r}{hint} Known: {', '.join(TRACKERS)}")
        self._trackers = [TRACKERS[name](settings) for name in dict.fromkeys(names)]

    def log(self, step: int | None, values: Mapping[str, float | None]) -> None:
        """Numbers of a checkpoint; what is undefined is left out, never logged as 0."""
        known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        for tracker in self._trackers:
            tracker.log(-1 if step is None else step, known)

    def close(self) -> None:
        """Close all."""
        for tracker in self._trackers:
            tracker.close()


def _missing(package: str) -> ConfigError:
    return ConfigError(f"logging to {package} needs it installed: pip install {package}")
