"""What this process runs on: versions and device, recorded with each run."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("specs-eval", "torch", "transformers", "lmms-eval", "vllm")


def package_version(name: str) -> str | None:
    """The installed version of a distribution, None when it is not installed. Imports nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _static_environment() -> tuple[tuple[str, str], ...]:
    facts = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    facts |= {name: found for name in _PACKAGES if (found := package_version(name)) is not None}
    return tuple(facts.items())


def describe_environment() -> dict[str, str]:
    """Versions and, when torch is loaded already, the device. Never imports torch by itself."""
    facts = dict(_static_environment())
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        facts["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
        facts["threads"] = str(torch.get_num_threads())
    return facts
