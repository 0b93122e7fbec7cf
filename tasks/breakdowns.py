"""Sums by category: what the benchmarks' papers tabulate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "mathvista": (
        "question_type",
        "answer_type",
        "category",
        "task",
        "context",
        "grade",
        "source",
        "language",
        "skills",
    ),
    "mmmu": ("domain", "subject"),
    "mmmu_pro": ("domain", "subject"),
}
MAX_VALUES = 1_000
"""Values of one dimension that are told apart."""


@dataclass(slots=True)
class Total:
    """What was summed up for one value of one dimension."""

    score: float = 0.0
    n: int = 0
    """Scored rows."""
    n_unscored: int = 0

    def add(self, score: float | None) -> None:
        """Count one row."""
        if score is None:
            self.n_unscored += 1
        else:
            self.n += 1
            self.score += score

    @property
    def mean(self) -> float | None:
        """Mean over the scored rows; None when there are none."""
        return self.score / self.n if self.n else None


@dataclass(slots=True)
class Breakdown:
    """Totals of a set of rows, overall and by category; a row counts in every value that it lists."""

    overall: Total = field(default_factory=Total)
    parts: dict[str, dict[str, Total]] = field(default_factory=dict)
    metrics: dict[str, Total] = field(default_factory=dict)

    def add(
        self, dimensions: Mapping[str, Sequence[str]], score: float | None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Count one row."""
        self.overall.add(score)
        for name, value in (metrics or {}).items():
            self.metrics.setdefault(name, Total()).add(value)
        for dimension, values in dimensions.items():
            totals = self.parts.setdefault(dimension, {})
            for label in values:
                if label in totals or len(totals) < MAX_VALUES:
                    totals.setdefault(label, Total()).add(score)

    def sorted_parts(self) -> Iterator[tuple[str, dict[str, Total]]]:
        """Dimensions in the order first seen, their values by name."""
        for dimension, totals in self.parts.items():
            yield dimension, dict(sorted(totals.items()))


def row_dimensions(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Dimension -> values of a stored row: its own columns and what ``meta`` says."""
    benchmark = row.get("benchmark")
    names = _DIMENSIONS.get(benchmark, ()) if isinstance(benchmark, str) else ()
    meta = row.get("meta")
    facts = {
        **(meta if isinstance(meta, dict) else {}),
        **{k: row[k] for k in ("question_type", "answer_type") if k in row},
    }
    if "subject" in facts and "domain" not in facts:
        from specs_eval.tasks.mmmu.subjects import domain_of

        facts["domain"] = domain_of(str(facts["subject"]))
    found = {}
    for name in names:
        value = facts.get(name)
        if isinstance(value, str) and value:
            found[name] = [value]
        elif isinstance(value, list):
            found[name] = [item for item in value if isinstance(item, str)]
    return found
