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


def test_groups_of_unequal_size_and_a_part_of_a_task(tmp_path: Path) -> None:
    groups = [f"g{int(i**0.7)}" for i in range(1000)]
    store_pair(bits(0.7), bits(0.75), groups=groups)
    policy = POLICY + POLICY.replace('"t"', '"t[kind=a]"').replace("keeps its score", "part")
    whole, part = facts(policy)["verdicts"]
    assert whole["outcome"] == "pass" and whole["n_used"] < whole["n_all"] == 1000
    assert part["measures"] == "score of t[kind=a]" and part["n_all"] == 500


def test_a_constant_metric_is_decided() -> None:
    """Nothing varies: a fixed-sample t test has nothing to say, a bet on bounded values has."""
    store_pair(np.ones((300, 1)), np.ones((300, 1)))
    (verdict,) = facts(POLICY)["verdicts"]
    assert verdict["outcome"] == "pass" and verdict["n_used"] < 300
    assert verdict["low"] < 0 == verdict["estimate"]


def test_all_failed_is_undecided() -> None:
    store_pair(bits(0.7), np.full((1000, 1), np.nan))
    result = check(POLICY, "--json")
    (verdict,) = json.loads(result.stdout)["verdicts"]
    assert (verdict["outcome"], result.exit_code, verdict["estimate"]) == ("undecided", 3, None)
    assert (verdict["p_pass"], verdict["p_fail"], verdict["n_unscored"]) == (1.0, 1.0, 1000)
    assert "failed rollouts count as the worst" in verdict["reason"]


def test_other_samples_are_refused_or_cut() -> None:
    write_run(Path("runs"), FakeRun("t", bits(0.7), "dpo/checkpoint-10"))
    ids = [f"s{i:04d}" for i in range(200, 1200)]
    write_run(Path("runs"), FakeRun("t", bits(0.8), "dpo/checkpoint-20", sample_ids=ids))
    result = check(POLICY)
    assert result.exit_code == 3 and "800 in common" in result.output and "--overlap" in result.output
    assert facts(POLICY, "--overlap")["verdicts"][0]["n_all"] == 800


def test_runs_that_do_not_compare_are_refused() -> None:
    write_run(Path("runs"), FakeRun("t", bits(0.7), "dpo/checkpoint-10"))
    write_run(Path("runs"), FakeRun("t", bits(0.7), "dpo/checkpoint-20", task_version="2-def"))
    result = check(POLICY)
    assert result.exit_code == 3 and "task_version" in result.output


def test_the_baseline_itself_needs_no_check() -> None:
    store_pair(bits(0.7), bits(0.7))
    result = check(POLICY, pair=("dpo/10", "dpo/10"))
    assert result.exit_code == 0 and "nothing to check" in result.output


@pytest.mark.parametrize(
    ("policy", "more", "message"),
    [
        ("alpha = 0.7\n" + POLICY, (), "alpha"),
        (POLICY, ("--max-samples", "0"), "at least 1"),
        (POLICY, ("--max-minutes", "-1"), "above 0"),
        (POLICY.replace('"score"', '"nonsense"'), (), "no metric 'nonsense'"),
        (POLICY.replace('"t"', '"t[kind=zzz]"'), (), "zzz"),
        (FACTOR.replace('"u"', '"t"') + "min = 0.5\n", (), "share"),
    ],
)
def test_what_cannot_be_is_refused(policy: str, more: tuple[str, ...], message: str) -> None:
    store_pair(bits(0.7), bits(0.7))
    result = check(policy, *more)
    assert result.exit_code == 2 and message in result.output, result.output


def test_budgets_are_for_sequential_checks() -> None:
    store_pair(bits(0.7), bits(0.7))
    Path("specs-eval.toml").write_text(POLICY)
    result = CliRunner().invoke(main, ["check", "--baseline", "dpo/10", "--candidate", "dpo/20", "--max-samples", "5"])
    assert result.exit_code == 2 and "are for --sequential" in result.output


def test_a_budget_below_one_block_decides_nothing() -> None:
    store_pair(bits(0.7), bits(0.7))
    answer = facts(POLICY, "--max-samples", "3")
    reason = answer["verdicts"][0]["reason"]
    assert answer["exit_code"] == 3
    assert "nothing was asked: --max-samples 3 ended the check (the first look is at 8 samples)" in reason


def test_bounds_outside_of_what_can_be_need_no_samples_to_speak_of() -> None:
    store_pair(bits(0.7), bits(0.7))
    never = '[[gates]]\nname = "never"\nmetric = "score"\ntask = "t"\nmin = 1.2\n'
    always = '[[gates]]\nname = "always"\nmetric = "score"\ntask = "t"\nmax = 1.2\n'
    assert [one["outcome"] for one in facts(never + always)["verdicts"]] == ["fail", "pass"]


def test_metrics_without_bounds_are_tested_at_the_end_and_say_so() -> None:
    rng = np.random.default_rng(0)
    options = {"entropy": rng.random((1000, 1)), "metrics": {"length": 50 * rng.random((1000, 1))}}
    store_pair(bits(0.7), bits(0.75), **options)
    wide = '[[gates]]\nname = "length"\nmetric = "length"\ntask = "t"\nmax_drop = 5\n'
    entropy = '[[gates]]\nname = "entropy"\nmetric = "entropy"\ntask = "t"\nmax_drop = 0.5\n'
    unscored = '[[gates]]\nname = "unscored"\nmetric = "unscored"\ntask = "t"\nmax = 0.1\n'
    answer = facts(POLICY + wide + entropy + unscored)
    score, *rest = answer["verdicts"]
    assert score["sequential"] and not any(one["sequential"] for one in rest)
    assert all("tested like a fixed sample" in one["reason"] for one in rest[:2])
    assert "counted" in rest[2]["reason"]
    assert len([note for note in answer["notes"] if "fixed sample" in note or "counted" in note]) == 3
