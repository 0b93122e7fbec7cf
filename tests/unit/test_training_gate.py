"""The callback of docs/recipes/training_gate.py in a real transformers Trainer, on a toy that learns nothing."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from stored_runs import FakeRun, write_run
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from specs_eval.cli import main
from specs_eval.store import RunStore

POLICY = '[[gates]]\nmetric = "score"\ntask = "t"\nmax_drop = 0.05\n'


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "recipes" / "training_gate.py"
    spec = importlib.util.spec_from_file_location("training_gate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layer(x)[:, 0] - labels).pow(2).mean()}


def train(folder: Path, callback: Any) -> tuple[int, list[float]]:
    """Ten steps with a checkpoint after every second; the last step and the losses."""
    torch.manual_seed(0)
    data = [{"x": torch.tensor([float(i), 1.0]), "labels": torch.tensor(float(i % 3))} for i in range(40)]
    arguments = TrainingArguments(
        output_dir=str(folder / "out" / "dpo"),
        max_steps=10,
        save_steps=2,
        logging_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(Toy(), arguments, train_dataset=data, callbacks=[callback] if callback else [])
    trainer.train()
    return trainer.state.global_step, [one["loss"] for one in trainer.state.log_history if "loss" in one]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Stands for the evaluation: the score falls to the half at step 6. Draws random numbers, as one should not."""
    monkeypatch.chdir(tmp_path)
    Path("specs-eval.toml").write_text(POLICY)

    def bits(share: float) -> Any:
        return (np.arange(400) < 400 * share).astype(float)[:, None]

    write_run(tmp_path / "runs", FakeRun("t", bits(0.7), "base"))

    def stored(checkpoint: Path) -> None:
        assert (checkpoint / "model.safetensors").is_file(), "the callback comes after the save"
        step = int(checkpoint.name.rpartition("-")[2])
        write_run(tmp_path / "runs", FakeRun("t", bits(0.72 if step < 6 else 0.35), f"dpo/{checkpoint.name}"))

    return stored


def test_training_stops_at_the_checkpoint_whose_gate_closes(
    tmp_path: Path, recipe: ModuleType, evaluate: Callable[[Path], None]
) -> None:
    callback = recipe.GateCallback("base", evaluate=evaluate)
    step, losses = train(tmp_path, callback)
    assert step == 6
    assert [answer.exit_code for answer in callback.answers] == [0, 0, 1]
    assert callback.answers[-1].candidate == "dpo/checkpoint-6"
    all_steps, undisturbed = train(tmp_path / "without", None)
    assert all_steps == 10
    assert losses == undisturbed[:6]


def test_what_cannot_be_judged_stops_nothing(
    tmp_path: Path, recipe: ModuleType, evaluate: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    callback = recipe.GateCallback("base", evaluate=lambda folder: None)
    with caplog.at_level(logging.WARNING):
        step, _ = train(tmp_path, callback)
    assert step == 10
    assert callback.answers == []
    assert "no verdict on" in caplog.text


REAL_POLICY = """
undecided = "warn"
[[gates]]
metric = "score"
task = "formats_ood"
max_drop = BOUND
[[gates]]
metric = "accuracy"
task = "formats_id"
max_drop = 0.3
"""


@pytest.mark.slow
def test_real_checkpoints_are_evaluated_in_a_process_and_judged(
    tmp_path: Path, recipe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specs_eval.training.tiny import checkpoint_path, train_series

    monkeypatch.chdir(tmp_path)
    (folder,) = train_series(checkpoint_path(), "out/sft", steps=10, save_every=10)
    base = f"base={checkpoint_path()}"
    common = ["run", "--ckpt", base, "--limit", "24", "--rollouts", "2"]
    evaluated = CliRunner().invoke(main, [*common, "--tasks", "formats_id,formats_ood"])
    assert evaluated.exit_code == 0, evaluated.output
    state, arguments = TrainerState(global_step=10), TrainingArguments(output_dir="out/sft", use_cpu=True, report_to=[])
    for bound, stops in (("0.5", False), ("0.0", None)):
        Path("specs-eval.toml").write_text(REAL_POLICY.replace("BOUND", bound))
        callback = recipe.GateCallback("base")
        control = callback.on_save(arguments, state, TrainerControl())
        (answer,) = callback.answers
        assert answer.candidate == "sft/checkpoint-10"
        assert control.should_training_stop == (answer.exit_code == 1)
        if stops is not None:
            assert control.should_training_stop == stops
    runs = {(run.manifest.checkpoint.name, run.manifest.task): run.manifest for run in RunStore.open("runs").runs()}
    assert len(runs) == 4
    for (name, task), manifest in runs.items():
        assert (manifest.n_samples, manifest.n_rollouts, manifest.status) == (24, 2, "complete"), (name, task)
        assert manifest.sampling == runs["base", task].sampling
    again = CliRunner().invoke(main, ["check", "--baseline", base, "--candidate", str(folder), "--run", "--dry-run"])
    assert "nothing is missing" in again.output
