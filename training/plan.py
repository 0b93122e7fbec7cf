"""What a recipe would do, told before anything is done."""

from __future__ import annotations

from dataclasses import dataclass

from specs_eval.training.arguments import accumulation, evaluated_steps, save_every, sequences_per_step, series_of
from specs_eval.training.config import ColdStartSettings, Recipe, RLSettings, StageGate, StageName, TrainedStage
from specs_eval.training.measuring import limit_of, task_names
from specs_eval.training.state import RunState


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage in words."""

    stage: StageName
    status: str
    lines: tuple[str, ...]


def plan(recipe: Recipe, state: RunState, devices: int) -> list[PlannedStage]:
    """The stages of a recipe in order, with what each takes, does and gives.

    Args:
        recipe: checked.
        state: of its output folder.
        devices: processes that will train together.

    Raises:
        ConfigError: a batch does not divide over the devices.
    """
    return [_planned(recipe, state, stage, devices) for stage in recipe.stages.chosen]


def _planned(recipe: Recipe, state: RunState, stage: StageName, devices: int) -> PlannedStage:
    known = state.stages.get(stage)
    status = "to do" if known is None else known.status
    if stage == "base":
        return PlannedStage(stage, status, (f"evaluates {recipe.model.path}", *_evaluation(recipe)))
    if stage == "distill":
        return PlannedStage(stage, status, _distill(recipe))
    settings = recipe.trained(stage)
    lines = [
        f"starts from {_start(recipe, stage)}; {settings.steps} steps at a learning rate of {settings.learning_rate:g}"
    ]
    lines.append(_batch(settings, stage, devices))
    if isinstance(settings, ColdStartSettings):
        pairs = settings.data or recipe.output / "pairs"
        lines.append(f"series: {', '.join(one.name for one in series_of(recipe, stage))}, on the pairs in {pairs}")
    else:
        lines.append(_rl(settings))
    lines.append(f"saves every {save_every(recipe, stage)} steps to {recipe.output}")
    looks = evaluated_steps(recipe, stage)
    lines.append(
        f"evaluates at steps {', '.join(map(str, looks))}" if looks else "evaluates nothing: hands the last on"
    )
    lines += [_gate(gate) for gate in recipe.gates if stage in gate.stages]
    return PlannedStage(stage, status, tuple(lines))


def _evaluation(recipe: Recipe) -> list[str]:
    settings = recipe.evaluation
    if settings is None:
        return []
    tasks = [f"{name} ({_amount(limit_of(settings, name))})" for name in task_names(settings)]
    return [f"{', '.join(tasks)}: {settings.rollouts} rollouts each at temperature {settings.temperature:g}"]


def _amount(limit: int | None) -> str:
    return "all" if limit is None else f"first {limit:,}"


def _distill(recipe: Recipe) -> tuple[str, ...]:
    settings = recipe.stages.distill
    assert settings is not None and recipe.questions is not None
    source = settings.teacher or {"zero": "the best zero checkpoint", "base": recipe.model.path}.get(
        settings.source, ""
    )
    most = [n for n in (recipe.questions.limit, settings.questions) if n is not None]
    asked = f"{min(most):,}" if most else "all"
    return (
        f"asks {source} {asked} questions of {recipe.questions.source}, {settings.rollouts} rollouts each",
        f"writes {settings.data} pairs to {recipe.output / 'pairs'} (consistency: {settings.consistency})",
    )


def _start(recipe: Recipe, stage: TrainedStage) -> str:
    before = [name for name in ("zero", "cold_start", "rl") if name in recipe.stages.chosen]
    earlier = before[: before.index(stage)]
    if recipe.trained(stage).start == "base" or not earlier:
        return recipe.model.path
    return f"the best checkpoint of {earlier[-1]}"


def _batch(settings: ColdStartSettings | RLSettings, stage: str, devices: int) -> str:
    passes = accumulation(stage, settings, devices)
    unit = "pairs" if isinstance(settings, ColdStartSettings) else "rollouts"
    return f"{sequences_per_step(settings)} {unit} a step = {devices} devices x {settings.per_device} at a time x {passes} passes"


def _rl(settings: RLSettings) -> str:
    generated = settings.batch * settings.updates_per_generation
    engine = "transformers" if settings.vllm is None else f"vLLM ({settings.vllm.mode})"
    sampling = f", up to {settings.dynamic_sampling} rounds of dynamic sampling" if settings.dynamic_sampling else ""
    return (
        f"generates {settings.rollouts} rollouts of {generated} prompts every {settings.updates_per_generation} steps by "
        f"{engine}{sampling}; reward {settings.format_weight:g} format + {settings.accuracy_weight:g} accuracy"
    )


def _gate(gate: StageGate) -> str:
    when = "at every evaluation" if gate.inside else "at the end"
    return f"gate {gate.title} against {gate.against}, {when}: closed means {gate.then}"
