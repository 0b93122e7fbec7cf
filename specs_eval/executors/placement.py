"""Where workers of a cluster go: a GPU or several each, or CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs_eval.errors import ConfigError

MAX_CPU_WORKERS = 8
"""Workers on CPUs unless the user says how many: each holds the model in memory."""


@dataclass(frozen=True, slots=True)
class RaySettings:
    """What a user may say about the cluster."""

    address: str | None = None
    """Of a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); None: one on this machine, started now."""
    n_workers: int | None = None
    """None: a worker for each GPU, or for each CPU where there is none."""
    gpus_per_worker: int | None = None
    """None: one where the cluster has any; a number asks for GPUs."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How many workers, and what each of them holds."""

    n_workers: int
    n_gpus_each: int
    """0: on CPUs."""
    notes: tuple[str, ...] = ()
    """What a user must know of it."""


def place_workers(resources: Mapping[str, float], settings: RaySettings, device: str | None) -> Placement:
    """Decide on GPUs or CPUs, and on the number of workers.

    Args:
        resources: what the cluster has altogether, by Ray's names.
        settings: what the user says about the cluster.
        device: what the user says about the device; None: GPUs where there are any.

    Raises:
        ConfigError: GPUs are asked for that the cluster does not have, or it has room for no worker.
    """
    n_gpus, n_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    each = settings.gpus_per_worker or 1
    on_cpus = device is not None and device.startswith("cpu")
    if device is not None and ":" in device:
        raise ConfigError(f"Ray gives each worker its GPU; write --device cuda or cpu, not {device}")
    if on_cpus and settings.gpus_per_worker is not None:
        raise ConfigError("--gpus-per-worker asks for GPUs and --device cpu for none; leave one of them out")
    if not on_cpus and n_gpus < each and (device is not None or settings.gpus_per_worker is not None):
        raise ConfigError(
            f"the Ray cluster has {n_gpus} GPUs and a worker needs {each}; to use its {n_cpus} CPUs say --device cpu"
        )
    on_gpus = not on_cpus and n_gpus >= each
    room = n_gpus // each if on_gpus else n_cpus
    n_workers = settings.n_workers or (room if on_gpus else min(room, MAX_CPU_WORKERS))
    if n_workers < 1:
        raise ConfigError(f"the Ray cluster has no room for a worker ({n_cpus} CPUs, {n_gpus} GPUs)")
    notes = []
    if not on_gpus and device is None:
        notes.append(f"the Ray cluster has no GPU: {n_workers} workers on CPUs")
    if n_workers > room:
        notes.append(f"the Ray cluster has room for {room} of {n_workers} workers; the others wait until it has more")
    return Placement(n_workers, each if on_gpus else 0, tuple(notes))
