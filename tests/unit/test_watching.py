"""Which checkpoints of a running training are taken, and when: with a clock of our own and files written by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes import write_checkpoint

from specs_eval.errors import ConfigError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.watching import Watch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "dpo"


def watch(out: Path, clock: Clock, series: str = "") -> Watch:
    return Watch(out, Fingerprinter(), series, settle=10, clock=clock)


def taken(watch: Watch) -> list[str]:
    names = []
    while (checkpoint := watch.next()) is not None:
        names.append(checkpoint.name)
    return names


def settled(watch: Watch, clock: Clock) -> list[str]:
    """What is taken once nothing has changed for long enough; nothing is taken before."""
    assert taken(watch) == []
    clock.now += 9.9
    assert taken(watch) == []
    clock.now += 0.2
    return taken(watch)


def test_newest_first_each_once_and_only_when_settled(out: Path, clock: Clock) -> None:
    one = watch(out, clock)
    assert taken(one) == []  # the training has not made its folder yet
    for step in (5, 20, 100):
        write_checkpoint(out / f"checkpoint-{step}", bytes([step]) * 8)
    (out / "runs").mkdir()
    (out / "tmp-checkpoint-300").mkdir()
    assert settled(one, clock) == ["dpo/checkpoint-100", "dpo/checkpoint-20", "dpo/checkpoint-5"]
    clock.now += 100
    assert taken(one) == [] and one.is_settled() and one.unfinished() == {}
    write_checkpoint(out / "checkpoint-120", b"\5" * 8)
    assert settled(one, clock) == ["dpo/checkpoint-120"]


def test_one_that_is_whole_and_not_reached_is_not_called_unsettled(out: Path, clock: Clock) -> None:
    one = watch(out, clock)
    old, new = (write_checkpoint(out / f"checkpoint-{step}", bytes([step]) * 8) for step in (5, 20))
    assert one.next() is None
    clock.now += 11
    newest = one.next()  # and then a gate ends the watch
    assert newest is not None and newest.path.name == new.name
    assert one.unfinished() == {old: "the watch ended before its turn"}


def test_a_named_series(out: Path, clock: Clock) -> None:
    write_checkpoint(out / "checkpoint-1")
    assert settled(watch(out, clock, "mine"), clock) == ["mine/checkpoint-1"]


def test_the_newer_of_two_goes_first_even_if_it_came_later(out: Path, clock: Clock) -> None:
    for step in (1, 2):
        write_checkpoint(out / f"checkpoint-{step}", bytes([step]) * 8)
    one = watch(out, clock)
    taken(one)
    clock.now = 11
    first = one.next()
    assert first is not None and first.step == 2
    write_checkpoint(out / "checkpoint-3", b"\3" * 8)
    taken_next = one.next()  # 3 is not settled yet, and nothing waits for it
    assert taken_next is not None and taken_next.step == 1


def test_half_written_ones_wait_until_they_are_whole(out: Path, clock: Clock) -> None:
    """In the order in which transformers writes: configuration, shards, index, then the processor."""
    folder = out / "checkpoint-7"
    whole = write_checkpoint(out.parent / "whole", bytes(range(200)))
    one = watch(out, clock)
    folder.mkdir(parents=True)
    data = (whole / "model.safetensors").read_bytes()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    steps = [
        ("config.json", (whole / "config.json").read_bytes()),
        ("model-1.safetensors", data[:100]),
        ("model-1.safetensors", data),
        ("model.safetensors.index.json", json.dumps(index).encode()),
        ("model-2.safetensors", data[:-1]),
        ("model-2.safetensors", data),
        ("tokenizer.json", b"{}"),
    ]
    for name, content in steps:
        (folder / name).write_bytes(content)
        assert settled(one, clock) == [], name
        assert folder in one.unfinished() and one.is_settled()
    (folder / "preprocessor_config.json").write_text("{}")
    assert not one.is_settled() or one.next() is None
    assert settled(one, clock) == ["dpo/checkpoint-7"]


def test_slow_writing_never_settles(out: Path, clock: Clock) -> None:
    folder = write_checkpoint(out / "checkpoint-7")
    one = watch(out, clock)
    for count in range(5):
        (folder / "generation_config.json").write_text(" " * count)
        assert taken(one) == []
        clock.now += 8
    assert "changed less than 10 seconds ago" in one.unfinished()[folder]


def test_deleted_before_it_was_taken(out: Path, clock: Clock) -> None:
    for step in (1, 2):
        write_checkpoint(out / f"checkpoint-{step}", bytes([step]) * 8)
    one = watch(out, clock)
    taken(one)
    shutil.rmtree(out / "checkpoint-1")
    clock.now = 11
    assert taken(one) == ["dpo/checkpoint-2"] and one.unfinished() == {}


def test_given_back_when_gone_when_changed_and_when_broken(out: Path, clock: Clock) -> None:
    folder = write_checkpoint(out / "checkpoint-1")
    one = watch(out, clock)
    taken(one)
    clock.now = 11
    checkpoint = one.next()
    assert checkpoint is not None
    assert one.give_back(checkpoint) and taken(one) == []  # the same again would fail again
    write_checkpoint(folder, b"\1" * 8)
    assert one.give_back(checkpoint)
    assert settled(one, clock) == ["dpo/checkpoint-1"]
    shutil.rmtree(out)
    assert not one.give_back(checkpoint) and taken(one) == []


def test_a_checkpoint_that_a_restarted_training_overwrote_is_taken_again(out: Path, clock: Clock) -> None:
    folder = write_checkpoint(out / "checkpoint-1")
    one = watch(out, clock)
    assert settled(one, clock) == ["dpo/checkpoint-1"]
    write_checkpoint(folder, b"\7" * 8)
    assert settled(one, clock) == ["dpo/checkpoint-1"]


def test_a_time_below_zero_is_refused(out: Path) -> None:
    with pytest.raises(ConfigError, match="--settle"):
        Watch(out, Fingerprinter(), settle=-1)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "config.json", "preprocessor_config.json", "generation_config.json"]
)
@pytest.mark.parametrize("torn", [b"", b"{", b'{"a": "\xc3'])
def test_a_small_file_whose_writing_stalled_is_half_written_too(
    out: Path, clock: Clock, name: str, torn: bytes
) -> None:
    folder = write_checkpoint(out / "checkpoint-7")
    whole = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
    (folder / name).write_bytes(torn)
    one = watch(out, clock)
    assert settled(one, clock) == [] and name in one.unfinished()[folder] and one.is_settled()
    (folder / name).write_bytes(whole)
    assert settled(one, clock) == ["dpo/checkpoint-7"]
