"""Does GF foretell final performance? One point a method: its GF, and what it scores on the tasks that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from specs_eval.analysis.cluster_totals import share_totals
from specs_eval.analysis.regression_line import RegressionLine, regression_line
from specs_eval.analysis.resampling import Resampling, bootstrap_ratios, percentile_interval
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.series import GeneralizationPoint, GeneralizationSeries
from specs_eval.analysis.statistics import Estimate, Interval, summarize, undefined

FinalAt = Literal["last", "best"]
FINAL_AT: tuple[FinalAt, ...] = get_args(FinalAt)


@dataclass(frozen=True, slots=True)
class FinalTask:
    """One task, or part of one, that final performance is made of."""

    task: str
    score: Estimate


@dataclass(frozen=True, slots=True)
class FinalPoint:
    """One method: GF against final performance."""

    series: str
    checkpoint: str
    """Whose GF it is."""
    step: int | None
    end: str
    """Checkpoint whose performance it is: the same one, or one that training went on to."""
    gf: float
    gf_interval: Interval | None
    final: Estimate
    """Macro mean over the tasks (share): each counts once, whatever its size."""
    tasks: tuple[FinalTask, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FinalPerformance:
    """GF against final performance, and the line through the points."""

    tasks: tuple[str, ...]
    metric: str
    at: FinalAt
    """Which checkpoint stands for a series: its last, or its best by GF."""
    points: tuple[FinalPoint, ...]
    line: RegressionLine
    """Final performance over GF, both shares."""

    def to_dict(self) -> dict[str, Any]:
        """Points and line as plain JSON types."""
        return asdict(self)


def representative(series: GeneralizationSeries, at: FinalAt) -> GeneralizationPoint | None:
    """The checkpoint that stands for a series: the last of those with a GF, or the best; None: it has none."""
    defined = [point for point in series.trained if point.gf is not None]
    if at == "best":
        defined = [point for point in defined if point.checkpoint == series.best.checkpoint]
    return defined[-1] if defined else None


def final_point(
    series: str,
    point: GeneralizationPoint,
    scores: Mapping[str, SampleValues],
    resampling: Resampling,
    *,
    end: str | None = None,
    runs: Sequence[str] = (),
) -> FinalPoint:
    """One method's point.

    Args:
        series: its name.
        point: the checkpoint that stands for it; its GF is defined.
        scores: task -> metric by sample of the final checkpoint.
        resampling: for the interval of the macro mean.
        end: the final checkpoint; None: the one that stands for the series.
        runs: labels of the runs that the scores come from.
    """
    assert point.gf is not None, "a checkpoint without GF stands for nothing"
    tasks = tuple(FinalTask(task, summarize(one, resampling.level)) for task, one in scores.items())
    final = macro_mean(list(scores.values()), resampling)
    end = point.checkpoint if end is None else end
    return FinalPoint(series, point.checkpoint, point.step, end, point.gf, point.interval, final, tasks, tuple(runs))


def final_performance(
    points: Sequence[FinalPoint], tasks: Sequence[str], metric: str, at: FinalAt, level: float
) -> FinalPerformance:
    """The points and the least-squares line of final performance over GF."""
    known = [(one.gf, one.final.value) for one in points if one.final.value is not None]
    line = regression_line([gf for gf, _ in known], [value for _, value in known], level)
    return FinalPerformance(tuple(tasks), metric, at, tuple(points), line)


def macro_mean(parts: Sequence[SampleValues], resampling: Resampling) -> Estimate:
    """Mean over tasks of the mean over samples, with a bootstrap interval that knows which tasks share clusters.

    Args:
        parts: a share by sample for each task, at least one.
        resampling: draws, level and seed.

    Returns:
        A share; undefined when a task has nothing scored: a mean over the others would be another quantity. Without an
        interval when a task has a single cluster.

    Raises:
        ConfigError: the metric leaves [0, 1].
    """
    estimates = [summarize(part, resampling.level) for part in parts]
    n_unscored = sum(one.n_unscored for one in estimates)
    values = [one.value for one in estimates if one.value is not None]
    if len(values) < len(estimates):
        return undefined("a task without a scored rollout", n_unscored)
    value = sum(values) / len(values)
    n_samples, n_clusters = sum(one.n_samples for one in estimates), sum(one.n_clusters for one in estimates)
    if min(one.n_clusters for one in estimates) < 2:
        reason = "a task with a single cluster of samples cannot show how much results vary"
        return Estimate(value, None, None, n_samples, n_clusters, n_unscored, reason)
    roles = [share_totals(part) for part in parts]
    draws = bootstrap_ratios([roles], resampling.n_draws, resampling.generator())[0].mean(axis=0)
    interval = percentile_interval(draws, value, resampling)
    return Estimate(value, float(draws.std(ddof=1)), interval, n_samples, n_clusters, n_unscored)
