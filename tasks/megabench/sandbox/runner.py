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

MAIN_BLOCK = 'if __name__ == "__main__":'
MAX_OUTPUT_BYTES = 60_000
_X86_DENIED = (
    56, 57, 58, 59, 435, 322,  # clone, fork, vfork, execve, clone3, execveat
    41, 42, 49, 50, 53,  # socket, connect, bind, listen, socketpair
    62, 200, 234, 424, 101, 310, 311,  # kill, tkill, tgkill, pidfd_send_signal, ptrace, process_vm_*
    165, 166, 155, 161, 272, 308, 321, 298, 425, 426,  # mounts, roots, namespaces, bpf, perf, io_uring
)  # fmt: skip
_ARM_DENIED = (
    220, 221, 435, 281, 198, 203, 200, 201, 199, 129, 130, 131, 424, 117, 270, 271, 40, 39, 41, 51, 97, 268, 280, 241,
    425, 426,
)  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, _X86_DENIED), "aarch64": (0xC00000B7, _ARM_DENIED)}


def serve() -> None:
    """One JSON request a line in, one reply out; a case's output is None when it failed."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _reply(replies, {"value": "ready"})
    for line in sys.stdin:
        request = json.loads(line)
        _reply(replies, {"value": [_run(request, lines) for lines in request["inputs"]]})


def _reply(replies: TextIO, message: Request) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _run(request: Request, lines: list[str]) -> str | None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(request, lines, writer)
    os.close(writer)
    output = _read(reader, time.monotonic() + request["seconds"])
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return output


def _read(reader: int, deadline: float) -> str | None:
    received = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
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
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
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
    resource.setrlimit(resource.RLIMIT_CPU, (int(request["seconds"]) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    _deny_system_calls()


def _deny_system_calls() -> None:
    """No new processes, programs, sockets or signals: refused with EPERM by the kernel."""
    architecture, denied = _ARCHITECTURES[platform.machine()]
    count = len(denied)
    load, equal, give = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    steps += [(equal, count - index, 0, number) for index, number in enumerate(denied)]
    steps += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050001)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0):
        os._exit(1)


if __name__ == "__main__":
    serve()
