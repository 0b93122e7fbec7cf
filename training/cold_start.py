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

from specs_eval.errors import TrainingError
from specs_eval.training.arguments import Series, common_arguments, configuration
from specs_eval.training.config import ColdStartSettings, Recipe
from specs_eval.training.distill.dataset import load_pairs
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
        ConfigError: the recipe's numbers do not fit together, or there are no pairs.
        TrainingError: there are fewer pairs than one step takes.
    """
    settings = recipe.stages.cold_start
    assert settings is not None and series.method is not None
    data = load_pairs(pairs)["train"]
    if len(data) < settings.batch:
        raise TrainingError(
            f"{pairs} has {len(data)} training pairs, and one step takes {settings.batch}: lower stages.cold_start.batch or make "
            "more pairs"
        )
    ours = common_arguments(recipe, series, folder) | {"max_length": settings.max_length}
    build = _sft if series.method == "sft" else _dpo
    # Before the model: under ZeRO-3 the arguments make it load in shards.
    trainer_class, config, rows = build(settings, series, ours, data)
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


def _sft(settings: ColdStartSettings, series: Series, ours: dict[str, Any], data: Any) -> tuple[Any, Any, Any]:
    from trl import SFTConfig, SFTTrainer

    ours["completion_only_loss"] = True
    rows = data.remove_columns("rejected").rename_column("chosen", "completion")
    return guarded(SFTTrainer), configuration(SFTConfig, ours, settings.more, series.stage), rows


def _dpo(settings: ColdStartSettings, series: Series, ours: dict[str, Any], data: Any) -> tuple[Any, Any, Any]:
    from trl import DPOConfig, DPOTrainer

    ours |= {"beta": settings.beta, "loss_type": ["sigmoid"]}
    both = series.method == "dpo+sft"
    if both:
        ours |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.sft_weight]}
    trainer_class = guarded(DPOTrainer, *([StepTokenMean] if both else []))
    return trainer_class, configuration(DPOConfig, ours, settings.more, series.stage), data
