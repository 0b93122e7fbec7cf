"""The main job on the real (trained, shipped) tiny checkpoint, through the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.store import RunStore
from specs_eval.training.tiny import checkpoint_path

SPECS = str(Path(sys.executable).parent / "specs-eval")


def command(store: Path, *more: str) -> list[str]:
    arguments = ["run", "--ckpt", f"base={checkpoint_path()}", "--store", str(store), "--rollouts", "4"]
    return [*arguments, "--tasks", "formats_id", "--limit", "40", "--batch-size", "4", *more]


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole") / "runs"
    invoke(*command(store))
    return store


def test_killed_with_sigkill_in_the_middle_then_continued(tmp_path: Path, whole: Path) -> None:
    store = tmp_path / "runs"
    child = subprocess.Popen([SPECS, *command(store)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    lines = 0
    while time.monotonic() < deadline and lines < 20 and child.poll() is None:
        lines = sum(len(path.read_bytes().splitlines()) for path in store.glob("*/journal.jsonl"))
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (cut,) = RunStore.open(store).runs()
    assert not cut.complete and 0 < cut.table().num_rows < 160
    invoke(*command(store))
    (resumed,), (reference,) = RunStore.open(store).runs(), RunStore.open(whole).runs()
    assert resumed.table().equals(reference.table())
    assert (resumed.directory / "results.json").read_bytes() == (reference.directory / "results.json").read_bytes()


@pytest.mark.parametrize("batch_size", ["1", "7", "64"])
def test_batch_size_changes_no_response(tmp_path: Path, whole: Path, batch_size: str) -> None:
    invoke(*command(tmp_path / "runs", "--batch-size", batch_size))
    (other,), (reference,) = RunStore.open(tmp_path / "runs").runs(), RunStore.open(whole).runs()
    assert other.run_id == reference.run_id
    exact = ["sample_id", "rollout", "response", "answer", "score", "reason", "n_tokens", "finish_reason"]
    assert other.table(exact).equals(reference.table(exact))
    for name in ("entropy", "nucleus"):
        ours, theirs = other.table([name])[name].to_numpy(), reference.table([name])[name].to_numpy()
        assert abs(ours - theirs).max() < 1e-4


def test_the_base_follows_its_format_sometimes_and_mostly_answers_right(whole: Path) -> None:
    frame = load_runs(whole)
    assert len(frame) == 160 and 0.2 < frame["metric_format"].mean() < 0.6
    assert frame["metric_accuracy"].mean() > 0.6
    assert (
        frame["entropy"].between(0, 6).all() and frame["nucleus"].ge(1).all() and frame["n_tokens"].between(1, 64).all()
    )
    assert frame["response"].nunique() > 40


def test_a_checkpoint_overwritten_in_place_is_another_one(tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint_path(), tmp_path / "model")
    run = (
        "run",
        "--ckpt",
        str(folder),
        "--tasks",
        "easyvqa",
        "--limit",
        "8",
        "--store",
        str(tmp_path / "runs"),
        "--json",
    )
    before = json.loads(invoke(*run))["runs"][0]
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    weights[name] = torch.zeros_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = json.loads(invoke(*run))["runs"][0]
    assert after["run_id"] != before["run_id"] and len(RunStore.open(tmp_path / "runs").runs()) == 2


def test_a_model_that_emits_nothing_scores_0_and_does_not_fail(tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(checkpoint_path(), tmp_path / "silent")
    config = json.loads((folder / "generation_config.json").read_text())
    # Any first token ends the response: a model that says nothing.
    config["eos_token_id"] = list(range(json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]))
    (folder / "generation_config.json").write_text(json.dumps(config))
    run = ("run", "--ckpt", str(folder), "--tasks", "formats_id", "--limit", "5", "--store", str(tmp_path / "runs"))
    invoke(*run)
    frame = load_runs(tmp_path / "runs")
    assert frame["response"].eq("").all() and frame["score"].eq(0.0).all() and frame["reason"].notna().all()
