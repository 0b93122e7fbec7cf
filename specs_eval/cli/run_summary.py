"""What there is to say about one stored run: means of its metrics, answers that are missing, and its categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from specs_eval.analysis.categories import CategoryMean, CategoryMeans, pooled
from specs_eval.analysis.samples import FloatArray, Rollouts
from specs_eval.analysis.statistics import Estimate, summarize
from specs_eval.analysis.stored.reading import metric_names, read_rollouts
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.splits import Split, values_by_dimension
from specs_eval.store import StoredRun
from specs_eval.tasks.paper_tables import PaperTables, paper_tables

ANSWER_METRICS = ("no_answer", "free_credit", "chance_credit")
"""Metrics that tell how an answer came about, not how good it is."""

COVERAGE = "coverage"
"""Metric with the share of its answer fields that a rollout was scored on (MEGA-Bench)."""

TABULATED = ("score", "accuracy")
"""Metrics that are broken down by category."""

MAX_LISTED = 100
"""Values of a dimension beyond which it is left out unless everything is asked for."""


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """One of `ANSWER_METRICS` over a run."""

    mean: float | None
    """Mean over samples of the mean over scored rollouts; None: nothing was scored."""
    total: float
    """Sum over rollouts: for ``no_answer``, how many had none."""
    n_rollouts: int
    """Scored rollouts."""


class RunSummary:
    """One run, or a part of it, read once."""

    def __init__(self, run: StoredRun, split: Split | None = None, level: float = 0.95) -> None:
        self.run = run
        self.split = split or Split(run.manifest.task)
        self._level = level
        self._rollouts = read_rollouts(run, metric_names(run), split=split, categories=True)

    @property
    def metrics(self) -> dict[str, Estimate]:
        """``score`` and further metrics, without those that only count answers and fields."""
        hidden = (*ANSWER_METRICS, COVERAGE)
        return {name: mean for name, mean in self.all_metrics.items() if name not in hidden}

    @cached_property
    def all_metrics(self) -> dict[str, Estimate]:
        """Mean and interval of every metric."""
        return {name: summarize(one.by_sample(), self._level) for name, one in self._rollouts.items()}

    @property
    def answers(self) -> dict[str, AnswerCount]:
        """What is known about missing answers; empty where the task does not say."""
        found = {name: self._rollouts[name] for name in ANSWER_METRICS if name in self._rollouts}
        return {name: _count(one, self.all_metrics[name].value) for name, one in found.items()}

    @property
    def paper(self) -> PaperTables | None:
        """The tables of the benchmark's paper."""
        return paper_tables(self.run.manifest.task)

    @property
    def tabulated(self) -> list[str]:
        """The metrics that are broken down by category."""
        return [name for name in TABULATED if name in self._rollouts]

    def overall(self, metric: str = "score") -> CategoryMean:
        """All samples, with the macro mean where the benchmark has one."""
        return self._means(metric).overall()

    def by_value(self, metric: str, dimension: str) -> dict[str, CategoryMean]:
        """Value -> its samples; in the paper's order, then by name."""
        found = self._means(metric).by_value(dimension)
        first = [value for value in (self.paper.order(dimension) if self.paper else ()) if value in found]
        return {value: found[value] for value in dict.fromkeys([*first, *found])}

    def dimensions(self, *, everything: bool) -> list[str]:
        """What the samples are categorized by: in the paper's order, then by name; long ones only on request."""
        values = values_by_dimension(self._score.categories)
        first = [name for name in (self.paper.dimensions if self.paper else ()) if name in values]
        kept = dict.fromkeys([*first, *values])
        return [name for name in kept if everything or len(values[name]) <= MAX_LISTED]

    def category_facts(self, *, everything: bool) -> list[dict[str, Any]]:
        """Every category as plain JSON types, one entry a metric, dimension and value."""
        return [
            {"metric": metric, "dimension": dimension, "value": value, **mean.to_dict()}
            for metric in self.tabulated
            for dimension in self.dimensions(everything=everything)
            for value, mean in self.by_value(metric, dimension).items()
        ]

    @property
    def _score(self) -> Rollouts:
        return self._rollouts["score"]

    def parts_for(self, metric: str) -> tuple[Rollouts, FloatArray | None]:
        """The rollouts of a metric, and the share of its fields that each was scored on."""
        fields = self._rollouts.get(COVERAGE)
        return self._rollouts[metric], None if fields is None else fields.values

    def _means(self, metric: str) -> CategoryMeans:
        if metric not in self._cached:
            rollouts, fields = self.parts_for(metric)
            self._cached[metric] = CategoryMeans(
                rollouts, macro_over=self.macro_over, field_coverage=fields, level=self._level
            )
        return self._cached[metric]

    @cached_property
    def _cached(self) -> dict[str, CategoryMeans]:
        return {}

    @property
    def macro_over(self) -> str | None:
        """The dimension that names tasks, where all samples have it (imported runs may not)."""
        dimension = None if self.paper is None else self.paper.macro_over
        has = dimension is not None and all(category.get(dimension) for category in self._score.categories)
        return dimension if has else None


@dataclass(frozen=True, slots=True)
class PooledMean:
    """A benchmark that consists of several tasks, over all of them."""

    checkpoint: str
    tasks: tuple[str, ...]
    mean: CategoryMean

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"checkpoint": self.checkpoint, "tasks": list(self.tasks), **self.mean.to_dict()}


def pooled_means(summaries: Sequence[RunSummary], level: float = 0.95) -> list[PooledMean]:
    """The overall score of each checkpoint that ran all parts of a benchmark, each once."""
    found: dict[tuple[CheckpointKey, tuple[str, ...]], list[RunSummary]] = {}
    for summary in summaries:
        parts = summary.paper.parts if summary.paper and summary.macro_over else ()
        if str(summary.split) in parts:
            found.setdefault((CheckpointKey.of(summary.run.manifest), parts), []).append(summary)
    means = []
    for (key, parts), members in found.items():
        if sorted(str(one.split) for one in members) == sorted(parts):
            read = [one.parts_for("score") for one in members]
            shares = [np.ones(len(one.values)) if fields is None else fields for one, fields in read]
            whole = CategoryMeans(
                pooled([one for one, _ in read]),
                macro_over=members[0].macro_over,
                field_coverage=np.concatenate(shares),
                level=level,
            )
            means.append(PooledMean(key.name, parts, whole.overall()))
    return means


def run_facts(summary: RunSummary, *, everything: bool = False) -> dict[str, Any]:
    """A run as plain JSON types."""
    manifest, results = summary.run.manifest, summary.run.results()
    score = summary.overall()
    return {
        "run_id": summary.run.run_id,
        "checkpoint": manifest.checkpoint.name,
        "series": manifest.checkpoint.series,
        "step": manifest.checkpoint.step,
        "fingerprint": manifest.checkpoint.fingerprint,
        "task": str(summary.split),
        "task_version": manifest.task_version,
        "backend": manifest.backend,
        "status": manifest.status,
        "sampling": manifest.sampling.model_dump(mode="json"),
        "n_samples": score.n_samples,
        "n_task_samples": manifest.n_task_samples,
        "n_rollouts": manifest.n_rollouts,
        "n_failed": score.n_unscored,
        "n_tokens": None if results is None else results.n_tokens,
        "metrics": {name: estimate.to_dict() for name, estimate in summary.all_metrics.items()},
        "overall": score.to_dict(),
        "answers": {
            name: {"mean": one.mean, "total": one.total, "n_rollouts": one.n_rollouts}
            for name, one in summary.answers.items()
        },
        "categories": summary.category_facts(everything=everything),
    }


def _count(rollouts: Rollouts, mean: float | None) -> AnswerCount:
    return AnswerCount(mean, float(np.nansum(rollouts.values)), int(rollouts.scored.sum()))
