"""How a sandbox can be had on this machine: bubblewrap, or user namespaces by util-linux' unshare; else not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from specs_eval.bounded import Bounded, OverLimit
from specs_eval.errors import ScoringError

SECONDS_PER_CASE = 2.0
MEMORY_MIB = 2048
MAX_CASES = 50
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
    sandbox = _sandbox()
    try:
        outputs = sandbox(request)
    except OverLimit as error:
        raise ScoringError(f"the sandbox failed: {error}") from error
    return [output if isinstance(output, str) else None for output in outputs]


@cache
def _sandbox() -> Bounded:
    wall = SECONDS_PER_CASE * (MAX_CASES + 1) + 10
    return Bounded("sandbox", cpu_seconds=wall, wall_seconds=wall, command=tuple(sandbox_command()))


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
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for folder in _folders():
        command += ["--ro-bind", folder, folder]
    command += ["--dev", "/dev", "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--setenv", "HOME", "/tmp"]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        command += ["--setenv", name, "1"]
    return [*command, sys.executable, "-I", "-c", _text("runner.py")]


def _unshare() -> list[str]:
    program = shutil.which("unshare")
    if program is None:
        return []
    spaces = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    isolate = [sys.executable, "-I", "-c", _text("isolate.py"), _text("runner.py"), *_folders()]
    return [program, *spaces, *isolate]


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _works(command: list[str]) -> bool:
    """Whether the sandbox starts, computes, and keeps a program from files and the network."""
    request: dict[str, Any] = {"code": _PROBE, "inputs": [[]], "seconds": 10.0, "memory_mib": MEMORY_MIB}
    try:
        finished = subprocess.run(
            command,
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        last = json.loads(finished.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return False
    return bool(last == {"value": ["sealed"]})


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
for path in ({str(_HERE)!r}, "/etc/passwd", "/old/usr", "/var", "/run"):
    if os.path.exists(path) and not path.startswith(({sys.prefix!r}, {sys.base_prefix!r}, "/usr/")):
        problems.append(path)
print(" ".join(problems) or "sealed")
"""
