"""The openai backend against a real ``vllm serve`` of the shipped tiny checkpoint, on the CPU.

Runs where the interpreter has vLLM beside it (``make test-vllm``); elsewhere it is skipped.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.training.tiny import checkpoint_path

VLLM = Path(sys.executable).parent / "vllm"
FLAGS = ["--host", "127.0.0.1", "--max-model-len", "1024", "--max-num-seqs", "32", "--dtype", "float32"]
# On the CPU, prefilling in chunks together with seeds of single requests has killed the engine under load.
FLAGS += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192", "--max-logprobs", "100"]

pytestmark = pytest.mark.skipif(not VLLM.exists(), reason="needs vLLM beside the interpreter: make test-vllm")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [str(VLLM), "serve", str(checkpoint_path()), "--port", str(port), *FLAGS]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, env=os.environ | environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + 300
        while not _answers(f"{address}/models"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def run(store: Path, *more: str, url: str | None = None, task: str = "formats_id", limit: int = 60) -> pd.DataFrame:
    served = [] if url is None else ["--backend", "openai", "--base-url", url]
    arguments = ["run", "--ckpt", f"base={checkpoint_path()}", "--tasks", task, "--limit", str(limit)]
    result = CliRunner().invoke(main, [*arguments, "--store", str(store), *served, *more])
    assert result.exit_code == 0, result.output
    assert "does not take" not in result.output  # vLLM takes everything that is asked for
    return load_runs(store)


def test_greedy_text_and_nucleus_are_those_of_the_hf_backend(url: str, tmp_path: Path) -> None:
    logprobs = ("--backend-arg", "top_logprobs=100", "--backend-arg", "raw_logprobs=yes")
    both = run(tmp_path / "served", *logprobs, url=url).merge(run(tmp_path / "hf"), on=["sample_id", "rollout"])
    same = both[both["response_x"] == both["response_y"]]
    assert len(both) == 60 and len(same) >= 54  # rounding may part a few
    assert (same["n_tokens_x"] == same["n_tokens_y"]).all()
    assert (same["finish_reason_x"] == same["finish_reason_y"]).all()
    assert same["nucleus_x"].notna().all() and (same["nucleus_x"] - same["nucleus_y"]).abs().max() < 0.05


def test_a_rollout_is_drawn_alike_alone_and_among_others(url: str, tmp_path: Path) -> None:
    together = run(tmp_path / "four", "--rollouts", "4", url=url)
    alone = ("--rollouts", "4", "--backend-arg", "n=1", "--backend-arg", "concurrency=7")
    both = together.merge(run(tmp_path / "one", *alone, url=url), on=["sample_id", "rollout"])
    assert len(both) == 240 and (both["response_x"] == both["response_y"]).mean() > 0.98
    assert together.groupby("sample_id")["response"].nunique().mean() > 1.5


def test_scores_are_those_of_the_hf_backend_within_their_error(url: str, tmp_path: Path) -> None:
    served = run(tmp_path / "served", "--rollouts", "4", url=url, task="easyvqa", limit=300)
    local = run(tmp_path / "hf", "--rollouts", "4", task="easyvqa", limit=300)
    one, other = (frame.groupby("sample_id")["score"].mean() for frame in (served, local))
    difference = one - other
    assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5 + 1e-9


def test_two_hundred_requests_at_a_time_with_four_rollouts(url: str, tmp_path: Path) -> None:
    frame = run(
        tmp_path / "runs",
        *("--rollouts", "4", "--backend-arg", "concurrency=200"),
        url=url,
        task="easyvqa",
        limit=400,
    )
    assert len(frame) == 1600 and frame["score"].notna().all() and frame["n_tokens"].notna().all()
