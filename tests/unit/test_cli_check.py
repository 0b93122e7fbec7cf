"""``specs-eval check`` and ``baseline`` over real stores with known numbers: verdicts, refusals, exit codes, outputs."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
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


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def bits(share: float, n: int = 400, k: int = 1, seed: int = 0) -> Floats:
    """Scores with exactly this share of right ones, in random places that are the same for the same seed."""
    order = np.random.default_rng(seed).permutation(n * k)
    return (order < round(share * n * k)).astype(float).reshape(n, k)


def store_pair(folder: Path, baseline: Floats, candidate: Floats, **options: Any) -> Path:
    store = folder / "runs"
    write_run(store, FakeRun("t", baseline, "dpo/checkpoint-10", **options))
    write_run(store, FakeRun("t", candidate, "dpo/checkpoint-20", **options))
    return store


def check(store: Path, policy: str, *more: str, pair: tuple[str, str] = ("dpo/10", "dpo/20")) -> Result:
    Path("specs-eval.toml").write_text(policy)
    arguments = ["check", "--store", str(store), "--baseline", pair[0], "--candidate", pair[1], *more]
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("candidate", "code", "word"), [(0.72, 0, "pass"), (0.70, 0, "pass"), (0.55, 1, "fail"), (0.65, 3, "undecided")]
)
def test_verdict_and_exit_code(tmp_path: Path, candidate: float, code: int, word: str) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(candidate))
    result = check(store, POLICY)
    assert result.exit_code == code, result.output
    assert f"1 {word} of 1 gates" in result.output
    facts = json.loads(check(store, POLICY, "--json").stdout)
    assert facts["exit_code"] == code
    verdict = facts["verdicts"][0]
    assert verdict["outcome"] == word
    assert verdict["estimate"] == pytest.approx(candidate - 0.7)
    assert verdict["low"] <= verdict["estimate"] <= verdict["high"]
    assert verdict["n_used"] == verdict["n_all"] == 400


@pytest.mark.parametrize(("word", "code"), [("fail", 3), ("warn", 0), ("pass", 0)])
def test_the_policy_says_what_undecided_means(tmp_path: Path, word: str, code: int) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(0.65))
    result = check(store, f'undecided = "{word}"\n{POLICY}')
    assert result.exit_code == code
    assert "1 undecided of 1 gates" in result.output


def test_the_baseline_itself_needs_no_check(tmp_path: Path) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(0.7))
    result = check(store, POLICY, pair=("dpo/10", "dpo/10"))
    assert result.exit_code == 0
    assert "is the baseline itself" in result.output


ALL_METRICS = """
[[gates]]
metric = "pass@2"
task = "t"
of = "accuracy"
max_drop = 0.2
[[gates]]
metric = "unsolvable@4"
task = "t"
max_rise = 0.3
[[gates]]
metric = "maj@4"
task = "t"
min = 0.1
[[gates]]
metric = "wrong_mode"
task = "t"
max = 0.9
[[gates]]
metric = "unscored"
task = "t"
max = 0.0
[[gates]]
metric = "rbf"
task = "t"
max_drop = 1.0
[[gates]]
metric = "entropy"
task = "t"
max_rise = 1.0
[[gates]]
metric = "effective"
task = "t"
min_gain = -1.0
[[gates]]
metric = "gf"
id = "t[kind=a]"
ood = "t[kind=b]"
min_gain = -0.3
[[gates]]
metric = "gf"
id = "t[kind=a]"
ood = "t[kind=b]"
base = "dpo/10"
min = 0.0
"""


def test_every_metric_of_the_design_can_be_a_gate(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    n, k = 60, 4
    shape = (n, k)

    def run(checkpoint: str, share: float, nucleus: float) -> FakeRun:
        scores = (generator.random(shape) < share).astype(float)
        return FakeRun(
            "t",
            scores,
            checkpoint,
            metrics={"accuracy": scores},
            answers=[["right" if right else "wrong" for right in row] for row in scores],
            categories=[{"kind": "ab"[i % 2]} for i in range(n)],
            n_tokens=generator.integers(5, 9, shape),
            entropy=generator.random(shape),
            nucleus=nucleus + generator.random(shape),
        )

    store = tmp_path / "runs"
    write_run(store, run("dpo/checkpoint-10", 0.5, 2.0))
    write_run(store, run("dpo/checkpoint-20", 0.8, 2.5))
    facts = json.loads(check(store, ALL_METRICS, "--json", "--bootstrap", "400").stdout)
    by_measure = {one["measures"]: one for one in facts["verdicts"]}
    assert len(by_measure) == 10
    assert by_measure["rbf of t"]["estimate"] == pytest.approx(0.5, abs=0.1)
    assert by_measure["unscored of t"]["method"] == "counted, not inferred"
    assert by_measure["pass@2 of t"]["outcome"] == "pass"
    assert by_measure["GF (score) of t[kind=a] / t[kind=b]"]["estimate"] == pytest.approx(0.3, abs=0.15)
    assert all(one["low"] is not None for name, one in by_measure.items() if not name.startswith("unscored"))


@pytest.mark.parametrize(
    ("policy", "code", "told"),
    [
        (POLICY.replace('"score"', '"elegance"'), 2, "gates can use: score, unscored, wrong_mode, pass@k"),
        (POLICY.replace('task = "t"', 'task = "tt"'), 3, "the store has no run of task 'tt'; did you mean t?"),
        (POLICY.replace('task = "t"', 'task = "t[kind=x]"'), 2, "has no dimension 'kind'"),
        (POLICY.replace('"score"', '"pass@8"'), 3, "pass@8 needs 8 scored rollouts"),
        ("alpha = 2\n" + POLICY, 2, "specs-eval.toml:1: alpha"),
        (POLICY.replace("max_drop", "max_fall"), 2, "unknown key"),
    ],
)
def test_a_policy_that_asks_for_what_is_not_there(tmp_path: Path, policy: str, code: int, told: str) -> None:
    result = check(store_pair(tmp_path, bits(0.7), bits(0.7)), policy)
    assert result.exit_code == code, result.output
    assert told in " ".join(result.output.split())


def test_runs_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    write_run(store, FakeRun("t", bits(0.7), "dpo/checkpoint-10"))
    write_run(store, FakeRun("t", bits(0.7), "dpo/checkpoint-20", task_version="2-new"))
    write_run(store, FakeRun("t", bits(0.7, 300), "dpo/checkpoint-30"))
    write_run(store, FakeRun("other", bits(0.7, 300), "dpo/checkpoint-40"))
    result = check(store, POLICY)
    assert result.exit_code == 3
    assert "task_version" in result.output
    result = check(store, POLICY, pair=("dpo/10", "dpo/30"))
    assert result.exit_code == 3
    assert "300 in common, 100 only in the baseline" in " ".join(result.output.split())
    assert check(store, POLICY, "--overlap", pair=("dpo/10", "dpo/30")).exit_code in (0, 3)
    result = check(store, POLICY, pair=("dpo/10", "dpo/40"))
    assert result.exit_code == 3
    assert "--run" in result.output


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_metric_is_no_proof_when_samples_are_few(tmp_path: Path, value: float) -> None:
    few = np.full((20, 1), value)
    assert check(store_pair(tmp_path / "few", few, few), POLICY).exit_code == 3
    many = np.full((400, 1), value)
    assert check(store_pair(tmp_path / "many", many, many), POLICY).exit_code == 0


def test_a_candidate_whose_rollouts_all_failed_is_undecided_with_the_reason(tmp_path: Path) -> None:
    result = check(store_pair(tmp_path, bits(0.7), np.full((400, 1), np.nan)), POLICY)
    assert result.exit_code == 3
    assert "no sample is scored on both sides" in result.output


def test_outputs_for_ci_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(0.4))
    policy = POLICY.replace("keeps its score", "a|b <script>, 100 %:\\u0007") + POLICY.replace("0.05", "0.9").replace(
        "keeps its score", "lenient"
    )
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = check(store, policy, "--junit", "j.xml", "--markdown", "m.md", "--metrics", "m.txt")
    assert result.exit_code == 1
    suite = ET.fromstring(Path("j.xml").read_text())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [case.find("failure") is not None for case in suite.iter("testcase")] == [True, False]
    markdown = Path("m.md").read_text()
    assert "a\\|b &lt;script&gt;" in markdown
    assert "<script>" not in markdown
    assert summary.read_text() == "before\n" + markdown
    annotations = [line for line in result.stderr.splitlines() if line.startswith("::")]
    assert len(annotations) == 1
    assert annotations[0].startswith("::error title=specs-eval%3A a|b <script>%2C 100 %25%3A")
    metrics = Path("m.txt").read_text()
    assert metrics.endswith("# EOF\n")
    assert 'specs_eval_gate_passed{gate="lenient"} 1' in metrics


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    result = check(store_pair(tmp_path, bits(0.7), bits(0.7)), POLICY, "--junit", "nowhere/j.xml")
    assert result.exit_code == 3
    assert "cannot write nowhere/j.xml" in result.output


def baseline(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["baseline", *arguments])


def test_a_pinned_baseline_stands_for_its_weights(tmp_path: Path) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(0.72))
    saved = baseline("save", "main", "dpo/10", "--store", str(store))
    assert saved.exit_code == 0, saved.output
    text = Path("specs-eval-baselines.toml").read_text()
    assert 'checkpoint = "dpo/checkpoint-10"' in text
    assert len(text) < 1000
    assert "main  dpo/checkpoint-10" in baseline("list").output
    assert "t  70.0 %" in baseline("show", "main").output
    assert check(store, POLICY, pair=("main", "dpo/20")).exit_code == 0
    baseline("save", "other", "dpo/20", "--store", str(store))
    assert list(json.loads(baseline("list", "--json").stdout)) == ["main", "other"]


def test_a_pin_whose_weights_are_not_in_the_store(tmp_path: Path) -> None:
    first = store_pair(tmp_path / "a", bits(0.7), bits(0.72), weights="old")
    baseline("save", "main", "dpo/10", "--store", str(first))
    second = store_pair(tmp_path / "b", bits(0.7), bits(0.72), weights="new")
    result = check(second, POLICY, pair=("main", "dpo/20"))
    assert result.exit_code == 3
    assert "has no run of baseline main" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "nobody"), "no baseline 'nobody'"),
        (("save", "bad name!", "dpo/10"), "a baseline's name is of letters"),
        (("save", "main", "dpo/99"), "dpo/99"),
    ],
)
def test_bad_pins_are_refused(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    store = store_pair(tmp_path, bits(0.7), bits(0.7))
    more = ("--store", str(store)) if arguments[0] == "save" else ()
    result = baseline(*arguments, *more)
    assert result.exit_code == 2
    assert told in result.output


def test_a_damaged_baseline_file_is_named(tmp_path: Path) -> None:
    Path("specs-eval-baselines.toml").write_text("[main]\nx = 1\n")
    result = baseline("list")
    assert result.exit_code == 2
    assert "cannot read the baselines in" in result.output


def series(store: Path, policy: str, *more: str, name: str = "dpo") -> Result:
    Path("specs-eval.toml").write_text(policy)
    return CliRunner().invoke(main, ["check", "--series", name, "--store", str(store), "--bootstrap", "400", *more])


def store_series(folder: Path, shares: list[float], **options: Any) -> Path:
    store = folder / "runs"
    for number, share in enumerate(shares):
        write_run(store, FakeRun("t", bits(share, 300, seed=number), f"dpo/checkpoint-{100 * number}", **options))
    return store


def test_a_series_that_fell_is_told_where_and_fails(tmp_path: Path) -> None:
    store = store_series(tmp_path, [0.5, 0.7, 0.72, 0.71, 0.7, 0.4, 0.42])
    result = series(store, POLICY)
    assert result.exit_code == 1, result.output
    assert "it fell after step 400" in result.output
    facts = json.loads(series(store, POLICY, "--json").stdout)
    change = facts["verdicts"][0]["trajectory"]["change"]
    assert (change["after"], change["before"]) == (400, 500)
    assert change["high"] < -0.05
    assert facts["verdicts"][0]["trajectory"]["peak"] == 200
    assert series(store, POLICY, name="out/dpo/").exit_code == 1


def test_a_fall_within_the_allowance_and_a_rise_pass(tmp_path: Path) -> None:
    store = store_series(tmp_path, [0.7, 0.7, 0.72, 0.4, 0.42])
    assert series(store, POLICY.replace("0.05", "0.5")).exit_code == 0
    rising = store_series(tmp_path / "rising", [0.4, 0.42, 0.7, 0.72])
    assert series(rising, POLICY).exit_code == 0
    assert series(rising, POLICY.replace("max_drop", "max_rise")).exit_code == 1


@pytest.mark.parametrize(
    ("name", "more", "code", "told"),
    [
        ("dpp", (), 2, "did you mean dpo?"),
        ("dpo", ("--baseline", "x"), 2, "it takes --policy, --select and --json"),
        ("solo", (), 3, "a course needs two"),
    ],
)
def test_series_that_cannot_be_followed(tmp_path: Path, name: str, more: tuple[str, ...], code: int, told: str) -> None:
    store = store_series(tmp_path, [0.5, 0.6])
    write_run(store, FakeRun("t", bits(0.5), "solo"))
    result = series(store, POLICY, *more, name=name)
    assert result.exit_code == code
    assert told in result.output


def test_what_a_series_cannot_show_is_undecided(tmp_path: Path) -> None:
    two = series(store_series(tmp_path, [0.5, 0.6]), POLICY)
    assert two.exit_code == 0
    assert "a change point needs at least 3" in two.output
    store = store_series(tmp_path / "failed", [0.5, 0.6, 0.7])
    write_run(store, FakeRun("t", np.full((300, 1), np.nan), "dpo/checkpoint-900"))
    failed = series(store, POLICY)
    assert "score is undefined at dpo/checkpoint-900" in failed.output


def test_a_checkpoint_or_a_series_must_be_named(tmp_path: Path) -> None:
    Path("specs-eval.toml").write_text(POLICY)
    result = CliRunner().invoke(main, ["check", "--store", str(tmp_path)])
    assert result.exit_code == 2
    assert "name --baseline and --candidate, or a --series" in result.output
