"""A fixed share of an evaluation's units for each of several processes: array jobs, torchrun, machines by hand.

Nobody hands out work: every process computes all shares in the same way and takes its own. Units of one checkpoint stay
together where they can, as each process loads its checkpoints itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from specs_eval.errors import ConfigError

Unit = TypeVar("Unit")

AUTO = "auto"
_TEXT = re.compile(r"(\d{1,6})/(\d{1,6})")
_ENVIRONMENTS = (
    ("RANK", "WORLD_SIZE", None),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
)
"""Where a launcher says which process this is, of how many, and the number of the first: torchrun and accelerate, Slurm."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` of `count`, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"--shard {self.number}/{self.count}: shares are numbered from 1 to {self.count}")

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """This share: a run of neighbours. All shares together are everything, once, in sizes that differ by at most 1."""
        first = (self.number - 1) * len(units) // self.count
        return list(units[first : self.number * len(units) // self.count])


def parse_shard(text: str, environ: Mapping[str, str]) -> Shard:
    """The share that ``I/N`` or ``auto`` names.

    Args:
        text: as typed after ``--shard``.
        environ: the environment, which for ``auto`` says which process this is.

    Raises:
        ConfigError: neither, or no launcher has said anything.
    """
    if text == AUTO:
        return _launched(environ)
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"--shard takes I/N, such as 1/4, or auto under torchrun, accelerate or a Slurm array; not {text!r}"
        )
    return Shard(int(match.group(1)), int(match.group(2)))


def _launched(environ: Mapping[str, str]) -> Shard:
    for index, count, first in _ENVIRONMENTS:
        if index in environ and count in environ:
            try:
                start = int(environ.get(first, "0")) if first is not None else 0
                return Shard(int(environ[index]) - start + 1, int(environ[count]))
            except ValueError as error:
                raise ConfigError(f"--shard auto: {index} and {count} are not numbers: {error}") from error
    pairs = ", or ".join(f"{index} and {count}" for index, count, _ in _ENVIRONMENTS)
    raise ConfigError(f"--shard auto needs a launcher that sets {pairs}; name the share as --shard I/N")


def launched_device(environ: Mapping[str, str]) -> str | None:
    """The GPU of a process that torchrun or accelerate has started; None: there is no GPU, or no such launcher."""
    rank = environ.get("LOCAL_RANK", "")
    if not rank.isdecimal():
        return None
    import torch

    n_devices = torch.cuda.device_count()
    return f"cuda:{int(rank) % n_devices}" if n_devices else None
