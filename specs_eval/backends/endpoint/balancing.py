"""Which of several addresses gets the next request: the one with the fewest outstanding; a dead one is left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FAILURES_TO_LEAVE_OUT = 3
"""Failures in a row after which an address gets no more requests for a while."""
FIRST_PAUSE = 5.0
"""Seconds that it is left out at first, doubled with each failed trial."""
MAX_PAUSE = 60.0


@dataclass(slots=True)
class Address:
    """One base address and how it fares."""

    url: str
    outstanding: int = 0
    n_sent: int = 0
    failures: int = 0
    """In a row."""
    out_until: float = 0.0
    """Time of the clock before which it gets nothing."""
    on_trial: bool = False
    """It was left out, and the request that was just taken tries whether it is back."""


class Balancer:
    """Addresses of one model. Safe to use from several threads."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.addresses = [Address(url) for url in urls]
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> Address:
        """The address for a request; give it back with `done` or `failed`.

        One that was left out gets a single request when its time has come. When all are left out, the one whose time
        comes first gets it.
        """
        with self._lock:
            now = self._clock()
            ready = [one for one in self.addresses if self._ready(one, now)]
            if ready:
                chosen = min(ready, key=lambda one: (one.outstanding, one.n_sent))
            else:
                chosen = min(self.addresses, key=lambda one: (one.out_until, one.outstanding))
            chosen.on_trial = chosen.failures >= FAILURES_TO_LEAVE_OUT
            chosen.outstanding += 1
            chosen.n_sent += 1
            return chosen

    def done(self, address: Address) -> None:
        """It replied."""
        with self._lock:
            address.outstanding -= 1
            address.failures, address.out_until, address.on_trial = 0, 0.0, False

    def failed(self, address: Address, *, down: bool, rest: float = 0.0) -> None:
        """It gave no reply.

        Args:
            address: of `take`.
            down: whether that says something about the address, and not about the request.
            rest: seconds that it asked to be left alone.
        """
        with self._lock:
            address.outstanding -= 1
            now = self._clock()
            if down:
                address.failures += 1
                over = address.failures - FAILURES_TO_LEAVE_OUT
                if over >= 0 and address.out_until <= now:
                    address.out_until = now + min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(over, 10))
            if rest > 0:
                address.out_until = max(address.out_until, now + rest)

    def leave_out(self, url: str) -> None:
        """Leave an address out that does not answer now; it is tried again like any other that failed."""
        with self._lock:
            for one in self.addresses:
                if one.url == url:
                    one.failures, one.out_until = FAILURES_TO_LEAVE_OUT, self._clock() + FIRST_PAUSE

    def has_ready(self) -> bool:
        """Whether some address would get a request now."""
        with self._lock:
            now = self._clock()
            return any(self._ready(one, now) for one in self.addresses)

    def all_failing(self) -> bool:
        """Whether every address has failed several times in a row."""
        with self._lock:
            return all(one.failures >= FAILURES_TO_LEAVE_OUT for one in self.addresses)

    @staticmethod
    def _ready(one: Address, now: float) -> bool:
        if one.out_until > now:
            return False
        return one.failures < FAILURES_TO_LEAVE_OUT or one.outstanding == 0
