"""Work in threads: results in order whatever takes how long, bounded waiting, exceptions in their turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.in_order import MAX_WAITING, in_order


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=12), st.integers(1, 6))
def test_results_are_those_of_a_plain_loop(groups: list[list[int]], threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(number / 2000)
        return number * number

    assert list(in_order(groups, work, threads)) == [[number * number for number in group] for group in groups]


def test_groups_are_pulled_in_the_callers_thread_while_others_are_worked_on() -> None:
    release = threading.Event()
    pulled: list[tuple[int, int]] = []

    def groups() -> Iterator[list[int]]:
        for number in range(5):
            pulled.append((number, threading.get_ident()))
            yield [number]
        release.set()  # nothing is done before everything was pulled: pulling does not wait for the work

    def work(number: int) -> int:
        assert release.wait(10)
        return number

    assert list(in_order(groups(), work, 2)) == [[number] for number in range(5)]
    assert pulled == [(number, threading.get_ident()) for number in range(5)]


def test_no_thread_is_left_when_all_is_done() -> None:
    before = threading.active_count()
    assert len(list(in_order(([number] for number in range(50)), str, 4))) == 50
    assert threading.active_count() == before


def test_no_more_is_pulled_than_may_wait() -> None:
    gate = threading.Semaphore(0)
    pulled = 0

    def groups() -> Iterator[list[int]]:
        nonlocal pulled
        while True:
            pulled += 1
            if pulled == MAX_WAITING + 1:
                gate.release(1)
            yield [pulled]

    def work(number: int) -> int:
        gate.acquire()
        return number

    results = in_order(groups(), work, 1 + 1)
    assert next(results) == [1] and pulled == MAX_WAITING + 1
    gate.release(10 * MAX_WAITING)
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_is_raised_in_its_turn_and_nothing_new_is_started(threads: int) -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    results = in_order(([number] for number in range(1000)), work, threads)
    assert [next(results), next(results)] == [[0], [1]]
    with pytest.raises(ValueError, match="two"):
        next(results)
    time.sleep(0.05)
    n_started = len(started)
    time.sleep(0.05)
    assert len(started) == n_started
