"""Training as separate processes: SIGKILL in the middle, a disk that really refuses, two processes that train as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_training import tiny_recipe, write_pairs

from specs_eval.training.checkpoints import checkpoint_folder, read_log, saved_steps
from specs_eval.training.state import load_state

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
COMMAND = [sys.executable, "-m", "specs_eval", "train"]
EVALUATION = {"id": "formats_id", "ood": "formats_ood", "limit": {"formats_id": 2, "formats_ood": 6}, "gain": "score"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", 32, 2)


def write_recipe(folder: Path, stages: dict[str, Any], **more: Any) -> Path:
    recipe = tiny_recipe(folder / "out", stages, **more)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_none=True)))
    return folder / "recipe.yaml"


def run(recipe: Path, *more: str, command: list[str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [*(command or COMMAND), str(recipe), "--no-report", *more]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200, check=False, **options)


@pytest.mark.slow
def test_killed_inside_grpo_the_same_command_ends_at_the_same_weights(tmp_path: Path) -> None:
    rl = {"steps": 8, "batch": 2, "per_device": 8, "rollouts": 4, "learning_rate": 3e-4, "max_new_tokens": 16}
    chosen, evaluation = {"zero": rl}, {**EVALUATION, "every": 2}
    whole = write_recipe(tmp_path / "whole", chosen, evaluation=evaluation)
    broken = write_recipe(tmp_path / "broken", chosen, evaluation=evaluation)
    assert run(whole).returncode == 0
    series = tmp_path / "broken" / "out" / "zero"
    # Three deaths, each after another checkpoint and at a moment of its own.
    for number, wait in enumerate((0.0, 0.7, 1.5)):
        process = subprocess.Popen([*COMMAND, str(broken), "--no-report"], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while len(saved_steps(series)) <= number and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = run(broken)
    assert finished.returncode == 0, finished.stderr
    last = [checkpoint_folder(tmp_path / name / "out" / "zero", 8) for name in ("whole", "broken")]
    one, other = (load_file(folder / "model.safetensors") for folder in last)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_losses(last[0]) == read_losses(last[1])
    ours, theirs = (load_state(tmp_path / name / "out").stages["zero"] for name in ("whole", "broken"))
    assert ours.series["zero"].evaluated == theirs.series["zero"].evaluated
    assert len(ours.series["zero"].evaluated) == 4


def read_losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


@pytest.mark.slow
def test_a_disk_that_refuses_is_said_in_a_sentence(tmp_path: Path, pairs: Path) -> None:
    """A limit on the size of files makes the system itself refuse the optimizer's state (5 MB)."""
    import resource

    chosen = {"cold_start": {"data": str(pairs), "methods": ["sft"], "steps": 2, "batch": 8, "save_every": 1}}
    recipe = write_recipe(tmp_path, chosen)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    refused = run(recipe, preexec_fn=limited)
    assert refused.returncode == 3, refused.stderr
    assert "cannot save checkpoint-1" in refused.stderr and "inline_container" not in refused.stderr
    assert "(0.0 GB are free)" not in refused.stderr and "Traceback" not in refused.stderr
    assert saved_steps(tmp_path / "out" / "sft") == []
    finished = run(recipe)
    assert finished.returncode == 0, finished.stderr
    assert saved_steps(tmp_path / "out" / "sft") == [1, 2]


def launcher(n: int) -> list[str]:
    """torchrun, with one thread a process; gloo follows from the CPU. It takes a free port itself: one that we looked for could
    be taken by another process before it is used."""
    run_by = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"]
    return [*run_by, "-m", "specs_eval", "train"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo+sft"])
def test_two_processes_follow_the_loss_curve_of_one_with_the_doubled_batch(
    tmp_path: Path, pairs: Path, method: str
) -> None:
    """Tolerance: 5e-5 relative on each loss and gradient norm; sums of float32 are taken in another order, nothing else
    differs. By plain gradient descent: Adam would hide a wrong scale, and blow rounding up."""
    common = {"data": str(pairs), "methods": [method], "steps": 6, "batch": 16, "learning_rate": 0.02}
    common["more"] = {"optim": "sgd"}
    evaluation = {**EVALUATION, "every": 3}
    one = write_recipe(tmp_path / "one", {"cold_start": {**common, "per_device": 16}}, evaluation=evaluation)
    two = write_recipe(tmp_path / "two", {"cold_start": {**common, "per_device": 8}}, evaluation=evaluation)
    alone = run(one)
    assert alone.returncode == 0, alone.stderr
    together = run(two, command=launcher(2))
    assert together.returncode == 0, together.stderr
    logs = [read_log(checkpoint_folder(tmp_path / name / "out" / method, 6)) for name in ("one", "two")]
    for quantity in ("loss", "grad_norm"):
        one_curve, two_curve = ([entry[quantity] for entry in log if quantity in entry] for log in logs)
        assert len(one_curve) == 6 and two_curve == pytest.approx(one_curve, rel=5e-5)
    # Both evaluated both checkpoints, once each.
    states = [load_state(tmp_path / name / "out").stages["cold_start"].series[method] for name in ("one", "two")]
    assert [[found.step for found in state.evaluated] for state in states] == [[3, 6], [3, 6]]


@pytest.mark.slow
def test_two_processes_killed_in_a_later_epoch_of_grpo_end_at_the_same_weights(tmp_path: Path) -> None:
    rl = {"steps": 8, "batch": 2, "per_device": 4, "rollouts": 4, "learning_rate": 3e-4, "max_new_tokens": 12}
    rl |= {"save_every": 2, "dynamic_sampling": 1}
    questions = {"source": "easyvqa", "limit": 9}  # two generations of four: four steps an epoch
    whole, broken = (write_recipe(tmp_path / name, {"zero": rl}, questions=questions) for name in ("whole", "broken"))
    finished = run(whole, command=launcher(2))
    assert finished.returncode == 0, finished.stderr
    killed = subprocess.Popen([*launcher(2), str(broken), "--no-report"], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1000
    while 6 not in saved_steps(tmp_path / "broken" / "out" / "zero") and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in [*psutil.Process(killed.pid).children(recursive=True), psutil.Process(killed.pid)]:
        process.kill()
    killed.wait()
    finished = run(broken, command=launcher(2))
    assert finished.returncode == 0, finished.stderr
    last = [checkpoint_folder(tmp_path / name / "out" / "zero", 8) for name in ("whole", "broken")]
    one, other = (load_file(folder / "model.safetensors") for folder in last)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_losses(last[0]) == read_losses(last[1])


@pytest.mark.slow
def test_two_processes_train_by_grpo_and_end_together_when_a_gate_closes(tmp_path: Path) -> None:
    rl = {"steps": 4, "batch": 4, "per_device": 8, "rollouts": 4, "learning_rate": 3e-4, "max_new_tokens": 16}
    rl["dynamic_sampling"] = 1
    gate = {"metric": "score", "task": "formats_id", "min": 1.0, "then": "fail"}
    recipe = write_recipe(
        tmp_path,
        {"zero": rl},
        evaluation={**EVALUATION, "limit": {"formats_id": 40, "formats_ood": 6}, "every": 2},
        gates=[gate],
    )
    closed = run(recipe, command=launcher(2))
    # torchrun reports the failure of its first process; both are gone.
    assert closed.returncode == 1, closed.stderr
    assert "a gate is closed at zero" in closed.stdout, closed.stderr
    state = load_state(tmp_path / "out").stages["zero"]
    assert state.status == "closed" and [one.step for one in state.series["zero"].evaluated] == [2]
