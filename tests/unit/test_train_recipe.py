"""Recipes: what they may say, where a wrong one is wrong, and what a dry run tells."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from fakes import FakeTask, write_checkpoint

from specs_eval.cli import main
from specs_eval.errors import ConfigError, TrainingError
from specs_eval.training.arguments import accumulation, common_arguments, evaluated_steps, series_of
from specs_eval.training.callbacks import stage_callbacks
from specs_eval.training.checkpoints import can_continue, checkpoint_folder, prune, saved_steps
from specs_eval.training.config import STAGES, ColdStartSettings, Recipe, RLSettings
from specs_eval.training.dynamic_sampling import idle_groups, replace_groups
from specs_eval.training.failures import explained, is_out_of_memory
from specs_eval.training.gating import check_gates
from specs_eval.training.isolation import undisturbed
from specs_eval.training.measuring import limit_of, task_names
from specs_eval.training.recipe_checks import check_recipe
from specs_eval.training.recipe_file import find_recipe, load_recipe, shipped_recipes
from specs_eval.training.rl import check_groups

BODY = """
output: out
model: {path: tiny}
questions: {source: easyvqa}
stages:
  zero: {steps: 4, batch: 8}
  cold_start:
    data: pairs
    steps: 10
    batch: 32
evaluation: {id: formats_id, ood: formats_ood, every: 2}
gates:
  - {metric: score, task: formats_id, max_drop: 0.1}
"""


def load(folder: Path, text: str, **changes: Any) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, changes)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, BODY)
    assert recipe.stages.chosen == ("zero", "cold_start")
    zero, cold = recipe.stages.zero, recipe.stages.cold_start
    assert isinstance(zero, RLSettings) and isinstance(cold, ColdStartSettings)
    assert (zero.rollouts, zero.kl, zero.epsilon_high, zero.mask_truncated) == (8, 0.0, 0.28, True)
    assert (zero.format_weight, zero.accuracy_weight, zero.start) == (0.5, 1.0, "previous")
    assert (cold.methods, cold.sft_weight, cold.start) == (("dpo+sft",), 1.0, "base")
    assert recipe.gates[0].against == "base" and recipe.gates[0].then == "fail"
    assert load(tmp_path, BODY, seed=5, output=tmp_path).seed == 5


def test_a_stage_with_nothing_under_it_has_its_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, BODY.replace("stages:\n", "stages:\n  base:\n  distill:\n"))
    assert recipe.stages.chosen == ("base", "zero", "distill", "cold_start")


WRONG = [
    (
        "batch: 32",
        "batsh: 32",
        r":10: stages.cold_start.batsh: unknown key; did you mean batch\? The keys here are steps,",
    ),
    ("batch: 32", "batch: 0", r":10: stages.cold_start.batch: Input should be greater than or equal to 1"),
    ("steps: 10", "methods: [sfd]\n    steps: 10", r"stages.cold_start.methods.0: .*'sft', 'dpo' or 'dpo\+sft'"),
    ("steps: 10", "methods: [sft, sft]\n    steps: 10", "methods: each method once"),
    ("    steps: 10\n", "", r":7: stages.cold_start.steps: is missing"),
    ("max_drop: 0.1}", "max_drop: 0.1, min: 0.5}", r":13: gates.0: a gate has exactly one bound"),
    ("max_drop: 0.1}", "max_drop: 0.1, stages: [distill]}", r":13: gates.0.stages.0: .*'zero', 'cold_start' or 'rl'"),
    ("max_drop: 0.1}", "max_drop: 0.1, stages: [rl]}", "stands before rl: not in this recipe"),
    ("max_drop: 0.1}", "min: 0.1, against: series}", "has the bound max_drop or max_rise"),
    ("    data: pairs\n", "", "stages.cold_start needs data, or a distill stage"),
    ("questions: {source: easyvqa}\n", "", "questions is missing: zero ask them"),
    ("evaluation: {id: formats_id, ood: formats_ood, every: 2}\n", "", "evaluation is missing"),
    ("  cold_start:", "  distill: {source: teacher}\n  cold_start:", "teacher goes with source: teacher"),
    ("  zero: {steps: 4, batch: 8}", "  distill:", "there is no zero stage; write source: base"),
    ("  zero:", "  zero: {steps: 1, batch: 8}\n  zero:", r":7: zero stands here a second time \(first in line 6\)"),
    ("batch: 8}", "batch: 8, vllm: {server_url: x}}", "server_url goes with mode: server"),
    ("model: {path: tiny}", "model: {path: tiny", r":\d+: not YAML"),
    ("batch: 8}", "batch: 8, learning_rate: .nan}", "learning_rate"),
]


@pytest.mark.parametrize(("old", "new", "told"), WRONG)
def test_a_wrong_recipe_is_told_by_line_key_and_choice(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert BODY.count(old) == 1
    assert re.search(told, complaint(tmp_path, BODY.replace(old, new)), re.DOTALL)


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    assert "a recipe is a mapping" in complaint(tmp_path, "- 1\n")
    assert "a recipe is a mapping" in complaint(tmp_path, "")
    with pytest.raises(ConfigError, match="not a file, and not one of those that ship: lora_single_gpu"):
        find_recipe("no_such")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_recipe(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_whole(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.stages.chosen == STAGES
    check_recipe(recipe)
    devices = 8 if "8gpu" in name else 1
    for stage in ("zero", "cold_start", "rl"):
        assert accumulation(stage, recipe.trained(stage), devices) >= 1  # type: ignore[arg-type]
        assert len(evaluated_steps(recipe, stage)) >= 2  # type: ignore[arg-type]


def test_the_paper_s_settings_are_in_its_recipe() -> None:
    recipe = load_recipe(find_recipe("qwen2_5_vl_7b_8gpu"))
    cold, rl = recipe.stages.cold_start, recipe.stages.rl
    assert cold is not None and rl is not None
    assert (cold.batch, cold.learning_rate, cold.max_length, cold.sft_weight) == (64, 1e-6, 16384, 1.0)
    assert (rl.rollouts, rl.batch * rl.updates_per_generation, rl.learning_rate) == (8, 128, 1e-6)
    assert (rl.max_new_tokens, rl.kl, rl.format_weight, rl.accuracy_weight) == (10240, 0.0, 0.5, 1.0)


def test_shipped_accelerate_configurations_are_understood() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    folder = find_recipe("tiny_cpu").parent / "accelerate"
    kinds = {path.stem: str(load_config_from_file(str(path)).distributed_type) for path in folder.glob("*.yaml")}
    assert {name: kind.rpartition(".")[2] for name, kind in kinds.items()} == {
        "zero3": "DEEPSPEED",
        "fsdp2": "FSDP",
        "two_cpu": "MULTI_CPU",
    }


def test_the_batch_is_what_the_recipe_says_on_any_number_of_devices(tmp_path: Path) -> None:
    recipe = load(tmp_path, BODY.replace("batch: 32", "batch: 32\n    per_device: 2"))
    cold, zero = recipe.trained("cold_start"), recipe.trained("zero")
    for devices in (1, 2, 4, 8, 16):
        assert accumulation("cold_start", cold, devices) * devices * 2 == 32
        assert accumulation("zero", zero, devices) * devices == 64
    with pytest.raises(
        ConfigError, match="32 pairs a step do not divide over 3 devices with 2 each; make it a multiple of 3"
    ):
        accumulation("cold_start", cold, 3)
    five = cold.model_copy(update={"per_device": 5})
    with pytest.raises(ConfigError, match="per_device may be 1, 2, 4, 8"):
        accumulation("cold_start", five, 4)
    arguments = common_arguments(recipe, series_of(recipe, "cold_start")[0], tmp_path)
    assert (arguments["max_steps"], arguments["save_steps"], arguments["logging_nan_inf_filter"]) == (10, 2, False)


def test_rollouts_that_could_not_be_continued_exactly_are_refused(tmp_path: Path) -> None:
    check_recipe(load(tmp_path, BODY))
    odd = load(tmp_path, BODY.replace("batch: 8}", "batch: 8, updates_per_generation: 3}"))
    with pytest.raises(ConfigError, match="in the middle of 3 updates on one generation"):
        check_recipe(odd)
    often = load(tmp_path, BODY.replace("batch: 8}", "batch: 8, more: {num_iterations: 2}}"))
    with pytest.raises(ConfigError, match="in the middle of 4 updates on one generation"):
        check_recipe(often)
    apart = load(tmp_path, BODY.replace("steps: 10", "steps: 10\n    save_every: 4\n    evaluate_every: 5"))
    with pytest.raises(ConfigError, match="evaluates every 5 steps and saves every 4"):
        check_recipe(apart)


def test_dynamic_sampling_needs_whole_groups_on_a_device() -> None:
    settings = RLSettings(steps=2, batch=2, rollouts=8, per_device=2, dynamic_sampling=1, updates_per_generation=1)
    check_groups(settings, "zero", 2)
    with pytest.raises(ConfigError, match="generates whole groups of 8 rollouts, not 4"):
        check_groups(settings, "zero", 4)
    check_groups(settings.model_copy(update={"dynamic_sampling": 0}), "zero", 4)


def gated(folder: Path, gate: str, rollouts: int = 1) -> Recipe:
    text = BODY.replace("metric: score, task: formats_id, max_drop: 0.1", gate).replace(
        "every: 2}", f"rollouts: {rollouts}}}"
    )
    return load(folder, text)


@pytest.mark.parametrize(
    ("gate", "rollouts", "told"),
    [
        ("metric: score, task: mmmu, max_drop: 0.1", 1, "mmmu is not evaluated; evaluation has easyvqa_formats_id,"),
        (
            "metric: beauty, task: formats_id, max_drop: 0.1",
            1,
            "has no metric 'beauty'; gates can use: format, score, unscored",
        ),
        (
            "metric: pass@8, task: formats_id, max_drop: 0.1",
            4,
            "pass@8 needs 8 rollouts a sample, and evaluation.rollouts is 4",
        ),
        ("metric: wrong_mode, task: formats_id, max_rise: 0.1", 1, "needs 2 rollouts"),
        ("metric: distinct, task: formats_id, max_drop: 0.1", 1, "needs 2 rollouts"),
        ("metric: gf, id: formats_id, ood: mmmu, min: 0.5", 1, "mmmu is not evaluated"),
        ("metric: gf, id: formats_id, ood: formats_ood, of: beauty, min: 0.5", 1, "has no metric 'beauty'"),
        ("metric: score, task: 'formats_id[parity=7]', max_drop: 0.1", 1, "no parity '7'"),
    ],
)
def test_gates_that_could_never_be_measured_are_refused_at_load(
    tmp_path: Path, gate: str, rollouts: int, told: str
) -> None:
    recipe = gated(tmp_path, gate, rollouts)
    assert recipe.evaluation is not None
    tasks = [FakeTask(20, name) for name in task_names(recipe.evaluation)]
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_gates(recipe, tasks)


def test_gates_that_can_be_measured_pass(tmp_path: Path) -> None:
    for gate in (
        "metric: format, task: formats_ood, max_drop: 0.1",
        "metric: pass@4, task: 'formats_id[parity=1]', max_drop: 0.1",
        "metric: rbf, task: formats_id, max_drop: 0.1",
        "metric: gf, id: formats_id, ood: formats_ood, base: base, min: 0.1",
    ):
        recipe = gated(tmp_path, gate, 4)
        assert recipe.evaluation is not None
        check_gates(recipe, [FakeTask(20, name) for name in task_names(recipe.evaluation)])


def test_limits_may_be_given_by_the_names_that_users_type(tmp_path: Path) -> None:
    recipe = load(tmp_path, BODY.replace("every: 2}", "limit: {formats_id: 5, specs_easyvqa_formats_ood: 7}}"))
    assert recipe.evaluation is not None
    assert limit_of(recipe.evaluation, "easyvqa_formats_id") == 5
    assert limit_of(recipe.evaluation, "easyvqa_formats_ood") == 7
    assert limit_of(recipe.evaluation, "easyvqa") is None


def test_a_dry_run_tells_the_plan_and_does_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["train", "tiny_cpu", "--dry-run", "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.output.splitlines()]
    order = [line for line in lines if re.match(r"\d\. ", line)]
    assert order == [f"{number}. {stage} (to do)" for number, stage in enumerate(STAGES, 1)]
    assert "64 rollouts a step = 1 devices x 64 at a time x 1 passes" in lines
    assert "starts from the best checkpoint of cold_start; 24 steps at a learning rate of 0.0004" in lines
    assert any(line.startswith("series: sft, dpo, dpo+sft, on the pairs in") for line in lines)
    assert "evaluates at steps 5, 10, 15, 20, 25, 30" in lines
    assert any(line.startswith("gate accuracy of formats_id") and line.endswith("closed means stop") for line in lines)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(BODY.replace("task: formats_id,", "task: mmmu,"))
    result = CliRunner().invoke(main, ["train", str(tmp_path / "recipe.yaml"), "--dry-run"])
    assert result.exit_code == 2 and "mmmu is not evaluated" in result.output
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"output": "x"}))
    result = CliRunner().invoke(main, ["train", str(tmp_path / "recipe.yaml")])
    assert result.exit_code == 2 and "model: is missing" in result.output and "Traceback" not in result.output


def test_nothing_that_training_draws_is_disturbed() -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with pytest.raises(ZeroDivisionError), undisturbed():
        random.seed(9)
        np.random.seed(9)
        torch.manual_seed(9)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        drawn()
        1 / 0  # noqa: B018
    assert drawn() == expected
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32


def test_every_step_is_reported_and_some_are_shown() -> None:
    shown: list[str] = []
    reported: list[tuple[int, Any]] = []
    (callback,) = stage_callbacks("rl", lambda step: False, shown.append, lambda *what: reported.append(what))
    for step in range(1, 6):
        state = SimpleNamespace(global_step=step, max_steps=5, is_world_process_zero=True)
        logs = {"loss": 0.5, "completions/clipped_ratio": 1.0, "reward": None, "flag": True}
        callback.on_log(None, state, None, logs=logs)
    callback.on_log(None, state, None, logs={"train_runtime": 3.0})
    assert reported == [(step, {"train/loss": 0.5, "train/completions/clipped_ratio": 1.0}) for step in range(1, 6)]
    assert shown == [f"rl step {step}/5: loss 0.500, overlong 1.000" for step in (1, 5)]
    callback.on_log(None, state, None, logs={"loss": 0.5, "completions/clipped_ratio": 0.0, "reward/unjudged": 0.25})
    assert shown[-1] == "rl step 5/5: loss 0.500, unjudged 0.250"


def test_three_generations_without_a_reward_end_training() -> None:
    (callback,) = stage_callbacks("rl", lambda step: False, lambda text: None)
    state = SimpleNamespace(global_step=7, max_steps=50, is_world_process_zero=False)
    # Steps between generations say nothing about it.
    for share in (1.0, None, 1.0, 0.5, 1.0, None, 1.0, None):
        callback.on_log(None, state, None, logs={"loss": 0.0} | ({} if share is None else {"reward/unjudged": share}))
    with pytest.raises(TrainingError, match=r"rl, step 7: no response of the last 3 generations .* Is the judge up"):
        callback.on_log(None, state, None, logs={"loss": 0.0, "reward/unjudged": 1.0})


def test_out_of_memory_is_told_with_knobs_of_the_stage() -> None:
    settings = RLSettings.model_validate({"steps": 2, "batch": 4, "per_device": 4, "vllm": {"mode": "colocate"}})
    told = r"rl ran out of memory while training.*per_device \(4\).*vllm.gpu_memory \(0.3\)"
    with pytest.raises(TrainingError, match=told), explained("rl", settings):
        raise torch.OutOfMemoryError("CUDA out of memory")
    told = (
        r"goes on after any of these: lower stages.rl.per_device.*gradient_checkpointing.*With --from.*max_new_tokens"
    )
    with pytest.raises(TrainingError, match=told), explained("rl", settings):
        raise torch.OutOfMemoryError("CUDA out of memory")
    told = "while evaluating. Lower evaluation.batch_size"
    with pytest.raises(TrainingError, match=told), explained("rl", settings, "evaluating"):
        raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(RuntimeError, match="shape"), explained("rl", settings):
        raise RuntimeError("shape mismatch")
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("index out of range"))


def test_only_whole_checkpoints_count_and_only_the_last_can_be_continued(tmp_path: Path) -> None:
    for step in (2, 4, 10):
        folder = write_checkpoint(checkpoint_folder(tmp_path, step))
        (folder / "trainer_state.json").write_text("{}")
        (folder / "optimizer.pt").write_text("x")
        (folder / "rng_state.pth").write_text("x")
        (folder / "global_step4").mkdir()
    write_checkpoint(checkpoint_folder(tmp_path, 12))  # cut off before its last file
    assert saved_steps(tmp_path) == [2, 4, 10] and saved_steps(tmp_path / "nothing") == []
    prune(tmp_path, {4})
    assert saved_steps(tmp_path) == [4, 10]
    assert not can_continue(checkpoint_folder(tmp_path, 4)) and can_continue(checkpoint_folder(tmp_path, 10))
    assert (checkpoint_folder(tmp_path, 4) / "model.safetensors").is_file()


def batch(advantages: list[float], prompt: int, length: int, start: int) -> dict[str, Any]:
    """Rows whose every number says which row it is."""
    n = len(advantages)
    ids = torch.arange(start, start + n)[:, None]
    return {
        "prompt_ids": ids.expand(n, prompt).clone(),
        "prompt_mask": torch.ones(n, prompt, dtype=torch.long),
        "completion_ids": ids.expand(n, length).clone(),
        "completion_mask": torch.ones(n, length, dtype=torch.long),
        "old_per_token_logps": ids.expand(n, length).float(),
        "mm_token_type_ids": torch.ones(n, prompt + length, dtype=torch.long),
        "advantages": torch.tensor(advantages),
        "pixel_values": ids.expand(n, 3).repeat_interleave(4, dim=0).float(),
        "image_grid_thw": torch.tensor([[1, 2, 2]] * n),
        "num_images": [1] * n,
        "num_items_in_batch": torch.tensor(float(n * length)),
    }


def test_groups_are_replaced_whole_and_padded_on_their_own_sides() -> None:
    mine = batch([0.0, 0.0, 1.0, -1.0, 0.0, 0.0], 3, 5, 100)
    fresh = batch([0.5, -0.5, 0.0, 0.0, 0.0, 0.0], 4, 2, 200)
    assert idle_groups(mine["advantages"], 2) == [0, 2]
    merged = replace_groups(mine, fresh, 2, pad=-7)
    assert merged["advantages"].tolist() == [0.5, -0.5, 1.0, -1.0, 0.0, 0.0]
    assert merged["prompt_ids"].tolist() == [[200] * 4, [201] * 4, *[[-7, *[row] * 3] for row in (102, 103, 104, 105)]]
    assert merged["prompt_mask"].tolist() == [[1] * 4] * 2 + [[0, 1, 1, 1]] * 4
    assert merged["completion_ids"].tolist()[:3] == [[200, 200, -7, -7, -7], [201, 201, -7, -7, -7], [102] * 5]
    assert merged["completion_mask"].tolist()[:3] == [[1, 1, 0, 0, 0]] * 2 + [[1] * 5]
    assert merged["old_per_token_logps"][0].tolist() == [200, 200, 0, 0, 0]
    assert merged["mm_token_type_ids"].tolist()[1:3] == [[1] * 6 + [0] * 3, [0] + [1] * 8]
    assert merged["pixel_values"][::4, 0].tolist() == [200, 201, 102, 103, 104, 105]
    # The originals are as they were: a later round starts from the merged batch, never from a half-changed one.
    assert mine["advantages"].tolist() == [0.0, 0.0, 1.0, -1.0, 0.0, 0.0]


def test_without_a_useful_candidate_the_batch_stays() -> None:
    mine, fresh = batch([0.0, 0.0], 2, 2, 100), batch([0.0, 0.0], 2, 2, 200)
    assert replace_groups(mine, fresh, 2, pad=0) is mine


def test_inputs_that_cannot_be_moved_are_refused() -> None:
    mine, fresh = batch([0.0, 0.0], 2, 2, 100), batch([1.0, -1.0], 2, 2, 200)
    for one in (mine, fresh):
        one["pixel_attention_mask"] = torch.ones(2, 2)
    with pytest.raises(TrainingError, match="pixel_attention_mask of this model's inputs; set dynamic_sampling: 0"):
        replace_groups(mine, fresh, 2, pad=0)
