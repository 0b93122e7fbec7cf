"""Asking a judge: any OpenAI-compatible endpoint, with limits on everything and nothing hidden.

Standard library only. A request is tried a limited number of times, replies are kept on disk, tokens are counted, and
a failure is a reply with an error: whoever asked leaves the sample unscored.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.files import write_text_atomic

MAX_REPLY_BYTES = 1_000_000
MAX_PROMPT_CHARS = 100_000
"""Of a longer prompt the beginning and the end are sent."""
_TRY_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Which judge, and within which limits."""

    url: str
    """Base address, such as ``http://localhost:8000/v1``."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; may be unset for local servers."""
    concurrency: int = 8
    attempts: int = 4
    """Tries a request, the first included."""
    timeout: float = 60.0
    """Seconds a try."""
    max_tokens: int = 256
    cache: Path | None = None
    """Folder of kept replies; None: keep none."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"--judge must be an http(s) address such as http://localhost:8000/v1, not {self.url!r}")
        if not self.model:
            raise ConfigError("--judge needs --judge-model: the name that the endpoint serves")
        if self.concurrency < 1 or self.attempts < 1 or self.timeout <= 0:
            raise ConfigError("a judge needs at least one connection, one attempt and some time")


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What came back."""

    text: str | None
    """None: no reply, see error."""
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False


@dataclass(slots=True)
class JudgeCost:
    """What asking cost so far."""

    n_asked: int = 0
    n_cached: int = 0
    n_failed: int = 0
    n_tries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge:
    """A chat model that is asked single questions at temperature 0. Safe to use from several threads."""

    def __init__(self, options: JudgeOptions, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.options = options
        self.cost = JudgeCost()
        self._sleep = sleep
        self._lock = threading.Lock()

    def ask_all(self, prompts: Sequence[str]) -> list[JudgeReply]:
        """Replies in the order of the prompts, at most `concurrency` at a time; equal prompts are asked once."""
        different = list(dict.fromkeys(prompts))
        with ThreadPoolExecutor(self.options.concurrency) as pool:
            replies = dict(zip(different, pool.map(self.ask, different), strict=True))
        return [replies[prompt] for prompt in prompts]

    def ask(self, prompt: str) -> JudgeReply:
        """One question; never raises for what the endpoint does."""
        if len(prompt) > MAX_PROMPT_CHARS:
            prompt = f"{prompt[: MAX_PROMPT_CHARS // 2]}\n...\n{prompt[-MAX_PROMPT_CHARS // 2 :]}"
        request = {
            "model": self.options.model,
            "messages": [{"role": "user", "content": prompt.encode("utf-8", "replace").decode()}],
            "temperature": 0,
            "max_tokens": self.options.max_tokens,
        }
        body = json.dumps(request, sort_keys=True).encode()
        kept = self._kept(body)
        reply = self._kept_reply(kept) or self._tried(body)
        if kept is not None and reply.text is not None and not reply.cached:
            facts = {
                "text": reply.text,
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
            }
            write_text_atomic(kept, json.dumps(facts))
        self._count(reply)
        return reply

    def _count(self, reply: JudgeReply) -> None:
        with self._lock:
            self.cost.n_asked += 1
            self.cost.n_cached += reply.cached
            self.cost.n_failed += reply.text is None
            if not reply.cached:
                self.cost.prompt_tokens += reply.prompt_tokens
                self.cost.completion_tokens += reply.completion_tokens

    def _kept(self, body: bytes) -> Path | None:
        if self.options.cache is None:
            return None
        try:
            self.options.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write the judge's cache {self.options.cache}: {error.strerror}") from error
        return self.options.cache / f"{hashlib.sha256(body).hexdigest()}.json"

    def _kept_reply(self, path: Path | None) -> JudgeReply | None:
        """A kept reply; a damaged file is as good as none."""
        if path is None or not path.exists():
            return None
        try:
            facts = json.loads(path.read_bytes())
            return JudgeReply(
                str(facts["text"]), None, int(facts["prompt_tokens"]), int(facts["completion_tokens"]), True
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _tried(self, body: bytes) -> JudgeReply:
        problem, wait = "", 0.0
        for attempt in range(self.options.attempts):
            if attempt:
                self._sleep(max(wait, min(0.5 * 2**attempt, 8.0)))
            with self._lock:
                self.cost.n_tries += 1
            try:
                return self._post(body)
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code} {error.reason}"
                wait = _retry_after(error)
                if error.code not in _TRY_AGAIN:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
        return JudgeReply(None, f"the judge at {self.options.url} gave no reply: {problem}"[:500])

    def _post(self, body: bytes) -> JudgeReply:
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.options.key_variable)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.options.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=self.options.timeout) as stream:
            data = stream.read(MAX_REPLY_BYTES + 1)
        if len(data) > MAX_REPLY_BYTES:
            raise ValueError("the reply is too long")
        return _reply(json.loads(data))


def _reply(facts: Any) -> JudgeReply:
    """The reply in an endpoint's JSON.

    Raises:
        ValueError: it has another form.
    """
    try:
        text = _text(facts["choices"][0]["message"]["content"])
        usage = facts.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("the reply is no chat completion") from error
    return JudgeReply(text, None, *tokens)


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise TypeError("the reply has no text")
    return content


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that the endpoint asks to wait, at most 30."""
    try:
        return min(max(float(error.headers.get("Retry-After") or 0.0), 0.0), 30.0)
    except ValueError:
        return 0.0
