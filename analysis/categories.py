"""Means by category of the samples: over samples (micro), and over the tasks that a benchmark is made of (macro)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.samples import BoolArray, FloatArray, IntArray, Rollouts, SampleValues
from specs_eval.analysis.statistics import Estimate, summarize, undefined
from specs_eval.errors import ConfigError
from specs_eval.splits import category_values

MAX_VALUES = 1_000
"""Values of one dimension that are told apart; samples are counted under the first that were seen."""


@dataclass(frozen=True, slots=True)
class CategoryMean:
    """One metric over the samples that have one value of one dimension, or over all."""

    micro: Estimate
    """Mean over samples."""
    macro: Estimate | None
    """Mean over tasks of the mean over their samples; None: the benchmark does not consist of tasks."""
    n_samples: int
    """Samples that were asked, scored or not."""
    n_tasks: int | None
    """Tasks that they belong to; None as for `macro`."""
    n_rollouts: int
    n_unscored: int
    """Rollouts without a value."""
    coverage: float | None
    """Share of what was asked that entered the mean, in [0, 1]: rollouts with a value, each by the share of its answer
    fields that could be scored. None: nothing was asked."""

    @property
    def headline(self) -> Estimate:
        """The mean that the benchmark's paper reports."""
        return self.micro if self.macro is None else self.macro

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "micro": self.micro.to_dict(),
            "macro": None if self.macro is None else self.macro.to_dict(),
            "n_samples": self.n_samples,
            "n_tasks": self.n_tasks,
            "n_rollouts": self.n_rollouts,
            "n_unscored": self.n_unscored,
            "coverage": self.coverage,
        }


class CategoryMeans:
    """Means of one metric of one run, by what its samples are about.

    Args:
        rollouts: with categories.
        macro_over: dimension that names the task of each sample, for benchmarks whose score is a mean over tasks.
        field_coverage: share of its answer fields that each rollout was scored on, shape (n_rollouts,), NaN: all of a
            scored rollout; None: the benchmark has no fields.
        level: coverage of the intervals.

    Raises:
        ConfigError: the rollouts were read without categories, or their samples do not name their tasks.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        *,
        macro_over: str | None = None,
        field_coverage: FloatArray | None = None,
        level: float = 0.95,
    ) -> None:
        n = len(rollouts.sample_ids)
        if len(rollouts.categories) != n:
            raise ConfigError("the rollouts carry no categories; read them with their categories")
        self._level = level
        self._samples = rollouts.by_sample()
        self._categories = rollouts.categories
        scored = rollouts.scored
        share = np.ones(len(scored)) if field_coverage is None else np.nan_to_num(field_coverage, nan=1.0)
        self._asked = np.bincount(rollouts.samples, minlength=n)
        self._scored = np.bincount(rollouts.samples[scored], minlength=n)
        self._covered = np.bincount(rollouts.samples, weights=np.where(scored, share, 0.0), minlength=n)
        self._tasks = None if macro_over is None else _task_names(rollouts.categories, macro_over)

    def overall(self) -> CategoryMean:
        """All samples."""
        return self._mean(np.ones(len(self._asked), dtype=bool))

    def by_value(self, dimension: str) -> dict[str, CategoryMean]:
        """Value -> its samples, sorted by value; a sample with several values counts under each."""
        members: dict[str, list[int]] = {}
        known: dict[int, tuple[str, ...]] = {}
        for place, category in enumerate(self._categories):
            values = known.get(id(category))
            if values is None:
                values = known[id(category)] = category_values(category, dimension)
            for value in values:
                if value in members or len(members) < MAX_VALUES:
                    members.setdefault(value, []).append(place)
        return {value: self._mean(self._mask(members[value])) for value in sorted(members)}

    def _mask(self, places: list[int]) -> BoolArray:
        mask = np.zeros(len(self._asked), dtype=bool)
        mask[places] = True
        return mask

    def _mean(self, chosen: BoolArray) -> CategoryMean:
        asked, scored = int(self._asked[chosen].sum()), int(self._scored[chosen].sum())
        part = SampleValues(
            _kept(self._samples.sample_ids, chosen),
            _kept(self._samples.clusters, chosen),
            self._samples.values[chosen],
            asked,
            asked - scored,
        )
        macro, n_tasks = self._macro(part, chosen)
        return CategoryMean(
            micro=summarize(part, self._level),
            macro=macro,
            n_samples=int(chosen.sum()),
            n_tasks=n_tasks,
            n_rollouts=asked,
            n_unscored=asked - scored,
            coverage=float(self._covered[chosen].sum()) / asked if asked else None,
        )

    def _macro(self, part: SampleValues, chosen: BoolArray) -> tuple[Estimate | None, int | None]:
        if self._tasks is None:
            return None, None
        names, codes = np.unique(np.asarray(self._tasks)[chosen], return_inverse=True)
        means = task_means(part.values, codes, len(names))
        if np.isnan(means).all():
            return undefined("no rollout was scored", part.n_unscored), len(names)
        tasks = tuple(str(name) for name in names)
        return summarize(SampleValues(tasks, tasks, means, part.n_rollouts, part.n_unscored), self._level), len(names)


def pooled(parts: Sequence[Rollouts]) -> Rollouts:
    """The rollouts of several tasks as those of one; samples of different parts are different samples.

    Args:
        parts: with categories; answers and token statistics are left out.
    """
    starts = np.cumsum([0, *(len(part.sample_ids) for part in parts)])
    return Rollouts(
        sample_ids=tuple(f"{place}/{name}" for place, part in enumerate(parts) for name in part.sample_ids),
        clusters=tuple(f"{place}/{name}" for place, part in enumerate(parts) for name in part.clusters),
        samples=np.concatenate([part.samples + start for part, start in zip(parts, starts, strict=False)]),
        values=np.concatenate([part.values for part in parts]),
        categories=tuple(category for part in parts for category in part.categories),
    )


def task_means(values: FloatArray, tasks: IntArray, n_tasks: int) -> FloatArray:
    """Mean over the scored samples of each task.

    Args:
        values: by sample, shape (n,); NaN: none of its rollouts was scored.
        tasks: code of each sample's task, in [0, n_tasks), shape (n,).
        n_tasks: number of tasks.

    Returns:
        Shape (n_tasks,); NaN for a task without a scored sample, which then leaves the macro mean.
    """
    scored = ~np.isnan(values)
    counts = np.bincount(tasks[scored], minlength=n_tasks)
    sums = np.bincount(tasks[scored], weights=values[scored], minlength=n_tasks)
    means = np.full(n_tasks, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _task_names(categories: tuple[Mapping[str, str], ...], dimension: str) -> tuple[str, ...]:
    names = tuple(category.get(dimension, "") for category in categories)
    if not all(names):
        raise ConfigError(f"a sample names no {dimension}, so there is no mean over tasks; rescore or run again")
    return names


def _kept(items: tuple[str, ...], chosen: BoolArray) -> tuple[str, ...]:
    return tuple(item for item, keep in zip(items, chosen.tolist(), strict=True) if keep)
