"""Requests that are tried again, over several addresses, with everything counted."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from specs_eval.backends.endpoint.balancing import Address, Balancer
from specs_eval.backends.endpoint.settings import Settings
from specs_eval.errors import ConfigError
from specs_eval.transport import (
    Limits,
    NoReply,
    fetch,
    fetch_json,
    key_from_environment,
    shown_address,
    wait_before_next,
)

Result = TypeVar("Result")

_KEY_REFUSED = frozenset((401, 403))
_OTHER_ADDRESS_WAIT = 0.2
"""Seconds before the next try, at most, where another address can take it."""


@dataclass(slots=True)
class Usage:
    """What asking cost so far."""

    n_requests: int = 0
    """Sent, tries included."""
    n_again: int = 0
    """Of these, tries after the first one."""
    n_failed: int = 0
    """Given up after all tries."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self, price: tuple[float, float] | None) -> str:
        """For people: requests, tokens, rate, cost."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        text = (
            f"endpoint: {self.n_requests:,} requests ({self.n_again:,} of them tried again, {self.n_failed:,} given up), "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} generated tokens, "
            f"{self.completion_tokens / seconds:,.0f} tokens/s, {self.n_requests / seconds:,.1f} requests/s"
        )
        if price is None:
            return text
        cost = (self.prompt_tokens * price[0] + self.completion_tokens * price[1]) / 1e6
        return f"{text}; cost {cost:,.4f} at {price[0]:g} and {price[1]:g} a million"


class Client:
    """Sends requests. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: the key cannot be sent.
        """
        self.settings = settings
        self.usage = Usage()
        self.balancer = Balancer(settings.base_url)
        self.check: Callable[[str], None] | None = None
        """Called with an address that comes back after failures; raises NoReply when it serves something else now."""
        self._key = key_from_environment(settings.key_variable)
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._jitter = jitter
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        """Whether nothing is to be sent any more."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Send nothing new and wait for nothing."""
        self._stopped.set()

    def resume(self) -> None:
        """Send again."""
        self._stopped.clear()

    def get(self, url: str, path: str, attempts: int = 1) -> Any:
        """The JSON at a path of one address.

        Raises:
            NoReply: there is none, after so many tries.
            ConfigError: the key is refused.
        """
        for attempt in range(attempts):
            try:
                return self._fetch(f"{url}{path}", Limits(min(self.settings.timeout, 30.0)))
            except NoReply as error:
                wait = wait_before_next(error, attempt, self._jitter)
                if wait is None or attempt + 1 == attempts:
                    raise
                self._sleep(wait)
        raise NoReply("not tried", again=False)

    def post(self, url: str, path: str, facts: Mapping[str, Any]) -> bytes:
        """What one address replies to JSON at a path; tried once, as asking twice may do twice.

        Raises:
            NoReply: there is no reply.
            ConfigError: the key is refused.
        """
        body = json.dumps(facts).encode()
        reply: bytes = self._fetch(f"{url}{path}", Limits(self.settings.timeout), body, get=fetch)
        return reply

    def ask(self, body: bytes, read: Callable[[Any], Result], max_bytes: int) -> Result:
        """Post a chat completion request until it is answered, or tries are used up.

        Args:
            body: the request as JSON.
            read: what the reply says; raises ValueError where it is not what was asked for.
            max_bytes: size of a reply at most.

        Raises:
            NoReply: the last try's reason.
            ConfigError: the key is refused.
        """
        limits, last = Limits(self.settings.timeout, max_bytes), self.settings.attempts - 1
        for attempt in range(self.settings.attempts):
            if self.stopped:
                break
            self.count(n_requests=1, n_again=int(attempt > 0))
            try:
                return self._tried(body, read, limits)
            except NoReply as error:
                wait = wait_before_next(error, attempt, self._jitter)
                if wait is None or attempt == last:
                    raise
                if len(self.balancer.addresses) > 1 and self.balancer.has_ready():
                    wait = min(wait, _OTHER_ADDRESS_WAIT * self._jitter())
                self._sleep(wait)
        raise NoReply("interrupted", again=False, endpoint_is_down=False)

    def count(self, **numbers: int) -> None:
        """Add to the usage."""
        with self._lock:
            for name, number in numbers.items():
                setattr(self.usage, name, getattr(self.usage, name) + number)

    def _tried(self, body: bytes, read: Callable[[Any], Result], limits: Limits) -> Result:
        address = self.balancer.take()
        try:
            if address.on_trial and self.check is not None:
                self.check(address.url)
            result = read(self._fetch(f"{address.url}/chat/completions", limits, body))
        except NoReply as error:
            self._failed(address, error)
            raise
        except ValueError as problem:
            unreadable = NoReply(str(problem), endpoint_is_down=False)
            self._failed(address, unreadable)
            raise unreadable from None
        except BaseException:
            self.balancer.failed(address, down=False)
            raise
        self.balancer.done(address)
        return result

    def _failed(self, address: Address, error: NoReply) -> None:
        busy = error.status == 429  # alive, and says when to come back
        self.balancer.failed(address, down=error.endpoint_is_down and not busy, rest=error.wait)

    def _fetch(
        self, address: str, limits: Limits, body: bytes | None = None, get: Callable[..., Any] = fetch_json
    ) -> Any:
        try:
            return get(address, self._key, limits, body)
        except NoReply as error:
            if error.status not in _KEY_REFUSED:
                raise
            variable = self.settings.key_variable
            what = f"refuses the key in {variable}" if self._key else f"wants a key; set {variable}"
            raise ConfigError(f"{shown_address(address)} {what} ({error})") from None
