"""``run`` and ``rescore`` with a judge, end to end: order, identity, failures, killing, and what is asked how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import judged_data
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from fakes import Parrot
from judge_server import JudgeServer, reset, running
from judged_data import N_QUERIES, Talker, command_line, judge_answer, write_data

from specs_eval.cli import main
from specs_eval.store import RunStore, StoredRun
from specs_eval.tasks.judging import Judge, JudgeOptions
from specs_eval.tasks.registry import get_task

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.transport.FIRST_WAIT", 0.0)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as ready:
        ready.answer = judge_answer
        yield ready


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Talker:
    backend = Talker()
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: backend)
    return backend


def run(data: Path, url: str, *more: str, store: str = "runs") -> Result:
    root = data.parent
    return CliRunner().invoke(main, command_line(data, root / store, root / "model", url, *more))


def stored(data: Path, store: str = "runs") -> dict[str, StoredRun]:
    return {run.manifest.task: run for run in RunStore.open(data.parent / store).runs()}


def table(run: StoredRun) -> pa.Table:
    return run.table()


def test_responses_are_judged_and_the_runs_say_so(data: Path, server: JudgeServer, engine: Talker) -> None:
    result = run(data, server.url, "--rollouts", "3")
    assert result.exit_code == 0, result.output
    runs = stored(data)
    assert {run.manifest.task_version.rpartition("-")[0] for run in runs.values()} == {"2-official-judge:m/j"}
    for rollout in runs["megabench_open"].rollouts():
        answer = json.loads(rollout.response)
        points = int(answer["why"].partition("because 0.")[2][0])
        assert rollout.score == pytest.approx(((answer["name"] == "n0") + points / 10) / 2)
    for rollout in runs["mathvista"].rollouts():
        assert rollout.score == float("dog" in rollout.response) and "judge m/j" in rollout.rule
    assert "judge m/j: 54 questions, " in result.stderr and "0 failed" in result.stderr
    order = [r.sample_id for r in runs["megabench_open"].rollouts()]
    assert order == [sample for sample in runs["megabench_open"].samples() for _ in range(3)], "journal in order"


def test_only_the_querys_own_image_goes_to_the_judge(data: Path, server: JudgeServer, engine: Talker) -> None:
    run(data, server.url, "--tasks", "megabench_open")
    contents = [body["messages"][0]["content"] for body in server.bodies]
    assert {tuple(part["type"] for part in content) for content in contents} == {("image_url", "text")}
    assert len({content[0]["image_url"]["url"] for content in contents}) == N_QUERIES
    assert contents[0][1]["text"].startswith("Q: <image> number ")


def test_runs_with_other_judges_or_none_never_mix(data: Path, server: JudgeServer, engine: Talker) -> None:
    for url, more in (("", ()), (server.url, ()), (server.url, ("--judge-model", "other"))):
        run(data, url, "--tasks", "megabench_open", *more)
    versions = [run.manifest.task_version for run in RunStore.open(data.parent / "runs").runs()]
    assert len(versions) == len(set(versions)) == 3
    assert server.url not in "".join(versions)
    again = run(data, server.url, "--tasks", "megabench_open")
    assert "all 12 rollouts are in the store" in again.stderr


@pytest.mark.parametrize("concurrency", ["1", "3", "16"])
def test_threads_change_nothing(data: Path, server: JudgeServer, engine: Talker, concurrency: str) -> None:
    server.seconds = 0.005
    run(data, server.url, "--rollouts", "4", "--judge-concurrency", concurrency, store=concurrency)
    assert server.most_busy <= int(concurrency)
    server.seconds = 0.0
    run(data, server.url, "--rollouts", "4", "--judge-concurrency", "1", store="one")
    for task, first in stored(data, concurrency).items():
        other = stored(data, "one")[task]
        assert table(first).equals(table(other))
        lines = [(run.directory / "journal.jsonl").read_bytes() for run in (first, other)]
        assert lines[0] == lines[1]


def test_what_the_judge_failed_on_is_judged_again_and_not_generated_again(
    data: Path, server: JudgeServer, engine: Talker
) -> None:
    server.plan = [403, reset, reset, reset, reset, b"{", b"{", b"{", b"{", 400]
    first = run(data, server.url, "--tasks", "megabench_open", "--judge-concurrency", "1")
    assert first.exit_code == 3 and "4 failed" in first.stderr
    failed = [rollout for rollout in stored(data)["megabench_open"].rollouts() if rollout.failed]
    assert len(failed) == 4 and {rollout.rule for rollout in failed} == {"judge failed"}
    assert all(rollout.response and rollout.reason for rollout in failed)
    n_calls, n_asked = len(engine.calls), len(server.bodies)
    assert run(data, server.url, "--tasks", "megabench_open", "--max-unscored", "0").exit_code == 0
    assert len(engine.calls) == n_calls and len(server.bodies) == n_asked + 4
    run(data, server.url, "--tasks", "megabench_open", store="whole")
    assert table(stored(data)["megabench_open"]).equals(table(stored(data, "whole")["megabench_open"]))


def test_a_judge_that_keeps_failing_costs_no_generation_and_no_new_lines(
    data: Path, server: JudgeServer, engine: Talker
) -> None:
    server.answer = lambda prompt: "I cannot say"
    assert run(data, server.url, "--tasks", "megabench_open").exit_code == 3
    journal = stored(data)["megabench_open"].directory / "journal.jsonl"
    lines, n_calls = journal.read_bytes(), len(engine.calls)
    again = run(data, server.url, "--tasks", "megabench_open")
    assert again.exit_code == 3 and journal.read_bytes() == lines and len(engine.calls) == n_calls
    grown = run(data, server.url, "--tasks", "megabench_open", "--rollouts", "1", "--max-unscored", "1")
    assert grown.exit_code == 0


def test_rescore_judges_what_is_stored_beside_and_in_place(data: Path, server: JudgeServer, engine: Talker) -> None:
    run(data, "")
    n_calls = len(engine.calls)
    common = ["rescore", "--store", str(data.parent / "runs"), "--data-dir", str(data)]
    judge = ["--judge", server.url, "--judge-model", "m/j", "--judge-cache", str(data.parent / "cache")]
    result = CliRunner().invoke(main, [*common, *judge])
    assert result.exit_code == 0, result.output
    assert len(engine.calls) == n_calls and len(RunStore.open(data.parent / "runs").runs()) == 4
    assert {len(body["messages"][0]["content"]) for body in server.bodies if "because" in str(body)} == {2}
    run(data, server.url, store="judged")
    wanted = {run.run_id: table(run) for run in RunStore.open(data.parent / "judged").runs()}
    found = {run.run_id: table(run) for run in RunStore.open(data.parent / "runs").runs()}
    assert wanted.keys() <= found.keys() and all(found[name].equals(wanted[name]) for name in wanted)

    refused = CliRunner().invoke(main, common)
    assert refused.exit_code == 2 and "was scored with the judge m/j" in refused.stderr
    n_asked = len(server.bodies)
    again = CliRunner().invoke(main, [*common, *judge, *wanted, "--json"])
    facts = json.loads(again.stdout)
    assert again.exit_code == 0 and len(server.bodies) == n_asked
    assert {report["n_updated"] for report in facts["runs"]} == {0} and facts["judge"]["n_tries"] == 0


def test_rescore_does_not_trade_scores_for_a_judges_failures(data: Path, server: JudgeServer, engine: Talker) -> None:
    run(data, server.url, "--tasks", "megabench_open")
    before = table(stored(data)["megabench_open"])
    server.plan = [403]
    common = ["rescore", "--store", str(data.parent / "runs"), "--data-dir", str(data)]
    result = CliRunner().invoke(main, [*common, "--judge", server.url, "--judge-model", "m/j"])
    assert result.exit_code == 3 and "not written" in result.output
    assert table(stored(data)["megabench_open"]).equals(before)


def test_format_views_ask_the_judge_about_the_answer_that_they_found(
    data: Path, server: JudgeServer, engine: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(JudgeOptions(server.url, "m/j"))
    view = get_task("megabench_open_formats_id", data, judge=judge)
    sample = view.samples()[0]
    answer = json.dumps({"name": "n0", "why": "because 0.4"})
    score = view.score(sample, f"<think>x</think><answer>{answer}</answer>")
    assert score.metrics["accuracy"] == pytest.approx(0.7) and "[answer " in server.prompts[0]
    server.plan = [403]
    failed = view.score(sample, f"<think>x</think><answer>{answer.replace('0.4', '0.5')}</answer>")
    assert failed.score is None and failed.rule == "judge failed"
    assert view.version.startswith("1-judge:m/j-")
    plain, judged = (get_task("mathvista_formats_id", data, judge=one).version for one in (None, judge))
    assert plain == judged, "that view never asks"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--tasks", "easyvqa"), "none of these tasks would ask --judge"),
        (("--tasks", "mathvista", "--profile", "reasoning"), "none of these tasks would ask --judge"),
        (("--judge-model", ""), "needs --judge-model"),
        (("--judge-concurrency", "0"), "judge-concurrency"),
        (("--judge", "localhost:8000"), "http(s) address"),
    ],
)
def test_usage_errors(data: Path, server: JudgeServer, engine: Talker, more: tuple[str, ...], message: str) -> None:
    result = run(data, server.url, *more)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.output


def test_options_without_a_judge_are_an_error(data: Path, engine: Talker) -> None:
    result = run(data, "", "--judge-model", "m")
    assert result.exit_code == 2 and "need --judge URL" in result.stderr


def test_a_run_without_a_judge_starts_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pool(*_: object, **__: object) -> None:
        raise AssertionError("a pool")

    monkeypatch.setattr("specs_eval.in_order.ThreadPoolExecutor", no_pool)
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: Parrot())
    arguments = command_line(tmp_path, tmp_path / "runs", tmp_path / "model", "", "--tasks", "formats_id")
    assert CliRunner().invoke(main, [*arguments, "--limit", "4"]).exit_code == 0


def test_killed_and_continued_it_equals_a_run_that_was_not(data: Path, server: JudgeServer) -> None:
    root = data.parent
    arguments = command_line(data, root / "runs", root / "model", server.url, "--rollouts", "4")
    arguments += ["--judge-cache", str(root / "cache"), "--judge-concurrency", "2"]
    command = [sys.executable, judged_data.__file__, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(judged_data.__file__).parent)}
    server.seconds = 0.05
    for asked_at_least in (5, 25):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.bodies) < asked_at_least:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    server.seconds = 0.0
    n_asked = len(server.bodies)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n_questions = 4 * (N_QUERIES + 6)
    assert len(server.bodies) - n_asked <= n_questions - (n_asked - 2 * 2), "what was replied is not asked again"
    run_again = subprocess.run(
        [*command[:2], *command_line(data, root / "whole", root / "model", server.url, "--rollouts", "4")],
        env=environment,
        check=False,
        capture_output=True,
    )
    assert run_again.returncode == 0
    for task, first in stored(data).items():
        other = stored(data, "whole")[task]
        assert table(first).equals(table(other))
        assert (first.directory / "results.json").read_bytes() == (other.directory / "results.json").read_bytes()
