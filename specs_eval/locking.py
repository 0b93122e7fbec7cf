"""One writer a run: a lock that the operating system frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from specs_eval.errors import StoreError

OnWait = Callable[[str], None]
"""Called once, with a sentence for the user, before waiting for another process."""


class _OwnLock(FileLock):
    """filelock's lock under a class of our own.

    lmms-eval's evaluator replaces how `FileLock` itself is made, for the whole process: one shared, reentrant object a
    path, which would let a second writer in. Subclasses are left as they are.
    """


class RunLock:
    """An exclusive lock with a note beside it that says who holds it."""

    def __init__(self, path: Path, on_wait: OnWait | None, timeout: float) -> None:
        self._lock = _OwnLock(path, thread_local=False)
        self._holder = path.with_suffix(".holder")
        self._on_wait = on_wait
        self._timeout = timeout

    def acquire(self) -> None:
        """Take the lock, waiting for another holder up to the timeout (seconds).

        Raises:
            StoreError: still held after the timeout, or the file system cannot lock.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._wait()
        except (OSError, NotImplementedError) as error:
            raise StoreError(f"cannot lock {self._lock.lock_file}: {error}") from error
        with contextlib.suppress(OSError):
            self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")

    def release(self) -> None:
        """Give the lock back."""
        with contextlib.suppress(OSError):
            self._holder.unlink(missing_ok=True)
        self._lock.release()

    def _wait(self) -> None:
        holder = self.holder()
        if self._on_wait is not None and self._timeout > 0:
            self._on_wait(f"{holder} is evaluating {self._holder.parent.name}; waiting for it")
        try:
            self._lock.acquire(timeout=self._timeout, poll_interval=0.2)
        except Timeout as error:
            raise StoreError(
                f"{holder} is evaluating {self._holder.parent.name}; try again when it is done, or use another --store"
            ) from error

    def holder(self) -> str:
        """Who has the lock, in words."""
        try:
            return self._holder.read_text() or "another process"
        except OSError:
            return "another process"
