"""``specs-eval plan``: figures that agree with the closed form, with real checks, and with what the baseline recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stored_runs import FakeRun, Floats, write_run

from specs_eval.analysis.checks import planning
from specs_eval.cli import main

SCORE = '[[gates]]\nmetric = "score"\ntask = "t"\nmax_drop = 0.05\n'
QUANTILES = (1.6448536 + 1.2815516) ** 2


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def bits(share: float, n: int, k: int = 1, seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).random((n, k)) < share).astype(float)


def plan(policy: str, *more: str) -> Result:
    Path("specs-eval.toml").write_text(policy)
    return CliRunner().invoke(main, ["plan", "--baseline", "dpo/10", "--checks", "60", *more])


def gates(policy: str, *more: str) -> list[dict[str, Any]]:
    result = plan(policy, "--json", *more)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["gates"]
    return found


def test_figures_of_the_issue() -> None:
    """0/1 scores, a quarter discordant, 5 points: n = 857, and about 0.6 (equal) and 0.2 (better) of it sequentially."""
    write_run(Path("runs"), FakeRun("t", bits(0.7, 1500), "dpo/checkpoint-10"))
    (gate,) = gates(SCORE, "--discordant", "0.25")
    equal, better = gate["plan"]["scenarios"]
    assert equal["fixed"]["n_samples"] == math.ceil(QUANTILES * 0.25 / 0.05**2)
    assert better["fixed"]["n_samples"] == math.ceil(QUANTILES * 0.25 / 0.1**2)
    assert 0.45 * 857 < equal["sequential"]["median"] < 0.9 * 857
    assert 0.12 * 857 < better["sequential"]["median"] < 0.28 * 857
    assert better["sequential"]["passed"] == 1.0 and equal["sequential"]["failed"] <= 0.05
    assert gate["warning"] is None and gate["seconds_per_sample"] == pytest.approx(1 / 1500)


def test_a_benchmark_that_is_too_small_is_named_in_advance() -> None:
    write_run(Path("runs"), FakeRun("t", bits(0.7, 200), "dpo/checkpoint-10"))
    (gate,) = gates(SCORE)
    assert "an assumed 25%" in gate["difference"]
    assert "even all 200 samples decide only with" in gate["warning"]
    assert "even all 200 samples" in plan(SCORE).output


def test_differences_are_those_of_a_checkpoint_of_the_series_or_of_the_rollouts() -> None:
    first = bits(0.7, 600)
    second = first.copy()
    second[:60] = 1 - second[:60]
    write_run(Path("runs"), FakeRun("t", first, "dpo/checkpoint-10"))
    (alone,) = gates(SCORE)
    assert "assumed" in alone["difference"]
    write_run(Path("runs"), FakeRun("t", second, "dpo/checkpoint-20"))
    (gate,) = gates(SCORE)
    assert gate["difference"] == "the baseline against dpo/checkpoint-20"
    assert gate["plan"]["scenarios"][0]["fixed"]["n_samples"] == pytest.approx(QUANTILES * 0.1 / 0.05**2, rel=0.06)
    assert "n has no run" not in plan(SCORE, "--like", "dpo/20").output
    write_run(Path("runs"), FakeRun("u", bits(0.7, 600, 4), "dpo/checkpoint-10"))
    (rollouts,) = gates(SCORE.replace('"t"', '"u"'))
    assert rollouts["difference"].startswith("the baseline's rollouts against each other")
    # Two means over four rollouts of the same coin differ with variance 2 p (1 - p) / 4.
    assert rollouts["plan"]["scenarios"][0]["fixed"]["n_samples"] == pytest.approx(
        QUANTILES * 0.21 / 2 / 0.05**2, rel=0.1
    )
    assert rollouts["n_rollouts"] == 4


def test_all_kinds_of_gates_have_a_row() -> None:
    groups = [f"g{i // 3}" for i in range(300)]
    for task in ("t", "u"):
        write_run(Path("runs"), FakeRun(task, bits(0.7, 300), "dpo/checkpoint-10", groups=groups))
        write_run(Path("runs"), FakeRun(task, bits(0.3, 300), "base", groups=groups))
    factor = '[[gates]]\nmetric = "gf"\nid = "t"\nood = "u"\n'
    policy = (
        SCORE
        + SCORE.replace("max_drop = 0.05", "min = 0.5")
        + factor
        + "min = 0.4\n"
        + factor
        + 'base = "base"\nmax_drop = 0.1\n'
        + '[[gates]]\nmetric = "entropy"\ntask = "t"\nmax_drop = 0.1\n'
    )
    score, floor, level, change, entropy = gates(policy)
    assert entropy["plan"] is None and "entropy has no bounds" in entropy["difference"]
    for one in (score, floor, level, change):
        for scenario in one["plan"]["scenarios"]:
            sequential = scenario["sequential"]
            assert sequential["passed"] + sequential["failed"] + sequential["undecided"] == pytest.approx(1)
            assert 0 < sequential["median"] <= one["plan"]["n_samples"]
    assert floor["plan"]["scenarios"][0]["sequential"]["passed"] > 0.9
    result = plan(policy)
    assert result.exit_code == 0 and "better by the bound" in result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--discordant", "1.5"), "a share in (0, 1]"),
        (("--discordant", "0.2", "--like", "dpo/10"), "not both"),
        (("--checks", "2"), "at least 10"),
        (("--like", "nobody"), "nobody"),
    ],
)
def test_options_without_meaning(more: tuple[str, ...], message: str) -> None:
    write_run(Path("runs"), FakeRun("t", bits(0.7, 50), "dpo/checkpoint-10"))
    result = plan(SCORE, *more)
    assert result.exit_code == 2 and message in result.output


def test_looking_where_checks_likely_end_first_changes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    for task, seed in (("t", 1), ("u", 2)):
        write_run(Path("runs"), FakeRun(task, bits(0.7, 400, seed=seed), "dpo/checkpoint-10"))
    policy = SCORE + '[[gates]]\nmetric = "gf"\nid = "t"\nood = "u"\nmin = 0.6\n'
    found = gates(policy)
    tried: list[int] = []
    likely = planning._likely

    def whole(ends: list[int], rounds: Any) -> int:
        tried.append(likely(ends, rounds))
        return len(rounds)

    monkeypatch.setattr(planning, "_likely", whole)
    assert gates(policy) == found
    assert len(set(tried)) > 1, "some checks were looked at in part"
