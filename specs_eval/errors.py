"""The error types of specs-eval: what went wrong, whose fault it is, and which exit code follows.

A bad rollout is data, not a crash: a failed sample becomes a record with ``score=None`` and a reason. These
exceptions are for everything that cannot be recorded that way. The tree is flat on purpose.
"""

from __future__ import annotations

EXIT_PASS = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells say it: 128 and the number of SIGINT."""


class SpecsEvalError(Exception):
    """Base of all errors that a user may see; its text says what, where and what to do."""

    exit_code = EXIT_USAGE


class ConfigError(SpecsEvalError):
    """The user asked for something that cannot be done as asked (option, name, path, value)."""


class CheckpointError(SpecsEvalError):
    """A checkpoint is missing, half-written or of a kind that we refuse to load."""


class TaskDataError(SpecsEvalError):
    """A benchmark's data is missing or malformed; names the place searched or the sample id."""


class StoreError(SpecsEvalError):
    """The run store is unreadable, unwritable, of another schema, or busy."""

    exit_code = EXIT_INCOMPLETE


class GenerationError(SpecsEvalError):
    """A backend failed on one request or one checkpoint; the runner records it."""

    exit_code = EXIT_INCOMPLETE


class ScoringError(SpecsEvalError):
    """A scorer could not judge a response: the rollout is unscored, never 0."""

    exit_code = EXIT_INCOMPLETE


class ComparisonError(SpecsEvalError):
    """Two runs are not comparable; the message names the differing field."""

    exit_code = EXIT_INCOMPLETE


class TrainingError(SpecsEvalError):
    """A stage of training cannot go on: nothing to train on, a loss that is no number; says what and what is kept."""

    exit_code = EXIT_INCOMPLETE
