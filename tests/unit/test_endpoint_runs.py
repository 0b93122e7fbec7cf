"""Whole runs through an endpoint: faults, kills, resuming, and what the command line says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from endpoint_server import FAULTS, EndpointServer
from judge_server import serving

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.store import RunStore, StoredRun

SPECS = str(Path(sys.executable).parent / "specs-eval")
SAME = ["sample_id", "rollout", "response", "answer", "score", "rule", "finish_reason", "n_tokens"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.transport.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving(EndpointServer("dpo/checkpoint-20")) as ready:
        yield ready


def command(server: EndpointServer, store: Path, *more: str, limit: int = 40) -> list[str]:
    arguments = ["run", "--backend", "openai", "--base-url", server.url, "--ckpt", "served:dpo/checkpoint-20"]
    arguments += ["--tasks", "formats_id", "--limit", str(limit), "--rollouts", "4", "--store", str(store)]
    return [*arguments, *more]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def only_run(store: Path) -> StoredRun:
    (run,) = RunStore.open(store).runs()
    return run


def test_a_run_by_name_is_stored_as_every_other(server: EndpointServer, tmp_path: Path) -> None:
    result = invoke(*command(server, tmp_path / "runs", "--json", "--backend-arg", "price=1,2"))
    assert result.exit_code == 0, result.output
    frame = load_runs(tmp_path / "runs")
    assert len(frame) == 160 and frame["score"].notna().all() and frame["metric_format"].mean() > 0.5
    assert frame["step"].unique().tolist() == [20] and frame["series"].unique().tolist() == ["dpo"]
    manifest = only_run(tmp_path / "runs").manifest
    assert manifest.backend == "openai/served" and manifest.checkpoint.fingerprint.startswith("served:")
    assert len(server.questions) == 40 and "41 requests" in result.stderr and "cost" in result.stderr
    assert result.stderr.count("no token statistics") == 1
    again = invoke(*command(server, tmp_path / "runs"))
    assert again.exit_code == 0 and "all 160 rollouts are in the store" in again.stderr
    assert len(server.questions) == 40 and "requests" not in again.stderr


def test_faults_in_a_third_of_all_requests_change_no_number(tmp_path: Path) -> None:
    with serving(EndpointServer("dpo/checkpoint-20")) as whole, serving(EndpointServer("dpo/checkpoint-20")) as faulty:
        assert invoke(*command(whole, tmp_path / "whole")).exit_code == 0
        faulty.fault_rate = 0.3
        result = invoke(*command(faulty, tmp_path / "faulty", "--backend-arg", "timeout=1", limit=120))
        assert result.exit_code == 0, result.output
        assert set(faulty.injected) == set(FAULTS) and faulty.injected.total() > 30
        faulty.fault_rate = 0.0
        assert invoke(*command(whole, tmp_path / "whole", limit=120)).exit_code == 0
    one, other = only_run(tmp_path / "whole"), only_run(tmp_path / "faulty")
    assert one.run_id == other.run_id and one.results() == other.results()
    assert one.table(SAME).equals(other.table(SAME))


def test_what_failed_is_counted_and_asked_again_and_nothing_else_is(server: EndpointServer, tmp_path: Path) -> None:
    server.fault_rate = 0.5
    more = ("--backend-arg", "attempts=1", "--backend-arg", "timeout=1", "--backend-arg", "concurrency=4")
    store = tmp_path / "runs"
    server.faults = ("wrong JSON", "half body", "fewer")
    for _ in range(20):  # the request that finds out what is understood may fail too
        result = invoke(*command(server, store, *more))
        if only_run(store).results() is not None:
            break
    results = only_run(store).results()
    assert result.exit_code == 3 and results is not None and 0 < results.n_failed < 160
    assert results.n_rollouts == 160 and f"{results.n_failed} failed" in result.output
    failed = only_run(store).table(["sample_id", "rollout", "score", "reason", "response"]).to_pandas()
    failed = failed[failed["score"].isna()]
    assert len(failed) == results.n_failed and failed["reason"].str.contains("the endpoint gave no response").all()
    assert (failed["response"] == "").all()
    server.fault_rate = 0.0
    before = len(server.questions)
    assert invoke(*command(server, store)).exit_code == 0
    assert sum(body.get("n", 1) for body in server.questions[before:]) == results.n_failed
    results = only_run(store).results()
    assert results is not None and results.n_failed == 0 and results.n_rollouts == 160


def test_killed_in_the_middle_then_continued(server: EndpointServer, tmp_path: Path) -> None:
    server.seconds = 0.05
    arguments = command(server, tmp_path / "runs", "--backend-arg", "concurrency=2")
    child = subprocess.Popen([SPECS, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline, lines = time.monotonic() + 120, 0
    while time.monotonic() < deadline and lines < 40 and child.poll() is None:
        lines = sum(len(path.read_bytes().splitlines()) for path in tmp_path.glob("runs/*/journal.jsonl"))
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not only_run(tmp_path / "runs").complete
    done = only_run(tmp_path / "runs").table().num_rows
    assert 0 < done < 160
    server.seconds, before = 0.0, len(server.questions)
    assert invoke(*arguments).exit_code == 0
    assert len(server.questions) - before == (160 - done) / 4
    assert invoke(*command(server, tmp_path / "whole")).exit_code == 0
    resumed, whole = only_run(tmp_path / "runs"), only_run(tmp_path / "whole")
    assert resumed.table().equals(whole.table()) and resumed.results() == whole.results()


def test_interrupted_it_does_not_wait_for_the_server(server: EndpointServer, tmp_path: Path) -> None:
    server.seconds = 30.0
    server.plan = []
    child = subprocess.Popen([SPECS, *command(server, tmp_path / "runs")], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not server.bodies:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=20)  # far less than the server takes
    assert child.returncode == 130 and b"the same command continues" in stderr


def test_hostile_text_is_stored_and_shown(server: EndpointServer, tmp_path: Path) -> None:
    text = "\x00\ud800\x1b[31m<script>" + "a" * 50_000
    server.change = lambda facts: [choice["message"].update(content=text) for choice in facts["choices"]] and None
    result = invoke(*command(server, tmp_path / "runs", "--json", limit=3))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["runs"][0]["n_failed"] == 0
    (stored,) = set(load_runs(tmp_path / "runs")["response"])
    assert stored == text.replace("\ud800", "\ufffd")


def test_the_command_line_says_what_is_wrong(server: EndpointServer, tmp_path: Path) -> None:
    store = str(tmp_path / "runs")
    base = ("run", "--tasks", "formats_id", "--limit", "2", "--store", store)
    result = invoke(*base, "--ckpt", "served:m")
    assert result.exit_code == 2 and "needs --backend openai" in result.output
    result = invoke(*base, "--ckpt", "served:", "--backend", "openai", "--base-url", server.url)
    assert result.exit_code == 2 and "the name that an endpoint lists" in result.output
    result = invoke(*base, "--ckpt", "served:m", "--backend", "openai")
    assert result.exit_code == 2 and "needs --base-url" in result.output
    result = invoke(*base, "--ckpt", "served:m", "--base-url", server.url)
    assert result.exit_code == 2 and "--base-url is for --backend openai" in result.output
    result = invoke(*base, "--ckpt", "served:other", "--backend", "openai", "--base-url", server.url)
    assert result.exit_code == 3 and "does not serve 'other'" in result.output
    server.key = "k"
    result = invoke(*command(server, tmp_path / "runs"))
    assert result.exit_code == 2 and "wants a key" in result.output and not server.questions
