"""Hard limits: a worker that hangs, dies or grows is replaced, and the next call works."""

import multiprocessing
import sys
import threading
import time

import pytest

from specs_eval.bounded import Bounded, OverLimit

WORKER = """
import os, time
def work(value):
    if value == "spin":
        while True: pass
    if value == "one step":
        return 3 ** (10 ** 9) % 7
    if value == "sleep":
        time.sleep(60)
    if value == "die":
        os._exit(3)
    if value == "grow":
        return len(bytearray(8 * 2**30))
    if value == "print":
        print("not an answer")
    if value == "deep":
        return deep(0)
    return [value, value]
def deep(n):
    return deep(n + 1)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "limited_work.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bounded = Bounded("limited_work:work", cpu_seconds=0.3, wall_seconds=1.0, memory_mib=512)
    yield bounded
    bounded.close()


def test_returns_values_and_keeps_the_worker(worker):
    assert worker("a") == ["a", "a"]
    pid = worker._process.pid
    assert worker({"x": 1.5}) == [{"x": 1.5}, {"x": 1.5}]
    assert worker._process.pid == pid


@pytest.mark.parametrize("trap", ["spin", "one step", "sleep", "die", "grow", "deep"])
def test_overruns_raise_and_the_next_call_works(worker, trap):
    with pytest.raises(OverLimit):
        worker(trap)
    assert worker("next") == ["next", "next"]


def test_prints_are_not_answers(worker):
    assert worker("print") == ["print", "print"]


def test_holds_in_threads(worker):
    results = {}

    def call(number):
        try:
            results[number] = worker("spin" if number % 3 == 0 else number)
        except OverLimit:
            results[number] = "over"

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: "over" if number % 3 == 0 else [number, number] for number in range(6)}


def _call_in_child(bounded, queue):
    queue.put(bounded("child"))
    bounded.close()


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_holds_in_forked_processes(worker):
    assert worker("parent") == ["parent", "parent"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_call_in_child, args=(worker, queue))
    child.start()
    assert queue.get(timeout=60) == ["child", "child"]
    child.join()
    assert worker("parent again") == ["parent again", "parent again"]


def test_a_worker_that_cannot_start_is_an_error():
    with pytest.raises(OverLimit):
        Bounded("no_such_module_here:work", 1.0, 1.0)("x")


def test_what_is_prepared_is_not_counted(tmp_path, monkeypatch):
    (tmp_path / "prepared_work.py").write_text(
        "import time\n"
        "ready = []\n"
        "def prepare(value):\n"
        "    end = time.process_time() + 1.0\n"
        "    while time.process_time() < end: pass\n"
        "    ready.append(value)\n"
        "def work(value):\n"
        "    return ready\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bounded = Bounded("prepared_work:work", cpu_seconds=0.3, wall_seconds=30.0)
    assert bounded("a") == ["a"] and bounded("b") == ["a", "b"]
    monkeypatch.setattr("specs_eval.bounded._readable", lambda *_: time.sleep(0.3) or True)  # both messages at once
    assert bounded("c") == ["a", "b", "c"]
    bounded.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the clock of another process")
def test_a_single_step_is_killed_by_its_processor_time_and_not_by_the_clock(tmp_path, monkeypatch):
    (tmp_path / "limited_work.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bounded = Bounded("limited_work:work", cpu_seconds=0.2, wall_seconds=600.0)
    with pytest.raises(OverLimit, match="processor time"):
        bounded("one step")
    bounded.close()


def test_a_worker_that_cannot_be_started_or_writes_nonsense_is_an_error():
    with pytest.raises(OverLimit, match="started"):
        Bounded("x", 1.0, 1.0, command=("/no/such/program",))({})
    chatty = "print('{}', flush=True)\ninput()\nprint('}{', flush=True)\ninput()"
    bounded = Bounded("x", 1.0, 30.0, command=(sys.executable, "-c", chatty))
    with pytest.raises(OverLimit, match="garbled"):
        bounded({})
    twice = "print('{}', flush=True)\ninput()\nprint('{\"value\": 1}\\n{\"value\": 2}', flush=True)\ninput()"
    bounded = Bounded("x", 1.0, 30.0, command=(sys.executable, "-c", twice))
    with pytest.raises(OverLimit, match="more than its answer"):
        bounded({})
