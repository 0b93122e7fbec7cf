"""From a stage's settings to the arguments of a TRL configuration class: what all stages have in common."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.training.config import ColdStartSettings, Method, Recipe, RLSettings, TrainedStage
from specs_eval.training.models import on_cpu
from specs_eval.training.ranks import TIMEOUT, n_processes


@dataclass(frozen=True, slots=True)
class Series:
    """A series of checkpoints that one trainer makes."""

    name: str
    """Folder, and name in the store: ``zero``, ``sft``, ``dpo``, ``dpo+sft``, ``rl``."""
    stage: TrainedStage
    method: Method | None = None
    """Of a cold start."""


def series_of(recipe: Recipe, stage: TrainedStage) -> list[Series]:
    """The series that a stage trains, in order."""
    if stage == "cold_start":
        cold = recipe.stages.cold_start
        assert cold is not None
        return [Series(method, stage, method) for method in cold.methods]
    return [Series(stage, stage)]


def sequences_per_step(settings: ColdStartSettings | RLSettings) -> int:
    """Sequences of one optimizer step over all devices; a pair counts as one."""
    return settings.batch * (settings.rollouts if isinstance(settings, RLSettings) else 1)


def accumulation(stage: str, settings: ColdStartSettings | RLSettings, devices: int) -> int:
    """Forward passes of a device in one optimizer step.

    Raises:
        ConfigError: the batch does not divide evenly; the message says which numbers do.
    """
    at_once, total = settings.per_device * devices, sequences_per_step(settings)
    if total % at_once:
        unit = "rollouts" if isinstance(settings, RLSettings) else "pairs"
        fits = [n for n in range(1, total // devices + 1) if total % (n * devices) == 0]
        hint = f"per_device may be {', '.join(map(str, fits[-8:]))}" if fits else f"make it a multiple of {devices}"
        raise ConfigError(
            f"stages.{stage}: {total} {unit} a step do not divide over {devices} devices with {settings.per_device} each; "
            f"{hint}"
        )
    return total // at_once


def save_every(recipe: Recipe, stage: TrainedStage) -> int:
    """Steps between checkpoints of a stage."""
    settings = recipe.trained(stage)
    return settings.save_every or recipe.evaluates_every(stage) or settings.steps


def evaluated_steps(recipe: Recipe, stage: TrainedStage) -> list[int]:
    """Steps of a stage at which a checkpoint is evaluated; the last one always is, where there is an evaluation."""
    if recipe.evaluation is None:
        return []
    last = recipe.trained(stage).steps
    every = recipe.evaluates_every(stage) or last
    return sorted({*range(every, last + 1, every), last})


def common_arguments(recipe: Recipe, series: Series, folder: Path) -> dict[str, Any]:
    """Arguments of every TRL configuration, by their names there."""
    settings, cpu = recipe.trained(series.stage), on_cpu(recipe.model)
    return {
        "output_dir": str(folder),
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.per_device,
        "gradient_accumulation_steps": accumulation(series.stage, settings, n_processes()),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": recipe.seed,
        "logging_steps": 1,
        # A loss that is not a number must be seen, not averaged away.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": save_every(recipe, series.stage),
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": cpu,
        "bf16": not cpu,
        "gradient_checkpointing": recipe.model.gradient_checkpointing and not cpu,
        "ddp_timeout": int(TIMEOUT.total_seconds()),
    }


def configuration(kind: type[Any], ours: Mapping[str, Any], more: Mapping[str, Any], stage: str) -> Any:
    """A TRL configuration object from our arguments and the recipe's further ones.

    Raises:
        ConfigError: a further argument is unknown to TRL, or is ours to set, or TRL refuses a value.
    """
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    for name in more:
        if name in ours and name != "logging_steps":
            raise ConfigError(f"stages.{stage}.more.{name}: the recipe sets this by keys of its own")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"stages.{stage}.more.{name}: {kind.__name__} of TRL has no such argument"
                + (f"; did you mean {near[0]}?" if near else "")
            )
    try:
        return kind(**{**ours, **more})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"stages.{stage}: {kind.__name__} of TRL refuses: {error}") from error
