"""What is varied: one thing at a time against the recipe that ships, `tiny_cpu`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CHOOSING_SEEDS = (0, 1)
"""Seeds on which settings are compared and chosen."""
REPORTED_SEEDS = (10, 11, 12, 13, 14)
"""Other seeds, on which what was chosen is reported; none of them was run before the choice."""

STEPS = 30
EVERY = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to train the three cold starts."""

    name: str
    varies: str
    """The factor, for the table."""
    base: str = "tiny"
    """Name of a base of `bases.py`, or ``tiny``: the one that ships."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the recipe, by dotted key."""
    own_pairs: bool = True
    """Whether zero model and pairs differ from those of the reference; else these are used."""


REFERENCE = Setting("reference", "the recipe that ships")

SETTINGS = (
    REFERENCE,
    Setting("rate-2e-4", "learning rate", changes={"stages.cold_start.learning_rate": 2e-4}, own_pairs=False),
    Setting("rate-8e-4", "learning rate", changes={"stages.cold_start.learning_rate": 8e-4}, own_pairs=False),
    Setting("questions-60", "data diversity", changes={"stages.distill.questions": 60}),
    Setting("questions-3000", "data diversity", changes={"questions.limit": 3000}),
    Setting("base-same", "none: control of the next four", base="same"),
    Setting("base-strong", "ability of the base in the OOD formats", base="strong"),
    Setting("base-formats", "number of formats that the base knows", base="formats"),
    Setting("base-failures", "how the base fails", base="failures"),
    Setting("base-paper", "the last three together", base="paper"),
    Setting("model-small", "model size", base="small"),
)


def by_name(name: str) -> Setting:
    """The setting of that name.

    Raises:
        KeyError: there is none.
    """
    return {setting.name: setting for setting in SETTINGS}[name]


REPORTED = ("reference", "base-failures", "base-paper")
"""Settings that are run on the reported seeds: the one that ships and what was chosen."""
REPORTED_QUESTIONS = 80
"""Questions of an evaluation on the reported seeds; on the others there are 40."""
