"""What the pairs depend on, and what is counted on the way to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from specs_eval.errors import ConfigError

PairData = Literal["decoupled", "coupled"]
"""``decoupled``: chosen and rejected are both right, only the form differs; ``coupled``: the rejected is wrong too."""
Source = Literal["zero", "base", "teacher"]
"""Which kind of model was sampled: a label, kept with every pair."""
Consistency = Literal["rules", "judge", "off"]
"""Who decides whether the reasoning of a right response agrees with its answer."""


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """How rollouts become pairs. The same settings and the same run give the same pairs."""

    n_rollouts: int = 8
    """Rollouts 0..n-1 of each question are used, however many the run has."""
    data: PairData = "decoupled"
    source: Source = "zero"
    consistency: Consistency = "rules"
    require_conclusion: bool = False
    """Also drop responses whose reasoning states no conclusion."""
    pairs_per_question: int = 1
    max_pairs: int | None = None
    validation_share: float = 0.05
    """Of the pairs; in [0, 1)."""
    seed: int = 0
    """Of which rollout, which pollution, which split. Sampling has the same seed in the command line."""

    def __post_init__(self) -> None:
        for name in ("n_rollouts", "pairs_per_question"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, not {getattr(self, name)}")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ConfigError(f"max_pairs must be >= 1, not {self.max_pairs}")
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share must be in [0, 1), not {self.validation_share}")
        for name, kind in (("data", PairData), ("source", Source), ("consistency", Consistency)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")


@dataclass(slots=True)
class Counts:
    """How many questions, rollouts and pairs there were at each filter, in the order of the filters."""

    questions: Counter[str] = field(default_factory=Counter)
    rollouts: Counter[str] = field(default_factory=Counter)
    pairs: dict[str, Counter[str]] = field(default_factory=dict)
    """Split -> pollution -> pairs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        pairs = {split: dict(sorted(kinds.items())) for split, kinds in self.pairs.items()}
        return {"questions": dict(self.questions), "rollouts": dict(self.rollouts), "pairs": pairs}

    def lines(self) -> list[str]:
        """For people: one line a filter."""
        return [*_section("questions", self.questions), *_section("rollouts", self.rollouts)]


def _section(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{title}: {name}: {count:,}" for name, count in counts.items()]
