"""Workers as Ray actors: one on each free GPU of a cluster, or on CPUs where it has none."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from specs_eval.backends.base import BackendOptions
from specs_eval.errors import ConfigError
from specs_eval.executors.placement import RaySettings, place_workers
from specs_eval.executors.pool import WorkerLostError
from specs_eval.executors.worker import EngineWorker, Work, portable

CONNECT_SECONDS = 10
"""For a first connection to an address. Ray itself takes minutes to say that nothing listens there."""


class RayCluster:
    """A connection to a Ray cluster, and the actors on it."""

    def __init__(
        self, backend: str, options: BackendOptions, settings: RaySettings, say: Callable[[str], None]
    ) -> None:
        """Connect, or start a cluster here.

        Raises:
            ConfigError: Ray is missing, the cluster cannot be reached, or has not what is asked for.
        """
        self._ray = _import_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._connect(settings.address)
        placement = place_workers(self._ray.cluster_resources(), settings, options.device)
        self.n_workers = placement.n_workers
        for note in placement.notes:
            say(note)
        self._actor = self._ray.remote(EngineWorker).options(
            num_cpus=1, num_gpus=placement.n_gpus_each, max_restarts=0, max_task_retries=0
        )
        self._arguments = (backend, options)

    def _connect(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user wants it
        address = address or os.environ.get("RAY_ADDRESS") or _HERE
        is_here = address == _HERE  # said by name, else Ray joins a cluster that it happens to find on this machine
        if not is_here:
            _assert_listening(address)
        try:
            self._ray.init(address=address, log_to_driver=False, include_dashboard=False if is_here else None)
        except Exception as error:  # a node that does not come up is a bare Exception in Ray
            where = "a cluster on this machine" if is_here else f"the cluster at {address}"
            first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"Ray does not connect to {where}: {first}. {'' if is_here else _HINT}".strip()
            ) from error

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
            raise WorkerLostError(_cause(error)) from error
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


_HERE = "local"
_HINT = "If what Ray wrote above speaks of a token, RAY_AUTH_MODE=token in the environment makes it send one"


def _assert_listening(address: str) -> None:
    """Refuse an address at which nothing listens.

    Raises:
        ConfigError: it does not, or not yet.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit() or not host:
        return  # `auto` and the like, of which Ray knows what they mean
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"nothing answers at --ray-address {address} ({error}); is the cluster running?") from error


def _cause(error: Exception) -> str:
    """Why a worker was lost, in a line, without Ray's list of what causes such things in general."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = (lines[-1] if lines else "").partition(" Some common causes")[0]
    return f"{type(error).__name__}: {last}"[:300]
