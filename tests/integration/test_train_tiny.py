"""Stages of training on the tiny model by TRL: the losses that they should have, what is logged, and exact continuing."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ListObserver
from PIL import Image
from safetensors.torch import load_file
from tiny_training import tiny_recipe, write_pairs
from transformers import AutoProcessor

from specs_eval.errors import ConfigError, StoreError, TrainingError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.store import RunStore
from specs_eval.training import pipeline, stages
from specs_eval.training.arguments import Series
from specs_eval.training.checkpoints import checkpoint_folder, read_log, saved_steps
from specs_eval.training.cold_start import cold_start_trainer
from specs_eval.training.config import Recipe
from specs_eval.training.distilling import prepared_questions
from specs_eval.training.models import find_model, load_model, load_processor
from specs_eval.training.pipeline import Outcome
from specs_eval.training.rl import make_reward, rl_trainer

START = find_model("tiny", Fingerprinter()).path
EVALUATION = {
    "id": "formats_id",
    "ood": "formats_ood",
    "limit": {"formats_id": 2, "formats_ood": 6},
    "gain": "score",
    "max_new_tokens": 16,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", 16, 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def cold(pairs: Path, **more: Any) -> dict[str, Any]:
    common = {"data": str(pairs), "steps": 2, "batch": 8, "per_device": 8, "learning_rate": 3e-4}
    return {"cold_start": common | more}


def rl(**more: Any) -> dict[str, Any]:
    common = {"steps": 4, "batch": 2, "per_device": 8, "rollouts": 4, "learning_rate": 3e-4, "max_new_tokens": 16}
    return {"zero": common | more}


def train(recipe: Recipe) -> Outcome:
    return pipeline.train(recipe, observer=ListObserver(), talk=lambda text: None)


def weights(series: Path, step: int) -> dict[str, torch.Tensor]:
    (file,) = checkpoint_folder(series, step).glob("*.safetensors")
    found: dict[str, torch.Tensor] = load_file(file)
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def losses(series: Path, step: int) -> list[float]:
    return [entry["loss"] for entry in read_log(checkpoint_folder(series, step)) if "loss" in entry]


def cold_trainer(tmp_path: Path, pairs: Path, method: Any, **more: Any) -> Any:
    recipe = tiny_recipe(tmp_path, cold(pairs, methods=[method], **more))
    return cold_start_trainer(recipe, Series(method, "cold_start", method), START, tmp_path / method, pairs, [])


def likelihood(batch: list[dict[str, Any]]) -> float:
    """Mean negative log-likelihood of the tokens of the chosen responses, by hand."""
    recipe = tiny_recipe(Path("x"), cold(Path("y")))
    model, processor = load_model(START, recipe.model).eval(), load_processor(START, recipe.model)
    total, n = 0.0, 0
    for row in batch:
        prompt = processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        whole = processor.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        assert whole.startswith(prompt)
        inputs = processor(text=[prompt], images=row["images"], return_tensors="pt")
        response = processor.tokenizer(whole[len(prompt) :], return_tensors="pt")["input_ids"]
        ids = torch.cat([inputs["input_ids"], response], dim=1)
        kinds = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, response.shape[1]))
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=kinds,
                pixel_values=inputs["pixel_values"],
                image_grid_thw=inputs["image_grid_thw"],
            ).logits
        chances = logits[0, -response.shape[1] - 1 : -1].log_softmax(-1)
        total -= float(chances.gather(1, response[0][:, None]).sum())
        n += response.shape[1]
    return total / n


def test_sft_is_the_likelihood_of_the_responses_alone(tmp_path: Path, pairs: Path) -> None:
    # All pairs in one step, so that their order does not matter.
    trainer = cold_trainer(tmp_path, pairs, "sft", steps=1, batch=16, per_device=8)
    trainer.train()
    rows = [trainer.train_dataset[index] for index in range(16)]
    assert losses(tmp_path / "sft", 1) == [pytest.approx(likelihood(rows), rel=1e-5)]


def test_dpo_starts_at_log_two_and_dpo_sft_adds_lambda_times_the_likelihood(tmp_path: Path, pairs: Path) -> None:
    one_step = {"steps": 1, "batch": 16, "per_device": 16}
    cold_trainer(tmp_path, pairs, "sft", **one_step).train()
    (nll,) = losses(tmp_path / "sft", 1)
    cold_trainer(tmp_path, pairs, "dpo", **one_step).train()
    assert losses(tmp_path / "dpo", 1) == [pytest.approx(math.log(2), rel=1e-5)]
    for weight in (1.0, 0.5):
        folder = tmp_path / str(weight)
        cold_trainer(folder, pairs, "dpo+sft", sft_weight=weight, **one_step).train()
        assert losses(folder / "dpo+sft", 1) == [pytest.approx(math.log(2) + weight * nll, rel=1e-4)]


@pytest.mark.parametrize("method", ["sft", "dpo", "dpo+sft"])
def test_the_number_of_forward_passes_does_not_matter(tmp_path: Path, pairs: Path, method: str) -> None:
    """Plain gradient descent: Adam would hide a wrong scale, and blow rounding up."""
    found = []
    for per_device in (16, 4):
        folder = tmp_path / str(per_device)
        more = {"optim": "sgd"}
        options = {"steps": 3, "batch": 16, "per_device": per_device, "learning_rate": 0.02, "more": more}
        cold_trainer(folder, pairs, method, **options).train()
        log = read_log(checkpoint_folder(folder / method, 3))
        found.append([entry[name] for entry in log for name in ("loss", "grad_norm") if name in entry])
    assert found[1] == pytest.approx(found[0], rel=2e-5) and found[0][0] != found[0][2]


def test_dpo_logs_rewards_and_margins_and_moves_the_right_way(tmp_path: Path, pairs: Path) -> None:
    cold_trainer(tmp_path, pairs, "dpo", steps=3).train()
    log = read_log(checkpoint_folder(tmp_path / "dpo", 3))
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "entropy", "grad_norm"):
        assert all(name in entry for entry in log), name
    assert log[0]["rewards/margins"] == 0.0 and log[-1]["rewards/margins"] > 0.05
    assert log[-1]["loss"] < log[0]["loss"]


def test_under_an_adapter_there_is_no_second_model_and_the_next_stage_starts_from_merged_weights(
    tmp_path: Path, pairs: Path
) -> None:
    model = {"path": "tiny", "device": "cpu", "lora": {"rank": 4, "alpha": 8}}
    recipe = tiny_recipe(tmp_path, cold(pairs, methods=["dpo"], learning_rate=1e-2), model=model, evaluation=EVALUATION)
    trainer = cold_start_trainer(recipe, Series("dpo", "cold_start", "dpo"), START, tmp_path / "x", pairs, [])
    assert trainer.ref_model is None
    trained = {name for name, one in trainer.model.named_parameters() if one.requires_grad}
    assert trained and all("lora_" in name and "visual" not in name for name in trained)
    outcome = train(recipe)
    handed = outcome.best
    assert handed is not None and handed.folder == str(tmp_path / "start" / "cold_start")
    start, merged = load_file(START / "model.safetensors"), load_file(Path(handed.folder) / "model.safetensors")
    changed = {name for name in start if not torch.equal(start[name].float(), merged[name].float())}
    assert changed and all("visual" not in name for name in changed)
    # What the next stage loads is a checkpoint like any other.
    assert find_model(handed.folder, Fingerprinter()).base is None


def test_grpo_logs_what_is_promised_and_its_second_update_is_clipped(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, rl(learning_rate=5e-3, epsilon=1e-3, epsilon_high=2e-3))
    train(recipe)
    log = read_log(checkpoint_folder(tmp_path / "zero", 4))
    wanted = ("reward", "rewards/format_reward/mean", "rewards/accuracy_reward/mean", "frac_reward_zero_std")
    assert all(name in log[0] for name in (*wanted, "entropy", "loss", "completions/clipped_ratio"))
    assert 0 <= log[0]["rewards/format_reward/mean"] <= 1
    mean = 0.5 * log[0]["rewards/format_reward/mean"] + log[0]["rewards/accuracy_reward/mean"]
    assert log[0]["reward"] == pytest.approx(mean, abs=1e-5)
    clipped = [entry["clip_ratio/high_mean"] + entry["clip_ratio/low_mean"] for entry in log if "loss" in entry]
    # On policy the ratio is 1; the second update on the same generation has moved.
    assert clipped[0] == clipped[2] == 0.0 and clipped[1] > 0 and clipped[3] > 0


def test_an_adapter_s_dropout_does_not_clip(tmp_path: Path) -> None:
    """Step 3 is the first on a new generation, with an adapter that has learned something: its ratios are 1."""
    model = {"path": "tiny", "device": "cpu", "lora": {"rank": 4, "dropout": 0.5}}
    recipe = tiny_recipe(tmp_path, rl(learning_rate=5e-3, epsilon=1e-3, epsilon_high=1e-3), model=model)
    train(recipe)
    log = [entry for entry in read_log(checkpoint_folder(tmp_path / "zero", 4)) if "loss" in entry]
    clipped = [entry["clip_ratio/high_mean"] + entry["clip_ratio/low_mean"] for entry in log]
    assert clipped[0] == clipped[2] == 0.0 and clipped[1] > 0


def test_evaluations_change_nothing_in_training(tmp_path: Path) -> None:
    """GRPO samples from torch's global generator: one stray draw in between would change every later loss."""
    quiet = tiny_recipe(tmp_path / "quiet", rl(save_every=2))
    watched = tiny_recipe(tmp_path / "watched", rl(), evaluation={**EVALUATION, "every": 2})
    train(quiet)
    outcome = train(watched)
    assert [one.step for one in outcome.state.stages["zero"].series["zero"].evaluated] == [2, 4]
    assert losses(tmp_path / "quiet" / "zero", 4) == losses(tmp_path / "watched" / "zero", 4)
    assert same(weights(tmp_path / "quiet" / "zero", 4), weights(tmp_path / "watched" / "zero", 4))


@pytest.mark.parametrize(("kind", "lora"), [("sft", None), ("dpo+sft", None), ("dpo", {"rank": 4}), ("zero", None)])
def test_interrupted_inside_a_stage_it_ends_at_the_same_weights(
    tmp_path: Path, pairs: Path, kind: str, lora: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = rl(save_every=2) if kind == "zero" else cold(pairs, methods=[kind], steps=4, save_every=1)
    model = {"path": "tiny", "device": "cpu", "lora": lora}
    whole, broken = (tiny_recipe(tmp_path / name, chosen, model=model) for name in ("whole", "broken"))
    train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(stages.StageRunner, "_saved", _dies_at(2))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    assert saved_steps(tmp_path / "broken" / kind)[-1] == 2
    train(broken)
    assert losses(tmp_path / "broken" / kind, 4) == losses(tmp_path / "whole" / kind, 4)
    assert same(weights(tmp_path / "broken" / kind, 4), weights(tmp_path / "whole" / kind, 4))


def test_interrupted_in_a_later_epoch_grpo_asks_the_questions_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine questions are two generations of four, four steps: step 6 is in the middle of the second epoch."""
    chosen = rl(steps=8, save_every=2, max_new_tokens=12)
    whole, broken = (
        tiny_recipe(tmp_path / name, chosen, questions={"source": "easyvqa", "limit": 9})
        for name in ("whole", "broken")
    )
    train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(stages.StageRunner, "_saved", _dies_at(6))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    train(broken)
    assert losses(tmp_path / "broken" / "zero", 8) == losses(tmp_path / "whole" / "zero", 8)
    assert same(weights(tmp_path / "broken" / "zero", 8), weights(tmp_path / "whole" / "zero", 8))


def _dies_at(last: int) -> Callable[..., bool]:
    def saved(self: Any, series: Series, step: int) -> bool:
        if step == last:
            raise KeyboardInterrupt
        return False

    return saved


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, pairs: Path) -> None:
    chosen = cold(pairs, methods=["sft"], steps=4, save_every=1, learning_rate=1e20, max_grad_norm=1e9)
    with pytest.raises(
        TrainingError, match=r"sft, step \d: .* any more; (checkpoint-1 is the last good|no checkpoint)"
    ):
        train(tiny_recipe(tmp_path, chosen))
    for step in saved_steps(tmp_path / "sft"):
        assert all(bool(one.isfinite().all()) for one in weights(tmp_path / "sft", step).values())
    assert not (tmp_path / "sft" / ".partial").exists()


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path, pairs: Path) -> None:
    trainer = cold_trainer(tmp_path, pairs, "sft", save_every=1)
    with torch.no_grad():
        next(iter(trainer.model.parameters())).view(-1)[0] = float("nan")
    with pytest.raises(TrainingError, match="weights are not numbers any more; no checkpoint was saved yet"):
        trainer._save_checkpoint(trainer.model, None)
    assert saved_steps(tmp_path / "sft") == []


def test_a_full_disk_is_said_and_what_was_saved_stays_whole(
    tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = cold(pairs, methods=["sft"], steps=4, save_every=1)
    train(tiny_recipe(tmp_path / "whole", chosen))
    full = torch.save

    def save(value: Any, place: Any, *rest: Any, **more: Any) -> None:
        if "optimizer.pt" in str(place) and "checkpoint-3" in str(place):
            raise OSError(errno.ENOSPC, "No space left on device")
        full(value, place, *rest, **more)

    recipe = tiny_recipe(tmp_path / "full", chosen)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(StoreError, match=r"cannot save checkpoint-3 .*No space left.*checkpoint-2 is whole"):
            train(recipe)
    assert saved_steps(tmp_path / "full" / "sft") == [1, 2]
    assert not (tmp_path / "full" / "sft" / ".partial").exists()
    train(recipe)
    assert same(weights(tmp_path / "full" / "sft", 4), weights(tmp_path / "whole" / "sft", 4))


def test_out_of_memory_names_the_knobs(tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTTrainer

    def full(*arguments: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(SFTTrainer, "compute_loss", full)
    with pytest.raises(
        TrainingError, match=r"ran out of memory while training. .*lower stages.cold_start.per_device \(8\)"
    ):
        train(tiny_recipe(tmp_path, cold(pairs, methods=["sft"])))


def test_dynamic_sampling_replaces_groups_and_keeps_every_token_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ratios to the log-likelihoods of generation are 1 only if moved rows still see their own prompt and image."""
    # Answers alone are rewarded, and the tiny model knows most: groups agree.
    chosen = rl(steps=1, batch=4, per_device=16, dynamic_sampling=8, epsilon=1e-4, epsilon_high=1e-4, format_weight=0)
    recipe = tiny_recipe(tmp_path, chosen)
    settings = recipe.stages.zero
    assert settings is not None
    reward = make_reward(prepared_questions(recipe, []).task(), settings)
    trainer = rl_trainer(recipe, Series("zero", "zero"), START, tmp_path / "zero", reward, [])
    seen: dict[str, list[float]] = {}
    generate = type(trainer)._generate_and_score_completions

    def watched(self: Any, inputs: Any) -> Any:
        batch = generate(self, inputs)
        seen.update({name: list(values) for name, values in self._metrics["train"].items()})
        return batch

    monkeypatch.setattr(type(trainer), "_generate_and_score_completions", watched)
    trainer.train()
    (left,), rounds = seen["idle_groups_left"], seen["frac_reward_zero_std"]
    assert len(rounds) > 1 and left < rounds[0]
    assert trainer.state.log_history[0]["clip_ratio/region_mean"] == 0.0


def test_layers_for_an_adapter_that_the_model_does_not_have_are_refused(tmp_path: Path, pairs: Path) -> None:
    model = {"path": "tiny", "device": "cpu", "lora": {"rank": 4, "targets": ["q_proj", "qproj"]}}
    recipe = tiny_recipe(tmp_path, cold(pairs, methods=["sft"]), model=model)
    with pytest.raises(ConfigError, match=r"has no module 'qproj'; its linear layers are .*q_proj"):
        cold_start_trainer(recipe, Series("sft", "cold_start", "sft"), START, tmp_path / "sft", pairs, [])


def test_a_limit_on_pixels_holds_for_the_base_as_for_what_is_trained_from_it(tmp_path: Path, pairs: Path) -> None:
    """Else gains over the base would be about the size of images."""
    model = {"path": "tiny", "device": "cpu", "max_pixels": 1024}
    chosen = cold(pairs, methods=["sft"], steps=1)
    recipe = tiny_recipe(tmp_path / "out", chosen, model=model, evaluation=EVALUATION)
    outcome = train(recipe)
    base = outcome.state.stages["cold_start"].start
    assert base is not None and base.folder == str(tmp_path / "out" / "start" / "base")
    image = Image.new("RGB", (64, 64))
    for folder in (Path(base.folder), checkpoint_folder(tmp_path / "out" / "sft", 1)):
        processor = AutoProcessor.from_pretrained(folder)
        seen = processor(text=[processor.image_token], images=[image], return_tensors="pt")
        assert seen["image_grid_thw"].tolist() == [[1, 4, 4]]
    weights_file = Path(base.folder) / "model.safetensors"
    assert weights_file.is_symlink() and weights_file.read_bytes() == (START / "model.safetensors").read_bytes()
    runs = {
        run.manifest.checkpoint.name: run.manifest.checkpoint.fingerprint
        for run in RunStore.open(tmp_path / "out" / "runs").runs()
    }
    assert runs["base"] == base.fingerprint != find_model("tiny", Fingerprinter()).fingerprint
    train(recipe)


def test_numbers_that_do_not_fit_together_are_refused(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(ConfigError, match="no such argument; did you mean label_smoothing"):
        cold_trainer(tmp_path, pairs, "dpo", more={"label_smothing": 0.1})
    with pytest.raises(ConfigError, match="the recipe sets this by keys of its own"):
        cold_trainer(tmp_path, pairs, "dpo", more={"beta": 0.1})
    with pytest.raises(ConfigError, match=r"refuses: .*loss_weights"):
        cold_trainer(tmp_path, pairs, "dpo", more={"loss_weights": [1.0, 2.0]})
    with pytest.raises(ConfigError, match="16 training pairs, and one step takes 17"):
        cold_trainer(tmp_path, pairs, "dpo", batch=17, per_device=17)
