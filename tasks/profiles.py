"""Scoring profiles: by whose rules a response is judged, and by which judge.

Every result names the profile that it was scored with, and a task's version also the judge.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, get_args

from specs_eval.errors import ConfigError

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Profile = Literal["official", "reasoning"]
"""``official``: the benchmark authors' deterministic behaviour, quirks included, for the official prompts.
``reasoning``: the answer is taken from the asked format first and an answer that is not there earns nothing."""

PROFILES: tuple[Profile, ...] = get_args(Profile)

NO_ANSWER = "no answer"
"""Reason of a score of 0 where nothing in the response answers the question."""


class UnusableRecordError(ValueError):
    """A record or stored row that cannot be scored; the text says which field and why."""


def profile_named(name: str) -> Profile:
    """The profile of this name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    for profile in PROFILES:
        if profile == name:
            return profile
    raise ConfigError(f"unknown scoring profile {name!r}; choose one of {', '.join(PROFILES)}")


def profile_of(task_version: str) -> Profile:
    """The profile in a task's version, where it stands before a judge's name (which may hold any word).

    Versions that name none (easy-VQA, format-following views, lmms-eval tasks) count as ``official``.
    """
    rules = task_version.partition("-judge:")[0] + "-"
    return next((name for name in PROFILES if f"-{name}-" in rules), "official")


_JUDGED = re.compile(r"-judge:(.+)-[0-9a-f]{12}")


def judged_by(task_version: str) -> str | None:
    """The judge's model in a task's version (see `judge_mark`); None: scored without one."""
    found = _JUDGED.search(task_version)
    return found.group(1) if found else None


def judge_mark(judge: Judge | None) -> str:
    """What a judge adds to a task's scoring version: whoever judges is part of what a score means."""
    return "" if judge is None else f"-judge:{judge.options.model}"
