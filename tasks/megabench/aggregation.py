"""From query scores to tasks, and from tasks to the benchmark: macro and micro means, core, open and overall."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from specs_eval.tasks.megabench.metrics.registry import JUDGE_METRICS

EvaluationType = Literal["rule", "llm"]
"""``rule``: a core task; ``llm``: an open task, at least one field of which is judged by a model."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The queries of one task."""

    name: str
    kind: EvaluationType
    score: float | None
    """Mean over the scored queries, in [0, 1]; queries that do not count add 0. None: no query was scored."""
    total: float
    """Sum of the query scores."""
    n_queries: int
    n_scored: int
    n_demonstrations: int = 1
    """1-shot examples; the official sample counts include them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over several tasks."""

    n_tasks: int
    n_queries: int
    n_scored: int
    macro: float | None
    """Mean of the task scores, in [0, 1]; None: nothing was scored."""
    micro: float | None
    """Mean of the query scores, in [0, 1]; None: nothing was scored."""

    @property
    def coverage(self) -> float:
        """Share of the queries that were scored, in [0, 1]."""
        return self.n_scored / self.n_queries if self.n_queries else 0.0


@dataclass(frozen=True, slots=True)
class BenchmarkSummary:
    """Core, open and all tasks."""

    core: Summary
    open: Summary
    overall: Summary
    """Its macro mean weighs core and open by their numbers of tasks, as the official overall score does."""


def task_kind(metrics: Mapping[str, str]) -> EvaluationType:
    """Whether a task belongs to the core or the open set, by the metrics of its fields."""
    return "llm" if any(metric in JUDGE_METRICS for metric in metrics.values()) else "rule"


def task_result(
    name: str, kind: EvaluationType, scores: Sequence[float | None], n_demonstrations: int = 1
) -> TaskResult:
    """Aggregate the queries of a task.

    Args:
        name: of the task.
        kind: core or open.
        scores: one a query; below 0: not counted, adds 0 but stays in the number; None: unscored, leaves the mean.
        n_demonstrations: 1-shot examples of the task.
    """
    scored = [score for score in scores if score is not None]
    total = math.fsum(score for score in scored if score >= 0)
    mean = total / len(scored) if scored else None
    return TaskResult(name, kind, mean, total, len(scores), len(scored), n_demonstrations)


def summarize(tasks: Iterable[TaskResult]) -> Summary:
    """Macro and micro means; tasks without a score leave both."""
    tasks = list(tasks)
    scores = [task.score for task in tasks if task.score is not None]
    n_scored = sum(task.n_scored for task in tasks)
    return Summary(
        n_tasks=len(tasks),
        n_queries=sum(task.n_queries for task in tasks),
        n_scored=n_scored,
        macro=math.fsum(scores) / len(scores) if scores else None,
        micro=math.fsum(task.total for task in tasks) / n_scored if n_scored else None,
    )


def summarize_benchmark(tasks: Iterable[TaskResult]) -> BenchmarkSummary:
    """Core, open and overall."""
    tasks = list(tasks)
    core = [task for task in tasks if task.kind == "rule"]
    return BenchmarkSummary(summarize(core), summarize(task for task in tasks if task.kind == "llm"), summarize(tasks))
