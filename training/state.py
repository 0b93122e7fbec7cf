"""Where a training run stands: one small file, replaced as a whole, that a second start goes on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specs_eval.errors import ConfigError, StoreError
from specs_eval.files import write_text_atomic
from specs_eval.training.config import STAGES, Recipe, StageName

STATE_FILE = "train.json"
SCHEMA_VERSION = 1
_ENGINE = {"gpu_memory", "tensor_parallel", "sleep", "server_url", "server_timeout"}
"""Settings of vLLM that do not change what it samples from."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Evaluated(_Record):
    """A checkpoint that was evaluated and judged."""

    step: int
    fingerprint: str
    id: float | None = None
    ood: float | None = None
    gf: float | None = None
    rank: float | None = None
    action: str = "go on"
    reasons: str = ""
    findings: list[str] = Field(default_factory=list)


class SeriesState(_Record):
    """One series of a stage."""

    evaluated: list[Evaluated] = Field(default_factory=list)
    finished: bool = False
    stopped: str | None = None
    """Why it ended early."""
    seconds: float = 0.0
    """Spent on it so far, evaluations included."""
    run_id: str = ""
    """Under which trackers know it; empty: none is asked for."""


class Handed(_Record):
    """A checkpoint that the next stage starts from."""

    folder: str
    """Full weights."""
    name: str
    """As shown and stored: ``dpo/checkpoint-30``."""
    fingerprint: str
    """Of what was evaluated: the adapter with its base, under an adapter."""


class StageState(_Record):
    """One stage."""

    digest: str
    """Of the settings that it ran with."""
    status: Literal["running", "done", "closed"] = "running"
    """``closed``: a gate ended training here."""
    start: Handed | None = None
    series: dict[str, SeriesState] = Field(default_factory=dict)
    handed: Handed | None = None
    gates: str = ""
    """Digest of the gates that closed it."""
    note: str = ""
    seconds: float = 0.0

    def reopen(self) -> None:
        """Back to where gates are asked about what closed them; nothing is trained or evaluated again for it."""
        self.status, self.note = "running", ""
        for series in self.series.values():
            kept = [one for one in series.evaluated if one.action == "go on"]
            if len(kept) < len(series.evaluated):
                series.evaluated, series.finished, series.stopped = kept, False, None


class RunState(_Record):
    """The whole run."""

    schema_version: int = SCHEMA_VERSION
    stages: dict[StageName, StageState] = Field(default_factory=dict)
    redoing: StageName | None = None
    """This stage and all later ones are being set aside."""


def load_state(output: Path) -> RunState:
    """The state in an output folder; an empty one where there is none.

    Raises:
        StoreError: it cannot be read, or is of another version.
    """
    path = output / STATE_FILE
    if not path.exists():
        return RunState()
    try:
        state = RunState.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise StoreError(f"cannot read {path}: {str(error).splitlines()[0]}; name another output folder") from error
    if state.schema_version != SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {state.schema_version}; this version of specs-eval reads {SCHEMA_VERSION}")
    return state


def save_state(output: Path, state: RunState) -> None:
    """Replace the state file.

    Raises:
        StoreError: the disk refuses; the file is as it was.
    """
    write_text_atomic(output / STATE_FILE, state.model_dump_json(indent=2) + "\n")


def remove_litter(output: Path) -> None:
    """Remove what a process left that was killed while it replaced a file of ours, or wrote a folder."""
    for name in (STATE_FILE, "recipe.yaml"):
        for path in output.glob(f".{name}.*"):
            path.unlink(missing_ok=True)
    for folder in (output, output / "start"):
        for path in folder.glob(".*.partial"):
            shutil.rmtree(path, ignore_errors=True)


def stage_digest(recipe: Recipe, stage: StageName) -> str:
    """Changes with every setting that the stage's checkpoints or their evaluations depend on.

    Gates are not among them, nor what decides about memory, disk, speed and addresses alone.
    """
    settings, evaluation, questions = getattr(recipe.stages, stage), recipe.evaluation, recipe.questions
    facts = {
        "settings": _without(settings, {"keep", "per_device", "save_every"}, vllm=_ENGINE),
        "model": _without(recipe.model, {"gradient_checkpointing"}),
        "questions": None if questions is None else _without(questions, set(), judge={"base_url", "concurrency"}),
        "seed": recipe.seed,
        "evaluation": None if evaluation is None else _without(evaluation, {"store", "batch_size", "device"}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def gates_digest(recipe: Recipe) -> str:
    """Changes with everything that decides whether a gate closes."""
    facts = [gate.model_dump(mode="json") for gate in recipe.gates]
    more = [recipe.alpha, recipe.beta, recipe.undecided]
    return hashlib.sha256(json.dumps([facts, more], sort_keys=True).encode()).hexdigest()[:16]


def _without(settings: BaseModel, left_out: set[str], **inner: set[str]) -> dict[str, Any]:
    """Settings as plain types, some keys left out, and some of tables inside."""
    facts = settings.model_dump(mode="json", exclude=left_out)
    for key, names in inner.items():
        if facts.get(key):
            facts[key] = {name: value for name, value in facts[key].items() if name not in names}
    return facts


def check_unchanged(recipe: Recipe, state: RunState) -> None:
    """Refuse to go on with other settings than those that a stage ran with.

    Raises:
        ConfigError: the message names the first stage that would be another one, and what to do.
    """
    for stage in STAGES:
        found = state.stages.get(stage)
        if found is None:
            continue
        if stage not in recipe.stages.chosen:
            raise ConfigError(
                f"{recipe.output} has a stage {stage} that the recipe does not have any more; name another output folder"
            )
        if found.digest != stage_digest(recipe, stage):
            raise ConfigError(
                f"the recipe is not the one that stage {stage} in {recipe.output} ran with; --from {stage} runs it and what "
                "follows again (what is there is set aside), another output folder keeps both"
            )
