"""Workers end with the process that started their engine, however it ended. Runs in the engine's processes.

vLLM's own processes outlive an owner that was killed with SIGKILL, or by the kernel for memory. They would hold the GPU, and
the same command, which continues an interrupted run, would find no room for its engine.
"""

from __future__ import annotations

import os
import socket
import threading
import time

POLL_SECONDS = 1.0


def watch(host: str, pid: int) -> bool:
    """Watch over the owner of an engine from one of its workers.

    Args:
        host: name of the owner's machine.
        pid: its process.

    Returns:
        Whether there is anything to watch: a worker in the owner's own process, or on another machine, has nothing.
    """
    if host != socket.gethostname() or pid == os.getpid():
        return False
    import psutil  # vLLM needs it, specs-eval does not

    try:
        owner = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return False  # another process namespace

    def wait() -> None:
        while _lives(owner):
            time.sleep(POLL_SECONDS)
        # Not sys.exit: the worker's main thread may wait for a message that never comes. Its engine ends with it.
        os._exit(1)

    threading.Thread(target=wait, name="specs-eval-lifeline", daemon=True).start()
    return True


def _lives(owner: object) -> bool:
    import psutil

    try:
        # A number that was given to another process does not count, and neither does a process that waits to be buried.
        return bool(owner.is_running()) and owner.status() != psutil.STATUS_ZOMBIE  # type: ignore[attr-defined]
    except psutil.Error:
        return False
