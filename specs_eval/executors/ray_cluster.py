"""Workers as Ray actors: one on each free GPU of a cluster, or on CPUs where it has none."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.backends.base import BackendOptions
from specs_eval.errors import ConfigError
from specs_eval.executors.pool import WorkerLostError
from specs_eval.executors.worker import EngineWorker, Work, portable

MAX_CPU_WORKERS = 8
"""Workers on CPUs unless the user says how many: each holds the model in memory."""


@dataclass(frozen=True, slots=True)
class RaySettings:
    """What a user may say about the cluster."""

    address: str | None = None
    """Of a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); None: one on this machine, started now."""
    n_workers: int | None = None
    """None: a worker for each GPU, or for each CPU where there is none."""
    gpus_per_worker: int = 1


class RayCluster:
    """A connection to a Ray cluster, and the actors on it."""

    def __init__(
        self, backend: str, options: BackendOptions, settings: RaySettings, say: Callable[[str], None]
    ) -> None:
        """Connect, or start a cluster here.

        Raises:
            ConfigError: Ray is missing, the cluster cannot be reached, or has no room for a worker.
        """
        self._ray = _import_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._connect(settings.address)
        resources: dict[str, float] = self._ray.cluster_resources()
        n_gpus, n_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        on_gpus = n_gpus >= settings.gpus_per_worker and not (options.device or "cuda").startswith("cpu")
        if options.device is not None and ":" in options.device:
            raise ConfigError(f"Ray gives each worker its GPU; write --device cuda or cpu, not {options.device}")
        if options.device == "cuda" and not on_gpus:
            raise ConfigError(f"the Ray cluster has {n_gpus} GPUs and a worker needs {settings.gpus_per_worker}")
        room = n_gpus // settings.gpus_per_worker if on_gpus else min(n_cpus, MAX_CPU_WORKERS)
        self.n_workers = room if settings.n_workers is None else settings.n_workers
        if self.n_workers < 1:
            raise ConfigError(f"the Ray cluster has no room for a worker ({n_cpus} CPUs, {n_gpus} GPUs)")
        if not on_gpus and options.device is None:
            say(f"the Ray cluster has no GPU: {self.n_workers} workers on CPUs")
        self._actor = self._ray.remote(EngineWorker).options(
            num_cpus=1, num_gpus=settings.gpus_per_worker if on_gpus else 0, max_restarts=0, max_task_retries=0
        )
        self._arguments = (backend, options)

    def _connect(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user wants it
        try:
            self._ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = "a cluster on this machine" if address is None else f"the cluster at {address}"
            raise ConfigError(f"Ray does not connect to {where}: {str(error).strip().splitlines()[0]}") from error

    def start(self) -> Hashable:
        """A new actor; it comes up when the cluster has room."""
        actor: Hashable = self._actor.remote(*self._arguments)
        return actor

    def describe(self, worker: Any) -> Hashable:
        """A future of its facts."""
        future: Hashable = worker.describe.remote()
        return future

    def answer(self, worker: Any, work: Work) -> Hashable:
        """A future of the reply; pictures travel with their question."""
        future: Hashable = worker.answer.remote(portable(work))
        return future

    def wait(self, futures: Sequence[Any], timeout: float) -> Sequence[Hashable]:
        """Those that are done."""
        done, _ = self._ray.wait(list(futures), num_returns=len(futures), timeout=timeout, fetch_local=False)
        found: Sequence[Hashable] = done
        return found

    def result(self, future: Any) -> Any:
        """What a future came to.

        Raises:
            WorkerLostError: its actor died, could not be made, or was taken away.
        """
        try:
            return self._ray.get(future)
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise WorkerLostError(f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]) from error
        except Exception as error:  # what an actor raised, as Ray passes it on: it could not be made
            raise WorkerLostError(f"{type(error).__name__}: {error}"[:300]) from error

    def stop(self, worker: Any) -> None:
        """End an actor."""
        self._ray.kill(worker, no_restart=True)

    def close(self) -> None:
        """Leave the cluster, which ends our actors; ends the cluster too, if it was started here."""
        if self._own:
            self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError("--executor ray needs Ray: pip install 'specs-eval[ray]'") from error
    return ray
