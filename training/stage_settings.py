"""What each stage of a recipe can be told. Numbers that the paper gives (SPECS, arXiv 2510.25801) are the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specs_eval.training.distill.settings import Consistency, PairData

TrainedStage = Literal["zero", "cold_start", "rl"]
TRAINED: tuple[TrainedStage, ...] = ("zero", "cold_start", "rl")
"""Stages that change weights."""

Method = Literal["sft", "dpo", "dpo+sft"]
Start = Literal["base", "previous"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Table(BaseModel):
    """A table of the recipe: what it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainSettings(Table):
    """What every stage of training has."""

    steps: Count
    """Optimizer steps."""
    batch: Count
    """Over all devices: pairs a step in a cold start, prompts a step in RL."""
    per_device: Count = 1
    """Sequences that one device computes at a time; more is faster and needs more memory, and changes nothing else."""
    learning_rate: Positive = 1e-6
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    start: Start = "previous"
    """``base``: the recipe's model; ``previous``: what the last stage that trained handed on."""
    evaluate_every: Count | None = None
    """Steps between evaluations in this stage; None: ``evaluation.every``."""
    save_every: Count | None = None
    """Steps between checkpoints to continue from; None: those that are evaluated."""
    keep: Literal["all", "best"] = "all"
    """Which checkpoints stay on disk: all, or those that are the best so far or the last."""
    more: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of TRL's configuration class, by their names there."""


class ColdStartSettings(TrainSettings):
    """Learning form from preference pairs."""

    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("dpo+sft",)
    """Each is a series of its own, from the same start; the best checkpoint of all is handed on."""
    data: Path | None = None
    """Pairs on disk; None: those that the distill stage makes."""
    beta: Positive = 0.1
    """Of DPO: how dear it is to leave the reference."""
    sft_weight: NotNegative = 1.0
    """lambda of L_DPO + lambda * L_SFT(chosen), for ``dpo+sft``."""
    max_length: Count | None = None
    """Tokens of prompt and response; longer sequences are cut at the end. None: not cut."""
    start: Start = "base"

    @model_validator(mode="after")
    def _methods_differ(self) -> Self:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: each method once")
        return self


class VllmSettings(Table):
    """Rollouts by vLLM."""

    mode: Literal["colocate", "server"] = "colocate"
    """In the training processes, or by a server of its own (``trl vllm-serve``)."""
    gpu_memory: Share = 0.3
    """Share of the GPU's memory that colocated vLLM takes."""
    tensor_parallel: Count = 1
    max_model_length: Count | None = None
    sleep: bool = False
    """Free vLLM's memory during the optimizer step."""
    server_url: str | None = None
    server_timeout: Positive = 240.0

    @model_validator(mode="after")
    def _url_with_server(self) -> Self:
        if (self.server_url is not None) != (self.mode == "server"):
            raise ValueError("server_url goes with mode: server, and only with it")
        return self


class RLSettings(TrainSettings):
    """GRPO with verifiable rewards."""

    rollouts: Annotated[int, Field(ge=2)] = 8
    """Responses a prompt: a group."""
    max_new_tokens: Count | None = None
    """None: what the questions ask for."""
    temperature: Positive = 1.0
    top_p: Share = 1.0
    format_weight: NotNegative = 0.5
    accuracy_weight: NotNegative = 1.0
    kl: NotNegative = 0.0
    """Weight of the KL term; 0 needs no reference model."""
    epsilon: Positive = 0.2
    epsilon_high: Positive = 0.28
    """Upper clipping bound (DAPO, arXiv 2503.14476). It can only act from the second update on one generation on."""
    updates_per_generation: Count = 2
    """Optimizer steps on one batch of rollouts; each takes a part of its own."""
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    mask_truncated: bool = True
    """Responses that ran into the token limit count for the baseline and not for the loss (overlong filtering)."""
    dynamic_sampling: Annotated[int, Field(ge=0, le=16)] = 0
    """Times that prompts whose rollouts all earned the same are replaced by fresh ones and their rollouts (DAPO)."""
    vllm: VllmSettings | None = None
    """None: rollouts by transformers."""


class DistillStage(Table):
    """Preference pairs from the zero model's own responses."""

    source: Literal["zero", "base", "teacher"] = "zero"
    """Who is sampled."""
    teacher: str | None = None
    """Checkpoint folder or hub id, for ``source: teacher``."""
    questions: Count | None = None
    """Only the first so many of the recipe's questions."""
    rollouts: Count = 8
    temperature: Positive = 1.0
    data: PairData = "decoupled"
    consistency: Consistency = "rules"
    require_conclusion: bool = False
    pairs_per_question: Count = 1
    max_pairs: Count | None = None
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _teacher_with_source(self) -> Self:
        if (self.teacher is not None) != (self.source == "teacher"):
            raise ValueError("teacher goes with source: teacher, and only with it")
        return self


class BaseStage(Table):
    """Evaluate the model before any training: what gains are over."""
