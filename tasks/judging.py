"""Asking a judge: any OpenAI-compatible endpoint, with limits on everything and nothing hidden.

A request is tried a limited number of times, replies are kept, tokens are counted, and a failure is a reply with an
error: whoever asked leaves the sample unscored.
"""

from __future__ import annotations

import json
import math
import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from specs_eval.errors import ConfigError, GenerationError
from specs_eval.files import write_text_atomic
from specs_eval.tasks.judge_questions import Question
from specs_eval.tasks.judge_transport import complete
from specs_eval.transport import NoReply, key_from_environment, shown_address, wait_before_next

GIVE_UP_AFTER = 20
"""So many questions in a row without a reply, and only one in so many is still sent: a judge that is down must not hold
up a run for hours."""
MAX_REMEMBERED = 10_000
"""Replies that are kept in memory, for equal responses to one sample."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Which judge, and within which limits."""

    url: str
    """Base address, such as ``http://localhost:8000/v1``."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; may be unset for local servers."""
    concurrency: int = 8
    """Requests at a time, over all threads."""
    attempts: int = 4
    """Tries a request, the first included."""
    timeout: float = 60.0
    """Seconds a try."""
    cache: Path | None = None
    """Folder of kept replies; None: keep none on disk."""
    price: tuple[float, float] | None = None
    """For a million prompt tokens and a million completion tokens, in any currency."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("--judge must be an http(s) address such as http://localhost:8000/v1")
        if not self.model or not self.model.isprintable():
            raise ConfigError("--judge needs --judge-model: the name that the endpoint serves")
        if self.concurrency < 1 or self.attempts < 1 or self.timeout <= 0:
            raise ConfigError("a judge needs at least one connection, one attempt and some time")
        if self.price is not None and not all(0 <= price < math.inf for price in self.price):
            raise ConfigError("--judge-price takes two numbers of at least 0")


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What came back."""

    text: str | None
    """None: no reply that answers the question, see error."""
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    """Whether it was known already and nothing was paid for it."""


@dataclass(slots=True)
class JudgeCost:
    """What asking cost so far."""

    n_asked: int = 0
    """Questions; those that were answered from kept replies included."""
    n_cached: int = 0
    n_failed: int = 0
    n_tries: int = 0
    """Requests that were sent."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def amount(self, price: tuple[float, float]) -> float:
        """The tokens' cost at a price for a million of either."""
        return (self.prompt_tokens * price[0] + self.completion_tokens * price[1]) / 1e6


class Judge:
    """A chat model that is asked single questions at temperature 0. Safe to use from several threads."""

    def __init__(
        self,
        options: JudgeOptions,
        *,
        sleep: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self.cost = JudgeCost()
        self._key = key_from_environment(options.key_variable)
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._jitter = jitter
        self._lock = threading.Lock()
        self._connections = threading.Semaphore(options.concurrency)
        self._replies: OrderedDict[str, Future[JudgeReply]] = OrderedDict()
        self._down_for = 0
        """Questions in a row that an endpoint that seems to be down left without a reply."""
        if options.cache is not None:
            try:
                options.cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot write the judge's cache {options.cache}: {error.strerror}") from error

    def stop(self) -> None:
        """Try nothing again and ask nothing new: the user has had enough."""
        self._stopped.set()

    def ask(self, question: Question | str) -> JudgeReply:
        """One question; never raises for what the endpoint does. An equal one that is on its way is waited for.

        Raises:
            StoreError: the cache cannot be written.
        """
        if isinstance(question, str):
            question = Question(question)
        key = question.key(self.options.model)
        with self._lock:
            known = self._replies.get(key)
            if known is None:
                mine = self._replies[key] = Future()
                while len(self._replies) > MAX_REMEMBERED:
                    self._replies.popitem(last=False)
        reply = self._answered(key, question, mine) if known is None else replace(known.result(), cached=True)
        self._count(reply)
        return reply

    def _answered(self, key: str, question: Question, mine: Future[JudgeReply]) -> JudgeReply:
        try:
            reply = self._kept(key, question) or self._asked(key, question)
        except BaseException as error:
            mine.set_exception(error)
            self._forget(key, mine)
            raise
        mine.set_result(reply)
        if reply.text is None:
            self._forget(key, mine)
        return reply

    def _forget(self, key: str, mine: Future[JudgeReply]) -> None:
        with self._lock:
            if self._replies.get(key) is mine:
                del self._replies[key]

    def _count(self, reply: JudgeReply) -> None:
        with self._lock:
            self.cost.n_asked += 1
            self.cost.n_cached += reply.cached and reply.text is not None
            self.cost.n_failed += reply.text is None
            if not reply.cached:
                self.cost.prompt_tokens += reply.prompt_tokens
                self.cost.completion_tokens += reply.completion_tokens

    def _path(self, key: str) -> Path | None:
        return None if self.options.cache is None else self.options.cache / f"{key}.json"

    def _kept(self, key: str, question: Question) -> JudgeReply | None:
        """A kept reply; a damaged file is as good as none."""
        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            facts = json.loads(path.read_bytes())
            reply = JudgeReply(str(facts["text"]), None, int(facts["prompt_tokens"]), int(facts["completion_tokens"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return None if question.problem(reply.text or "") else replace(reply, cached=True)

    def _asked(self, key: str, question: Question) -> JudgeReply:
        """Ask the endpoint, and keep what answers the question."""
        try:
            reply = self._tried(question.body(self.options.model))
        except GenerationError as error:
            return JudgeReply(None, f"the judge was not asked: {error}")
        if reply.text is None:
            return reply
        problem = question.problem(reply.text)
        if problem is not None:
            return replace(reply, text=None, error=f"{problem}: {reply.text[:200]!r}")
        path = self._path(key)
        if path is not None:
            facts = {"text": reply.text, "prompt_tokens": reply.prompt_tokens}
            write_text_atomic(path, json.dumps({**facts, "completion_tokens": reply.completion_tokens}))
        return reply

    def _tried(self, body: bytes) -> JudgeReply:
        if not self._worth_asking():
            return JudgeReply(None, f"the judge was not asked: it left {GIVE_UP_AFTER} questions in a row unanswered")
        problem, down = "interrupted", False
        with self._connections:
            for attempt in range(self.options.attempts):
                if self._stopped.is_set():
                    break
                with self._lock:
                    self.cost.n_tries += 1
                try:
                    found = complete(self.options.url, body, self._key, self.options.timeout)
                except NoReply as error:
                    problem, down = str(error), error.endpoint_is_down
                    wait = wait_before_next(error, attempt, self._jitter)
                    if wait is None:
                        break
                    if attempt + 1 < self.options.attempts:
                        self._sleep(wait)
                    continue
                self._was_down(False)
                return JudgeReply(found.text, None, found.prompt_tokens, found.completion_tokens)
        self._was_down(down)
        return JudgeReply(None, f"the judge at {shown_address(self.options.url)} gave no reply: {problem}")

    def _worth_asking(self) -> bool:
        with self._lock:
            if self._down_for < GIVE_UP_AFTER or self._down_for % GIVE_UP_AFTER == 0:
                return True
            self._down_for += 1
            return False

    def _was_down(self, down: bool) -> None:
        with self._lock:
            self._down_for = self._down_for + 1 if down else 0
