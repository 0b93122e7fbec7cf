"""What can be known to go wrong before anything is trained: found in the last stage, it would cost all stages before it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from specs_eval.errors import ConfigError
from specs_eval.splits import parse_split
from specs_eval.task import Task
from specs_eval.task_names import canonical_task_name
from specs_eval.training.arguments import accumulation, series_of
from specs_eval.training.cold_start import check_pairs, cold_start_config
from specs_eval.training.config import TRAINED, Recipe, RLSettings
from specs_eval.training.gating import known_metrics
from specs_eval.training.measuring import limit_of, task_names
from specs_eval.training.questions.sources import find_source
from specs_eval.training.rl import check_groups, check_questions, grpo_config


def check_numbers(recipe: Recipe, devices: int) -> None:
    """Refuse batches that do not divide, and data that are not there or not enough, for every stage.

    Args:
        recipe: checked by itself.
        devices: processes that will train together.

    Raises:
        ConfigError: numbers of a stage do not fit together, or there is no such data.
        TaskDataError: there are no question files at the place that is named.
    """
    if recipe.questions is not None:
        find_source(recipe.questions.source)
    for stage in TRAINED:
        if stage not in recipe.stages.chosen:
            continue
        settings = recipe.trained(stage)
        accumulation(stage, settings, devices)
        if isinstance(settings, RLSettings):
            check_groups(settings, stage, devices)
            if recipe.questions is not None and recipe.questions.limit is not None:
                check_questions(settings, stage, recipe.questions.limit)
        elif settings.data is not None:
            check_pairs(settings, settings.data)


def check_arguments(recipe: Recipe) -> None:
    """Refuse what TRL's configurations refuse, for every series. Imports TRL.

    Raises:
        ConfigError: a further argument is unknown, or a value is refused.
    """
    for stage in TRAINED:
        if stage in recipe.stages.chosen:
            for series in series_of(recipe, stage):
                folder = recipe.output / series.name
                if series.method is None:
                    grpo_config(recipe, series, folder, 1)
                else:
                    cold_start_config(recipe, series, folder)


def check_packages(recipe: Recipe) -> None:
    """Refuse a recipe that needs a package that is not here. Imports TRL and transformers.

    Raises:
        ConfigError: names the key and the package.
    """
    from transformers.utils import is_flash_attn_2_available
    from trl.import_utils import is_vllm_available

    if recipe.model.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "model.attention: flash_attention_2 needs a GPU and the package flash-attn, and one of them is not here; "
            "sdpa needs neither"
        )
    for tracker in recipe.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(f"report_to: {tracker} is not installed: pip install {tracker}")
    for stage in TRAINED:
        settings = getattr(recipe.stages, stage)
        if isinstance(settings, RLSettings) and settings.vllm is not None and not is_vllm_available():
            raise ConfigError(
                f"stages.{stage}.vllm: vllm is not installed, or not in a version that TRL takes: pip install 'trl[vllm]'; "
                "without this key transformers makes the rollouts"
            )


def check_evaluation(recipe: Recipe, tasks: Sequence[Task]) -> None:
    """Refuse an evaluation that GF could not be read from, or that would ask more than is meant.

    Raises:
        ConfigError: a limit of a task that is not evaluated, a metric or a part that a task does not have.
    """
    settings = recipe.evaluation
    if settings is None:
        return
    names = task_names(settings)
    strange = (
        [name for name in settings.limit or () if canonical_task_name(name) not in names]
        if isinstance(settings.limit, dict)
        else []
    )
    if strange:
        raise ConfigError(f"evaluation.limit: {', '.join(strange)} is not evaluated; evaluation has {', '.join(names)}")
    by_name = {task.name: task for task in tasks}
    for key in ("id", "ood"):
        split = parse_split(getattr(settings, key))
        task = by_name[split.task]
        if split.conditions:
            samples = task.samples()[: limit_of(settings, task.name)]
            split.resolved([sample.category for sample in samples])
        known = known_metrics(task)
        if known is not None and settings.metric not in known:
            raise ConfigError(
                f"evaluation.metric: {task.name} has no metric {settings.metric!r}; GF can be made of: {', '.join(sorted(known))}"
            )
