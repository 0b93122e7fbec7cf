"""One chat completion of a judge: its text and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specs_eval.transport import Limits, NoReply, fetch_json, token_count


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a chat completion and what it cost."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


def complete(url: str, body: bytes, key: str | None, timeout: float) -> Completion:
    """Post one chat completion request.

    Args:
        url: base address, such as ``http://localhost:8000/v1``.
        body: the request as JSON.
        key: sent as bearer token and nowhere else; None: not sent.
        timeout: seconds for the connection, for every read, and for the whole response.

    Raises:
        NoReply: there is no response, or it is no chat completion.
    """
    facts = fetch_json(f"{url.rstrip('/')}/chat/completions", key, Limits(timeout), body)
    try:
        return _completion(facts)
    except ValueError as error:
        raise NoReply(f"{type(error).__name__}: {error}") from None


def _completion(facts: Any) -> Completion:
    """The first choice of a chat completion.

    Raises:
        ValueError: it has another form.
    """
    try:
        text = facts["choices"][0]["message"]["content"]
        usage = facts.get("usage") or {}
        tokens = [token_count(usage.get(name)) or 0 for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("the response is no chat completion") from error
    return Completion(_text(text), *tokens)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    raise ValueError("the response has no text")
