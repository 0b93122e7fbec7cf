"""The order of a training run: stages, evaluations, gates, hand-on, interruption; trainers and engine are fakes."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBackend, FakeTask, ListObserver, write_checkpoint

from specs_eval.backends.base import Request, Response
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import ConfigError, StoreError, TrainingError
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore
from specs_eval.tracking import TrackerSettings
from specs_eval.training import measuring, pipeline, preflight, redoing, reporting, stages
from specs_eval.training.arguments import Series, save_every
from specs_eval.training.checkpoints import checkpoint_folder, saved_steps
from specs_eval.training.config import Recipe
from specs_eval.training.pipeline import Outcome
from specs_eval.training.recipe_file import load_recipe
from specs_eval.training.state import load_state, stage_digest

N = 60


class Engine(FakeBackend):
    """Right with a chance that a table gives for each checkpoint."""

    def __init__(self, chances: dict[str, float]) -> None:
        super().__init__()
        self.chances = chances

    def load(self, checkpoint: Checkpoint) -> None:
        super().load(checkpoint)
        self.chance = self.chances.get(checkpoint.name, 0.5)


class Trainer:
    """Writes checkpoints that look whole, and tells the stage."""

    def __init__(self, stage: stages.StageRunner, series: Series, folder: Path, world: World) -> None:
        self.stage, self.series, self.folder, self.world = stage, series, folder, world

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        settings = self.stage.recipe.trained(self.stage.stage)
        first = 0 if resume_from_checkpoint is None else int(resume_from_checkpoint.rpartition("-")[2])
        for step in range(first + 1, settings.steps + 1):
            self.world.trained.append(f"{self.series.name} {step}")
            if step % save_every(self.stage.recipe, self.stage.stage) == 0 or step == settings.steps:
                self._save(step)
                if self.stage._saved(self.series, step):
                    return
            if self.world.dies_at == f"{self.series.name} {step}":
                raise KeyboardInterrupt

    def _save(self, step: int) -> None:
        folder = checkpoint_folder(self.folder, step)
        weights = f"{self.series.name} {step} {self.world.generation}".encode().ljust(64)
        write_checkpoint(folder, weights)
        (folder / "optimizer.pt").write_text("state")
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": []}))
        if self.world.dies_after_saving == f"{self.series.name} {step}":
            raise KeyboardInterrupt


class World:
    """All that surrounds a pipeline."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.chances: dict[str, float] = {}
        self.trained: list[str] = []
        self.said: list[str] = []
        self.dies_at = self.dies_after_saving = ""
        self.generation = 0
        self.backend = Engine(self.chances)

    def recipe(self, **more: Any) -> Recipe:
        facts: dict[str, Any] = {
            "output": str(self.output),
            "model": {"path": "tiny", "device": "cpu"},
            "questions": {"source": "easyvqa"},
            "stages": {
                "zero": {"steps": 4, "batch": 2, "updates_per_generation": 1},
                "cold_start": {"steps": 4, "batch": 2, "methods": ["sft", "dpo"], "data": "somewhere"},
                "rl": {"steps": 2, "batch": 2, "updates_per_generation": 1},
            },
            "evaluation": {"id": "one", "ood": "two", "every": 2, "gain": "score", "rollouts": 2},
        }
        return Recipe.model_validate(facts | more)

    def run(self, recipe: Recipe | None = None, redo_from: Any = None) -> Outcome:
        observer = ListObserver()
        return pipeline.train(recipe or self.recipe(), observer=observer, talk=self.said.append, redo_from=redo_from)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "out")
    monkeypatch.setattr(measuring, "create_backend", lambda name, options: world.backend)
    monkeypatch.setattr(measuring, "get_task", lambda name, *rest, **more: FakeTask(N, name))
    monkeypatch.setattr(preflight, "check_pairs", lambda settings, folder: None)
    for slow in ("check_packages", "check_arguments"):  # they import TRL
        monkeypatch.setattr(pipeline, slow, lambda recipe: None)
    monkeypatch.setattr(
        stages.StageRunner, "_trainer", lambda self, series, folder: Trainer(self, series, folder, world)
    )
    return world


ALL = ["zero 1", "zero 2", "zero 3", "zero 4"] + [f"{name} {step}" for name in ("sft", "dpo") for step in (1, 2, 3, 4)]


def test_stages_run_in_order_and_the_best_checkpoint_by_gf_is_handed_on(world: World) -> None:
    world.chances.update({"sft/checkpoint-4": 0.7, "dpo/checkpoint-2": 0.95, "zero/checkpoint-2": 0.9})
    outcome = world.run()
    assert world.trained == [*ALL, "rl 1", "rl 2"]
    found = outcome.state.stages
    assert found["zero"].handed is not None and found["zero"].handed.name == "zero/checkpoint-2"
    assert found["cold_start"].handed is not None and found["cold_start"].handed.name == "dpo/checkpoint-2"
    cold_start, rl = found["cold_start"].start, found["rl"].start
    assert cold_start is not None and cold_start.name == "base"
    assert rl is not None and rl.name == "dpo/checkpoint-2"
    assert rl.folder == str(world.output / "dpo" / "checkpoint-2")
    assert outcome.closed is None and outcome.best is not None and outcome.best.name.startswith("rl/")
    names = {run.manifest.checkpoint.name for run in RunStore.open(world.output / "runs").runs()}
    series = {f"{name}/checkpoint-{step}" for name in ("zero", "sft", "dpo") for step in (2, 4)}
    assert names == {"base", "rl/checkpoint-2"} | series


def test_a_finished_run_has_nothing_left_to_do(world: World) -> None:
    world.run()
    world.trained.clear()
    n_calls = len(world.backend.calls)
    outcome = world.run()
    assert not world.trained and len(world.backend.calls) == n_calls
    assert outcome.best is not None and [line for line in world.said if "done before" in line]


@pytest.mark.parametrize("where", ["zero 1", "zero 3", "sft 2", "dpo 1", "rl 2"])
def test_interrupted_between_saves_it_goes_on_from_the_last_checkpoint(world: World, where: str) -> None:
    world.dies_at = where
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.dies_at = ""
    before = list(world.trained)
    outcome = world.run()
    again = world.trained[len(before) :]
    name, _, step = where.partition(" ")
    # Only what was trained since the last checkpoint is trained again.
    assert again[:1] == [f"{name} {int(step) - int(step) % 2 + 1}"] or step in ("2", "4")
    assert set(world.trained) == {*ALL, "rl 1", "rl 2"}
    assert [one.step for one in outcome.state.stages["zero"].series["zero"].evaluated] == [2, 4]


def test_killed_while_evaluating_the_checkpoint_is_evaluated_first_and_only_once(world: World) -> None:
    world.dies_after_saving = "dpo 2"
    with pytest.raises(KeyboardInterrupt):
        world.run()
    state = load_state(world.output)
    assert "dpo" not in state.stages["cold_start"].series
    world.dies_after_saving = ""
    before = len(world.trained)
    outcome = world.run()
    assert world.trained[before:][0] == "dpo 3"
    assert [one.step for one in outcome.state.stages["cold_start"].series["dpo"].evaluated] == [2, 4]


def test_killed_in_an_evaluation_nothing_is_asked_twice(world: World) -> None:
    world.backend.die_after = 2 * N + 7  # inside the evaluation of zero/checkpoint-2, the base being done
    with pytest.raises(KeyboardInterrupt):
        world.run()
    done = len(world.backend.calls)
    world.backend.die_after = None
    world.run()
    n_checkpoints = 1 + 2 + 4 + 1
    # Whole blocks of 4 are computed again; nothing else.
    assert n_checkpoints * 2 * N <= len(world.backend.calls) <= n_checkpoints * 2 * N + 4
    assert done == 2 * N + 7


def gates(**more: Any) -> dict[str, Any]:
    return {"gates": [{"metric": "score", "task": "one", "max_drop": 0.05, **more}]}


def test_a_gate_that_stops_ends_the_series_early_and_the_best_goes_on(world: World) -> None:
    world.chances.update({"base": 0.9, "zero/checkpoint-2": 0.2, "sft/checkpoint-2": 0.9, "sft/checkpoint-4": 0.9})
    outcome = world.run(world.recipe(**gates(then="stop", stages=["zero"])))
    assert "zero 3" not in world.trained and "sft 1" in world.trained
    series = outcome.state.stages["zero"].series["zero"]
    assert (
        series.stopped is not None and "step 2" in series.stopped and "may drop by at most 5 points" in series.stopped
    )
    handed = outcome.state.stages["zero"].handed
    assert handed is not None and handed.name == "zero/checkpoint-2" and outcome.closed is None


def test_a_gate_that_fails_ends_training_and_stays_closed(world: World) -> None:
    world.chances.update({"base": 0.9, "zero/checkpoint-2": 0.9, "zero/checkpoint-4": 0.9, "sft/checkpoint-2": 0.2})
    recipe = world.recipe(**gates(then="fail"))
    outcome = world.run(recipe)
    assert outcome.closed == "cold_start" and world.trained[-1] == "sft 2"
    assert "may drop" in outcome.state.stages["cold_start"].note
    assert outcome.best is not None and outcome.best.name.startswith("zero/")
    n = len(world.trained)
    assert world.run(recipe).closed == "cold_start" and len(world.trained) == n


def test_a_checkpoint_that_a_gate_is_closed_to_is_handed_on_only_where_there_is_no_other(world: World) -> None:
    world.chances.update({"zero/checkpoint-2": 0.6, "zero/checkpoint-4": 0.97, "zero/checkpoint-6": 0.97})
    rl = {"steps": 6, "batch": 2, "updates_per_generation": 1, "keep": "best"}
    gate = {"metric": "score", "task": "one", "max": 0.8, "then": "stop"}
    outcome = world.run(world.recipe(stages={"zero": rl}, gates=[gate]))
    assert [one.action for one in outcome.state.stages["zero"].series["zero"].evaluated] == ["go on", "stop"]
    handed = outcome.state.stages["zero"].handed
    assert handed is not None and handed.name == "zero/checkpoint-2" and Path(handed.folder).is_dir()
    assert outcome.state.stages["zero"].note.count("closed to every") == 0
    world.output = world.output.parent / "other"
    world.chances["zero/checkpoint-2"] = 0.97
    outcome = world.run(world.recipe(stages={"zero": rl}, gates=[gate]))
    handed = outcome.state.stages["zero"].handed
    assert handed is not None and handed.name == "zero/checkpoint-2"
    assert "a gate is closed to every checkpoint" in outcome.state.stages["zero"].note


def test_changed_gates_are_asked_again_and_training_goes_on_where_one_closed(world: World) -> None:
    world.chances.update({"base": 0.9, "zero/checkpoint-2": 0.9, "zero/checkpoint-4": 0.9, "sft/checkpoint-2": 0.2})
    assert world.run(world.recipe(**gates(then="fail"))).closed == "cold_start"
    trained, asked = len(world.trained), len(world.backend.calls)
    assert world.run(world.recipe(**gates(then="fail", name="another", max_drop=0.06))).closed == "cold_start"
    assert len(world.trained) == trained and len(world.backend.calls) == asked
    assert world.run(world.recipe(**gates(then="fail", max_drop=0.95))).closed is None
    assert world.trained[trained] == "sft 3" and world.trained.count("sft 2") == 1
    assert any("gates have changed" in line for line in world.said)


def test_trackers_get_what_is_measured_and_a_second_start_goes_on_in_the_same_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []
    logged: list[tuple[str, int, list[str]]] = []

    class Recorder:
        def __init__(self, names: tuple[str, ...], settings: TrackerSettings) -> None:
            assert names == ("wandb",) and settings.project == "mine"
            self.run = settings.run
            opened.append((settings.run, settings.run_id))

        def log(self, step: int, values: Mapping[str, float | None]) -> None:
            logged.append((self.run, step, sorted(values)))

        def close(self) -> None:
            logged.append((self.run, -1, []))

    monkeypatch.setattr(reporting, "Trackers", Recorder)
    recipe = world.recipe(report_to=["wandb"], project="mine")
    world.dies_at = "sft 3"
    with pytest.raises(KeyboardInterrupt):
        world.run(recipe)
    world.dies_at = ""
    world.run(recipe)
    assert [name for name, _ in opened] == ["out-zero", "out-sft", "out-sft", "out-dpo", "out-rl"]
    ids = [run_id for _, run_id in opened]
    assert ids[1] == ids[2] and len(set(ids)) == 4 and all(ids)
    values = ["eval/gf", "eval/id", "eval/ood"]
    assert logged[:3] == [("out-zero", 2, values), ("out-zero", 4, values), ("out-zero", -1, [])]
    assert [entry for entry in logged if entry[0] == "out-sft"][1:] == [
        ("out-sft", -1, []),
        ("out-sft", 4, values),
        ("out-sft", -1, []),
    ]


def test_a_gate_at_the_end_does_not_look_inside(world: World) -> None:
    world.chances.update({"base": 0.9, "zero/checkpoint-2": 0.2, "zero/checkpoint-4": 0.9})
    recipe = world.recipe(**gates(then="fail", stages=["zero"], inside=False))
    assert world.run(recipe).closed is None


def test_a_gate_against_the_start_is_about_what_the_stage_started_from(world: World) -> None:
    world.chances.update({"base": 0.2, "sft/checkpoint-2": 0.95, "rl/checkpoint-2": 0.5})
    recipe = world.recipe(**gates(then="fail", against="start", stages=["rl"]))
    assert world.run(recipe).closed == "rl"
    world.output = world.output.parent / "other"
    assert world.run(world.recipe(**gates(then="fail", against="base", stages=["rl"]))).closed is None


def test_a_gate_along_the_series_stops_when_it_fell_for_good(world: World) -> None:
    world.chances.update({f"zero/checkpoint-{step}": 0.95 if step < 5 else 0.1 for step in range(1, 11)})
    rl = {"steps": 10, "batch": 2, "updates_per_generation": 1, "evaluate_every": 1}
    recipe = world.recipe(stages={"zero": rl}, **gates(then="stop", against="series"))
    series = world.run(recipe).state.stages["zero"].series["zero"]
    assert series.stopped is not None and "fell after step 4" in series.stopped
    assert 5 <= series.evaluated[-1].step < 10


def test_undecided_gates_wait_inside_and_count_at_the_end_as_the_recipe_says(world: World) -> None:
    # The base's own level: 60 samples cannot show that a drop of 1 point is kept.
    one = gates(then="fail", stages=["zero"], max_drop=0.01)
    assert world.run(world.recipe(**one)).closed is None
    world.output = world.output.parent / "strict"
    outcome = world.run(world.recipe(**one, undecided="fail"))
    assert outcome.closed == "zero"
    assert [found.action for found in outcome.state.stages["zero"].series["zero"].evaluated] == ["go on", "fail"]


def test_looking_often_does_not_close_gates_by_chance(world: World) -> None:
    # Same chance everywhere: with beta spent over all looks, a gate on "no drop at all" must stay open.
    closed = 0
    for seed in range(5):
        world.output = world.output.parent / f"seed{seed}"
        rl = {"steps": 6, "batch": 2, "updates_per_generation": 1, "evaluate_every": 1}
        evaluation = {"id": "one", "ood": "two", "gain": "score", "seed": seed}
        recipe = world.recipe(stages={"zero": rl}, evaluation=evaluation, **gates(then="fail", max_drop=0.0))
        closed += world.run(recipe).closed is not None
    assert closed <= 1


def test_from_runs_a_stage_again_and_sets_what_was_there_aside(world: World) -> None:
    world.run()
    world.trained.clear()
    world.generation = 1
    outcome = world.run(redo_from="cold_start")
    assert world.trained[0] == "sft 1" and "zero 1" not in world.trained and "rl 2" in world.trained
    aside = world.output / "set_aside" / "1"
    assert saved_steps(aside / "sft") == [2, 4] and saved_steps(world.output / "sft") == [2, 4]
    assert (aside / "rl").is_dir() and not (aside / "zero").exists()
    # One run a task and checkpoint is left in the store: the series compare.
    runs = [run.manifest.checkpoint.name for run in RunStore.open(world.output / "runs").runs()]
    assert len(runs) == len(set(runs)) * 2
    assert outcome.closed is None


@pytest.mark.parametrize("survives", [0, 1, 3])
def test_killed_while_setting_aside_the_rest_follows_at_the_next_start(
    world: World, survives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage whose checkpoints are gone must not count as done, nor one that is to be done again be gone on from."""
    world.run()
    world.trained.clear()
    world.generation, moved = 1, list[str]()
    move = redoing.shutil.move

    def dies(source: str, target: str) -> None:
        if len(moved) == survives:
            raise KeyboardInterrupt
        moved.append(source)
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(redoing.shutil, "move", dies)
        with pytest.raises(KeyboardInterrupt):
            world.run(redo_from="cold_start")
    assert world.run().closed is None
    assert world.trained == [*ALL[4:], "rl 1", "rl 2"]
    for series in ("sft", "dpo", "rl"):
        (aside,) = world.output.glob(f"set_aside/*/{series}")
        assert saved_steps(aside) == saved_steps(world.output / series)
    runs = [run.manifest.checkpoint.name for run in RunStore.open(world.output / "runs").runs()]
    assert len(runs) == len(set(runs)) * 2


def test_a_changed_recipe_is_refused_and_from_is_the_way_out(world: World) -> None:
    world.run()
    changed = world.recipe()
    rl = changed.stages.rl
    assert rl is not None
    stages_ = changed.stages.model_copy(update={"rl": rl.model_copy(update={"learning_rate": 1.0})})
    changed = changed.model_copy(update={"stages": stages_})
    with pytest.raises(ConfigError, match="--from rl runs it"):
        world.run(changed)
    assert world.run(changed, redo_from="rl").closed is None
    with pytest.raises(ConfigError, match="no such stage; it has zero, cold_start, rl"):
        world.run(changed, redo_from="distill")


def test_how_many_sequences_a_device_takes_may_change_in_between(world: World) -> None:
    world.dies_at = "zero 3"
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.dies_at = ""
    facts = world.recipe().model_dump(mode="json", exclude_none=True)
    facts["stages"]["zero"]["per_device"] = 2
    assert world.run(Recipe.model_validate(facts)).closed is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.gradient_checkpointing", False),
        ("stages.zero.save_every", 1),
        ("stages.zero.vllm", {"mode": "colocate", "gpu_memory": 0.2, "sleep": True}),
        ("questions.judge", {"base_url": "http://other:1/v1", "model": "m", "concurrency": 2}),
        ("evaluation.device", "cuda:1"),
        ("evaluation.batch_size", 2),
    ],
)
def test_what_decides_about_memory_and_addresses_alone_may_change_in_between(
    world: World, key: str, value: Any
) -> None:
    def digest(changes: dict[str, Any]) -> str:
        facts = world.recipe().model_dump(mode="json", exclude_none=True)
        facts["stages"]["zero"]["vllm"] = {"mode": "colocate"}
        facts["questions"]["judge"] = {"base_url": "http://one:1/v1", "model": "m"}
        for name, new in changes.items():
            *tables, last = name.split(".")
            table = facts
            for one in tables:
                table = table[one]
            table[last] = new
        return stage_digest(Recipe.model_validate(facts), "zero")

    assert digest({key: value}) == digest({})
    assert digest({"questions.judge": {"base_url": "http://one:1/v1", "model": "n"}}) != digest({})
    assert digest({"stages.zero.vllm": {"mode": "colocate", "max_model_length": 9}}) != digest({})


def test_what_a_killed_replacement_of_a_file_left_is_removed(world: World) -> None:
    world.run()
    for name in (".train.json.x1", ".recipe.yaml.x2"):
        (world.output / name).write_text("half")
    (world.output / ".pairs.x3.partial").mkdir()
    world.run()
    assert not [path for path in world.output.iterdir() if path.name.startswith(".")]


def test_keep_best_frees_the_disk_and_keeps_what_is_handed_on(world: World) -> None:
    world.chances.update({"zero/checkpoint-4": 0.95})
    rl = {"steps": 10, "batch": 2, "updates_per_generation": 1, "keep": "best"}
    outcome = world.run(world.recipe(stages={"zero": rl}))
    assert saved_steps(world.output / "zero") == [4, 10]
    handed = outcome.state.stages["zero"].handed
    assert handed is not None and Path(handed.folder).is_dir() and handed.name == "zero/checkpoint-4"
    # The state to continue from is twice as large as the weights; the last checkpoint alone has it.
    assert not (world.output / "zero" / "checkpoint-4" / "optimizer.pt").exists()
    assert (world.output / "zero" / "checkpoint-10" / "optimizer.pt").exists()


def test_checkpoints_between_evaluations_go_when_a_later_one_is_there(world: World) -> None:
    rl = {"steps": 8, "batch": 2, "updates_per_generation": 1, "evaluate_every": 4, "save_every": 2}
    world.run(world.recipe(stages={"zero": rl}))
    assert saved_steps(world.output / "zero") == [4, 8]


def test_without_evaluation_the_last_checkpoint_is_handed_on(world: World) -> None:
    facts = world.recipe().model_dump(mode="json", exclude_none=True, exclude={"evaluation"})
    outcome = world.run(Recipe.model_validate(facts))
    assert outcome.best is not None and outcome.best.name == "rl/checkpoint-2"
    assert not (world.output / "runs").exists() and not world.backend.calls


def test_two_processes_do_not_train_into_one_folder(world: World) -> None:
    lock = pipeline._lock(world.output)
    try:
        with pytest.raises(StoreError, match=f"process {os.getpid()} on .* trains in"):
            world.run()
    finally:
        lock.release()
    assert world.run().closed is None


def test_an_output_folder_that_cannot_be_written_is_not_taken_for_a_busy_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("specs_eval.locking.FileLock.acquire", refuses)
    with pytest.raises(ConfigError, match="cannot write to .*Read-only file system; name another output folder"):
        world.run()


def test_an_evaluation_that_cannot_be_made_is_said_and_training_can_go_on_later(world: World) -> None:
    def broken(checkpoint: Checkpoint) -> None:
        raise TrainingError("no room")

    loaded = world.backend.load
    world.backend.load = broken  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="no room"):
        world.run()
    world.backend.load = loaded  # type: ignore[method-assign]
    assert world.run().closed is None


class Wrong(Engine):
    """Well-formed and never right."""

    def _answer(self, request: Request, number: int, spec: SamplingSpec, shape: int) -> Response:
        if "/" in request.sample_id:
            return Response(number, "<think>it is odd.</think><answer>purple</answer>", n_tokens=9)
        return super()._answer(request, number, spec, shape)


def test_without_a_usable_pair_training_stops_with_the_counts_at_each_filter(world: World) -> None:
    world.backend = Wrong(world.chances)
    facts = world.recipe().model_dump(mode="json", exclude_none=True)
    facts["stages"]["distill"] = {"source": "base", "rollouts": 2}
    facts["stages"]["cold_start"].pop("data")
    facts["questions"]["limit"] = 30
    recipe = Recipe.model_validate(facts)
    with pytest.raises(TrainingError) as caught:
        world.run(recipe)
    told = str(caught.value)
    assert "no usable pair. Counts at each filter:" in told
    assert "questions: all rollouts wrong: 30" in told and "rollouts: wrong answer: 60" in told
    assert caught.value.exit_code == 3 and "sft 1" not in world.trained
    assert load_state(world.output).stages["zero"].status == "done"


def test_the_recipe_as_it_was_run_is_kept_and_can_be_run_again(world: World) -> None:
    recipe = world.recipe(**gates(then="stop", stages=["zero"]))
    world.run(recipe)
    assert load_recipe(world.output / "recipe.yaml") == recipe


def test_a_damaged_state_file_is_said(world: World) -> None:
    world.output.mkdir()
    (world.output / "train.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot read .*train.json"):
        world.run()
