"""How tasks are called: one canonical name each, with the spellings that users may type."""

from __future__ import annotations

PREFIX = "specs_"
"""Our tasks inside lmms-eval carry this prefix; our own command line takes them with or without it."""

QUESTIONS_PREFIX = "questions_"
"""Names of tasks that were made of training questions for one command: no name brings them back."""
ID_SUFFIX = "_formats_id"
OOD_SUFFIX = "_formats_ood"

ALIASES = {"formats_id": "easyvqa_formats_id", "formats_ood": "easyvqa_formats_ood"}
"""The format-following pair of the embedded default benchmark."""


def canonical_task_name(name: str) -> str:
    """The name under which a task is stored: no ``specs_`` prefix, aliases resolved."""
    bare = name.strip().removeprefix(PREFIX)
    return ALIASES.get(bare, bare)
