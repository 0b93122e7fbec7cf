"""The rollouts of one request: asked for, asked for again where the reply holds fewer, failed in the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from specs_eval.backends.base import Request, Response
from specs_eval.backends.endpoint.client import Client
from specs_eval.backends.endpoint.messages import messages_of
from specs_eval.backends.endpoint.replies import Choice, Reply, cut_at_stop, reply_of
from specs_eval.backends.endpoint.requests import Dialect, body_of, pieces, reply_limit, request_seed
from specs_eval.backends.endpoint.served import is_that_model
from specs_eval.backends.endpoint.statistics import TokenStatistics, statistics_of
from specs_eval.errors import GenerationError
from specs_eval.sampling import SamplingSpec
from specs_eval.transport import NoReply

logger = logging.getLogger(__name__)

GIVE_UP_AFTER = 5
"""So many requests in a row given up while every address fails: the endpoint is gone, and a run must not turn all that is
left into failed rollouts."""
_NOTHING = TokenStatistics(None, None)


class Asked:
    """A request that is under way in pieces; its images are encoded once, and only while it is."""

    def __init__(self, request: Request, n_pieces: int) -> None:
        self.request = request
        self.n_left = n_pieces
        self.responses: list[Response] = []
        self._messages: list[dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def messages(self) -> list[dict[str, Any]]:
        """The chat as JSON.

        Raises:
            GenerationError: an image is missing, does not decode, or is too large.
        """
        with self._lock:
            if self._messages is None:
                self._messages = messages_of(self.request.chat)
            return self._messages

    def add(self, responses: Sequence[Response]) -> bool:
        """Add the responses of a piece; whether it was the last one."""
        with self._lock:
            self.responses += responses
            self.n_left -= 1
            if self.n_left == 0:
                self.responses.sort(key=lambda response: response.rollout)
            return self.n_left == 0


class Asker:
    """Asks one served model. Safe to use from several threads."""

    def __init__(self, client: Client, model: str, dialect: Dialect, reported: str | None) -> None:
        self.client = client
        self.model = model
        self.dialect = dialect
        self.reported = reported
        """What replies say that the model is; None: they do not say."""
        self._spec = SamplingSpec()
        self._lock = threading.Lock()
        self._given_up = 0
        self._n_measured = self._n_censored = self._n_split = 0

    def with_spec(self, spec: SamplingSpec) -> Asker:
        """The same, drawing as this sampling spec says."""
        asker = Asker(self.client, self.model, self.dialect, self.reported)
        asker._spec = spec
        return asker

    @property
    def measures(self) -> bool:
        """Whether log-probabilities are asked for and are of the distribution that statistics are of."""
        raw = self.client.settings.raw_logprobs or (self._spec.temperature == 1.0 and self._spec.top_p == 1.0)
        return bool(self.dialect.top_logprobs) and raw

    def responses(self, asked: Asked, rollouts: Sequence[int]) -> list[Response]:
        """Responses to neighbouring rollouts of a request, one for each, failed ones included.

        A reply with fewer responses than asked is kept, and the missing ones are asked for again. It holds at least one,
        so this comes to an end.

        Raises:
            ConfigError: the key is refused.
            GenerationError: nothing answers any more, or another model does.
        """
        try:
            messages = asked.messages()
        except GenerationError as error:
            return [failed(rollout, str(error)) for rollout in rollouts]
        found: dict[int, Response] = {}
        left = [tuple(rollouts)]
        while left:
            group = left.pop()
            try:
                reply = self._asked(asked.request, messages, group)
            except NoReply as error:
                self._count_given_up(error)
                reason = f"{error}: {error.detail}" if error.detail else str(error)
                found |= {number: failed(number, f"the endpoint gave no response: {reason}") for number in group}
                continue
            with self._lock:
                self._given_up = 0
            found |= {group[i]: self._response(group[i], choice) for i, choice in reply.choices.items()}
            left += pieces([number for number in group if number not in found], len(group))
        return list(found.values())

    def _asked(self, request: Request, messages: list[dict[str, Any]], rollouts: Sequence[int]) -> Reply:
        spec, n = self._spec, len(rollouts)
        seed = request_seed(spec.seed, request.key, rollouts[0])
        dialect = self.dialect if self.measures else replace(self.dialect, top_logprobs=0)
        body = body_of(self.model, messages, spec, dialect, n=n, seed=seed)
        reply = self.client.ask(body, lambda facts: reply_of(facts, n), reply_limit(n, spec, dialect))
        self.client.count(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        self._check_model(reply.model)
        return reply

    def _check_model(self, model: str | None) -> None:
        if not self.client.settings.check_model or model is None or model == self.reported:
            return
        if not is_that_model(model, self.model):
            raise GenerationError(f"the endpoint answers as {model[:200]!r} now, not as {self.model!r}")

    def _count_given_up(self, error: NoReply) -> None:
        with self._lock:
            self._given_up += error.endpoint_is_down
            gone = self._given_up >= GIVE_UP_AFTER and self.client.balancer.all_failing()
        self.client.count(n_failed=1)
        if gone:
            raise GenerationError(
                f"no endpoint answers any more ({error}); what was answered is stored, the same command continues"
            )

    def _response(self, rollout: int, choice: Choice) -> Response:
        if choice.error is not None:
            return failed(rollout, choice.error)
        found = _NOTHING
        if self.measures and choice.logprobs is not None:
            whole = self.dialect.top_logprobs < 0
            found = statistics_of(choice.logprobs, choice.n_tokens, whole=whole)
        with self._lock:
            self._n_measured += self.measures
            self._n_censored += self.measures and found.nucleus is None
            self._n_split += choice.split
        return Response(
            rollout,
            cut_at_stop(choice.text, self._spec.stop),
            choice.n_tokens,
            choice.finish_reason,
            found.entropy,
            found.nucleus,
            found.nucleus_sizes if self.client.settings.per_position else None,
            found.entropies if self.client.settings.per_position else None,
        )

    def say_what_is_missing(self) -> None:
        """Say once for all responses what they lack."""
        if self.dialect.top_logprobs and not self.measures:
            logger.warning(
                "no token statistics: the endpoint's log-probabilities are of the model's own distribution for certain "
                "only at temperature 1 and top_p 1; where it gives raw ones, say --backend-arg raw_logprobs=yes"
            )
        if self._n_censored:
            logger.warning(
                "%d of %d responses have no nucleus size: at some position the %d tokens that were given hold less than "
                "0.95. These are the widest, so a mean over the others is too small; ask for more with top_logprobs",
                self._n_censored,
                self._n_measured,
                self.dialect.top_logprobs,
            )
        if self._n_split:
            logger.warning(
                "the server took the reasoning out of %d responses, and formats are judged by what is left; serve the "
                "model without a reasoning parser to evaluate all of its text",
                self._n_split,
            )


def failed(rollout: int, reason: str) -> Response:
    """A rollout without a response."""
    return Response(rollout, finish_reason="error", error=reason)
