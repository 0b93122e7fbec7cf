"""What training logs and what its evaluations measure, to the trackers that the recipe names; by default to none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from specs_eval.tracking import Trackers, TrackerSettings
from specs_eval.training.config import Recipe
from specs_eval.training.isolation import undisturbed
from specs_eval.training.ranks import is_first

Report = Callable[[int, Mapping[str, float | None]], None]
"""Takes numbers of a step; what is None is left out."""


def nothing(step: int, values: Mapping[str, float | None]) -> None:
    """Report to nobody."""


@contextmanager
def reporting(recipe: Recipe, series: str, run_id: str) -> Iterator[Report]:
    """A report on one series, open inside; the first process alone reports.

    Args:
        recipe: names the trackers.
        series: of checkpoints; each is a run of its own.
        run_id: of the run, so that a second start goes on in it where the tracker can (W&B).

    Raises:
        ConfigError: a tracker is not installed, or refuses.
    """
    if not recipe.report_to or not is_first():
        yield nothing
        return
    folder = recipe.output / "tensorboard"
    settings = TrackerSettings(recipe.project, f"{recipe.output.name}-{series}", folder, "training", run_id)
    with undisturbed():
        trackers = Trackers(recipe.report_to, settings)
    try:
        yield trackers.log
    finally:
        trackers.close()


def training_values(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a trainer's log entry, as they are reported."""
    return {
        f"train/{name}": float(value)
        for name, value in logs.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
