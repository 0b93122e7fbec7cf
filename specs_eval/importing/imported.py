"""What a log comes to before it is written: an ordinary run, with None for what the log does not say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from specs_eval.checkpoints import CheckpointNames
from specs_eval.records import Rollout, SampleRecord, SamplingRecord, valid_text

MAX_TEXT = 1_000_000
"""Characters of a response, prompt or target that are kept."""

MAX_NAME = 300
"""Characters of ids, groups, categories and names of metrics."""

UNKNOWN_SAMPLING = SamplingRecord(temperature=None, max_new_tokens=None, seed=None, top_p=None, stop=None)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the user says about logs that the logs do not say themselves."""

    checkpoint: str | None = None
    """Name of the checkpoint, or its path, such as ``dpo/checkpoint-500``."""
    series: str | None = None
    step: int | None = None
    task: str | None = None
    score_keys: tuple[str, ...] = ()
    """Which value of a sample is its score; of several the first that the sample has."""
    scale: float | None = None
    """What the best score is in the log, such as 100; None: 1."""
    filter: str | None = None
    """Name or number of lmms-eval's filter whose rows count, where a task has several."""
    categories: tuple[str, ...] = ()
    """Further fields of the log to keep as categories."""


@dataclass(frozen=True, slots=True)
class ImportedLog:
    """One checkpoint on one task."""

    checkpoint: CheckpointNames
    path: str
    """Where the weights were, if the log says; for people."""
    task: str
    writer: str
    """What wrote the log, such as ``lmms-eval-0.7`` or ``rows``."""
    score_name: str
    samples: tuple[SampleRecord, ...]
    rollouts: tuple[Rollout, ...]
    n_task_samples: int
    """Samples that the task has in all, or those in the log where it does not say."""
    sampling: SamplingRecord
    source: str
    """Name of the file."""
    gaps: tuple[str, ...]
    """What the log does not say, a few words each."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know, a sentence each."""
    facts: dict[str, str] = field(default_factory=dict)
    """Further facts to keep with the run."""

    @property
    def n_rollouts(self) -> int:
        """Rollouts of the sample that has most."""
        return 1 + max((rollout.rollout for rollout in self.rollouts), default=0)


def kept_text(value: object, limit: int = MAX_TEXT) -> str:
    """A value of a log as text that can be stored: no lone surrogates, no more than `limit` characters."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return valid_text(text[:limit])


def text_hash(prompt: str) -> str:
    """The hash that is kept for a prompt of which only the text is known; empty for none."""
    return hashlib.sha256(prompt.encode()).hexdigest() if prompt else ""


def slug(text: str) -> str:
    """A text as part of a version or file name."""
    return re.sub(r"[^A-Za-z0-9_.+]+", "_", text).strip("_")[:60] or "score"


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, cut."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
