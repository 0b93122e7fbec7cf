"""One stage that trains: its series one after the other, each checkpoint evaluated and judged, the best handed on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs_eval.errors import TrainingError
from specs_eval.task import Task
from specs_eval.training.arguments import Series, evaluated_steps, series_of
from specs_eval.training.callbacks import Talk, stage_callbacks
from specs_eval.training.checkpoints import can_continue, checkpoint_folder, prune, saved_steps
from specs_eval.training.cold_start import cold_start_trainer
from specs_eval.training.config import Recipe, RLSettings, TrainedStage
from specs_eval.training.distilling import make_judge, prepared_questions
from specs_eval.training.failures import explained
from specs_eval.training.gating import Candidate, Decision, judge
from specs_eval.training.measuring import Harness
from specs_eval.training.models import fold_adapter
from specs_eval.training.ranks import is_first, on_first
from specs_eval.training.redoing import MERGED, PAIRS
from specs_eval.training.reporting import Report, nothing, reporting
from specs_eval.training.rl import make_reward, rl_trainer
from specs_eval.training.state import Evaluated, Handed, SeriesState, StageState, gates_digest


@dataclass(slots=True)
class StageRunner:
    """A stage in one process; `state` is changed in place and kept by `save`."""

    recipe: Recipe
    stage: TrainedStage
    state: StageState
    base: Handed
    harness: Harness | None
    """In the first process, where the recipe evaluates."""
    tasks: list[Task]
    talk: Talk
    save: Callable[[], None]
    report: Report = nothing
    """Of the series in training."""

    def run(self) -> None:
        """Train what is left of every series, then hand the best checkpoint on.

        Raises:
            TrainingError: training cannot go on.
        """
        for series in series_of(self.recipe, self.stage):
            mine = self.state.series.setdefault(series.name, SeriesState())
            if not mine.finished:
                started = time.monotonic()
                if self.recipe.report_to and not mine.run_id:
                    mine.run_id = uuid.uuid4().hex
                    self.save()
                with reporting(self.recipe, series.name, mine.run_id) as self.report:
                    self._train(series, mine)
                mine.seconds += time.monotonic() - started
                mine.finished = True
                self.save()
            if any(one.action == "fail" for one in mine.evaluated):
                self.state.status, self.state.gates = "closed", gates_digest(self.recipe)
                self.state.note = "; ".join(one.reasons for one in mine.evaluated if one.action == "fail")
                return
        self.state.handed = on_first(self._hand_on)
        self.state.status = "done"

    def _train(self, series: Series, mine: SeriesState) -> None:
        folder, settings = self.recipe.output / series.name, self.recipe.trained(self.stage)
        with explained(self.stage, settings, "evaluating"):
            if any(self._saved(series, step) for step in on_first(lambda: saved_steps(folder))):
                return
        last = on_first(lambda: _last_to_continue(folder))
        if last == settings.steps:
            return
        if last is not None:
            self.talk(f"{series.name}: goes on from checkpoint-{last}")
        with explained(self.stage, settings):
            trainer = self._trainer(series, folder)
            trainer.train(resume_from_checkpoint=None if last is None else str(checkpoint_folder(folder, last)))
        del trainer
        _free_memory()

    def _trainer(self, series: Series, folder: Path) -> Any:
        from transformers.trainer_callback import PrinterCallback

        assert self.state.start is not None
        start, settings = Path(self.state.start.folder), self.recipe.trained(self.stage)
        callbacks = stage_callbacks(series.name, lambda step: self._saved(series, step), self.talk, self.report)
        if isinstance(settings, RLSettings):
            assert self.recipe.questions is not None
            prepared = prepared_questions(self.recipe, self.tasks)
            self.talk(f"{series.name}: {prepared.told()}")
            task = prepared.task(make_judge(self.recipe.questions.judge))
            trainer = rl_trainer(self.recipe, series, start, folder, make_reward(task, settings), callbacks)
        else:
            pairs = settings.data or self.recipe.output / PAIRS
            trainer = cold_start_trainer(self.recipe, series, start, folder, pairs, callbacks)
        # It prints what it logs to stdout, which is for results.
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _saved(self, series: Series, step: int) -> bool:
        """Evaluate a whole checkpoint once; whether its series ends with it. The same in all processes."""
        mine = self.state.series[series.name]
        found = next((one for one in mine.evaluated if one.step == step), None)
        if found is None and step in evaluated_steps(self.recipe, self.stage):
            found = on_first(lambda: self._evaluate(series, step))
            mine.evaluated.append(found)
            if found.action != "go on":
                mine.stopped = f"step {step}: {found.reasons}"
                self.talk(f"{series.name} stops at step {step}: {found.reasons}")
            self.save()
        if is_first():
            prune(self.recipe.output / series.name, self._kept(mine))
        return found is not None and found.action != "go on"

    def _evaluate(self, series: Series, step: int) -> Evaluated:
        assert self.harness is not None and self.state.start is not None
        folder = checkpoint_folder(self.recipe.output / series.name, step)
        with explained(self.stage, self.recipe.trained(self.stage), "evaluating"):
            fingerprint = self.harness.evaluate(folder).fingerprint
        (point,) = self.harness.points([fingerprint], self.base.fingerprint)
        last = step == self.recipe.trained(self.stage).steps
        start = self.state.start.fingerprint
        candidate = Candidate(self.stage, series.name, fingerprint, start, self.base.fingerprint, last)
        decision = judge(self.recipe, self.harness, candidate) if self.recipe.gates else Decision()
        shown = [
            f"{name} {_percent(value)}" for name, value in (("ID", point.id), ("OOD", point.ood), ("GF", point.gf))
        ]
        self.talk(f"{series.name} step {step}: {', '.join(shown)}")
        self.report(step, {"eval/id": point.id, "eval/ood": point.ood, "eval/gf": point.gf})
        return Evaluated(
            step=step,
            fingerprint=fingerprint,
            id=point.id,
            ood=point.ood,
            gf=point.gf,
            rank=point.rank,
            action=decision.action,
            reasons=decision.reasons,
            findings=[finding.text for finding in decision.findings],
        )

    def _kept(self, mine: SeriesState) -> set[int] | None:
        """Steps whose weights stay; None: all."""
        if self.recipe.trained(self.stage).keep == "all":
            # Checkpoints between evaluations were there to continue from.
            return set(evaluated_steps(self.recipe, self.stage)) or None
        best = max(mine.evaluated, key=order, default=None)
        return set() if best is None else {best.step}

    def _hand_on(self) -> Handed:
        """The best checkpoint over all series of the stage; without evaluations the last one of the last series."""
        found = [(name, one) for name, series in self.state.series.items() for one in series.evaluated]
        if found:
            name, best = max(found, key=lambda pair: order(pair[1]))
            step, fingerprint = best.step, best.fingerprint
            self.state.note = self._certainty([one.fingerprint for _, one in found])
            if best.action != "go on":
                self.state.note = "; ".join(filter(None, ("a gate is closed to every checkpoint", self.state.note)))
        else:
            name = list(self.state.series)[-1]
            steps = saved_steps(self.recipe.output / name)
            if not steps:
                raise TrainingError(f"{self.recipe.output / name} has no whole checkpoint to hand on")
            step, fingerprint = steps[-1], ""
        folder = checkpoint_folder(self.recipe.output / name, step)
        if self.recipe.model.lora is not None:
            folder = fold_adapter(folder, self.recipe.output / MERGED / self.stage)
        return Handed(folder=str(folder), name=f"{name}/checkpoint-{step}", fingerprint=fingerprint)

    def _certainty(self, fingerprints: list[str]) -> str:
        """What a reader must know of the choice of the best."""
        if self.harness is None or len(fingerprints) < 2:
            return ""
        others = self.harness.best(fingerprints, self.base.fingerprint).not_told_apart
        return f"{len(others)} of {len(fingerprints)} checkpoints cannot be told apart from the best" if others else ""


def order(one: Evaluated) -> tuple[bool, float, float, int]:
    """Those that no gate is closed to first; then by GF, by GF of performance itself, and the earlier."""
    return (
        one.action == "go on",
        -1.0 if one.gf is None else one.gf,
        -1.0 if one.rank is None else one.rank,
        -one.step,
    )


def _last_to_continue(folder: Path) -> int | None:
    steps = [step for step in saved_steps(folder) if can_continue(checkpoint_folder(folder, step))]
    return steps[-1] if steps else None


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.1f} %"


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
