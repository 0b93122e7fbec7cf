"""What an endpoint understands, found out with one short request that leaves out what it refuses."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from specs_eval.backends.endpoint.client import Client
from specs_eval.backends.endpoint.replies import Reply, reply_of
from specs_eval.backends.endpoint.requests import OWN_FIELDS, Dialect, body_of, reply_limit
from specs_eval.errors import CheckpointError
from specs_eval.sampling import SamplingSpec
from specs_eval.transport import NoReply, shown_address

logger = logging.getLogger(__name__)

_PROBE = SamplingSpec(temperature=1.0, max_new_tokens=16)
_REFUSED = frozenset((400, 422, 501))
_N_LOOKS = 3
"""Replies with fewer responses than asked before n counts as not understood: any one of them may be a fault."""

Give = Callable[[Dialect], Dialect]

_STEPS: tuple[tuple[str, str, Give], ...] = (
    (
        "|".join(OWN_FIELDS),
        "top_k, min_p and repetition_penalty (its own defaults of these apply)",
        lambda d: replace(d, own_fields=False),
    ),
    ("logprobs|top_logprobs", "top_logprobs (token statistics stay empty)", lambda d: replace(d, top_logprobs=0)),
    (r"n|n_?choices", "n (every rollout is a request)", lambda d: replace(d, n=1)),
    (
        "max_tokens|max_completion_tokens",
        "max_tokens (it is asked for max_completion_tokens)",
        lambda d: replace(d, limit_field="max_completion_tokens"),
    ),
    ("seed", "seed (asking again draws anew)", lambda d: replace(d, seed=False)),
)
"""What may be refused: how an error names it, how we name it, and the dialect without it."""


def settle(client: Client, model: str, wanted: Dialect) -> tuple[Dialect, Reply]:
    """What the endpoint understands of what is wanted, and its reply; what it does not is said once.

    Raises:
        CheckpointError: it does not answer at all.
        ConfigError: it refuses the key.
    """
    dialect, left, given_up = wanted, list(_STEPS), list[str]()
    while True:
        try:
            reply = _probe(client, model, dialect)
        except NoReply as error:
            step = next_step(error, left, dialect) if error.status in _REFUSED else None
            if step is None:
                where = shown_address(client.settings.base_url[0])
                detail = f": {error.detail}" if error.detail else ""
                raise CheckpointError(f"{where} does not answer as {model!r}: {error}{detail}") from None
            left.remove(step)
            given_up.append(step[1])
            dialect = step[2](dialect)
            continue
        break
    looks = 1
    while dialect.n > 1 and len(reply.choices) < 2:
        if looks == _N_LOOKS:
            given_up.append(_STEPS[2][1])
            dialect = replace(dialect, n=1)
            break
        reply, looks = _probe_again(client, model, dialect, reply), looks + 1
    if dialect.top_logprobs and not any(choice.logprobs for choice in reply.choices.values()):
        given_up.append(_STEPS[1][1])
        dialect = replace(dialect, top_logprobs=0)
    if given_up:
        logger.warning("the endpoint does not take %s", "; nor ".join(given_up))
    return dialect, reply


def next_step(error: NoReply, left: list[tuple[str, str, Give]], dialect: Dialect) -> tuple[str, str, Give] | None:
    """What to leave out next: what the error names, else the first that changes anything."""
    useful = [step for step in left if step[2](dialect) != dialect]
    for step in useful:
        if re.search(rf"(?<![A-Za-z_])(?:{step[0]})(?![A-Za-z_])", error.detail):
            return step
    return useful[0] if useful else None


def _probe(client: Client, model: str, dialect: Dialect) -> Reply:
    n = min(dialect.n, 2)
    more: dict[str, Any] = {"n": n, "seed": 0}
    body = body_of(model, [{"role": "user", "content": "Hello"}], _PROBE, dialect, **more)
    reply = client.ask(body, lambda facts: reply_of(facts, n), reply_limit(n, _PROBE, dialect))
    client.count(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
    return reply


def _probe_again(client: Client, model: str, dialect: Dialect, reply: Reply) -> Reply:
    """Another look; the reply before where there is none."""
    try:
        return _probe(client, model, dialect)
    except NoReply:
        return reply
