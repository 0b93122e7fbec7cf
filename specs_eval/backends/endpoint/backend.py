"""The backend that `specs_eval.backends.registry` makes as ``openai``: a served model in, responses out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from specs_eval.backends.base import BackendOptions, Request, Response, Timing
from specs_eval.backends.endpoint.asking import Asked, Asker
from specs_eval.backends.endpoint.client import Client
from specs_eval.backends.endpoint.dialect import settle
from specs_eval.backends.endpoint.reloading import Reloader
from specs_eval.backends.endpoint.requests import Dialect, pieces
from specs_eval.backends.endpoint.served import ServedModel, is_that_model, models_of, served_name
from specs_eval.backends.endpoint.settings import URL_VARIABLE, settings_from
from specs_eval.backends.endpoint.workers import as_done
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, ConfigError, GenerationError
from specs_eval.sampling import SamplingSpec
from specs_eval.transport import NoReply, shown_address

logger = logging.getLogger(__name__)

Answer = tuple[Request, list[Response]]

_NO_LIST = frozenset((404, 405, 501))
_LISTING_TRIES = 3
"""Tries to learn which models there are: few, so that a server that is not there is told soon."""


class EndpointBackend:
    """Models behind any OpenAI-compatible endpoint.

    Promise: requests are the same for the same (seed, sample, rollout), seed included; what a server makes of a seed is
    its own affair. A failed request is a failed rollout with its reason, and never an answer.
    """

    name = "openai"
    numerics = "openai/served"
    """Number format, kernels and engine are the server's, and it does not say them."""

    def __init__(self, options: BackendOptions) -> None:
        """Nothing is asked yet.

        Raises:
            ConfigError: an option has no meaning here.
        """
        self.settings = settings_from(options)
        self.client = Client(self.settings)
        self.timing = Timing()
        self._asker: Asker | None = None
        self._chosen_for: str | None = None
        self._reloader: Reloader | None = None

    def block_size(self, n_rollouts: int) -> int:
        """0: every rollout stands alone."""
        return 0

    def load(self, checkpoint: Checkpoint) -> None:
        """Find the model on every address, and what the endpoint understands.

        Raises:
            ConfigError: no address, none answers, or the key is refused.
            CheckpointError: the endpoint serves another model.
        """
        self._asker = None
        if not self.settings.base_url:
            raise ConfigError(f"--backend openai needs --base-url URL, or the address in {URL_VARIABLE}")
        self._check_chosen(checkpoint)
        self.client.resume()
        self.client.check = None
        name, root = self._reload(checkpoint) if self.settings.reload else self._find(checkpoint)
        wanted = Dialect(n=self.settings.n, top_logprobs=self.settings.top_logprobs)
        dialect, reply = settle(self.client, name, wanted)
        if self.settings.check_model and reply.model is not None and not is_that_model(reply.model, name, root):
            raise CheckpointError(
                f"asked for {name!r}, {shown_address(self.settings.base_url[0])} answers as {reply.model[:200]!r}; "
                "if that is another name of it, say --backend-arg check_model=no"
            )
        self._asker = Asker(self.client, name, dialect, reply.model)
        self._chosen_for = checkpoint.fingerprint

    def _check_chosen(self, checkpoint: Checkpoint) -> None:
        """One name given for several folders would pass one model off as all of them."""
        if self.settings.model is None or checkpoint.served_name is not None or self.settings.reload:
            return
        if self._chosen_for not in (None, checkpoint.fingerprint):
            raise CheckpointError(
                f"--backend-arg model={self.settings.model} names one model and there are several checkpoints; serve each "
                f"under its folder, or name them with --ckpt served:NAME"
            )

    def _reload(self, checkpoint: Checkpoint) -> tuple[str, str | None]:
        """Put a checkpoint into the server; its name there, and no origin, since the server lists the first one.

        Raises:
            ConfigError: it does not answer, or cannot exchange weights.
            CheckpointError: the checkpoint does not fit, or did not arrive.
        """
        (url,) = self.settings.base_url
        if checkpoint.served_name is not None:
            raise ConfigError("reload=yes puts folders into a server; --ckpt served:NAME is what it has already")
        try:
            models = models_of(self.client.get(url, "/models", min(_LISTING_TRIES, self.settings.attempts)))
        except (NoReply, ValueError) as error:
            raise ConfigError(f"no endpoint answers; is the server running? {shown_address(url)}: {error}") from None
        reloader = self._reloader = self._reloader or Reloader(self.client, url)
        name = reloader.put(models, self.settings.model, checkpoint)
        self.client.check = lambda url: reloader.assert_still_there()
        return name, None

    def _find(self, checkpoint: Checkpoint) -> tuple[str, str | None]:
        """Name and origin of the model, the same on every address that answers.

        Raises:
            ConfigError: none answers.
            CheckpointError: one of them serves something else.
        """
        found: dict[str, tuple[str, str | None]] = {}
        problems = []
        for url in self.settings.base_url:
            try:
                found[url] = self._model_at(url, checkpoint, attempts=min(_LISTING_TRIES, self.settings.attempts))
            except NoReply as error:
                self.client.balancer.leave_out(url)
                problems.append(f"{shown_address(url)}: {error}")
        if not found:
            raise ConfigError("no endpoint answers; is the server running? " + "; ".join(problems))
        for problem in problems:
            logger.warning("an endpoint does not answer and is left out until it does: %s", problem)
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{shown_address(url)}: {name} from {root}" for url, (name, root) in found.items())
            raise CheckpointError(f"the endpoints serve different models: {listed}")
        model = next(iter(found.values()))
        self.client.check = lambda url: self._check_again(url, checkpoint, model)
        return model

    def _model_at(self, url: str, checkpoint: Checkpoint, attempts: int = 1) -> tuple[str, str | None]:
        try:
            models = models_of(self.client.get(url, "/models", attempts))
        except NoReply as error:
            if error.status not in _NO_LIST:
                raise
            models = None
        except ValueError as problem:
            raise NoReply(str(problem)) from None
        if models is None or not self.settings.check_model:
            name = checkpoint.served_name or self.settings.model
            if name is None:
                raise CheckpointError(
                    f"{shown_address(url)} lists no models, so which one is {checkpoint.path} is not known; name it with "
                    "--backend-arg model=NAME"
                )
            logger.warning("%s: which model it serves is not checked; taken for %r", shown_address(url), name)
            return name, None
        name = served_name(checkpoint, models, self.settings.model, shown_address(url))
        return name, _root(models, name)

    def _check_again(self, url: str, checkpoint: Checkpoint, model: tuple[str, str | None]) -> None:
        """Whether an address that was away serves the same model as before."""
        try:
            same = self._model_at(url, checkpoint) == model
        except CheckpointError as error:
            raise NoReply(str(error)) from None
        if not same:
            raise NoReply(f"{shown_address(url)} came back with another model")

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer requests as replies arrive.

        Raises:
            ConfigError: the key is refused.
            GenerationError: nothing answers any more, or another model does.
        """
        if self._asker is None:
            raise GenerationError("the openai backend has no model loaded")
        asker = self._asker.with_spec(spec)
        self.client.resume()

        def parts() -> Iterator[tuple[Asked, tuple[int, ...]]]:
            for request in requests:
                groups = list(pieces(request.rollouts, asker.dialect.n))
                asked = Asked(request, len(groups))
                yield from ((asked, group) for group in groups)

        def work(part: tuple[Asked, tuple[int, ...]]) -> Asked | None:
            asked, rollouts = part
            return asked if asked.add(asker.responses(asked, rollouts)) else None

        yield from ((request, []) for request in requests if not request.rollouts)
        try:
            for asked in as_done(parts(), work, self.settings.concurrency):
                if asked is not None:
                    self._count(asked.responses)
                    yield asked.request, asked.responses
        except BaseException:
            self.client.stop()
            raise
        finally:
            asker.say_what_is_missing()

    def _count(self, responses: Sequence[Response]) -> None:
        self.timing.n_rollouts += sum(response.error is None for response in responses)
        self.timing.n_tokens = self.client.usage.completion_tokens

    def usage_line(self) -> str | None:
        """What asking cost, for people; None: nothing was asked."""
        usage = self.client.usage
        if not usage.n_requests:
            return None
        bare = (
            ""
            if self.settings.top_logprobs
            else "; no token statistics: none asked for (--backend-arg top_logprobs=20)"
        )
        return usage.line(self.settings.price) + bare

    def close(self) -> None:
        """Send nothing any more, after a server whose weights were exchanged has its own again."""
        if self._reloader is not None:
            self._reloader.restore()
            self._reloader = None
        self.client.stop()
        self._asker = None


def _root(models: Sequence[ServedModel], name: str) -> str | None:
    return next((model.root for model in models if model.name == name), None)
