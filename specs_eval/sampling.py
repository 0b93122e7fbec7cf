"""How responses are drawn: the sampling spec, and noise that depends on what is asked and on nothing else."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from specs_eval.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Everything about sampling that a response may depend on. Batch size is not part of it, on purpose."""

    temperature: float = 0.0
    """0 = greedy; else logits are divided by it."""
    max_new_tokens: int = 512
    seed: int = 0
    top_p: float = 1.0
    """Nucleus truncation of the *sampling* distribution; statistics are always of the untruncated one at T = 1."""
    stop: tuple[str, ...] = ()
    """The response ends before the first of these strings."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature must be a finite number >= 0, not {self.temperature}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be >= 1, not {self.max_new_tokens}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], not {self.top_p}")
        if any(not text for text in self.stop):
            raise ConfigError("a stop string must not be empty")

    def to_dict(self) -> dict[str, object]:
        """The spec as plain JSON types."""
        return {**asdict(self), "stop": list(self.stop)}


def noise_key(task: str, sample_id: str) -> int:
    """64-bit key of a sample, the same in every process, batch and order."""
    data = f"{len(task)}:{task}:{sample_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def rollout_uniforms(seed: int, key: int, rollout: int, n_positions: int) -> NDArray[np.float64]:
    """The uniform numbers that a rollout is sampled with, one a position.

    A counter-based generator (Philox) keyed on (seed, sample, rollout): a longer sequence starts with the shorter
    one, so the noise at a position never depends on the token budget, the batch or what was generated before.

    Args:
        seed: any integer.
        key: `noise_key` of the sample.
        rollout: number of the rollout, >= 0.
        n_positions: how many positions.

    Returns:
        Numbers in [0, 1), shape (n_positions,).
    """
    mixed = hashlib.blake2b(f"{seed}:{key}:{rollout}".encode(), digest_size=16).digest()
    words = np.frombuffer(mixed, dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words)).random(n_positions)
