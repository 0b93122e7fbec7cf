"""What came of scored rows: totals by category, and means over the tasks of a benchmark that consists of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specs_eval.analysis.categories import CategoryMeans
    from specs_eval.tasks.breakdowns import Breakdown
    from specs_eval.tasks.rows import ScoredRow


class TaskRows:
    """The rows of one model on MEGA-Bench, whose published figures are means over tasks."""

    def __init__(self) -> None:
        self._samples: dict[str, int] = {}
        self._tasks: list[str] = []
        """The task of each sample."""
        self._rows: list[tuple[int, float | None, float]] = []
        """Sample, score (None: unscored) and share of the answer fields that were scored."""

    def add(self, task: str, scored: ScoredRow) -> None:
        """Count one row; rows of one sample are its rollouts."""
        sample_id = scored.sample_id or f"row {len(self._rows)}"
        place = self._samples.setdefault(f"{task}/{sample_id}", len(self._tasks))
        if place == len(self._tasks):
            self._tasks.append(task)
        fields = (scored.field_scores or {}).values()
        share = sum(score is not None for score in fields) / len(fields) if fields else 1.0
        self._rows.append((place, _counted(scored.score), share))

    def means(self) -> CategoryMeans:
        """Means over queries and over tasks, by category."""
        import numpy as np

        from specs_eval.analysis.categories import CategoryMeans
        from specs_eval.analysis.samples import Rollouts
        from specs_eval.tasks.megabench.breakdown import task_category

        samples, scores, shares = zip(*self._rows, strict=True)
        values = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
        categories = tuple(task_category(task) for task in self._tasks)
        rollouts = Rollouts(
            tuple(self._samples), tuple(self._tasks), np.array(samples, dtype=np.int64), values, categories=categories
        )
        return CategoryMeans(rollouts, macro_over="task", field_coverage=np.array(shares, dtype=np.float64))


class Totals:
    """What came of it, by benchmark and model."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.problems: list[str] = []
        """One sentence for each row without a score, with its line number."""
        self.groups: dict[tuple[str, str], Breakdown] = {}
        self.tasks: dict[tuple[str, str], TaskRows] = {}
        """Of benchmarks that consist of tasks, as far as rows name theirs."""

    def add(self, row: Mapping[str, Any], scored: ScoredRow) -> None:
        """Count one scored row."""
        from specs_eval.tasks.breakdowns import Breakdown, row_dimensions

        self.n_rows += 1
        key = (scored.benchmark, scored.model)
        self.groups.setdefault(key, Breakdown()).add(row_dimensions(row), _counted(scored.score), scored.metrics)
        task = row.get("task_name")
        if scored.benchmark == "megabench" and isinstance(task, str) and task:
            self.tasks.setdefault(key, TaskRows()).add(task, scored)


def _counted(score: float | None) -> float | None:
    """What a score adds to a sum: 0 where MEGA-Bench's official code does not count a query (-1)."""
    return None if score is None else max(score, 0.0)
