"""Bringing vLLM in: quietly, without calls home, and with a clear word when it is missing or of the wrong version."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from specs_eval.backends.hf.foreign_errors import first_line
from specs_eval.backends.vllm.settings import Settings, check_names
from specs_eval.errors import ConfigError

OLDEST = (0, 31)
NEEDED = "vLLM 0.31 or newer"
WHY = (
    "prompts are prepared once for all rollouts of a sample, token statistics come from a logits processor, and checkpoints "
    "are exchanged in a running engine, all in the form that vLLM has had since then"
)

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing is sent anywhere
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for results
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A process that was forked cannot use a GPU that its parent has looked at.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # The runner that processors and statistics were tested on; a user may choose the other one.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
"""Set before vLLM is imported, where the user has not said otherwise."""


@dataclass(frozen=True, slots=True)
class VLLM:
    """What is used of vLLM."""

    version: str
    engine_args: Any
    """``EngineArgs``"""
    engine: Any
    """``LLMEngine``"""
    sampling_params: Any
    """``SamplingParams``"""
    final_only: Any
    """``RequestOutputKind.FINAL_ONLY``"""
    lora_request: Any
    """``LoRARequest``"""


def load_vllm(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> VLLM:
    """Import vLLM and check that it will do.

    Raises:
        ConfigError: it is missing, does not import, is too old, or does not know an argument.
    """
    for name, value in ENVIRONMENT.items():
        environment.setdefault(name, value)
    if settings.device is not None and ":" in settings.device:
        _show_only(settings.device, environment)
    try:
        module = importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise ConfigError(_broken(error)) from error
        raise ConfigError(
            f"--backend vllm needs {NEEDED}, which is not installed: pip install 'specs-eval[vllm]' "
            "(in an environment of its own where torch must stay as it is: vLLM pins one version)"
        ) from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ConfigError(_broken(error)) from error
    version = str(getattr(module, "__version__", "unknown"))
    if _numbers(version) < OLDEST:
        raise ConfigError(f"vLLM {version} is installed and --backend vllm needs {NEEDED}: {WHY}")
    try:
        found = VLLM(
            version,
            module.EngineArgs,
            module.LLMEngine,
            module.SamplingParams,
            importlib.import_module("vllm.sampling_params").RequestOutputKind.FINAL_ONLY,
            importlib.import_module("vllm.lora.request").LoRARequest,
        )
        known = frozenset(each.name for each in dataclasses.fields(found.engine_args))
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"vLLM {version} is not laid out as this backend expects it ({first_line(error)}); "
            f"tested with 0.32.0. It needs {NEEDED}: {WHY}"
        ) from error
    missing = [name for name in ("logits_processors", "worker_extension_cls") if name not in known]
    if missing:
        raise ConfigError(f"vLLM {version} has no engine argument {missing[0]}; --backend vllm needs {NEEDED}: {WHY}")
    check_names(settings.engine_args, known)
    return found


def _broken(error: BaseException) -> str:
    return (
        f"vLLM is installed but does not import ({first_line(error)}); often its torch is not the one it was built for. "
        f"--backend vllm needs {NEEDED} with the torch that it pins: pip install 'specs-eval[vllm]' in an environment of its own"
    )


def _numbers(version: str) -> tuple[int, int]:
    """Major and minor; of a version that says neither (built from source), what passes."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    numbers = (int(match.group(1)), int(match.group(2))) if match else OLDEST
    return OLDEST if version.startswith(("0.0", "0.1.dev")) else numbers


def _show_only(device: str, environment: MutableMapping[str, str]) -> None:
    """Leave one GPU visible; vLLM takes the first that it sees.

    Raises:
        ConfigError: there are not so many.
    """
    number = int(device.split(":")[1])
    visible = [text for text in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if text]
    if environment.get("SPECS_EVAL_VLLM_DEVICE") == device:
        return
    if visible and number >= len(visible):
        raise ConfigError(f"device {device!r} is not there: CUDA_VISIBLE_DEVICES names {len(visible)}")
    environment["CUDA_VISIBLE_DEVICES"] = visible[number] if visible else str(number)
    environment["SPECS_EVAL_VLLM_DEVICE"] = device
