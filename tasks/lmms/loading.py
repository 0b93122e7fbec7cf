"""An lmms-eval task object by name, or a clear reason why there is none."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError, SpecsEvalError, TaskDataError
from specs_eval.tasks.lmms.environment import downloads_allowed, importing_lmms_eval, running_lmms_eval
from specs_eval.tasks.lmms.find import find_task

GENERATE = "generate_until"


def load_task(name: str, include_paths: Sequence[Path | str] = ()) -> Any:
    """The task object, with its data.

    Args:
        name: lmms-eval's name of the task.
        include_paths: folders with further task YAMLs; they win over lmms-eval's own.

    Raises:
        ConfigError: no such task, not a task of single-turn generation from text and images, or its code does not
            import.
        TaskDataError: its data cannot be loaded.
    """
    path = find_task(name, include_paths)
    with importing_lmms_eval():
        # Aggregations are registered by this import; without it "mean" is unknown to a task.
        import lmms_eval.api.metrics
        import lmms_eval.tasks  # noqa: F401
    config = _read_config(name, path)
    _check_kind(name, config)
    allow_download = downloads_allowed()
    with running_lmms_eval(allow_download=allow_download):
        try:
            return _construct(config)
        except SpecsEvalError:
            raise
        except Exception as error:
            raise _explained(name, config, error, allow_download=allow_download) from error


def _read_config(name: str, path: Path) -> dict[str, Any]:
    from lmms_eval.utils import load_yaml_config

    with running_lmms_eval():
        try:
            config = load_yaml_config(str(path), mode="full")
        except Exception as error:
            raise ConfigError(f"lmms-eval task {name!r} cannot be used here: {_root_text(error)}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"lmms-eval task {name!r}: {path.name} holds no settings")
    return config


def _check_kind(name: str, config: Mapping[str, Any]) -> None:
    kind = config.get("output_type", GENERATE)
    if kind != GENERATE:
        raise ConfigError(f"lmms-eval task {name!r} is of type {kind}; only {GENERATE} tasks can be run")
    data = config.get("dataset_kwargs") or {}
    if data.get("video") or "From_YouTube" in data:
        raise ConfigError(f"lmms-eval task {name!r} shows videos; only text and images are supported")


def _construct(config: dict[str, Any]) -> Any:
    from lmms_eval.api.task import ConfigurableMessagesTask

    kind = config.get("class", ConfigurableMessagesTask)
    if kind is ConfigurableMessagesTask:
        return kind(config=config)
    task = kind(config=config) if "config" in inspect.signature(kind.__init__).parameters else kind()
    task.config.task = config["task"]
    _check_kind(config["task"], {"output_type": task.config.output_type})
    return task


def _explained(name: str, config: Mapping[str, Any], error: Exception, *, allow_download: bool) -> SpecsEvalError:
    cause = _root_text(error)
    loading_data = any(frame.name == "download" for frame in traceback.extract_tb(error.__traceback__))
    if not loading_data:
        return ConfigError(f"lmms-eval task {name!r} cannot be used here: {cause}")
    place = config.get("dataset_path")
    advice = "check dataset_path and dataset_kwargs of the task"
    if isinstance(place, str) and "/" in place and not Path(place).exists():
        advice = (
            "try again later, or copy the data over from a machine that has it"
            if allow_download
            else "only data that is on this machine is used; to fetch it, run the same command once with HF_HUB_OFFLINE=0"
        )
    return TaskDataError(f"lmms-eval task {name!r}: its data {place!r} cannot be loaded: {cause}; {advice}")


def _root_text(error: BaseException) -> str:
    """The exception that started it, as one line; retry wrappers and "failed to import" wrappers are looked through."""
    while True:
        last = getattr(error, "last_attempt", None)
        inner = last.exception() if last is not None else error.__cause__
        if inner is None:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        error = inner
