"""One request to an HTTP endpoint that speaks JSON, with limits on time, size and where the key may go.

What judges and served models have in common: connections that are kept open, no redirects, replies of bounded size, which
failures may pass and how long to wait before the next try.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from specs_eval.errors import ConfigError

MAX_REPLY_BYTES = 1_000_000
FIRST_WAIT = 1.0
"""Seconds before the second try, doubled for each further one up to eight times as much."""
MAX_WAIT = 120.0
"""Seconds before the next try at most; an endpoint that asks for more is not waited for."""
MAX_CONNECTIONS = 1024
"""Open connections that are kept for one endpoint."""

_TRY_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_ABOUT_THE_QUESTION = frozenset((400, 413, 415, 422))
"""The endpoint works, but not with this question (too long, filtered)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how large a reply may be."""

    timeout: float
    """Seconds for the connection, for every read, and for the whole reply once it begins."""
    max_bytes: int = MAX_REPLY_BYTES


class NoReply(Exception):
    """A request without a usable reply; the text says why and holds neither the key nor what was asked."""

    def __init__(self, why: str, *, again: bool = True, wait: float = 0.0, endpoint_is_down: bool = True) -> None:
        super().__init__(why)
        self.again = again
        """Whether another try may help."""
        self.wait = wait
        """Seconds that the endpoint asks to wait before it."""
        self.endpoint_is_down = endpoint_is_down
        """Whether the next question would most likely meet the same."""
        self.status: int | None = None
        """HTTP status, if there was one."""
        self.detail = ""
        """What the endpoint says about it, cut and without the key; may repeat parts of the question."""


def shown_address(url: str) -> str:
    """The address without user name, password, query and fragment: safe to print."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def key_from_environment(variable: str) -> str | None:
    """The key in an environment variable; None: there is none.

    Raises:
        ConfigError: it cannot be sent; it is not repeated.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{variable} holds characters that cannot be part of a key; set it again")
    return key or None


def wait_before_next(error: NoReply, attempt: int, jitter: Callable[[], float]) -> float | None:
    """Seconds to wait after a try without a reply; None: another one cannot help.

    Args:
        error: why there was no reply.
        attempt: number of that try, from 0.
        jitter: a random number in [0, 1).
    """
    if not error.again or error.wait > MAX_WAIT:
        return None
    # Half of the wait is random: many who were refused at once must not come back at once.
    return max(error.wait, FIRST_WAIT * 2.0 ** min(attempt, 3) * (0.5 + 0.5 * jitter()))


def fetch_json(url: str, key: str | None, limits: Limits, body: bytes | None = None) -> Any:
    """The JSON that an address gives: by POST where there is a body, else by GET; otherwise as `fetch`.

    Raises:
        NoReply: there is no reply, or it is not JSON.
    """
    try:
        return json.loads(fetch(url, key, limits, body))
    except (ValueError, RecursionError) as error:
        raise NoReply(_without(f"{type(error).__name__}: {error}", key)) from None


def fetch(url: str, key: str | None, limits: Limits, body: bytes | None = None) -> bytes:
    """What an address gives: by POST where there is a body, else by GET.

    Args:
        url: the whole address.
        key: sent as bearer token and nowhere else; None: not sent.
        limits: of time and size.
        body: JSON to post.

    Raises:
        NoReply: there is no reply.
    """
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        response = _manager(url).request(
            "GET" if body is None else "POST",
            url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(limits.timeout),
            # A redirect would carry the key to another address.
            redirect=False,
            preload_content=False,
        )
        try:
            if not 200 <= response.status < 300:
                raise _refusal(response, key)
            data = _read(response, limits)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return data
    except (HTTPError, OSError, ValueError) as error:
        raise NoReply(_without(f"{type(error).__name__}: {error}", key)) from None


def token_count(value: object) -> int | None:
    """A number of tokens in a reply; None for what is none: a wrong count is no reason to lose a reply."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def _manager(url: str) -> urllib3.PoolManager:
    """The connections to use: through the proxy of the environment where it names one for this address."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is not None and urllib.request.proxy_bypass(parts.hostname or ""):
        proxy = None
    return _connections(os.getpid(), proxy)


@cache
def _connections(process: int, proxy: str | None) -> urllib3.PoolManager:
    """Connections of one process: a forked one must not write into those of its parent."""
    if proxy is None:
        return urllib3.PoolManager(maxsize=MAX_CONNECTIONS, retries=False)
    login = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=MAX_CONNECTIONS, retries=False)


def _read(response: urllib3.BaseHTTPResponse, limits: Limits) -> bytes:
    """All of a response; one that drips in slowly ends with its time, one without end with its size."""
    data, deadline = bytearray(), time.monotonic() + limits.timeout
    while chunk := response.read1(65_536, decode_content=False):
        data += chunk
        if len(data) > limits.max_bytes:
            raise ValueError("the response is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("the response takes too long")
    return bytes(data)


def _refusal(response: urllib3.BaseHTTPResponse, key: str | None) -> NoReply:
    status = response.status
    error = NoReply(
        _without(f"HTTP {status} {response.reason or ''}".rstrip(), key),
        again=status in _TRY_AGAIN,
        wait=_retry_after(response.headers.get("Retry-After")),
        endpoint_is_down=status not in _ABOUT_THE_QUESTION,
    )
    error.status = status
    error.detail = _without(_detail(response), key)
    return error


def _detail(response: urllib3.BaseHTTPResponse) -> str:
    """The message of an error reply, in any of the usual forms, on one line."""
    try:
        text = response.read1(4096, decode_content=False).decode("utf-8", "replace")
        facts = json.loads(text)
        facts = facts.get("error", facts) if isinstance(facts, dict) else facts
        message = facts.get("message", facts.get("detail")) if isinstance(facts, dict) else facts
        text = message if isinstance(message, str) else text
    except (HTTPError, OSError):
        return ""
    except (ValueError, RecursionError):
        pass
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return seconds if 0.0 < seconds < float("inf") else 0.0


def _without(text: str, key: str | None) -> str:
    return (text.replace(key, "***") if key else text)[:300]
