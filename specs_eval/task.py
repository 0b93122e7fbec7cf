"""What a task is to the rest of specs-eval: it gives samples and scores responses. Nothing else is assumed.

Implementations live in ``specs_eval.tasks``; lmms-eval tasks are wrapped into the same protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from specs_eval.chat import Chat

JUDGE_FAILED = "judge failed"
"""Rule of a score that is None because a judge could not be asked or gave nothing usable: the response is good, so that
the same command asks again instead of generating again."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question."""

    sample_id: str
    """Unique within its task and stable over versions of the code: pairs are formed by it."""
    chat: Chat
    target: str
    """The gold answer as text (JSON where the gold is structured)."""
    category: Mapping[str, str] = field(default_factory=dict)
    """Dimension -> value, such as ``{"format": "json"}``: what breakdowns and splits are made of. Several values of one
    dimension stand in one text (`specs_eval.splits.VALUE_SEPARATOR`)."""
    group: str | None = None
    """Cluster for standard errors (same image, same source question); None: the sample stands alone."""
    question: Chat | None = None
    """The question without any instruction on the form of the answer, for tasks that ask for other forms; None: the
    chat itself."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able facts that scoring needs beyond the target (choices, units, ...); stored beside the run."""


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's decision on one response."""

    score: float | None
    """Share in [0, 1], higher is better; None: could not be judged (see reason)."""
    answer: str | None = None
    """The answer that was extracted from the response."""
    rule: str = ""
    """Name of the rule that decided."""
    reason: str | None = None
    """Why the score is 0 without a wrong answer ("no answer found"), or why it is None."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further shares of the same response, such as ``{"format": 1.0, "accuracy": 0.0}``."""


@runtime_checkable
class Task(Protocol):
    """A benchmark, or a view of one.

    A task whose scoring waits for others (a judge) may also have ``scoring_threads``: so many responses are then scored
    at a time, in threads.
    """

    name: str
    """Short name, as typed after ``--tasks``."""
    max_new_tokens: int
    """Response budget that the task asks for unless the user says otherwise."""

    @property
    def version(self) -> str:
        """Changes whenever what is asked or how it is scored changes: ``<scoring version>-<content hash>``."""
        ...

    def samples(self) -> Sequence[Sample]:
        """All samples, in an order that is fixed for a version (so that a limit is always the same prefix)."""
        ...

    def score(self, sample: Sample, response: str) -> Score:
        """Score one response. Hostile input is expected: must not execute, hang or raise on any text."""
        ...

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """Score an answer that was extracted already (used where another format was asked for)."""
        ...
