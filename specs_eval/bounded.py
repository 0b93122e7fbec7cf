"""Calls with a hard limit on time and memory: a worker process that is killed when it overruns.

A signal or a thread cannot stop every computation (a big power is one machine operation to Python, and signals reach
only the main thread). A process can be killed from any thread of any process. The worker lives on between calls, so a
call costs two pipe messages; after a kill the next call starts a new one. Messages are JSON: nothing that the worker
sends can run code here.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

STARTUP_SECONDS = 120.0
"""How long a worker may take to import its function; a loaded machine is slow."""

KILL_AFTER_SECONDS = 0.4
"""A worker stops itself at its limit of processor time, between two steps of Python; one that is caught inside a single
step is killed so much later."""

LOOK_EVERY_SECONDS = 0.1

PREPARE = "prepare"
"""Function of a worker's module that is given each argument first, to import what it needs; its time is not counted in
`Bounded.cpu_seconds`."""

READY_TO_PREPARE = {"value": "ready to prepare"}
"""First message of a worker that sends one more message before each answer, when it has prepared."""

MAX_MESSAGE_BYTES = 4_000_000
"""A longer answer of a worker counts as a failure."""


class OverLimit(Exception):
    """The call took more than its time or memory, or its worker died."""


@dataclass(eq=False)
class Bounded:
    """A function of one JSON value, called in a worker process within limits.

    Safe to share between threads (calls take turns) and across a fork (each process starts its own worker).
    """

    target: str
    """``package.module:function``; imported by the worker, never here."""
    cpu_seconds: float
    """Processor time of one call; independent of how busy the machine is."""
    wall_seconds: float
    """Elapsed time of one call, after which the worker is killed."""
    memory_mib: int = 1024
    """Address space of the worker beyond what it has after its start."""
    command: tuple[str, ...] | None = None
    """Starts a worker of another kind, which speaks the same lines (`serve`) and keeps its own limits."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _prepares: bool = field(default=False, repr=False)
    _unread: bytearray = field(default_factory=bytearray, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        _INSTANCES.add(self)

    def _forget(self) -> None:
        """After a fork the pipes, and perhaps a locked lock, are the parent's."""
        self._process, self._lock = None, threading.Lock()

    def __call__(self, argument: Any) -> Any:
        """The function's value.

        Raises:
            OverLimit: too slow, too large, or the worker died.
        """
        with self._lock:
            worker = self._running()
            try:
                self._send(worker, argument)
                reply = self._reply_of(worker)
            except OverLimit:
                self._kill()
                raise
        if not isinstance(reply, dict) or "value" not in reply:
            raise OverLimit(str(reply.get("error", "no value")) if isinstance(reply, dict) else "no value")
        return reply["value"]

    def _reply_of(self, worker: subprocess.Popen[bytes]) -> Any:
        if self._prepares:
            _read_line(worker, self._unread, self.wall_seconds)
        limit = math.inf if self.command is not None else self.cpu_seconds + KILL_AFTER_SECONDS
        reply = _read_line(worker, self._unread, self.wall_seconds, limit)
        if self._unread:
            raise OverLimit("the worker wrote more than its answer")
        return reply

    def close(self) -> None:
        """Stop the worker; the next call starts another."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        own = (sys.executable, "-m", "specs_eval.bounded", self.target, str(self.cpu_seconds), str(self.memory_mib))
        try:
            self._process = subprocess.Popen(
                self.command or own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise OverLimit(f"the worker cannot be started: {error}") from error
        try:
            self._unread.clear()
            self._prepares = _read_line(self._process, self._unread, STARTUP_SECONDS) == READY_TO_PREPARE
        except OverLimit:
            self._kill()
            raise
        return self._process

    @staticmethod
    def _send(worker: subprocess.Popen[bytes], argument: Any) -> None:
        assert worker.stdin is not None
        try:
            worker.stdin.write(json.dumps(argument).encode() + b"\n")
            worker.stdin.flush()
        except OSError as error:
            raise OverLimit("the worker died") from error

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (OSError, ProcessLookupError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


_INSTANCES: weakref.WeakSet[Bounded] = weakref.WeakSet()


def _forget_all() -> None:
    for bounded in list(_INSTANCES):
        bounded._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _read_line(
    worker: subprocess.Popen[bytes], buffer: bytearray, seconds: float, cpu_seconds: float = math.inf
) -> Any:
    """The next message of a worker, unless that takes longer or more of its processor time.

    Args:
        worker: who writes.
        buffer: what it has written already and nobody has read; what follows the message stays there.
        seconds: elapsed time.
        cpu_seconds: processor time, looked at from here.
    """
    assert worker.stdout is not None
    descriptor, deadline = worker.stdout.fileno(), time.monotonic() + seconds
    spent_before = _processor_seconds(worker.pid)
    while b"\n" not in buffer:
        left = deadline - time.monotonic()
        if left <= 0:
            raise OverLimit(f"more than {seconds:g} s")
        if not _readable(descriptor, min(left, LOOK_EVERY_SECONDS)):
            if _processor_seconds(worker.pid) - spent_before > cpu_seconds:
                raise OverLimit(f"more than {cpu_seconds:g} s of processor time")
            continue
        chunk = os.read(descriptor, 65536)
        if not chunk:
            raise OverLimit("the worker died")
        buffer += chunk
        if len(buffer) > MAX_MESSAGE_BYTES:
            raise OverLimit("the answer is too large")
    line, _, rest = bytes(buffer).partition(b"\n")
    buffer[:] = rest
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OverLimit("the worker's answer is garbled") from error


def _processor_seconds(pid: int) -> float:
    """Processor time of another process; 0 where the system does not tell."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # its clock by the numbering of Linux
    except (OSError, AttributeError, OverflowError):
        return 0.0


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select() fails on descriptors beyond 1023
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(max(1, int(seconds * 1000))))


class _CpuLimit(BaseException):
    """Raised in the worker; a BaseException, so that no library swallows it."""


def serve(target: str, cpu_seconds: float, memory_mib: int) -> None:
    """The worker's loop: one JSON line in, one out, until the input ends."""
    reader, writer = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not become an answer
    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    prepare = getattr(sys.modules[module], PREPARE, None)
    _limit_memory(memory_mib)
    signal.signal(signal.SIGVTALRM, _raise_cpu_limit)
    _reply(writer, {"value": "ready"} if prepare is None else READY_TO_PREPARE)
    for line in reader:
        argument = json.loads(line)
        if prepare is not None:
            prepare(argument)
            _reply(writer, {"value": "prepared"})
        _reply(writer, _answer(function, argument, cpu_seconds))


def _answer(function: Callable[[Any], Any], argument: Any, cpu_seconds: float) -> dict[str, Any]:
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
        try:
            return {"value": function(argument)}
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _CpuLimit:
        return {"error": f"more than {cpu_seconds:g} s of processor time"}
    except (MemoryError, RecursionError) as error:
        return {"error": type(error).__name__}


def _reply(writer: Any, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    writer.flush()


def _limit_memory(memory_mib: int) -> None:
    import resource

    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  # not a path of ours
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = used + memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _raise_cpu_limit(_signal: int, _frame: FrameType | None) -> None:
    raise _CpuLimit


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
