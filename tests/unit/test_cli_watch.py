"""``specs-eval watch`` beside a training in another process that writes, deletes and leaves checkpoints half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes import Parrot, write_checkpoint

from specs_eval.backends.base import Request, Response
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli import main
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore

TRAINING = """
import shutil, sys, time
from pathlib import Path
out, template = Path(sys.argv[1]), Path(sys.argv[2])
def save(step, parts=4, whole=True):
    folder = out / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for path in sorted(template.iterdir()):  # the configuration first, then the weights, slowly
        data = path.read_bytes() + (bytes([step]) * 8 if path.suffix == ".safetensors" else b"")
        with (folder / path.name).open("wb") as file:
            for part in range(parts):
                file.write(data[part * len(data) // parts:(part + 1) * len(data) // parts])
                file.flush()
                time.sleep(0.03)
                if not whole and path.suffix == ".safetensors":
                    return
    time.sleep(0.3)
save(1)
save(2)
save(3, whole=False)
save(4)
shutil.rmtree(out / "checkpoint-1")  # as save_total_limit does
shutil.rmtree(out / "checkpoint-2")
save(5)
"""


class Learner(Parrot):
    """A parrot that forgets the format at step 4; can be told to find a folder deleted while it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint: Checkpoint | None = None
        self.steps: list[int | None] = []
        self.on_load: Any = None

    def load(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.steps.append(checkpoint.step)
        if self.on_load is not None:
            self.on_load(checkpoint)

    def _answer(self, request: Request, number: int, spec: SamplingSpec, shape: int) -> Response:
        if self.checkpoint is not None and self.checkpoint.step == 4:
            return Response(number, "yes", n_tokens=1)
        return super()._answer(request, number, spec, shape)  # type: ignore[no-any-return,no-untyped-call]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Learner:
    backend = Learner()
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: backend)
    return backend


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A checkpoint to copy, whose weights want 8 bytes more."""
    folder = write_checkpoint(tmp_path / "template", b"\0" * 16)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    return folder


def watch(tmp_path: Path, *more: str, tasks: str = "formats_id") -> Result:
    options = ["--store", str(tmp_path / "runs"), "--limit", "6", "--poll", "0.05", "--settle", "0.25"]
    return CliRunner().invoke(main, ["watch", str(tmp_path / "dpo"), "--tasks", tasks, *options, *more])


def stored(tmp_path: Path) -> list[str]:
    return sorted(run.manifest.checkpoint.name for run in RunStore.open(tmp_path / "runs").runs())


def series(tmp_path: Path, steps: Sequence[int]) -> None:
    for step in steps:
        write_checkpoint(tmp_path / "dpo" / f"checkpoint-{step}", bytes([step]) * 8)


def test_beside_a_training(tmp_path: Path, template: Path, engine: Learner) -> None:
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(tmp_path / "dpo"), str(template)])
    try:
        result = watch(tmp_path, "--until-step", "5", "--idle-timeout", "60")
    finally:
        assert training.wait() == 0
    assert result.exit_code == 0, result.output
    # Whichever were deleted before their turn are left out; what was taken was whole, in the order of its coming.
    assert set(engine.steps) <= {1, 2, 4, 5} and {4, 5} <= set(engine.steps)
    assert "step 5 is evaluated: done" in result.stderr
    assert "not evaluated: checkpoint-3:" in result.stderr and "cut off" in result.stderr
    assert stored(tmp_path) == [f"dpo/checkpoint-{step}" for step in sorted(engine.steps, key=str)]
    assert all(run.complete for run in RunStore.open(tmp_path / "runs").runs())


def test_once_takes_what_is_there_newest_first_and_ends(tmp_path: Path, engine: Learner) -> None:
    series(tmp_path, (1, 3, 20))
    (tmp_path / "dpo" / "checkpoint-9").mkdir()
    result = watch(tmp_path, "--once")
    assert result.exit_code == 0, result.output
    assert engine.steps == [20, 3, 1] and "not evaluated: checkpoint-9" in result.stderr
    engine.steps.clear()
    assert watch(tmp_path, "--once").exit_code == 0
    assert engine.steps == []  # all is in the store


def test_once_without_a_folder_is_refused(tmp_path: Path, engine: Learner) -> None:
    result = watch(tmp_path, "--once")
    assert result.exit_code == 2 and "is not there" in result.stderr


def test_idle_timeout_and_stop_file(tmp_path: Path, engine: Learner) -> None:
    result = watch(tmp_path, "--idle-timeout", "0.1")
    assert result.exit_code == 0 and "no new checkpoint for" in result.stderr
    series(tmp_path, (1,))
    (tmp_path / "dpo" / "specs-eval-stop").touch()
    result = watch(tmp_path)
    assert result.exit_code == 0 and "is there: stopped" in result.stderr and engine.steps == []


@pytest.mark.parametrize("still_there", [False, True])
def test_deleted_or_broken_while_it_is_loaded(tmp_path: Path, engine: Learner, still_there: bool) -> None:
    import shutil

    from specs_eval.errors import CheckpointError

    series(tmp_path, (1, 2))

    def on_load(checkpoint: Checkpoint) -> None:
        if checkpoint.step == 2:
            if not still_there:
                shutil.rmtree(checkpoint.path)
            raise CheckpointError("no such file")

    engine.on_load = on_load
    result = watch(tmp_path, "--once")
    assert stored(tmp_path)[0] == "dpo/checkpoint-1"
    if still_there:
        assert result.exit_code == 3 and "no such file" in result.stderr
    else:
        assert result.exit_code == 0 and "checkpoint-2 was deleted before it was evaluated" in result.stderr


POLICY = """
[[gates]]
metric = "format"
task = "formats_id"
max_drop = 0.3
"""


def judged(tmp_path: Path, *more: str) -> Result:
    (tmp_path / "policy.toml").write_text(POLICY)
    options = ("--limit", "60", "--policy", str(tmp_path / "policy.toml"), "--baseline", "base")
    return watch(tmp_path, *options, *more)


@pytest.fixture
def baseline(tmp_path: Path, engine: Learner) -> None:
    base = write_checkpoint(tmp_path / "base", b"\77" * 8)
    arguments = [
        "run",
        "--ckpt",
        str(base),
        "--tasks",
        "formats_id",
        "--limit",
        "60",
        "--store",
        str(tmp_path / "runs"),
    ]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    engine.steps.clear()


@pytest.mark.usefixtures("baseline")
def test_a_gate_that_closes_ends_the_watch_where_that_was_asked(tmp_path: Path, engine: Learner) -> None:
    series(tmp_path, (3, 4, 5))
    result = judged(tmp_path, "--stop-on-fail", "--idle-timeout", "60")
    assert result.exit_code == 1, result.output
    assert engine.steps == [5, 4]
    assert "dpo/checkpoint-5 may replace base" in result.stderr and "dpo/checkpoint-4 may not replace" in result.stderr
    result = judged(tmp_path, "--once")
    assert result.exit_code == 1 and engine.steps == [5, 4, 3]


@pytest.mark.usefixtures("baseline")
def test_open_gates_exit_0(tmp_path: Path) -> None:
    series(tmp_path, (1,))
    assert judged(tmp_path, "--once").exit_code == 0


def test_gates_are_checked_before_anything_is_waited_for(tmp_path: Path, engine: Learner) -> None:
    series(tmp_path, (1,))
    assert "holds no runs" in judged(tmp_path).stderr and engine.steps == []
    result = judged(tmp_path, "--tasks", "easyvqa")
    assert result.exit_code == 2 and "asks about easyvqa_formats_id" in result.stderr
    for more in (("--stop-on-fail",), ("--baseline", "x")):
        result = watch(tmp_path, *more)
        assert result.exit_code == 2 and "--policy and --baseline go together" in result.stderr


def test_interrupted_it_says_how_to_go_on(tmp_path: Path, engine: Learner) -> None:
    series(tmp_path, (1,))

    def terminate() -> None:
        deadline = time.monotonic() + 30
        while not (tmp_path / "runs").exists() or not stored(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    before = signal.getsignal(signal.SIGTERM)
    result = watch(tmp_path)
    thread.join()
    assert result.exit_code == 130 and "the same command continues" in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before


def test_numbers_go_to_trackers_at_their_steps(
    tmp_path: Path, engine: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[int, dict[str, float]]] = []

    class Recorder:
        def __init__(self, settings: Any) -> None:
            assert settings.run == "dpo" and settings.folder == tmp_path / "dpo" / "specs-eval-tensorboard"

        def log(self, step: int, values: dict[str, float]) -> None:
            logged.append((step, values))

        def close(self) -> None:
            logged.append((-9, {}))

    monkeypatch.setitem(__import__("specs_eval.tracking").tracking.TRACKERS, "wandb", Recorder)
    series(tmp_path, (1, 2))
    assert watch(tmp_path, "--once", "--log", "wandb").exit_code == 0
    assert [step for step, _ in logged] == [2, 1, -9]
    values = logged[0][1]
    assert values["easyvqa_formats_id/format"] == 1.0 and values["easyvqa_formats_id/n_failed"] == 0.0
    assert values["easyvqa_formats_id/score_low"] <= values["easyvqa_formats_id/score"]
    result = watch(tmp_path, "--log", "wand")
    assert result.exit_code == 2 and "did you mean 'wandb'" in result.stderr
