"""What the options of a user mean for the openai backend."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specs_eval.backends.base import BackendOptions
from specs_eval.errors import ConfigError
from specs_eval.transport import MAX_CONNECTIONS

URL_VARIABLE = "OPENAI_BASE_URL"
MAX_URLS = 256
MAX_N = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options; each is a KEY of ``--backend-arg``, lists are comma-separated."""

    base_url: tuple[str, ...] = ()
    """Base addresses such as ``http://localhost:8000/v1``; several are balanced and must serve the same model."""
    model: str | None = None
    """Name that the endpoint serves a checkpoint folder by, where it cannot be found by the folder's path."""
    check_model: bool = True
    """Refuse an endpoint that lists or reports another model than asked."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; may be unset for local servers."""
    concurrency: int = 32
    """Requests at a time, over all addresses."""
    attempts: int = 8
    """Tries a request, the first included."""
    timeout: float = 600.0
    """Seconds a try."""
    n: int = 128
    """Rollouts in one request at most, where the endpoint takes n at all."""
    top_logprobs: int = 0
    """Log-probabilities to ask for at each position; 0: none, -1: the whole vocabulary."""
    raw_logprobs: bool = False
    """They are known to be of the model's own distribution (T = 1, untruncated), whatever the sampling."""
    price: tuple[float, float] | None = None
    """For a million prompt tokens and a million generated tokens, in any currency."""
    reload: bool = False
    """Put the weights of each checkpoint folder into the server, a ``vllm serve`` in its development mode."""
    per_position: bool = False


def settings_from(options: BackendOptions) -> Settings:
    """Check a user's options.

    Raises:
        ConfigError: an option has no meaning here; the message says what has.
    """
    for name, value in (("--device", options.device), ("--dtype", options.dtype), ("--batch-size", options.batch_size)):
        if value is not None:
            raise ConfigError(f"{name} is decided by the server, not by --backend openai; leave it out")
    extra = dict(options.extra)
    if "base_url" not in extra and (found := os.environ.get(URL_VARIABLE, "").strip()):
        extra["base_url"] = found
    values: dict[str, Any] = {"per_position": options.per_position}
    for key, text in extra.items():
        if key not in READERS:
            raise ConfigError(f"the openai backend does not know {key}={text}; it knows {', '.join(READERS)}")
        try:
            values[key] = READERS[key](text)
        except ValueError as error:
            shown = "" if key == "base_url" else f" not {text!r};"
            raise ConfigError(f"--backend-arg {key}:{shown} {error}") from None
    settings = Settings(**values)
    if settings.reload and len(settings.base_url) > 1:
        raise ConfigError("reload=yes changes the weights of one server; name one --base-url")
    return settings


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(part.strip().rstrip("/") for part in text.split(",") if part.strip()))
    if not 0 < len(urls) <= MAX_URLS or not all(url.startswith(("http://", "https://")) for url in urls):
        raise ValueError("it takes http(s) addresses such as http://localhost:8000/v1, comma-separated")
    if not all(url.isascii() and url.isprintable() and "@" not in url and "?" not in url for url in urls):
        raise ValueError("an address holds neither a user nor a query; a key belongs into the environment")
    return urls


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it takes a name")
    return text


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError("it takes the name of an environment variable, never a key")
    return text


def _switch(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("it takes yes or no")
    return text == "yes"


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if text.lstrip("-").isdecimal() and len(text) < 10 else None
        if value is None or not least <= value <= most:
            raise ValueError(f"it takes a whole number from {least} to {most}")
        return value

    return read


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError("it takes a number of at least 0")
    return value


def _seconds(text: str) -> float:
    if not 0 < (value := _number(text)) <= 86_400:
        raise ValueError("it takes seconds, above 0 and at most a day")
    return value


def _price(text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError("it takes two numbers: IN,OUT for a million prompt and a million generated tokens")
    return _number(parts[0]), _number(parts[1])


READERS: dict[str, Callable[[str], Any]] = {
    "base_url": _urls,
    "model": _name,
    "check_model": _switch,
    "key_variable": _variable,
    "concurrency": _whole(1, MAX_CONNECTIONS),
    "attempts": _whole(1, 100),
    "timeout": _seconds,
    "n": _whole(1, MAX_N),
    "top_logprobs": _whole(-1, 10_000_000),
    "raw_logprobs": _switch,
    "price": _price,
    "reload": _switch,
}
"""How the text of each setting is read."""
