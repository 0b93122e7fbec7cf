"""Work that waits for a network, done in threads, with the results as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_done(items: Iterable[Item], work: Callable[[Item], Result], threads: int) -> Iterator[Result]:
    """The results in the order in which they are ready.

    Unlike those of a pool, the threads end with the process: an interrupted run does not wait for a server's reply. At
    most twice as many items as threads are under way, so that nothing piles up when results are taken slowly.

    Args:
        items: pulled in the caller's thread.
        work: called once an item, in up to `threads` threads at a time.
        threads: how many items are worked on at a time.

    An exception in `work` is raised here as soon as it comes. Left early, nothing new is started.
    """
    todo: SimpleQueue[Item | None] = SimpleQueue()
    done: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
    left = threading.Event()

    def worker() -> None:
        while (item := todo.get()) is not None and not left.is_set():
            try:
                done.put((work(item), None))
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                done.put((None, error))

    started, waiting, source = 0, 0, iter(items)
    try:
        more = True
        while more or waiting:
            while more and waiting < 2 * threads:
                item = next(source, None)
                if item is None:
                    more = False
                    break
                todo.put(item)
                waiting += 1
                if started < min(threads, waiting):
                    started += 1
                    threading.Thread(target=worker, name=f"endpoint-{started}", daemon=True).start()
            if waiting:
                result, error = done.get()
                waiting -= 1
                if error is not None:
                    raise error
                yield result  # type: ignore[misc]  # there is one where there is no error
    finally:
        left.set()
        for _ in range(started):
            todo.put(None)
