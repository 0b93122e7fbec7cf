"""How a sandbox can be had on this machine: bubblewrap, or user namespaces by util-linux' unshare; else not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from specs_eval.bounded import Bounded, OverLimit
from specs_eval.errors import ScoringError

SECONDS_PER_CASE = 2.0
"""Processor time; elapsed time is bounded by three times as much, and three overruns end the answer (`runner`)."""
MEMORY_MIB = 2048
MAX_CASES = 50
START_SECONDS = 30.0
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All that programs see of the environment."""
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin")
_PROBE_SECONDS = 30.0
_HERE = Path(__file__).resolve().parent


def run_program(code: str, inputs: list[list[str]]) -> list[str | None]:
    """The output of a program for each list of input lines; None where it exited, hung, or wrote too much.

    Raises:
        ScoringError: this machine offers no sandbox; the program was not run.
    """
    if len(inputs) > MAX_CASES:
        raise ScoringError(f"{len(inputs)} test cases; at most {MAX_CASES} are run")
    request = {"code": code, "inputs": inputs, "seconds": SECONDS_PER_CASE, "memory_mib": MEMORY_MIB}
    wall = 4 * SECONDS_PER_CASE * (len(inputs) + 1) + START_SECONDS
    # A sandbox for each program: whatever it leaves behind ends with it.
    sandbox = Bounded("sandbox", cpu_seconds=wall, wall_seconds=wall, command=tuple(sandbox_command()))
    try:
        outputs = sandbox(request)
    except OverLimit as error:
        raise ScoringError(f"the sandbox failed: {error}") from error
    finally:
        sandbox.close()
    return _texts(outputs, len(inputs))


def _texts(outputs: Any, n_cases: int) -> list[str | None]:
    if not isinstance(outputs, list) or len(outputs) != n_cases:
        raise ScoringError("the sandbox failed: it gave no list of outputs")
    return [output if isinstance(output, str) else None for output in outputs]


@cache
def sandbox_command() -> list[str]:
    """The command that starts the runner in a sandbox.

    Raises:
        ScoringError: none can be had here.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise ScoringError("programs are run on Linux (x86_64, aarch64) only; the answer was not run")
    for command in (_bubblewrap(), _unshare()):
        if command and _works(command):
            return command
    raise ScoringError(
        "no sandbox: neither bubblewrap nor user namespaces work here, so the program was not run; install bubblewrap"
    )


def _folders() -> list[str]:
    prefixes = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)} | {sys.prefix, sys.base_prefix}
    outside = sorted(prefix for prefix in prefixes if not prefix.startswith("/usr/") and prefix != "/usr")
    return [*(folder for folder in _SYSTEM_FOLDERS if os.path.exists(folder)), *outside]  # noqa: PTH110


def _bubblewrap() -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        return []
    # In our process group and without --die-with-parent, which means the thread: killing the group or closing the pipes
    # ends it. As process 1 it is safe from signals of the program.
    command = [program, "--unshare-all", "--as-pid-1", "--clearenv", "--cap-drop", "ALL"]
    for folder in _folders():
        command += ["--ro-bind", folder, folder]
    command += ["--dev-bind", "/dev/null", "/dev/null", "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    return [*command, *_runner()]


def _unshare() -> list[str]:
    program = shutil.which("unshare")
    if program is None:
        return []
    spaces = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    isolate = [sys.executable, "-I", "-c", _text("isolate.py"), json.dumps(ENVIRONMENT), json.dumps(_folders())]
    return [program, *spaces, *isolate, *_runner()]


def _runner() -> list[str]:
    """Isolated from folders and settings of the user, but with the fixed hash seed that -I would ignore."""
    return [sys.executable, "-s", "-P", "-c", _text("runner.py")]


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _works(command: list[str]) -> bool:
    """Whether the sandbox starts, computes, and keeps a program from files and the network."""
    request: dict[str, Any] = {"code": _PROBE, "inputs": [[]], "seconds": 10.0, "memory_mib": MEMORY_MIB}
    sandbox = Bounded("sandbox", _PROBE_SECONDS, _PROBE_SECONDS, command=tuple(command))
    try:
        return bool(sandbox(request) == ["sealed"])
    except (OverLimit, OSError):
        return False
    finally:
        sandbox.close()


_PROBE = f"""
import os, socket
problems = []
try:
    socket.socket()
    problems.append("network")
except OSError:
    pass
try:
    os.fork()
    problems.append("fork")
except OSError:
    pass
for path in ({str(_HERE)!r}, "/etc/passwd", "/old/usr", "/var", "/run", "/proc/1", "/dev/shm"):
    if os.path.exists(path) and not path.startswith(({sys.prefix!r}, {sys.base_prefix!r}, "/usr/")):
        problems.append(path)
print(" ".join(problems) or "sealed")
"""
