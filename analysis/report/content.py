"""What a report is made of: numbers with their provenance, gathered by the command line, drawn by this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specs_eval.analysis.final_performance import FinalPerformance
from specs_eval.analysis.movement import Movement
from specs_eval.analysis.report.wording import checkpoint_label
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.series import GeneralizationSeries
from specs_eval.analysis.series_difference import SeriesDifference
from specs_eval.analysis.statistics import Estimate
from specs_eval.analysis.stuck_series import StuckSeries


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of one checkpoint: a row of the tidy table that figures, tables and exports are made from."""

    quantity: str
    """``score`` or another metric of the task, ``pass@k``, ``unsolvable@k``, ``maj@k``, ``rbf``, ``rbf@samples``, ``entropy``,
    ``distinct``, ``effective``, ``id``, ``ood``, ``gf``, ``wrong_mode``, ``persistence``, or the gap of one of them."""
    task: str
    """The task, or ``id / ood`` where two enter."""
    checkpoint: str
    series: str
    step: int | None
    estimate: Estimate
    runs: tuple[str, ...]
    """Ids of the runs that it comes from."""
    k: int | None = None
    """Rollouts looked at, for the quantities at k; samples for ``rbf@samples``."""
    dimension: str = ""
    """Category dimension when the number is of a part of the task."""
    value: str = ""
    """Its value."""

    @property
    def label(self) -> str:
        """The checkpoint as figures and tables call it."""
        return checkpoint_label(self.checkpoint, self.series, self.step)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run: which weights, asked what, how."""

    run: str
    checkpoint: str
    series: str
    step: int | None
    task: str
    task_version: str
    sampling: str
    backend: str
    n_samples: int
    n_task_samples: int
    n_rollouts: int
    n_present: int
    """Rollouts that the run holds."""
    n_unscored: int
    """Of these, those without a score."""
    complete: bool
    fingerprint: str
    started: str

    @property
    def label(self) -> str:
        """The checkpoint as figures and tables call it."""
        return checkpoint_label(self.checkpoint, self.series, self.step)


@dataclass(frozen=True, slots=True)
class Pair:
    """The Generalization Factor over one pair of tasks."""

    id_task: str
    ood_task: str
    metric: str = "score"
    gain: str = "score"
    base: str | None = None
    series: tuple[GeneralizationSeries, ...] = ()
    differences: tuple[SeriesDifference, ...] = ()
    """Pairs of methods, first minus second."""
    final: FinalPerformance | None = None
    """GF against performance in the end; None: not asked for."""
    explanation: str = ""
    provenance: str = ""
    notes: tuple[str, ...] = ()
    problem: str | None = None
    """Why there is no GF."""


@dataclass(frozen=True, slots=True)
class Change:
    """One task of one checkpoint against another: the paired difference and what it says."""

    series: str
    task: str
    metric: str
    checkpoint: str
    """As tables call it."""
    against: str
    difference: Estimate
    """Share points, the checkpoint minus the other."""
    verdict: str
    """``improved``, ``regressed`` or ``undecided``."""
    detail: str
    """Test, correction, flips and what would have been detectable, in words."""
    gained: int | None = None
    """Samples that flipped up; None: not counted."""
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """One logged quantity of one training run."""

    series: str
    quantity: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    source: str
    """File that it was read from, as shown."""


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a report shows, but for the samples of its browser."""

    store: str
    version: str
    created: str
    resampling: Resampling
    methods: tuple[str, ...]
    """Series in the order of their colours, that of the base first."""
    base: str | None
    """Name of the checkpoint that training started from."""
    base_series: str | None
    """Its series, where it is alone in it; None: no base, or one among other checkpoints of a series."""
    runs: tuple[RunFacts, ...]
    measurements: tuple[Measurement, ...]
    pairs: tuple[Pair, ...] = ()
    changes: tuple[Change, ...] = ()
    stuck: tuple[StuckSeries, ...] = ()
    """By task, then by series."""
    movements: tuple[Movement, ...] = ()
    """Exploration of the compared checkpoints."""
    gaps: tuple[Measurement, ...] = ()
    """OOD minus ID of the measures of stuckness."""
    training: tuple[TrainingCurve, ...] = ()
    starts: Mapping[str, str] = field(default_factory=dict)
    """Series -> name of the checkpoint that its training started from; others started from the base."""
    correctness: Mapping[str, str] = field(default_factory=dict)
    """Task -> the metric that makes a rollout correct there."""
    notes: tuple[str, ...] = ()
