"""Scoring profiles: by whose rules a response is judged. Every result names the profile that it was scored with."""

from __future__ import annotations

from typing import Literal, get_args

from specs_eval.errors import ConfigError

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
