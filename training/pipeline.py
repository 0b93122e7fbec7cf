"""The gated pipeline: stages in order, each evaluated as it goes, the best checkpoint handed on.

In an output folder::

    recipe.yaml         what runs, with everything that the command line said
    train.json          where the run stands (`specs_eval.training.state`)
    runs/               the run store of all evaluations
    zero/ sft/ dpo/ ... a series of checkpoints each
    pairs/              preference pairs of the distill stage
    start/              full weights of handed-on adapters

Killed at any instant, the same command goes on: a checkpoint is whole or absent, an evaluation is in the store or owed, and
the state is replaced as a whole after each. In several processes all take the same way: what the first one decides
(evaluations, gates, where to go on) is told to the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import ConfigError, StoreError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.locking import RunLock
from specs_eval.runner import Observer
from specs_eval.task import Task
from specs_eval.training.callbacks import Talk, quiet
from specs_eval.training.config import TRAINED, Recipe, StageName, TrainedStage
from specs_eval.training.distilling import distill_stage
from specs_eval.training.gating import check_gates
from specs_eval.training.measuring import Harness, evaluation_tasks
from specs_eval.training.models import as_trained, find_model, on_cpu
from specs_eval.training.preflight import check_arguments, check_evaluation, check_numbers, check_packages
from specs_eval.training.ranks import is_first, n_processes, on_first, start_processes, wait_for_all
from specs_eval.training.recipe_checks import check_recipe
from specs_eval.training.recipe_file import save_recipe
from specs_eval.training.redoing import MERGED, finish, set_aside
from specs_eval.training.stages import StageRunner
from specs_eval.training.state import (
    Handed,
    RunState,
    StageState,
    check_unchanged,
    gates_digest,
    load_state,
    remove_litter,
    save_state,
    stage_digest,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    state: RunState
    closed: StageName | None = None
    """The stage at which a gate ended it."""

    @property
    def best(self) -> Handed | None:
        """What the last stage that trained handed on."""
        handed = [self.state.stages[name].handed for name in TRAINED if name in self.state.stages]
        return next((one for one in reversed(handed) if one is not None), None)


def train(recipe: Recipe, *, observer: Observer, talk: Talk, redo_from: StageName | None = None) -> Outcome:
    """Run what is left of a recipe.

    Args:
        recipe: checked by itself.
        observer: sees the evaluations' progress.
        talk: gets sentences for people; called in the first process only.
        redo_from: run this stage and all later ones again; what is there of them is set aside.

    Raises:
        ConfigError: the recipe asks for what cannot be done, or is not the one that the output folder was made with.
        TrainingError: a stage cannot go on; what was good is kept and said.
        StoreError: the disk refuses, or another process trains here.
    """
    check_recipe(recipe)
    tasks = [] if recipe.evaluation is None else evaluation_tasks(recipe.evaluation)
    check_evaluation(recipe, tasks)
    check_gates(recipe, tasks)
    start_processes(cpu=on_cpu(recipe.model))
    check_numbers(recipe, n_processes())
    check_packages(recipe)
    check_arguments(recipe)
    quiet()
    lock = _lock(recipe.output) if is_first() else None
    try:
        return _Pipeline(recipe, tasks, observer, talk).run(redo_from)
    finally:
        if lock is not None:
            lock.release()


def _lock(output: Path) -> RunLock:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error.strerror}; name another output folder") from error
    lock = RunLock(output / "train.lock", None, 0.0)
    try:
        lock.acquire()
    except StoreError as error:
        if not isinstance(error.__cause__, Timeout):
            raise ConfigError(f"cannot write to {output}: {error.__cause__}; name another output folder") from error
        raise StoreError(f"{lock.holder()} trains in {output}; wait for it or name another output folder") from error
    return lock


class _Pipeline:
    """One run, in one of its processes."""

    def __init__(self, recipe: Recipe, tasks: list[Task], observer: Observer, talk: Talk) -> None:
        self.recipe, self.tasks, self.observer = recipe, tasks, observer
        self.talk: Talk = talk if is_first() else _silent
        self.state = RunState()
        self.harness: Harness | None = None

    def run(self, redo_from: StageName | None) -> Outcome:
        self.state = on_first(lambda: self._opened(redo_from))
        base = on_first(self._base)
        for stage in self.recipe.stages.chosen:
            known = self.state.stages.get(stage)
            if known is not None and known.status == "done":
                self.talk(f"{stage}: done before{_handed_text(known)}")
                continue
            if known is not None and known.status == "closed":
                if known.gates == gates_digest(self.recipe):
                    self.talk(f"{stage}: a gate is closed: {known.note}")
                    return Outcome(self.state, stage)
                self.talk(f"{stage}: the gates have changed since one closed; they are asked again")
                known.reopen()
            self._run_stage(stage, base)
            if self.state.stages[stage].status == "closed":
                return Outcome(self.state, stage)
        return Outcome(self.state)

    def _opened(self, redo_from: StageName | None) -> RunState:
        state = load_state(self.recipe.output)
        remove_litter(self.recipe.output)
        finish(self.recipe, state, self.talk)
        if redo_from is not None:
            set_aside(self.recipe, state, redo_from, self.talk)
        check_unchanged(self.recipe, state)
        save_recipe(self.recipe)
        return state

    def _base(self) -> Checkpoint:
        model = self.recipe.model
        found = find_model(model.path, Fingerprinter())
        folder = as_trained(found.path, model, self.recipe.output / MERGED / "base")
        if folder != found.path:
            found = find_model(str(folder), Fingerprinter())
        harness = self._harness()
        if harness is not None:
            # Gains and gates are over the base: it is measured once, whether or not the recipe names the stage.
            harness.evaluate(found.path, "base")
        return found

    def _harness(self) -> Harness | None:
        settings = self.recipe.evaluation
        if settings is None:
            return None
        if self.harness is None:
            self.harness = Harness(settings, store_of(self.recipe), self.tasks, self.observer)
        return self.harness

    def _run_stage(self, stage: StageName, base: Checkpoint) -> None:
        started = time.monotonic()
        handed = Handed(folder=str(base.path), name="base", fingerprint=base.fingerprint)
        mine = self.state.stages.setdefault(stage, StageState(digest=stage_digest(self.recipe, stage)))
        self.save()
        if stage == "base":
            mine.status = "done"
        elif stage == "distill":
            mine.note = on_first(lambda: distill_stage(self.recipe, self._source(handed), self.tasks, self.observer))
            mine.status = "done"
        else:
            mine.start = self._start(stage, handed)
            StageRunner(self.recipe, stage, mine, handed, self.harness, self.tasks, self.talk, self.save).run()
        mine.seconds += time.monotonic() - started
        self.save()
        self.talk(
            f"{stage}: {mine.status} in {mine.seconds:.0f} s{_handed_text(mine)}{': ' if mine.note else ''}{mine.note}"
        )

    def _start(self, stage: TrainedStage, base: Handed) -> Handed:
        if self.recipe.trained(stage).start == "base":
            return base
        before = [
            self.state.stages[name].handed for name in TRAINED[: TRAINED.index(stage)] if name in self.state.stages
        ]
        return next((one for one in reversed(before) if one is not None), base)

    def _source(self, base: Handed) -> Handed:
        """The model that is sampled for pairs."""
        settings = self.recipe.stages.distill
        assert settings is not None
        if settings.teacher is not None:
            found = find_model(settings.teacher, Fingerprinter())
            return Handed(folder=str(found.path), name="teacher", fingerprint=found.fingerprint)
        if settings.source == "base":
            return base
        zero = self.state.stages["zero"].handed
        assert zero is not None
        return zero

    def save(self) -> None:
        """Keep the state; the first process writes it."""
        if is_first():
            save_state(self.recipe.output, self.state)
        wait_for_all()


def store_of(recipe: Recipe) -> Path:
    """Where evaluations go."""
    settings = recipe.evaluation
    return recipe.output / "runs" if settings is None or settings.store is None else settings.store


def _handed_text(state: StageState) -> str:
    return "" if state.handed is None else f", hands on {state.handed.name}"


def _silent(text: str) -> None:
    """What other processes say."""
