"""The body of a chat completion request: what is asked, how it is drawn, and with which seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.sampling import SamplingSpec

OWN_FIELDS: dict[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
"""Fields of vLLM and engines like it. Without them the server draws with what the model's generation_config.json says,
and not as the sampling spec does; the last one gives the tokens of each choice, and so their number."""

_REST_OF_REPLY = 16_000_000
"""Bytes of a reply beside what was generated: engines that give token ids give those of the prompt too."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an endpoint understands (see `dialect.settle`)."""

    own_fields: bool = True
    """`OWN_FIELDS`."""
    top_logprobs: int = 0
    """Log-probabilities a position; 0: none."""
    n: int = 1
    """Rollouts a request."""
    seed: bool = True
    limit_field: str = "max_tokens"
    """What the limit on generated tokens is called."""


def request_seed(seed: int, key: int, rollout: int) -> int:
    """The seed of one rollout: a function of (seed, sample, rollout) alone, in [0, 2^31).

    Neighbours differ by one, as vLLM seeds the choices of a request: choice i of a request with seed s is drawn with
    s + i. So there a rollout is drawn alike alone and among others.
    """
    data = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=4).digest()
    return (int.from_bytes(data, "little") & 0x3FFF_FFFF) + rollout


def pieces(rollouts: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """Rollouts in groups that one request can ask for: neighbouring numbers, at most so many."""
    piece: list[int] = []
    for rollout in rollouts:
        if piece and (rollout != piece[-1] + 1 or len(piece) == most):
            yield tuple(piece)
            piece = []
        piece.append(rollout)
    if piece:
        yield tuple(piece)


def body_of(model: str, messages: Sequence[dict[str, Any]], spec: SamplingSpec, dialect: Dialect, **more: Any) -> bytes:
    """A request as JSON.

    Args:
        model: name that the endpoint serves.
        messages: of `messages_of`.
        spec: how to draw; temperature and top_p are always sent, for servers have defaults of their own.
        dialect: what the endpoint understands.
        more: ``n`` and ``seed``.
    """
    facts: dict[str, Any] = {"model": model, "messages": messages, "temperature": spec.temperature, "top_p": spec.top_p}
    facts[dialect.limit_field] = spec.max_new_tokens
    if spec.stop:
        facts["stop"] = list(spec.stop)
    if dialect.top_logprobs:
        facts |= {"logprobs": True, "top_logprobs": dialect.top_logprobs}
    if dialect.own_fields:
        facts |= OWN_FIELDS
    if dialect.seed and "seed" in more:
        facts["seed"] = more["seed"]
    if more.get("n", 1) > 1:
        facts["n"] = more["n"]
    return json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()


def reply_limit(n: int, spec: SamplingSpec, dialect: Dialect) -> int:
    """Bytes that a reply may have: several times what so many rollouts with their log-probabilities need."""
    per_token = 512 + (256 * min(dialect.top_logprobs, 4096) if dialect.top_logprobs >= 0 else 1 << 24)
    return min(_REST_OF_REPLY + 2 * n * spec.max_new_tokens * per_token, 1 << 30)
