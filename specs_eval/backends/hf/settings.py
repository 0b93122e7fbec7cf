"""What the options of a user mean for the hf backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from specs_eval.backends.base import BackendOptions
from specs_eval.errors import ConfigError

LayoutName = Literal["auto", "shared", "repeated"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

EXTRA = {
    "layout": ("auto", "shared", "repeated"),
    "verify": ("auto", "off"),
    "unexpected_weights": ("refuse", "ignore"),
}
"""Values of `BackendOptions.extra` that this backend knows; the first is the default."""

CELLS = {"cpu": 512, "cuda": 256}
"""Rollouts that are decoded together by default, where memory allows. On the tiny model on one CPU core, 512
give 7 to 14 % more rollouts a second than 256, and these 9 to 20 % more than 128. On the GPU not measured."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options."""

    device: torch.device
    dtype: torch.dtype
    dtype_name: str
    batch_size: int | None
    per_position: bool
    layout: LayoutName
    verify: bool
    """Settle draws that rounding could flip. Only in float32, where rounding is small enough for them to be rare."""
    refuse_unexpected: bool
    """Refuse checkpoints with weights that the model has no place for."""

    def block_size(self, n_rollouts: int) -> int:
        """Samples a batch."""
        if self.batch_size is not None:
            return self.batch_size
        return max(1, CELLS[self.device.type] // max(1, n_rollouts))


def settings_from(options: BackendOptions) -> Settings:
    """Check a user's options.

    Raises:
        ConfigError: an option has no meaning here; the message lists what has.
    """
    if options.batch_size is not None and options.batch_size < 1:
        raise ConfigError(f"--batch-size must be >= 1, not {options.batch_size}")
    device = _device(options.device)
    name = options.dtype or ("float32" if device.type == "cpu" else "bfloat16")
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}; the hf backend knows {', '.join(DTYPES)}")
    extra = {key: values[0] for key, values in EXTRA.items()}
    for key, value in options.extra.items():
        if value not in EXTRA.get(key, ()):
            known = "; ".join(f"{key}={'|'.join(values)}" for key, values in EXTRA.items())
            raise ConfigError(f"the hf backend does not know {key}={value}; it knows {known}")
        extra[key] = value
    return Settings(
        device=device,
        dtype=DTYPES[name],
        dtype_name=name,
        batch_size=options.batch_size,
        per_position=options.per_position,
        layout=extra["layout"],  # type: ignore[arg-type]  # checked against EXTRA above
        verify=extra["verify"] == "auto" and name == "float32",
        refuse_unexpected=extra["unexpected_weights"] == "refuse",
    )


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; write cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"the hf backend runs on cpu and cuda, not on {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return device
