"""One request to an OpenAI-compatible endpoint over HTTP, with limits on time, size and where the key may go."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

MAX_REPLY_BYTES = 1_000_000
_TRY_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_ABOUT_THE_QUESTION = frozenset((400, 413, 415, 422))
"""The endpoint works, but not with this question (too long, filtered)."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a chat completion and what it cost."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class NoCompletion(Exception):
    """A request without a usable response; the text says why and holds neither the key nor what was asked."""

    def __init__(self, why: str, *, again: bool = True, wait: float = 0.0, endpoint_is_down: bool = True) -> None:
        super().__init__(why)
        self.again = again
        """Whether another try may help."""
        self.wait = wait
        """Seconds that the endpoint asks to wait before it."""
        self.endpoint_is_down = endpoint_is_down
        """Whether the next question would most likely meet the same."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def shown_address(url: str) -> str:
    """The address without user name, password, query and fragment: safe to print."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def complete(url: str, body: bytes, key: str | None, timeout: float) -> Completion:
    """Post one chat completion request.

    Args:
        url: base address, such as ``http://localhost:8000/v1``.
        body: the request as JSON.
        key: sent as bearer token and nowhere else; None: not sent.
        timeout: seconds for the connection, for every read, and for the whole response.

    Raises:
        NoCompletion: there is no response, or it is no chat completion.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", data=body, headers=headers)
    try:
        with _OPENER.open(request, timeout=timeout) as stream:
            data = _read(stream, time.monotonic() + timeout)
        return _completion(json.loads(data))
    except urllib.error.HTTPError as error:
        raise NoCompletion(
            _without(f"HTTP {error.code} {error.reason}", key),
            again=error.code in _TRY_AGAIN,
            wait=_retry_after(error.headers.get("Retry-After")),
            endpoint_is_down=error.code not in _ABOUT_THE_QUESTION,
        ) from None
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise NoCompletion(_without(f"{type(error).__name__}: {error}", key)) from None


def _read(stream: Any, deadline: float) -> bytes:
    """All of a response; one that drips in slowly ends with its time, one without end with its size."""
    data = bytearray()
    while chunk := stream.read1(65_536):
        data += chunk
        if len(data) > MAX_REPLY_BYTES:
            raise ValueError("the response is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("the response takes too long")
    return bytes(data)


def _completion(facts: Any) -> Completion:
    """The first choice of a chat completion.

    Raises:
        ValueError: it has another form.
    """
    try:
        text = facts["choices"][0]["message"]["content"]
        usage = facts.get("usage") or {}
        tokens = [_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("the response is no chat completion") from error
    return Completion(_text(text), *tokens)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    raise ValueError("the response has no text")


def _tokens(value: object) -> int:
    """A number of tokens; 0 for what is none: a wrong count is no reason to lose a reply."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0


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
