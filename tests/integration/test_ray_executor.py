"""Real engines in Ray actors on the CPU: the store is that of one engine here, also when a worker is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from fakes import FakeTask, ListObserver
from hf_tiny_models import checkpoint_folder

from specs_eval.backends.base import BackendOptions
from specs_eval.backends.hf import HFBackend
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.cli import main
from specs_eval.executors.parallel import evaluate_parallel
from specs_eval.executors.placement import RaySettings
from specs_eval.executors.pool import Pool
from specs_eval.executors.ray_cluster import RayCluster
from specs_eval.fingerprint import Fingerprinter
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore

ray = pytest.importorskip("ray")

OPTIONS = BackendOptions(batch_size=3, device="cpu")
START_SECONDS = 120
PROBE = """
import ray
ray.init("local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
assert ray.get(ray.remote(lambda: 7).remote()) == 7
"""


def why_ray_does_not_start() -> str | None:
    """Ray alone, in a process that can be ended: in a sandbox it may wait for ever where a signal does not reach it."""
    with subprocess.Popen(
        [sys.executable, "-c", PROBE], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as probe:
        try:
            _, errors = probe.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(probe.pid, signal.SIGKILL)
            return f"no answer in {START_SECONDS} s"
    return None if probe.returncode == 0 else errors.decode(errors="replace").strip()[-500:]


@pytest.fixture(scope="module", autouse=True)
def cluster_here() -> Iterator[None]:
    """A Ray cluster of this machine alone; its workers compute with one thread, so this process does too."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if problem := why_ray_does_not_start():
        pytest.skip(f"Ray itself does not start here: {problem}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


def series() -> list[Checkpoint]:
    """Two checkpoints that go into one engine, and one that does not."""
    folders = [checkpoint_folder("qwen2_5_vl"), checkpoint_folder("qwen2_5_vl", seed=1), checkpoint_folder("smolvlm")]
    return list(resolve_checkpoints([str(folder) for folder in folders], Fingerprinter()).checkpoints)


def request() -> RunRequest:
    return RunRequest([FakeTask(10), FakeTask(4, "other")], 2)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("local") / "runs"
    evaluation = evaluate(series(), request(), RunStore.create(root), HFBackend(OPTIONS), ListObserver())
    assert evaluation.problems == []
    return root


def assert_same_stores(one: Path, other: Path) -> None:
    first, second = (RunStore.open(root).runs() for root in (one, other))
    assert [run.run_id for run in first] == [run.run_id for run in second] and len(first) == 6
    for mine, theirs in zip(first, second, strict=True):
        assert mine.complete and mine.table().equals(theirs.table())
        assert (mine.directory / "results.json").read_bytes() == (theirs.directory / "results.json").read_bytes()
        keys = [(rollout.sample_id, rollout.rollout) for rollout in mine.rollouts()]
        assert len(keys) == len(set(keys))


class Killer(ListObserver):
    """Kills a worker when the first rollouts are there."""

    pool: Pool
    killed: int | None = None

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        super().rollouts_done(n_rollouts, n_tokens, n_failed)
        if self.killed is None:
            self.killed = self.pool.facts().process
            os.kill(self.killed, signal.SIGKILL)


def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(tmp_path: Path, reference: Path) -> None:
    observer = Killer()
    cluster = RayCluster("hf", OPTIONS, RaySettings(n_workers=2), observer.problem)
    with Pool(cluster, cluster.n_workers, observer.problem) as pool:
        observer.pool = pool
        evaluation = evaluate_parallel(series(), request(), RunStore.create(tmp_path / "runs"), pool, observer)
    assert evaluation.problems == [] and observer.killed is not None
    assert sum("a worker was lost" in line for line in observer.lines) == 1
    assert_same_stores(tmp_path / "runs", reference)
    assert evaluation.runs[0].manifest.environment["executor"] == "2 workers"


def test_the_command_line_says_that_there_is_no_gpu_and_gives_the_same_results(tmp_path: Path) -> None:
    ckpt, more = str(checkpoint_folder("qwen2_5_vl")), ["--tasks", "easyvqa", "--limit", "9", "--batch-size", "3"]
    more += ["--rollouts", "2", "--max-new-tokens", "8"]
    for name, executor in (("ray", ["--executor", "ray", "--workers", "2"]), ("local", [])):
        done = CliRunner().invoke(main, ["run", "--ckpt", ckpt, *more, "--store", str(tmp_path / name), *executor])
        assert done.exit_code == 0, done.output
        assert ("the Ray cluster has no GPU: 2 workers on CPUs" in done.stderr) == (name == "ray")
    (mine,), (theirs,) = (RunStore.open(tmp_path / name).runs() for name in ("ray", "local"))
    assert mine.run_id == theirs.run_id and mine.table().equals(theirs.table())


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    arguments = ["run", "--ckpt", str(checkpoint_folder("qwen2_5_vl")), "--tasks", "easyvqa", "--executor", "ray"]
    arguments += ["--store", str(tmp_path / "runs")]
    refused = [
        (("--device", "cuda"), "has 0 GPUs and a worker needs 1"),
        (("--device", "cuda:1"), "Ray gives each worker its GPU"),
        (("--gpus-per-worker", "2"), "has 0 GPUs and a worker needs 2"),
    ]
    for more, message in refused:
        done = CliRunner().invoke(main, [*arguments, *more])
        assert done.exit_code == 2 and message in done.stderr, done.output
