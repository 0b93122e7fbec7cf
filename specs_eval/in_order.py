"""Work that waits for others (a judge), done in threads, with the results in the order of the work.

The simplest thing that lets a model go on generating while its responses are judged: the caller's thread goes on pulling
work (which is what generates), threads do it, and results are handed out strictly in order, so that a journal is written
exactly as without threads. Scoring is not made a process pool or asynchronous for it: threads wait for the network at no
cost, and scorers that compute are bounded and may be called from any thread.

How much may be waiting is bounded, for memory and because a kill loses it: what was generated and not judged yet is owed
again (what a judge replied already is in its cache). The bound is a few batches, so that a judge that is slower than the
model holds it up by no more than it must: all in all a run takes as long as the slower of the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WAITING = 256
"""Items that may wait for their results before no further group is pulled."""


def in_order(
    groups: Iterable[Sequence[Item]], work: Callable[[Item], Result], threads: int = 1
) -> Iterator[list[Result]]:
    """The results of each group, in the order of groups and items.

    Args:
        groups: pulled in the caller's thread, and only as fast as results come.
        work: called once an item, in up to `threads` threads at a time; in the caller's thread where that is 1.
        threads: how many items are worked on at a time.

    An exception in `work` is raised here in its turn. Left early, nothing new is started and nothing is waited for.
    """
    if threads <= 1:
        for group in groups:
            yield [work(item) for item in group]
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scoring")
    try:
        waiting: deque[list[Future[Result]]] = deque()
        n_waiting = 0
        for group in groups:
            waiting.append([pool.submit(work, item) for item in group])
            n_waiting += len(group)
            while waiting and (n_waiting > MAX_WAITING or all(future.done() for future in waiting[0])):
                first = waiting.popleft()
                n_waiting -= len(first)
                yield [future.result() for future in first]
        for futures in waiting:
            yield [future.result() for future in futures]
        pool.shutdown()  # all is done: whoever forks after this forks a process without our threads
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
