"""Builds the empty root of the sandbox and starts the runner in it; runs inside fresh user, mount and pid namespaces.

Handed to an interpreter as text, like `runner`. Arguments: the environment as JSON, the folders to show (read-only) as
JSON, and the command to run there.
"""

# ruff: noqa: PTH103, PTH106, PTH112, PTH114, PTH115, PTH123, PTH211
# runs alone in an isolated interpreter, on bare paths
from __future__ import annotations

import ctypes
import json
import os
import sys

_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 32, 4096, 16384, 1 << 18, 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount a file system, or change a mount.

    Raises:
        OSError: the kernel refused.
    """
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    if _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def show(folder: str, root: str) -> None:
    """Make a folder visible under the new root, read-only."""
    target = root + folder
    os.makedirs(target, exist_ok=True)
    mount(folder, target, None, _BIND | _RECURSIVE)
    kept = os.statvfs(target).f_flag & (_NO_SUID | _NO_DEV | _NO_EXEC | 1024 | 2048 | 4096)
    kept = (kept & 15) | (1 << 10 if kept & 1024 else 0) | (1 << 11 if kept & 2048 else 0)
    relative = 1 << 21 if os.statvfs(target).f_flag & 4096 else 0
    mount(None, target, None, _BIND | _REMOUNT | _READ_ONLY | kept | relative)


def enter(folders: list[str]) -> None:
    """Leave the file system behind: a small root in memory with nothing but these folders."""
    root = "/proc"  # is there everywhere, and nothing of it is needed
    mount(None, "/", None, _RECURSIVE | _PRIVATE)
    mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEV, "size=16m,mode=755")
    for folder in folders:
        if os.path.islink(folder):
            os.symlink(os.readlink(folder), root + folder)
        elif os.path.isdir(folder):
            show(folder, root)
    os.makedirs(root + "/tmp", exist_ok=True)
    os.makedirs(root + "/dev", exist_ok=True)
    os.makedirs(root + "/old", exist_ok=True)
    open(root + "/dev/null", "w").close()
    mount("/dev/null", root + "/dev/null", None, _BIND)
    number = _PIVOT_ROOT[os.uname().machine]
    if _libc.syscall(number, root.encode(), (root + "/old").encode()):
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/tmp")
    if _libc.umount2(b"/old", _DETACH):
        raise OSError(ctypes.get_errno(), "umount")
    os.rmdir("/old")
    mount(None, "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)  # no program finds another's files


def drop_capabilities() -> None:
    """Give up every capability in the namespace, and any way to get one back."""
    for capability in range(64):
        _libc.prctl(24, capability, 0, 0, 0)
    if _libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


if __name__ == "__main__":
    environment, folders, command = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    enter(folders)
    drop_capabilities()
    os.execve(command[0], command, environment)
