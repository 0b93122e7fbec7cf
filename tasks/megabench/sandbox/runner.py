"""The process inside the sandbox: reads programs as JSON lines, runs each test case in a child of its own.

This file is not imported by specs-eval: its text is handed to an isolated interpreter (`isolation`). Standard library only.
The children keep the official quirks: without a main block the program runs like the body of a function, so that its
functions do not see each other; a program that exits has no output.
"""

# ruff: noqa: S102  # to run a program is what this file is for, inside the sandbox
from __future__ import annotations

import builtins
import ctypes
import io
import json
import math
import os
import pathlib
import platform
import resource
import select
import signal
import struct
import sys
import time
from typing import Any, NoReturn, TextIO

Request = dict[str, Any]

_SET_DUMPABLE = 4

MAIN_BLOCK = 'if __name__ == "__main__":'
MAX_OUTPUT_BYTES = 60_000
MAX_OPEN_FILES = 64
MAX_OVERRUNS = 3
"""A program that ran out of time in so many cases is not run for the others."""

WALL_FACTOR = 3
"""Elapsed time that a program has for each second of processor time: a busy machine must not fail it."""
_X86_DENIED = (
    56, 57, 58, 59, 435, 322,  # clone, fork, vfork, execve, clone3, execveat
    41, 42, 49, 50, 53,  # socket, connect, bind, listen, socketpair
    62, 200, 234, 424, 129, 297,  # kill, tkill, tgkill, pidfd_send_signal, rt_sigqueueinfo, rt_tgsigqueueinfo
    101, 310, 311, 312, 434, 438, 440,  # ptrace, process_vm_*, kcmp, pidfd_open, pidfd_getfd, process_madvise
    141, 142, 144, 203, 251, 314, 256, 279,  # setpriority, sched_set*, ioprio_set, migrate_pages, move_pages
    29, 64, 68, 240, 248, 249, 250, 319,  # shmget, semget, msgget, mq_open, add_key, request_key, keyctl, memfd_create
    165, 166, 155, 161, 272, 308, 428, 429, 430, 431, 432, 433, 442,  # mounts, roots, namespaces
    321, 298, 323, 425, 426, 427,  # bpf, perf, userfaultfd, io_uring
)  # fmt: skip
_ARM_DENIED = (
    220, 221, 435, 281, 198, 203, 200, 201, 199, 129, 130, 131, 424, 138, 240, 117, 270, 271, 272, 434, 438, 440,
    140, 118, 119, 122, 30, 274, 238, 239, 194, 190, 186, 180, 217, 218, 219, 279,
    40, 39, 41, 51, 97, 268, 428, 429, 430, 431, 432, 433, 442, 280, 241, 282, 425, 426, 427,
)  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, 302, _X86_DENIED), "aarch64": (0xC00000B7, 261, _ARM_DENIED)}
"""Audit number, number of prlimit64, and denied numbers."""
_FIRST_X32_CALL = 0x40000000
"""From here on the same calls have other numbers, on x86_64."""


def serve() -> None:
    """One JSON request a line in, one reply out; a case's output is None when it failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process of a namespace gets only signals that it handles
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)  # nor do programs look into this process
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _reply(replies, {"value": "ready"})
    for line in sys.stdin:
        request = json.loads(line)
        _reply(replies, {"value": _outputs(request)})


def _outputs(request: Request) -> list[str | None]:
    outputs: list[str | None] = []
    overruns = 0
    for lines in request["inputs"]:
        started = time.monotonic()
        outputs.append(_run(request, lines) if overruns < MAX_OVERRUNS else None)
        overruns += outputs[-1] is None and time.monotonic() - started > 0.9 * request["seconds"]  # clocks differ
    return outputs


def _reply(replies: TextIO, message: Request) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _run(request: Request, lines: list[str]) -> str | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _close_all_but(writer)
        _child(request, lines, writer)
    os.close(writer)
    output = _read(reader, time.monotonic() + WALL_FACTOR * request["seconds"])
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return output


def _close_all_but(writer: int) -> None:
    """Leave a program neither the requests nor the replies: it could answer for other programs."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, writer)
    os.closerange(writer + 1, MAX_OPEN_FILES)


def _read(reader: int, deadline: float) -> str | None:
    received = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    poll.register(0, 0)  # reports only that the other side is gone
    while True:
        left = deadline - time.monotonic()
        ready = dict(poll.poll(max(1, int(left * 1000)))) if left > 0 else {}
        if 0 in ready:
            os._exit(0)  # takes the program along: this is the first process of its namespace
        if reader not in ready:
            return None
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        received += chunk
        if len(received) > MAX_OUTPUT_BYTES:
            return None
    try:
        output = json.loads(received)
    except ValueError:
        return None
    return output if isinstance(output, str) else None


def _child(request: Request, lines: list[str], writer: int) -> NoReturn:
    sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+")  # noqa: PTH123, SIM115
    _limit(request)
    stdout = io.StringIO()
    output = None
    try:
        given = iter(("\n".join(lines) + "\n").splitlines())
        builtins.input = lambda *_, **__: next(given)
        sys.stdout = stdout
        _execute(request["code"], stdout)
        output = stdout.getvalue().rstrip()
    except Exception as error:  # noqa: BLE001  # the boundary of one program
        output = f"ERROR during execution: {error}"
    finally:
        if output is not None:
            os.write(writer, json.dumps(output).encode()[: MAX_OUTPUT_BYTES + 1])
        os._exit(0)


def _execute(code: str, stdout: io.StringIO) -> None:
    if MAIN_BLOCK in code:
        exec(code, {"__name__": "__main__"})
        return
    module = {"__name__": "program_judge", "__builtins__": builtins, "io": io, "pathlib": pathlib}
    exec(code, module, {"stdout": stdout, "contains_main_block": False})


def _limit(request: Request) -> None:
    megabytes = request["memory_mib"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (megabytes, megabytes))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(request["seconds"]),) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    _deny_system_calls()


def _deny_system_calls() -> None:
    """No new processes, programs, sockets, signals or shared memory, and no other process's limits: EPERM."""
    architecture, prlimit, denied = _ARCHITECTURES[platform.machine()]
    count = len(denied)
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    steps += [(at_least, count + 4, 0, _FIRST_X32_CALL)]
    steps += [(equal, count + 3 - index, 0, number) for index, number in enumerate(denied)]
    steps += [(equal, 0, 2, prlimit), (load, 0, 0, 16), (equal, 0, 1, 0)]  # its own limits are a program's business
    steps += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050001)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0):
        os._exit(1)


if __name__ == "__main__":
    serve()
