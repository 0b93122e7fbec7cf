"""What an endpoint replied, read without trusting any of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from specs_eval.backends.base import FinishReason
from specs_eval.transport import token_count

TopLogprobs = list[float]
"""Log-probabilities of the most probable tokens at one position, descending; the token that was drawn is left out where
it may not be one of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the n responses in a reply."""

    text: str
    finish_reason: FinishReason
    n_tokens: int | None = None
    error: str | None = None
    """Why it is no response; then it is no answer either."""
    logprobs: tuple[Any, ...] | None = None
    """What the reply holds for each position, unread."""
    split: bool = False
    """Whether the server took the reasoning out of the text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A chat completion."""

    choices: dict[int, Choice]
    """By the number of the response among those that were asked for."""
    model: str | None
    """Which model the server says that it was."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


def reply_of(facts: Any, n: int) -> Reply:
    """Read a chat completion that was asked for n responses; it may hold fewer.

    Raises:
        ValueError: it is no chat completion, or holds no response.
    """
    found = facts.get("choices") if isinstance(facts, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("the reply is no chat completion")
    if not found:
        raise ValueError("the reply holds no response")
    numbered = _numbered(found, n)
    usage = facts.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    total = token_count(usage.get("completion_tokens"))
    choices = _with_counts([_choice(item) for item in numbered.values()], total, len(found))
    model = facts.get("model")
    return Reply(
        dict(zip(numbered, choices, strict=True)),
        model if isinstance(model, str) and model else None,
        token_count(usage.get("prompt_tokens")) or 0,
        total if total is not None else sum(choice.n_tokens or 0 for choice in choices),
    )


def _numbered(found: list[dict[str, Any]], n: int) -> dict[int, dict[str, Any]]:
    """Choices by their own numbers, where these differ and are some of those asked for; else as they came."""
    numbers = [item.get("index") for item in found]
    if len(set(map(repr, numbers))) == len(numbers) and all(type(one) is int and 0 <= one < n for one in numbers):
        return {int(item["index"]): item for item in found}
    return dict(enumerate(found[:n]))


def _choice(item: dict[str, Any]) -> Choice:
    message = item.get("message")
    message = message if isinstance(message, dict) else {}
    text, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    finish = item.get("finish_reason")
    split = isinstance(reasoning, str) and bool(reasoning.strip())
    if text is None and split and finish in ("stop", "length"):
        text = ""  # the model spent all its tokens on reasoning, which is a response without an answer
    positions = _positions(item.get("logprobs"))
    count = _own_count(item.get("token_ids"), positions)
    if finish == "content_filter":
        return Choice("", "error", count, "the endpoint filtered the response")
    if not isinstance(text, str):
        shown = finish if isinstance(finish, str) and finish.isprintable() else "none"
        return Choice("", "error", count, f"the reply holds no text (finish reason {shown[:40]})")
    return Choice(text, "length" if finish == "length" else "stop", count, None, positions, split)


def _positions(logprobs: object) -> tuple[Any, ...] | None:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return tuple(content) if isinstance(content, list) else None


def _own_count(token_ids: object, positions: tuple[Any, ...] | None) -> int | None:
    if isinstance(token_ids, list):
        return len(token_ids)
    return None if positions is None else len(positions)


def _with_counts(choices: Sequence[Choice], total: int | None, n_choices: int) -> list[Choice]:
    """Token counts that are known: of a single response the total, of several their own where these add up to it."""
    if n_choices == 1 and total is not None:
        return [replace(choice, n_tokens=total) for choice in choices]
    counts = [choice.n_tokens for choice in choices]
    known = [count for count in counts if count is not None]
    adds_up = len(known) == len(counts) and (total is None or n_choices > len(counts) or sum(known) == total)
    return list(choices) if adds_up else [replace(choice, n_tokens=None) for choice in choices]


def top_logprobs(position: object) -> TopLogprobs | None:
    """Log-probabilities of one position of a reply; None where it holds none or something else."""
    if not isinstance(position, dict) or not isinstance(entries := position.get("top_logprobs"), list):
        return None
    values = []
    for entry in entries:
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not value <= 1e-3:
            return None
        values.append(min(float(value), 0.0) if value > -9999 else -math.inf)
    return sorted(values, reverse=True) or None


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop strings, for servers that leave them in."""
    ends = [at for mark in stop if (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text
