"""The nouns at rest: what a run directory holds. Field order and names are part of the format; so is the version."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1

RunStatus = Literal["started", "complete"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckpointRecord(_Record):
    """Which weights answered."""

    name: str
    """As shown: ``<series>/checkpoint-<step>`` or the folder's name or hub id."""
    series: str
    step: int | None
    fingerprint: str
    """SHA-256 (hex) of weights and of all files that change what the model says; ``imported:`` and the SHA-256 of the
    results for an imported run, whose weights are not known; ``served:`` and the SHA-256 of the name for a model of an
    endpoint, of which nothing else is known."""
    path: str
    """Where it was; for people. Never used to decide whether two runs are the same."""
    base: str | None = None
    """Base model of a LoRA adapter."""


class SamplingRecord(_Record):
    """How responses were drawn (see `specs_eval.sampling.SamplingSpec`); None: not known, in imported runs."""

    temperature: float | None
    max_new_tokens: int | None
    seed: int | None
    top_p: float | None
    stop: tuple[str, ...] | None


class RunManifest(_Record):
    """A run directory's first file, written before the first rollout."""

    schema_version: int
    run_id: str
    status: RunStatus
    """``started`` until table and results are written; a killed run stays ``started``."""
    checkpoint: CheckpointRecord
    task: str
    task_version: str
    sampling: SamplingRecord
    backend: str
    """Engine and dtype, such as ``hf/float32``."""
    n_samples: int
    """Samples that the run was asked for (a prefix of the task)."""
    n_task_samples: int
    """Samples that the task has in all."""
    rollout_units: tuple[int, ...]
    """Numbers of rollouts a sample, ascending: what each call of ``run`` raised it to. The last one is asked for now."""
    environment: dict[str, str]
    """Versions and device at the last start; not part of the identity."""
    started: str
    finished: str | None = None
    seconds: float = 0.0
    """Time spent generating and scoring over all calls."""

    @property
    def n_rollouts(self) -> int:
        """Rollouts a sample that the run was asked for."""
        return self.rollout_units[-1]


class MetricTotal(_Record):
    """One metric over the scored rollouts of a run."""

    mean: float | None
    """Mean over samples of the mean over their scored rollouts; None: nothing was scored."""
    n_samples: int
    """Samples with at least one scored rollout."""


class RunResults(_Record):
    """The file that says a run is complete; a function of the rollouts alone, so that a resumed run has the same."""

    schema_version: int
    run_id: str
    n_samples: int
    n_rollouts: int
    """Rollouts in the table, failed ones included."""
    n_failed: int
    """Rollouts without a score."""
    n_tokens: int
    metrics: dict[str, MetricTotal]


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes two runs the same run: weights, task and version, sampling, engine numerics."""

    checkpoint: CheckpointRecord
    task: str
    task_version: str
    sampling: SamplingRecord
    backend: str

    @property
    def run_id(self) -> str:
        """Readable, unique, safe as a folder name."""
        facts = {
            "fingerprint": self.checkpoint.fingerprint,
            "task": self.task,
            "task_version": self.task_version,
            "sampling": self.sampling.model_dump(mode="json"),
            "backend": self.backend,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        return f"{_slug(self.checkpoint.name)}--{_slug(self.task)}--{digest}"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to one sample, scored: a journal line and a row of the table."""

    sample_id: str
    rollout: int
    response: str
    score: float | None
    """Share in [0, 1]; None: failed or unscored, see reason."""
    answer: str | None = None
    rule: str = ""
    reason: str | None = None
    finish_reason: str = "stop"
    n_tokens: int | None = None
    entropy: float | None = None
    nucleus: float | None = None
    nucleus_sizes: tuple[int, ...] | None = None
    entropies: tuple[float, ...] | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the rollout has no score."""
        return self.score is None


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """What was asked and what the right answer is, without the images: enough to score again without a model."""

    sample_id: str
    prompt: str
    """The chat as text, ``<image>`` where images stood."""
    prompt_hash: str
    """Digest over roles, texts and image contents; of the text alone, or empty where it is unknown, in imported runs."""
    target: str
    group: str | None = None
    category: dict[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    """Digests of the images in reading order."""
    meta: dict[str, Any] = field(default_factory=dict)


def valid_text(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD: what can be stored as UTF-8 and read by every tool."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-60:] or "run"
