"""RL with verifiable rewards: GRPO by TRL, with the clipping of DAPO, on questions with images.

What TRL logs at each step, and where to look for it:

rewards/format_reward/mean      share of responses in the asked format
rewards/accuracy_reward/mean    share of right answers (mean score)
reward                          the weighted sum
entropy                         nats a token
reward/unjudged                 share of responses without a reward: a judge that failed
frac_reward_zero_std            share of groups whose rollouts all earned the same
idle_groups_left                the same after dynamic sampling
loss                            the policy loss (there is no other term without KL)
clip_ratio/high_mean            share of tokens that the upper bound clipped
completions/clipped_ratio       share of responses that ran into the token limit
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specs_eval.chat import ImagePart, images_of
from specs_eval.errors import ConfigError
from specs_eval.task import Sample
from specs_eval.training.arguments import Series, accumulation, common_arguments, configuration
from specs_eval.training.config import Recipe, RLSettings, VllmSettings
from specs_eval.training.distill.dataset import messages_of
from specs_eval.training.dynamic_sampling import DynamicSampling
from specs_eval.training.guarded import guarded
from specs_eval.training.models import adapter_config, load_model, load_processor
from specs_eval.training.question_order import QuestionOrder
from specs_eval.training.ranks import n_processes
from specs_eval.training.rewards import ID_COLUMN, RewardWeights, TaskReward


def rl_trainer(
    recipe: Recipe, series: Series, start: Path, folder: Path, reward: TaskReward, callbacks: list[Any]
) -> Any:
    """A trainer that is ready to train.

    Args:
        recipe: with the stage of the series.
        series: ``zero`` or ``rl``.
        start: checkpoint folder that it starts from.
        folder: of the series.
        reward: of the questions; what it can ask is the training data.
        callbacks: of transformers.

    Raises:
        ConfigError: the recipe's numbers do not fit together, there are fewer questions than one generation takes, or
            vLLM is asked for and not installed.
    """
    from trl import GRPOTrainer

    settings = getattr(recipe.stages, series.stage)
    assert isinstance(settings, RLSettings)
    check_groups(settings, series.stage, n_processes())
    rows = question_rows(reward)
    check_questions(settings, series.stage, len(rows))
    # Before the model: under ZeRO-3 the arguments make it load in shards.
    config = grpo_config(recipe, series, folder, reward.task.max_new_tokens)
    model, processor = load_model(start, recipe.model), load_processor(start, recipe.model)
    lora = None if recipe.model.lora is None else adapter_config(model, recipe.model.lora)
    try:
        trainer = guarded(GRPOTrainer, DynamicSampling, QuestionOrder)(
            model=model,
            args=config,
            train_dataset=rows,
            processing_class=processor,
            reward_funcs=reward.parts(),
            callbacks=callbacks,
            peft_config=lora,
        )
    except ImportError as error:
        raise ConfigError(f"stages.{series.stage}: {error}") from error
    trainer.dynamic_rounds = settings.dynamic_sampling
    return trainer


def grpo_config(recipe: Recipe, series: Series, folder: Path, max_new_tokens: int) -> Any:
    """TRL's configuration of a series.

    Args:
        recipe: with the stage of the series.
        series: ``zero`` or ``rl``.
        folder: of the series.
        max_new_tokens: what the questions ask for; the stage's own number stands over it.

    Raises:
        ConfigError: the recipe's numbers do not fit together, or TRL refuses one.
    """
    from trl import GRPOConfig

    settings = getattr(recipe.stages, series.stage)
    assert isinstance(settings, RLSettings)
    ours = common_arguments(recipe, series, folder) | _grpo_arguments(recipe, series, settings)
    ours["max_completion_length"] = settings.max_new_tokens or max_new_tokens
    return configuration(GRPOConfig, ours, settings.more, series.stage)


def _grpo_arguments(recipe: Recipe, series: Series, settings: RLSettings) -> dict[str, Any]:
    passes = accumulation(series.stage, settings, n_processes())
    return {
        "num_generations": settings.rollouts,
        "steps_per_generation": passes * settings.updates_per_generation,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "beta": settings.kl,
        "epsilon": settings.epsilon,
        "epsilon_high": settings.epsilon_high,
        "loss_type": settings.loss,
        "scale_rewards": settings.scale_rewards,
        "mask_truncated_completions": settings.mask_truncated,
        # Of an adapter: ratios of one function to another with other units dropped would be noise, and clip.
        "disable_dropout": True,
        "reward_weights": [settings.format_weight, settings.accuracy_weight],
        **_vllm_arguments(settings.vllm),
    }


def _vllm_arguments(vllm: VllmSettings | None) -> dict[str, Any]:
    if vllm is None:
        return {"use_vllm": False}
    common = {"use_vllm": True, "vllm_mode": vllm.mode, "vllm_max_model_length": vllm.max_model_length}
    if vllm.mode == "server":
        return {**common, "vllm_server_base_url": vllm.server_url, "vllm_server_timeout": vllm.server_timeout}
    return {
        **common,
        "vllm_gpu_memory_utilization": vllm.gpu_memory,
        "vllm_tensor_parallel_size": vllm.tensor_parallel,
        "vllm_enable_sleep_mode": vllm.sleep,
    }


def check_groups(settings: RLSettings, stage: str, devices: int) -> None:
    """Dynamic sampling replaces whole groups, so that a device must hold whole groups.

    Raises:
        ConfigError: it does not.
    """
    passes = accumulation(stage, settings, devices)
    local = settings.per_device * passes * settings.updates_per_generation
    if settings.dynamic_sampling and local % settings.rollouts:
        raise ConfigError(
            f"stages.{stage}: with dynamic_sampling each of {devices} devices generates whole groups of "
            f"{settings.rollouts} rollouts, not {local}: change batch or updates_per_generation"
        )


def check_questions(settings: RLSettings, stage: str, n: int) -> None:
    """Refuse fewer questions than one generation takes.

    Raises:
        ConfigError: there are fewer.
    """
    taken = settings.batch * settings.updates_per_generation
    if n < taken:
        raise ConfigError(
            f"there are {n:,} questions, and one generation takes {taken:,} (stages.{stage}: batch x updates_per_generation): "
            "lower these or raise questions.limit"
        )


def make_reward(task: Any, settings: RLSettings) -> TaskReward:
    """The reward of a stage: the task's scorer with the stage's weights."""
    return TaskReward(task, weights=RewardWeights(settings.format_weight, settings.accuracy_weight))


def question_rows(reward: TaskReward) -> Any:
    """What can be asked as a data set of TRL: ``prompt``, ``images`` and the sample's id; images decode when used."""
    from datasets import Dataset, Features, Image, List, Value

    text = Value("string")
    messages = List({"role": text, "content": List({"type": text, "text": text})})
    features = {ID_COLUMN: text, "prompt": messages, "images": List(Image())}
    rows = [_row(sample_id, sample) for sample_id, sample in reward.rows()]
    data = Dataset.from_list(rows, features=Features(features))
    return data if any(row["images"] for row in rows) else data.remove_columns("images")


def _row(sample_id: str, sample: Sample) -> dict[str, Any]:
    images = [_encoded(image) for image in images_of(sample.chat)]
    return {ID_COLUMN: sample_id, "prompt": messages_of(sample.chat), "images": images}


def _encoded(image: ImagePart) -> dict[str, Any]:
    if isinstance(image.source, Path):
        return {"bytes": None, "path": str(image.source)}
    if isinstance(image.source, bytes):
        return {"bytes": image.source, "path": None}
    import io

    stream = io.BytesIO()
    image.load().save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}
