"""The recipe of a training run: one typed file that says which model, which questions, which stages, which gates.

Stages run in the order base -> zero -> distill -> cold_start -> rl; a recipe has any of them. docs/training.md explains
every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from specs_eval.analysis.generalization import Gain
from specs_eval.policy import Gate
from specs_eval.tasks.profiles import Profile
from specs_eval.training.stage_settings import (
    TRAINED,
    BaseStage,
    ColdStartSettings,
    Count,
    DistillStage,
    Method,
    NotNegative,
    Positive,
    RLSettings,
    Table,
    TrainedStage,
    TrainSettings,
    VllmSettings,
)
from specs_eval.verdicts import OnUndecided

__all__ = [
    "STAGES",
    "TRAINED",
    "ColdStartSettings",
    "DistillStage",
    "EvaluationSettings",
    "JudgeSettings",
    "LoraSettings",
    "Method",
    "ModelSettings",
    "RLSettings",
    "Recipe",
    "StageGate",
    "StageName",
    "TrainSettings",
    "TrainedStage",
    "VllmSettings",
]

TrackerName = Literal["tensorboard", "wandb", "trackio"]
StageName = Literal["base", "zero", "distill", "cold_start", "rl"]
STAGES: tuple[StageName, ...] = ("base", "zero", "distill", "cold_start", "rl")
"""In the order in which they run."""


class LoraSettings(Table):
    """Low-rank adapters instead of all weights."""

    rank: Count = 64
    alpha: Positive = 128.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """In SFT alone: DPO and GRPO compare likelihoods of one model with those of another."""
    targets: str | tuple[str, ...] = "language"
    """``language``: every linear layer but those of the vision tower; ``all``: every one; or names of modules."""


class ModelSettings(Table):
    """What is trained."""

    path: str
    """A checkpoint folder, a hub id, or ``tiny``: the model that ships with specs-eval."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights in memory. ``auto``: float32 for full training (bfloat16 is then used inside a step, on a GPU),
    bfloat16 under an adapter on a GPU."""
    device: Literal["auto", "cpu"] = "auto"
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    gradient_checkpointing: bool = True
    """Spends a third more time to save most of the memory of activations; not used on a CPU."""
    max_pixels: Count | None = None
    """Larger images are scaled down to this many pixels; None: as the model's processor says."""
    freeze_vision: bool = False
    """Leave the vision tower as it is in full training."""
    lora: LoraSettings | None = None


class JudgeSettings(Table):
    """A model that decides where rules cannot: of short free answers, and of consistency where that is asked for."""

    base_url: str
    """Of an OpenAI-compatible endpoint."""
    model: str
    concurrency: Count = 8


class QuestionSettings(Table):
    """What RL and distillation ask."""

    source: str
    """``easyvqa``, ``orsta:PATH``, ``virl:PATH``, ``mathvista:PATH``, ``jsonl:PATH``."""
    limit: Count | None = None
    judge: JudgeSettings | None = None


class Stages(Table):
    """Which stages there are; one that is not named is skipped."""

    base: BaseStage | None = None
    zero: RLSettings | None = None
    distill: DistillStage | None = None
    cold_start: ColdStartSettings | None = None
    rl: RLSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, facts: Any) -> Any:
        """``base:`` and ``distill:`` with nothing under them mean the stage with its defaults."""
        if isinstance(facts, dict):
            return {key: {} if value is None else value for key, value in facts.items()}
        return facts

    @property
    def chosen(self) -> tuple[StageName, ...]:
        """The stages of the recipe, in order."""
        return tuple(name for name in STAGES if getattr(self, name) is not None)


class EvaluationSettings(Table):
    """How checkpoints are measured, between stages and inside."""

    id: str
    """Task under the trained instruction (a split may be given): in distribution."""
    ood: str
    """The same under changed ones."""
    tasks: tuple[str, ...] = ()
    """Further tasks."""
    every: Count | None = None
    """Steps between evaluations inside a stage; None: only at its end."""
    limit: Count | dict[str, Count] | None = None
    """First samples of each task, for all or by name."""
    rollouts: Count = 1
    temperature: NotNegative = 1.0
    """Greedy decoding shows the most frequent form only."""
    seed: Annotated[int, Field(ge=0)] = 0
    max_new_tokens: Count | None = None
    metric: str = "score"
    """What GF is made of."""
    gain: Gain | None = None
    """Reading of GF; None: ``difference``, since the base is always evaluated."""
    gf_beta: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    store: Path | None = None
    """Run store; None: ``runs`` in the output folder."""
    backend: str = "hf"
    batch_size: Count | None = None
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    data_dir: Path | None = None
    profile: Profile = "official"


class StageGate(Gate):
    """A gate of a policy, with what it stands before and what a closed one means."""

    against: Literal["base", "start", "series"] = "base"
    """What rules on change are about: the recipe's model, the checkpoint that the stage started from, or the series
    itself: closed when the metric fell along it for good, by more than the bound."""
    then: Literal["stop", "fail"] = "fail"
    """``stop``: the stage ends early and the best checkpoint goes on; ``fail``: training ends here."""
    stages: tuple[TrainedStage, ...] = TRAINED
    inside: bool = True
    """Also at the evaluations inside the stage; else at its end only."""

    @model_validator(mode="after")
    def _series_is_about_change(self) -> Self:
        if self.against == "series" and self.kind not in ("max_drop", "max_rise"):
            raise ValueError("a gate against the series has the bound max_drop or max_rise")
        if self.against == "series" and not self.inside:
            raise ValueError("a gate against the series looks at the evaluations inside the stage")
        return self


class Recipe(Table):
    """A whole training run."""

    output: Path
    """Folder of everything that comes of it."""
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelSettings
    questions: QuestionSettings | None = None
    stages: Stages
    evaluation: EvaluationSettings | None = None
    report_to: tuple[TrackerName, ...] = ()
    """Trackers that get what is logged and measured at each step; each series is a run of its own."""
    project: str = "specs-eval"
    """Of W&B and trackio."""
    gates: tuple[StageGate, ...] = ()
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance to pass a checkpoint that breaks a bound."""
    beta: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance to close a gate on a series of checkpoints that keep the bound, over all looks at a stage together."""
    undecided: OnUndecided = "warn"
    """What an undecided gate does at the end of a stage; inside one it waits."""

    @model_validator(mode="after")
    def _stages_have_what_they_need(self) -> Self:
        chosen = self.stages.chosen
        if not chosen:
            raise ValueError(f"stages names no stage; there are {', '.join(STAGES)}")
        asking = [name for name in ("zero", "distill", "rl") if name in chosen]
        if asking and self.questions is None:
            raise ValueError(f"questions is missing: {' and '.join(asking)} ask them")
        cold, distill = self.stages.cold_start, self.stages.distill
        if cold is not None and cold.data is None and distill is None:
            raise ValueError("stages.cold_start needs data, or a distill stage that makes it")
        if distill is not None and distill.source == "zero" and "zero" not in chosen:
            raise ValueError("stages.distill samples the zero model, and there is no zero stage; write source: base")
        if distill is not None and distill.consistency == "judge" and (self.questions and self.questions.judge) is None:
            raise ValueError("stages.distill asks a judge; name one in questions.judge")
        if self.evaluation is None and ("base" in chosen or self.gates):
            raise ValueError("evaluation is missing: the base stage and gates need it")
        return self

    @model_validator(mode="after")
    def _gates_have_stages(self) -> Self:
        titles = [(gate.title, gate.against) for gate in self.gates]
        for gate in self.gates:
            if titles.count((gate.title, gate.against)) > 1:
                raise ValueError(f"two gates are called {gate.title!r}; give them different names")
            if not set(gate.stages) & set(self.stages.chosen):
                raise ValueError(f"gate {gate.title!r} stands before {' and '.join(gate.stages)}: not in this recipe")
            if gate.against == "series" and all(self.evaluates_every(stage) is None for stage in gate.stages):
                raise ValueError(f"gate {gate.title!r} looks along a series; evaluation.every is missing")
        return self

    def evaluates_every(self, stage: TrainedStage) -> int | None:
        """Steps between evaluations inside a stage; None: only its end is evaluated, if anything is."""
        settings = getattr(self.stages, stage)
        if self.evaluation is None or settings is None:
            return None
        every: int | None = settings.evaluate_every or self.evaluation.every
        return every

    def trained(self, stage: TrainedStage) -> ColdStartSettings | RLSettings:
        """The settings of a stage that trains and is in the recipe."""
        settings = getattr(self.stages, stage)
        assert isinstance(settings, ColdStartSettings | RLSettings)
        return settings
