"""The store's promises: whole or owed, nothing twice, resume equals an uninterrupted run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import FakeBackend, FakeTask, ListObserver, fake_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.errors import ConfigError, StoreError
from specs_eval.journal import Journal, decode, encode
from specs_eval.records import Rollout
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import MARKER, RunStore, StoredRun


def run_once(
    root: Path, backend: FakeBackend | None = None, *, n: int = 20, name: str = "base", **options: object
) -> StoredRun:
    request = RunRequest(tasks=[FakeTask(n)], **{"n_rollouts": 4, **options})  # type: ignore[arg-type]
    store = RunStore.create(root)
    return evaluate([fake_checkpoint(name)], request, store, backend or FakeBackend(), ListObserver()).runs[0]


def test_second_time_nothing_is_owed_and_no_model_is_loaded(tmp_path: Path) -> None:
    first = run_once(tmp_path / "s")
    backend = FakeBackend()
    second = run_once(tmp_path / "s", backend)
    assert backend.loaded == [] and backend.calls == []
    assert second.table().equals(first.table()) and second.complete


@pytest.mark.parametrize("die_after", [0, 1, 3, 4, 5, 13, 19])
def test_resume_equals_an_uninterrupted_run(tmp_path: Path, die_after: int) -> None:
    whole = run_once(tmp_path / "whole")
    dying = FakeBackend()
    dying.die_after = die_after
    with pytest.raises(KeyboardInterrupt):
        run_once(tmp_path / "cut", dying)
    (stored,) = RunStore.open(tmp_path / "cut").runs()
    assert not stored.complete and stored.results() is None and stored.table().num_rows == die_after * 4
    resumed = run_once(tmp_path / "cut")
    assert resumed.table().equals(whole.table())
    assert (resumed.directory / "results.json").read_bytes() == (whole.directory / "results.json").read_bytes()


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_owed_again(tmp_path: Path, cut: int) -> None:
    whole = run_once(tmp_path / "s")
    table = whole.table()
    journal = whole.directory / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    for name in ("rollouts.parquet", "results.json"):
        (whole.directory / name).unlink()
    facts = json.loads((whole.directory / "manifest.json").read_text())
    (whole.directory / "manifest.json").write_text(json.dumps({**facts, "status": "started"}))
    backend = FakeBackend()
    again = run_once(tmp_path / "s", backend)
    assert again.table().equals(table)
    assert len(backend.calls) == 4, "one block is computed again"
    assert len(journal.read_bytes().splitlines()) == 80


def test_a_deleted_table_is_rebuilt_without_a_model(tmp_path: Path) -> None:
    run = run_once(tmp_path / "s")
    table = run.table()
    (run.directory / "rollouts.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(StoreError, match="delete it and run again"):
        run.table()
    (run.directory / "rollouts.parquet").unlink()
    backend = FakeBackend()
    assert run_once(tmp_path / "s", backend).table().equals(table) and backend.loaded == []


def test_a_damaged_line_in_the_middle_is_owed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run_once(tmp_path / "s")
    table = whole.table()
    journal = whole.directory / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[10] = b'{"sample_id": "s00' + b"\0\xff" * 8 + b"\n"
    journal.write_bytes(b"".join(lines))
    assert len(list(Journal(journal).read())) == len(list(Journal(journal).read())) == len(lines) - 1
    assert run_once(tmp_path / "s").table().equals(table)
    assert caplog.text.count("1 damaged line") == 1, "said once, however often the file is read"


def test_more_rollouts_and_more_samples_extend_a_run(tmp_path: Path) -> None:
    run_once(tmp_path / "s", limit=8, n_rollouts=2)
    backend = FakeBackend()
    grown = run_once(tmp_path / "s", backend, limit=12, n_rollouts=4, temperature=1.0)
    assert grown.manifest.rollout_units == (2, 4)
    asked = [(sample, number) for sample, numbers in backend.calls for number in numbers]
    assert len(asked) == len(set(asked)) == 4 * 2 + 12 * 2
    fresh = run_once(tmp_path / "fresh", limit=12, n_rollouts=4)
    assert grown.table(["sample_id", "rollout", "response"]).equals(fresh.table(["sample_id", "rollout", "response"]))
    smaller = run_once(tmp_path / "s", limit=4, n_rollouts=2)
    assert smaller.table().num_rows == 48, "asking for less keeps what is there"


def test_identity_keeps_other_weights_sampling_and_versions_apart(tmp_path: Path) -> None:
    root = tmp_path / "s"
    run_once(root)
    run_once(root, seed=1)
    run_once(root, temperature=0.5)
    store = RunStore.create(root)
    evaluate(
        [fake_checkpoint("base", "e" * 64)],
        RunRequest(tasks=[FakeTask()], n_rollouts=4),
        store,
        FakeBackend(),
        ListObserver(),
    )
    other = FakeTask(version="2-fake")
    evaluate([fake_checkpoint()], RunRequest(tasks=[other], n_rollouts=4), store, FakeBackend(), ListObserver())
    assert len(store.runs()) == 5


def test_same_weights_under_another_name_are_not_evaluated_again(tmp_path: Path) -> None:
    first = run_once(tmp_path / "s", name="base")
    backend = FakeBackend()
    second = run_once(tmp_path / "s", backend, name="copy")
    assert backend.loaded == [] and second.run_id != first.run_id
    assert second.table().equals(first.table())


def test_failed_rollouts_are_data_and_are_tried_again(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.fail_samples = {"s0003"}
    run = run_once(tmp_path / "s", backend)
    results = run.results()
    assert results is not None and results.n_failed == 4 and results.metrics["score"].n_samples == 19
    rows = [row for row in run.table().to_pylist() if row["sample_id"] == "s0003"]
    assert {row["score"] for row in rows} == {None} and "bad.png" in rows[0]["reason"]
    healed = run_once(tmp_path / "s")
    assert healed.results().n_failed == 0  # type: ignore[union-attr]
    assert healed.table().equals(run_once(tmp_path / "clean").table())


def test_a_scorer_that_raises_leaves_the_rollout_unscored(tmp_path: Path) -> None:
    class Raising(FakeTask):
        def score(self, sample, response):  # type: ignore[no-untyped-def]
            return super().score(sample, "raise" if sample.sample_id == "s0001" else response)

    run = evaluate(
        [fake_checkpoint()],
        RunRequest(tasks=[Raising(4)]),
        RunStore.create(tmp_path / "s"),
        FakeBackend(),
        ListObserver(),
    ).runs[0]
    row = run.table().to_pylist()[1]
    assert row["score"] is None and row["rule"] == "scorer failed" and "RuntimeError" in row["reason"]


def test_bad_stores_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run store"):
        RunStore.open(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty and not a run store"):
        RunStore.create(tmp_path / "full")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot write"):
        RunStore.create(tmp_path / "file")
    run = run_once(tmp_path / "s")
    (run.directory / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="manifest.json"):
        RunStore.open(tmp_path / "s").runs()
    (tmp_path / "s" / MARKER).write_text('{"schema_version": 99}')
    with pytest.raises(StoreError, match="schema 99"):
        RunStore.open(tmp_path / "s")


def _slow_run(root: Path, delay: float) -> None:
    class Slow(FakeBackend):
        def generate(self, requests, spec):  # type: ignore[no-untyped-def]
            for item in super().generate(requests, spec):
                time.sleep(delay)
                yield item

    run_once(root, Slow())


def test_killed_with_sigkill_then_continued(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_slow_run, args=(tmp_path / "s", 0.05))
    child.start()
    journal = None
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (journal is None or len(journal.read_bytes().splitlines()) < 12):
        journal = next(iter((tmp_path / "s").glob("*/journal.jsonl")), None)
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    resumed = run_once(tmp_path / "s")
    assert resumed.table().equals(run_once(tmp_path / "whole").table())


def test_a_second_process_waits_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "s")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_slow_run, args=(tmp_path / "s", 0.02)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    (run,) = RunStore.open(tmp_path / "s").runs()
    assert len((run.directory / "journal.jsonl").read_bytes().splitlines()) == 80, "nothing was done twice"
    assert run.table().equals(run_once(tmp_path / "whole").table())


def test_a_busy_run_is_refused_with_a_clear_message(tmp_path: Path) -> None:
    from specs_eval.locking import RunLock

    run = run_once(tmp_path / "s")
    holder = RunLock(run.directory / "lock", None, 0)
    holder.acquire()
    with pytest.raises(StoreError, match=f"process {os.getpid()} on .* is evaluating"):
        run_once(tmp_path / "s", lock_timeout=0.0)
    holder.release()
    run_once(tmp_path / "s", lock_timeout=0.0)


def test_the_lock_holds_after_lmms_eval_has_made_filelock_reentrant(tmp_path: Path) -> None:
    code = f"""
from specs_eval.errors import StoreError
from specs_eval.locking import RunLock
from lmms_eval.evaluator import _enable_reentrant_filelocks
_enable_reentrant_filelocks()
from pathlib import Path
first, second = (RunLock(Path({str(tmp_path / "lock")!r}), None, 0) for _ in range(2))
first.acquire()
try:
    second.acquire()
except StoreError:
    print("kept out")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("kept out")


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, budget = os.write, [3000]

    def limited(descriptor: int, data: bytes) -> int:
        if budget[0] <= 0:
            raise OSError(28, "No space left on device")
        written = real(descriptor, data[: budget[0]])
        budget[0] -= written
        return written

    monkeypatch.setattr("specs_eval.journal.os.write", limited)
    with pytest.raises(StoreError, match="No space left"):
        run_once(tmp_path / "s")
    monkeypatch.undo()
    assert run_once(tmp_path / "s").table().equals(run_once(tmp_path / "whole").table())


anything = st.text(st.characters(exclude_categories=()), max_size=50)


@given(
    text=anything,
    score=st.none() | st.floats(0, 1),
    sizes=st.none() | st.lists(st.integers(1, 10), max_size=5).map(tuple),
    metrics=st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1), max_size=2),
)
def test_journal_lines_round_trip_whatever_the_model_wrote(
    text: str, score: float | None, sizes: tuple[int, ...] | None, metrics: dict[str, float]
) -> None:
    rollout = Rollout("s", 0, text, score, answer=text, nucleus_sizes=sizes, metrics=metrics)
    line = encode(rollout)
    assert line.count(b"\n") == 1 and decode(line) == rollout


@settings(max_examples=30)
@given(garbage=st.lists(st.binary(max_size=40), max_size=5))
def test_reading_a_journal_never_raises_on_garbage(
    tmp_path_factory: pytest.TempPathFactory, garbage: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    good = Rollout("s", 0, "x", 1.0)
    path.write_bytes(encode(good) + b"\n".join(garbage) + b"\n" + encode(good))
    assert [r for r in Journal(path).read() if r == good][:1] == [good]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]\n",
        b"null\n",
        b'{"sample_id":"a","rollout":0,"response":"x"}\n',
        b'{"sample_id":"a","rollout":0,"response":"x","score":1,"unknown":2}\n',
        b'{"sample_id":"a","rollout":0,"response":"x","score":1}{"sample_id":"b","rollout":0,"response":"x","score":1}\n',
        b'{"sample_id":"a","rollout":0,"response":"x","score":1} tail\n',
        b'{"sample_id":"a","rollout":0,"response":"\xff","score":1}\n',
        b"\0\0\0\0\n",
    ],
)
def test_what_is_not_one_whole_record_is_no_record(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)
