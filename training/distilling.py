"""The distill stage of a pipeline: the source model's responses to the recipe's questions become preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specs_eval.errors import TrainingError
from specs_eval.runner import Observer, RunRequest
from specs_eval.task import Task
from specs_eval.training.config import EvaluationSettings, JudgeSettings, Recipe
from specs_eval.training.distill.pipeline import Prepared, distill, prepare
from specs_eval.training.distill.settings import DistillSettings
from specs_eval.training.measuring import Harness
from specs_eval.training.questions.sources import load_questions
from specs_eval.training.redoing import PAIRS
from specs_eval.training.state import Handed

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge


def distill_stage(recipe: Recipe, source: Handed, tasks: Sequence[Task], observer: Observer) -> str:
    """Make the pairs, or find that they are there.

    Args:
        recipe: with a distill stage.
        source: the model that answers.
        tasks: those that evaluate: questions that they ask are left out.
        observer: sees the sampling.

    Returns:
        How many pairs there are, in words.

    Raises:
        TrainingError: no usable pair, with the counts at each filter; or the model could not be sampled.
    """
    settings = recipe.stages.distill
    assert settings is not None
    prepared = prepared_questions(recipe, tasks, settings.questions)
    judge = make_judge(None if recipe.questions is None else recipe.questions.judge)
    harness = Harness(_engine(recipe), _store(recipe), [], observer)
    checkpoint = harness.find(Path(source.folder), source.name.partition("/")[0])
    request = RunRequest(
        tasks=[prepared.task(judge)],
        n_rollouts=settings.rollouts,
        temperature=settings.temperature,
        seed=recipe.seed,
    )
    try:
        (run,) = harness.sample(checkpoint, request)
        made = distill(
            run,
            prepared,
            DistillSettings(
                n_rollouts=settings.rollouts,
                data=settings.data,
                source=settings.source,
                consistency=settings.consistency,
                require_conclusion=settings.require_conclusion,
                pairs_per_question=settings.pairs_per_question,
                max_pairs=settings.max_pairs,
                validation_share=settings.validation_share,
                seed=recipe.seed,
            ),
            recipe.output / PAIRS,
            judge=judge,
            evaluations=[task.name for task in tasks],
        )
    finally:
        if judge is not None:
            judge.stop()
    pairs = made.summary["counts"]["pairs"]
    counts = {split: sum(kinds.values()) for split, kinds in pairs.items()}
    if not counts.get("train"):
        raise TrainingError(f"all {sum(counts.values())} pairs are held out for validation; lower validation_share")
    told = ", ".join(f"{count:,} {split} pairs" for split, count in counts.items())
    wrong = made.summary["counts"]["questions"].get("all rollouts wrong", 0)
    return f"{told} from {source.name} on {prepared.told()}; {wrong:,} with wrong answers only"


def prepared_questions(recipe: Recipe, tasks: Sequence[Task], limit: int | None = None) -> Prepared:
    """The recipe's questions without those that occur twice or are evaluated.

    Raises:
        TrainingError: nothing is left.
        TaskDataError: the source cannot be read.
    """
    assert recipe.questions is not None
    most = [n for n in (recipe.questions.limit, limit) if n is not None]
    return prepare(load_questions(recipe.questions.source, min(most) if most else None), tasks)


def make_judge(settings: JudgeSettings | None) -> Judge | None:
    """The judge of the recipe."""
    if settings is None:
        return None
    from specs_eval.tasks.judging import Judge, JudgeOptions

    return Judge(JudgeOptions(settings.base_url, settings.model, concurrency=settings.concurrency))


def _engine(recipe: Recipe) -> EvaluationSettings:
    """How the source is run: as evaluations are, else with the defaults."""
    return recipe.evaluation or EvaluationSettings(id="formats_id", ood="formats_ood")


def _store(recipe: Recipe) -> Path:
    evaluation = recipe.evaluation
    return recipe.output / "runs" if evaluation is None or evaluation.store is None else evaluation.store
