"""``specs-eval check --sequential`` over stores with known numbers: it stops early, keeps its budget, and says what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stored_runs import FakeRun, Floats, write_run

from specs_eval.cli import main

POLICY = """
[[gates]]
name = "keeps its score"
metric = "score"
task = "t"
max_drop = 0.05
"""
FLOOR = '[[gates]]\nname = "floor"\nmetric = "score"\ntask = "t"\nmin = 0.5\n'
FACTOR = '[[gates]]\nname = "gf"\nmetric = "gf"\nid = "t"\nood = "u"\n'


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def bits(share: float, n: int = 1000, seed: int = 0) -> Floats:
    """Scores with exactly this share of right ones; more right ones hold the fewer of the same seed."""
    return (np.random.default_rng(seed).permutation(n) < round(share * n)).astype(float)[:, None]


def store_pair(baseline: Floats, candidate: Floats, task: str = "t", **options: Any) -> Path:
    store = Path("runs").absolute()
    options.setdefault("categories", [{"kind": "ab"[i % 2]} for i in range(len(baseline))])
    write_run(store, FakeRun(task, baseline, "dpo/checkpoint-10", **options))
    write_run(store, FakeRun(task, candidate, "dpo/checkpoint-20", **options))
    return store


def check(policy: str, *more: str, pair: tuple[str, str] = ("dpo/10", "dpo/20")) -> Result:
    Path("specs-eval.toml").write_text(policy)
    arguments = ["check", "--baseline", pair[0], "--candidate", pair[1], "--sequential", *more]
    return CliRunner().invoke(main, arguments)


def facts(policy: str, *more: str) -> dict[str, Any]:
    result = check(policy, "--json", *more)
    assert result.exit_code in (0, 1, 3), result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize(("candidate", "word", "code"), [(0.75, "pass", 0), (0.70, "pass", 0), (0.5, "fail", 1)])
def test_it_stops_early_when_decided(tmp_path: Path, candidate: float, word: str, code: int) -> None:
    store_pair(bits(0.7), bits(candidate))
    answer = facts(POLICY)
    (verdict,) = answer["verdicts"]
    assert (verdict["outcome"], answer["exit_code"]) == (word, code)
    assert verdict["sequential"] and verdict["n_used"] < 0.5 * verdict["n_all"] == 500
    assert verdict["low"] <= verdict["estimate"] <= verdict["high"]
    assert any("samples were enough" in note for note in answer["notes"])


def test_floor_and_factor_gates(tmp_path: Path) -> None:
    store_pair(bits(0.7), bits(0.75))
    store_pair(bits(0.6, seed=1), bits(0.6, seed=1), "u")
    policy = POLICY + FLOOR + FACTOR + "min = 0.5\n" + FACTOR.replace('"gf"\nm', '"change"\nm') + "max_drop = 0.05\n"
    answer = facts(policy)
    assert [one["outcome"] for one in answer["verdicts"]] == ["pass"] * 4
    for one in answer["verdicts"]:
        assert one["n_used"] < one["n_all"] and one["low"] <= one["estimate"] <= one["high"], one
