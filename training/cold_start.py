r"""Cold start: a model learns form from pairs, by SFT, DPO or both.

sft       mean negative log-likelihood of the chosen responses' tokens, prompts excluded
dpo       -log sigmoid(beta * (log-ratio of the chosen - log-ratio of the rejected)), reference: where the stage started
dpo+sft   L_DPO + lambda * L_SFT(chosen)  (SPECS, arXiv 2510.25801; lambda is ``sft_weight``)

TRL does the work: ``SFTTrainer`` on prompt and completion, ``DPOTrainer`` with ``loss_type=["sigmoid", "sft"]`` (there is
no ``rpo_alpha`` any more). Likelihoods are means over the tokens of a whole step (`specs_eval.training.token_means`).
Under an adapter the reference is the model with the adapter switched off, so that no second copy is held.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.training.arguments import Series, common_arguments, configuration
from specs_eval.training.config import ColdStartSettings, Recipe
from specs_eval.training.distill.dataset import count_pairs, load_pairs
from specs_eval.training.guarded import guarded
from specs_eval.training.models import adapter_config, load_model, load_processor
from specs_eval.training.token_means import StepTokenMean


def cold_start_trainer(
    recipe: Recipe, series: Series, start: Path, folder: Path, pairs: Path, callbacks: list[Any]
) -> Any:
    """A trainer that is ready to train.

    Args:
        recipe: with a cold start.
        series: whose method decides about loss and data.
        start: checkpoint folder that it starts from, and that is DPO's reference.
        folder: of the series.
        pairs: folder of preference pairs.
        callbacks: of transformers.

    Raises:
        ConfigError: the recipe's numbers do not fit together, there are no pairs, or fewer than one step takes.
    """
    settings = recipe.stages.cold_start
    assert settings is not None and series.method is not None
    check_pairs(settings, pairs)
    data = load_pairs(pairs)["train"]
    # Before the model: under ZeRO-3 the arguments make it load in shards.
    config = cold_start_config(recipe, series, folder)
    trainer_class, rows = (_sft if series.method == "sft" else _dpo)(series, data)
    model, processor = load_model(start, recipe.model), load_processor(start, recipe.model)
    lora = None if recipe.model.lora is None else adapter_config(model, recipe.model.lora)
    trainer = trainer_class(
        model=model,
        args=config,
        train_dataset=rows,
        processing_class=processor,
        callbacks=callbacks,
        peft_config=lora,
    )
    if series.method == "sft":
        # TRL then divides by the tokens of the whole step; transformers says no for VLMs, whose own loss it is about.
        trainer.model_accepts_loss_kwargs = True
    trainer.sft_weight = settings.sft_weight
    return trainer


def check_pairs(settings: ColdStartSettings, folder: Path) -> None:
    """Refuse a folder without enough pairs for one step.

    Raises:
        ConfigError: it has fewer, or is no folder of pairs.
    """
    found = count_pairs(folder)
    if found < settings.batch:
        raise ConfigError(
            f"{folder} has {found:,} training pairs, and one step takes {settings.batch}: lower stages.cold_start.batch or make "
            "more pairs"
        )


def cold_start_config(recipe: Recipe, series: Series, folder: Path) -> Any:
    """TRL's configuration of a series.

    Raises:
        ConfigError: the recipe's numbers do not fit together, or TRL refuses one.
    """
    from trl import DPOConfig, SFTConfig

    settings = recipe.stages.cold_start
    assert settings is not None and series.method is not None
    ours = common_arguments(recipe, series, folder) | {"max_length": settings.max_length}
    if series.method == "sft":
        return configuration(SFTConfig, ours | {"completion_only_loss": True}, settings.more, series.stage)
    ours |= {"beta": settings.beta, "loss_type": ["sigmoid"]}
    if series.method == "dpo+sft":
        ours |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.sft_weight]}
    return configuration(DPOConfig, ours, settings.more, series.stage)


def _sft(series: Series, data: Any) -> tuple[Any, Any]:
    from trl import SFTTrainer

    return guarded(SFTTrainer), data.remove_columns("rejected").rename_column("chosen", "completion")


def _dpo(series: Series, data: Any) -> tuple[Any, Any]:
    from trl import DPOTrainer

    return guarded(DPOTrainer, *([StepTokenMean] if series.method == "dpo+sft" else [])), data
