"""Sequential checks on the real (trained, shipped) tiny checkpoint, through the real command line, killed and all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from specs_eval.cli import main
from specs_eval.store import RunStore, StoredRun
from specs_eval.training.tiny import checkpoint_path

SPECS = str(Path(sys.executable).parent / "specs-eval")
POLICY = '[[gates]]\nmetric = "accuracy"\ntask = "formats_id"\nmax_drop = 0.15\n'


def changed(folder: Path, factor: float) -> Path:
    """The tiny checkpoint with one weight scaled: by nearly 1 it is as good, by 0 it is broken."""
    shutil.copytree(checkpoint_path(), folder)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("mlp.down_proj.weight")]:
        weights[name] = torch.nn.Parameter(weights[name] * factor).detach()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two candidates, a policy, and a store in which the baseline has answered 240 samples."""
    folder = tmp_path_factory.mktemp("check")
    changed(folder / "good", 1.03125)
    changed(folder / "broken", 0.0)
    (folder / "specs-eval.toml").write_text(POLICY)
    baseline = ["--ckpt", f"base={checkpoint_path()}", "--tasks", "formats_id", "--limit", "240"]
    result = CliRunner().invoke(main, ["run", *baseline, "--store", str(folder / "runs")])
    assert result.exit_code == 0, result.output
    return folder


def command(place: Path, candidate: str, store: str = "runs") -> list[str]:
    arguments = [
        "check",
        "--baseline",
        "base",
        "--candidate",
        str(place / candidate),
        "--run",
        "--sequential",
        "--json",
    ]
    return [*arguments, "--store", str(place / store), "--policy", str(place / "specs-eval.toml")]


def check(place: Path, candidate: str, store: str = "runs") -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(main, command(place, candidate, store))
    assert result.exit_code in (0, 1, 3), result.output
    verdict: dict[str, Any] = json.loads(result.stdout)["verdicts"][0]
    return result.exit_code, verdict


def run_of(place: Path, name: str, store: str = "runs") -> StoredRun:
    (found,) = [run for run in RunStore.open(place / store).runs() if run.manifest.checkpoint.name == name]
    return found


@pytest.mark.parametrize(("candidate", "word", "code"), [("good", "pass", 0), ("broken", "fail", 1)])
def test_a_candidate_stops_early(place: Path, candidate: str, word: str, code: int) -> None:
    found, verdict = check(place, candidate)
    assert (found, verdict["outcome"]) == (code, word)
    run = run_of(place, candidate)
    assert verdict["n_used"] == run.table().num_rows < 200 < verdict["n_all"] == 240


def test_killed_with_sigkill_in_the_middle_then_continued(place: Path) -> None:
    shutil.copytree(place / "runs", place / "cut", ignore=shutil.ignore_patterns("good*", "broken*"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([SPECS, *command(place, "good", "cut")], **quiet)  # type: ignore[call-overload]
    deadline, lines = time.monotonic() + 120, 0
    while time.monotonic() < deadline and lines < 8 and child.poll() is None:
        lines = sum(len(path.read_bytes().splitlines()) for path in (place / "cut").glob("good*/journal.jsonl"))
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert run_of(place, "good", "cut").table().num_rows > 0
    code, verdict = check(place, "good", "cut")
    whole_code, whole = check(place, "good")
    assert (code, verdict) == (whole_code, whole)
    assert run_of(place, "good", "cut").table().equals(run_of(place, "good").table())
