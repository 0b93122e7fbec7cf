"""Doing stages again: what is there of them is set aside, never deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

from specs_eval.errors import ConfigError, StoreError
from specs_eval.store import RunStore
from specs_eval.training.arguments import series_of
from specs_eval.training.callbacks import Talk
from specs_eval.training.config import STAGES, TRAINED, Recipe, StageName
from specs_eval.training.state import RunState, save_state

ASIDE = "set_aside"
PAIRS = "pairs"
MERGED = "start"


def set_aside(recipe: Recipe, state: RunState, first: StageName, talk: Talk) -> None:
    """Forget a stage and all later ones; their folders and their runs move to ``set_aside/N``.

    Their runs move too: two series of one name and other weights would not compare in the store. The state says what is
    being set aside before anything moves, so that a start after a death in the middle moves the rest (`finish`).

    Raises:
        ConfigError: the recipe has no such stage.
        StoreError: the disk refuses.
    """
    _check_stage(recipe, first)
    state.redoing = first
    save_state(recipe.output, state)
    finish(recipe, state, talk)


def finish(recipe: Recipe, state: RunState, talk: Talk) -> None:
    """Set aside what the state says is being set aside, if anything.

    Raises:
        StoreError: the disk refuses.
    """
    first = state.redoing
    if first is None:
        return
    stages = STAGES[STAGES.index(first) :]
    names = _series_names(recipe, state, stages)
    target = _next_folder(recipe.output / ASIDE)
    moved = [recipe.output / name for name in names]
    moved += [recipe.output / PAIRS] if "distill" in stages else []
    try:
        _move([folder for folder in moved if folder.exists()], target)
        merged = [recipe.output / MERGED / name for name in stages]
        _move([folder for folder in merged if folder.exists()], target / MERGED)
        _move(_runs(recipe, names), target / "runs")
    except OSError as error:
        raise StoreError(f"cannot set aside what is in {recipe.output}: {error.strerror}") from error
    _drop(state, first)
    save_state(recipe.output, state)
    if target.exists():
        talk(f"set aside in {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")


def forget(recipe: Recipe, state: RunState, first: StageName) -> None:
    """Take a stage and all later ones out of a state, in memory only: what `set_aside` would leave.

    Raises:
        ConfigError: the recipe has no such stage.
    """
    _check_stage(recipe, first)
    _drop(state, first)


def _drop(state: RunState, first: StageName) -> None:
    for stage in STAGES[STAGES.index(first) :]:
        state.stages.pop(stage, None)
    state.redoing = None


def _check_stage(recipe: Recipe, first: StageName) -> None:
    if first not in recipe.stages.chosen:
        raise ConfigError(f"--from {first}: the recipe has no such stage; it has {', '.join(recipe.stages.chosen)}")


def _series_names(recipe: Recipe, state: RunState, stages: tuple[StageName, ...]) -> list[str]:
    names: dict[str, None] = {}
    for stage in TRAINED:
        if stage in stages:
            known = state.stages.get(stage)
            names |= dict.fromkeys([] if known is None else known.series)
            if stage in recipe.stages.chosen:
                names |= dict.fromkeys(series.name for series in series_of(recipe, stage))
    return list(names)


def _runs(recipe: Recipe, names: list[str]) -> list[Path]:
    """Runs of these series whose checkpoints are in this output folder."""
    settings = recipe.evaluation
    place = recipe.output / "runs" if settings is None or settings.store is None else settings.store
    if not place.exists():
        return []
    mine = recipe.output.resolve()
    return [
        run.directory
        for run in RunStore.open(place).runs()
        if run.manifest.checkpoint.series in names and mine in Path(run.manifest.checkpoint.path).resolve().parents
    ]


def _next_folder(parent: Path) -> Path:
    number = 1
    while (parent / str(number)).exists():
        number += 1
    return parent / str(number)


def _move(paths: list[Path], target: Path) -> None:
    for path in paths:
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(str(path), str(target / path.name))
