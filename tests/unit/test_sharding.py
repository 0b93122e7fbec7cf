"""Shares of an evaluation: disjoint, complete, even, and named by whoever launches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.errors import ConfigError
from specs_eval.sharding import Shard, launched_device, parse_shard


@given(n_units=st.integers(0, 60), count=st.integers(1, 20))
def test_all_shares_are_everything_once_and_even(n_units: int, count: int) -> None:
    units = list(range(n_units))
    shares = [Shard(number, count).of(units) for number in range(1, count + 1)]
    assert [unit for share in shares for unit in share] == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_as_many_shares_as_checkpoints_give_each_its_checkpoint() -> None:
    units = [(checkpoint, task) for checkpoint in "abc" for task in "xy"]
    assert [{name for name, _ in Shard(number, 3).of(units)} for number in (1, 2, 3)] == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("2/3", {}, Shard(2, 3)),
        ("auto", {"RANK": "0", "WORLD_SIZE": "4"}, Shard(1, 4)),
        ("auto", {"RANK": "3", "WORLD_SIZE": "4", "SLURM_ARRAY_TASK_ID": "1"}, Shard(4, 4)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8"}, Shard(8, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(8, 8)),
    ],
)
def test_named_or_launched(text: str, environ: dict[str, str], expected: Shard) -> None:
    assert parse_shard(text, environ) == expected


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("0/3", {}, "numbered from 1 to 3"),
        ("4/3", {}, "numbered from 1 to 3"),
        ("1/0", {}, "numbered"),
        ("third", {}, "takes I/N"),
        ("-1/3", {}, "takes I/N"),
        ("auto", {}, "RANK and WORLD_SIZE, or SLURM_ARRAY_TASK_ID"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, "not numbers"),
        ("auto", {"RANK": "2", "WORLD_SIZE": "2"}, "numbered from 1 to 2"),
    ],
)
def test_what_is_no_share_is_refused(text: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_shard(text, environ)


def test_each_local_process_gets_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [launched_device({"LOCAL_RANK": rank}) for rank in ("0", "1", "2")] == ["cuda:0", "cuda:1", "cuda:0"]
    assert launched_device({}) is None
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert launched_device({"LOCAL_RANK": "0"}) is None
