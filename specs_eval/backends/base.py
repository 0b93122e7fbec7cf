"""The one interface of all backends: batches of chats with images in, k responses with token statistics out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from specs_eval.chat import Chat
from specs_eval.checkpoints import Checkpoint
from specs_eval.sampling import SamplingSpec

FinishReason = Literal["stop", "length", "error"]

NUCLEUS_MASS = 0.95
"""Probability mass of the nucleus whose size is the rollout branching factor (arXiv 2508.07534)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to be answered: which chat, which rollouts of it."""

    sample_id: str
    key: int
    """Noise key of the sample (`specs_eval.sampling.noise_key`)."""
    chat: Chat
    rollouts: tuple[int, ...]
    """Numbers of the rollouts that are owed; may have gaps after an interruption."""


@dataclass(frozen=True, slots=True)
class Response:
    """One rollout as the model gave it."""

    rollout: int
    text: str = ""
    n_tokens: int | None = None
    """Generated tokens, the end token included; None: the backend cannot tell."""
    finish_reason: FinishReason = "stop"
    entropy: float | None = None
    """Mean over positions of the entropy in nats of the model's distribution at T = 1, full vocabulary."""
    nucleus: float | None = None
    """Mean over positions of the size of the smallest token set with mass >= 0.95."""
    nucleus_sizes: tuple[int, ...] | None = None
    """The size at each position, when asked for."""
    entropies: tuple[float, ...] | None = None
    """The entropy (nats) at each position, when asked for."""
    error: str | None = None
    """Why there is no response; then the rollout is recorded as failed."""


@dataclass(slots=True)
class Timing:
    """Where the time of a backend went, in seconds, and how many tokens came of it."""

    preprocess: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    statistics: float = 0.0
    n_tokens: int = 0
    n_rollouts: int = 0


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a user may choose about a backend; nothing here may change a score."""

    batch_size: int | None = None
    """Samples a batch; None: the backend chooses."""
    device: str | None = None
    dtype: str | None = None
    """Changes results, so it is part of a run's identity (`Backend.numerics`)."""
    per_position: bool = False
    """Also return the statistics of each position."""
    extra: dict[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """A model engine. One checkpoint at a time; `load` may be called again with the next one."""

    name: str
    timing: Timing

    @property
    def numerics(self) -> str:
        """What else responses depend on (engine, dtype): part of a run's identity, e.g. ``hf/float32``."""
        ...

    def block_size(self, n_rollouts: int) -> int:
        """Samples that are computed together when each owes this many rollouts.

        1: every sample stands alone. 0: every rollout does, so that only those that are missing are asked for.

        Text never depends on it, but the last digits of a statistic may. The runner therefore resumes an interrupted
        run in whole blocks, counted from its first sample, and `generate` must form its batches in the same way.
        """
        ...

    def load(self, checkpoint: Checkpoint) -> None:
        """Make this checkpoint the one that answers.

        Raises:
            CheckpointError: the checkpoint cannot be loaded; the message says why.
        """
        ...

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[tuple[Request, list[Response]]]:
        """Answer requests, yielding each one once, as soon as it is done (any order), with its responses.

        A request that fails is yielded with responses that carry `error`; only a broken engine raises.
        """
        ...

    def close(self) -> None:
        """Free the engine and its memory."""
        ...


def usage_line(backend: Backend) -> str | None:
    """What asking cost, in the words of a backend that pays for it (it then has a method of this name); else None."""
    line: Callable[[], str | None] | None = getattr(backend, "usage_line", None)
    return line() if line is not None else None
