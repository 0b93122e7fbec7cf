"""``specs-eval explore`` over real stores with known numbers, and the reading of tables that it rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from stored_runs import FakeRun, write_run

from specs_eval.analysis.stored.reading import _encoded, _floats, metric_names, read_rollouts, score_summaries
from specs_eval.cli import main
from specs_eval.cli.charts import sparkline
from specs_eval.cli.result_tables import ScoreRow, score_table
from specs_eval.errors import StoreError

TASK = "easyvqa_formats_ood"


def explore(store: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["explore", "--store", str(store), "--bootstrap", "200", *more])


def facts_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return facts


def full_run(checkpoint: str = "dpo/checkpoint-5", n: int = 30, k: int = 4, **options: Any) -> FakeRun:
    generator = np.random.default_rng(n)
    right = generator.random((n, k)) < 0.6
    return FakeRun(
        TASK,
        np.ones((n, k)),
        checkpoint,
        metrics={"accuracy": right.astype(float), "lock_in": np.zeros((n, k))},
        answers=[["gold" if one else str(generator.integers(3)) for one in row] for row in right],
        n_tokens=generator.integers(3, 20, (n, k)),
        entropy=generator.random((n, k)),
        nucleus=1 + generator.random((n, k)),
        **options,
    )


def test_all_numbers_of_a_run(tmp_path: Path) -> None:
    run = full_run()
    write_run(tmp_path, run)
    (found,) = facts_of(explore(tmp_path, "--json"))["runs"]
    assert (found["task"], found["metric"], found["step"], found["temperature"]) == (TASK, "accuracy", 5, 1.0)
    right = run.metrics["accuracy"]
    at = {one["k"]: one for one in found["at_k"]}
    assert list(at) == [1, 2, 4]
    assert at[1]["pass_at_k"]["value"] == pytest.approx(right.mean())
    assert at[4]["pass_at_k"]["value"] == pytest.approx(right.any(axis=1).mean())
    assert at[4]["unsolvable"]["value"] == pytest.approx(1 - right.any(axis=1).mean())
    assert 0 < at[4]["majority"]["value"] < 1
    assert run.n_tokens is not None and run.nucleus is not None
    assert found["rbf"]["value"] == pytest.approx(np.average(run.nucleus, weights=run.n_tokens))
    assert found["rbf"]["interval"]["n_draws"] == 200 and found["distinct"]["value"] > 1
    assert found["run"].startswith("dpo-checkpoint-5--")


def test_on_screen_and_the_choice_of_metric(tmp_path: Path) -> None:
    write_run(tmp_path, full_run())
    write_run(tmp_path, full_run("dpo/checkpoint-15"))
    shown = explore(tmp_path)
    assert shown.exit_code == 0 and "\x1b" not in shown.output
    for text in (
        "correct = accuracy >= 1",
        "pass@1 %",
        "unsolvable@4 %",
        "maj@4 %",
        "dpo 15",
        "30 x 4",
        "RBF",
        "seed 0",
    ):
        assert text in shown.output, text
    assert shown.output.index("dpo 5") < shown.output.index("dpo 15")
    by_score = facts_of(explore(tmp_path, "--metric", "score", "--k", "4,1", "--json"))["runs"][0]
    assert by_score["metric"] == "score" and [one["k"] for one in by_score["at_k"]] == [1, 4]
    assert by_score["at_k"][0]["pass_at_k"]["value"] == 1


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("plain", np.array([[1.0], [0.0], [1.0]]), "a/checkpoint-1", temperature=0.0))
    write_run(tmp_path, FakeRun("plain", np.ones((3, 4)), "b/checkpoint-1", temperature=0.0))
    notes = facts_of(explore(tmp_path, "--json"))["notes"]
    assert any(
        "no RBF: the backend gave no token statistics" in note and "a/checkpoint-1 on plain" in note for note in notes
    )
    assert any("temperature 0: all rollouts of a sample are the same" in note for note in notes)
    assert "Note: no RBF" in explore(tmp_path).output
    write_run(tmp_path, FakeRun("plain", np.ones((3, 1)), "c", answers=[["x"], ["y"], [None]]))
    (single,) = facts_of(explore(tmp_path, "--series", "c", "--json"))["runs"]
    assert "--rollouts 8" in single["distinct"]["reason"]


def test_failed_and_uneven_rollouts(tmp_path: Path) -> None:
    run = full_run()
    run.scores[0, :2] = np.nan
    write_run(tmp_path, run)
    facts = facts_of(explore(tmp_path, "--json"))
    (found,) = facts["runs"]
    assert (found["n_unscored"], found["fewest_rollouts"], found["most_rollouts"]) == (2, 2, 4)
    assert found["at_k"][-1]["pass_at_k"]["n_samples"] == 29
    assert any("samples differ in scored rollouts" in note for note in facts["notes"])
    shown = explore(tmp_path).output
    assert "Unscored" in shown and "30 x 2..4" in shown


def test_runs_that_look_the_same_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path, full_run())
    write_run(tmp_path, full_run(seed=7))
    facts = facts_of(explore(tmp_path, "--json"))
    assert len(facts["runs"]) == 2 and "differ in seed (0 or 7)" in facts["notes"][0]
    assert len(facts_of(explore(tmp_path, "--select", "seed=7", "--json"))["runs"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--tasks", "easyvqa_formats_od"), 2, f"did you mean {TASK}?"),
        (("--tasks", ","), 2, "no task in"),
        (("--series", "dpp"), 2, "did you mean dpo?"),
        (("--metric", "style"), 2, "it has: score, accuracy, lock_in"),
        (("--k", "two"), 2, "whole numbers"),
        (("--k", "0"), 2, "numbers from 1 on"),
        (("--threshold", "nan"), 2, "threshold"),
        (("--rbf-samples", "1"), 2, "--rbf-samples takes numbers from 2 on"),
        (("--tasks", f"{TASK}[format=json]"), 2, "has no dimension"),
        (("--tasks", f"{TASK}[format"), 2, "write TASK or TASK[DIMENSION=VALUE]"),
    ],
)
def test_wrong_questions(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    write_run(tmp_path, full_run())
    result = explore(tmp_path, *arguments)
    assert result.exit_code == code and message in result.output and "Traceback" not in result.output


def test_incomplete_runs_need_permission(tmp_path: Path) -> None:
    write_run(tmp_path, full_run(complete=False))
    result = explore(tmp_path)
    assert result.exit_code == 3 and "--allow-incomplete" in result.output
    assert facts_of(explore(tmp_path, "--allow-incomplete", "--json"))["runs"][0]["n_samples"] == 30


def test_columns_with_nulls_read_as_they_are() -> None:
    numbers = pa.chunked_array([pa.array([1, None], pa.int32()), pa.array([3, 4, None], pa.int32()).slice(1)])
    assert np.array_equal(_floats(numbers), [1, np.nan, 4, np.nan], equal_nan=True)
    nothing = pa.chunked_array([pa.array([None, None], pa.float64())])
    assert np.isnan(_floats(nothing)).all()
    codes, labels = _encoded(pa.chunked_array([pa.array(["b", None, "a"]), pa.array(["b"])]))
    assert codes.tolist() == [0, -1, 1, 0] and labels == ("b", "a")
    codes, labels = _encoded(pa.chunked_array([pa.array([None, None], pa.string())]))
    assert codes.tolist() == [-1, -1] and labels == ()


def test_samples_without_a_group_stand_alone(tmp_path: Path) -> None:
    stored = write_run(tmp_path, FakeRun(TASK, np.eye(3), sample_ids=["x", "y", "z"], groups=["g", None, "g"]))
    rollouts = read_rollouts(stored, ["score", "nothing"])
    assert list(rollouts) == ["score"]
    assert rollouts["score"].clusters == ("g", "y", "g") and rollouts["score"].sample_ids == ("x", "y", "z")


def test_a_run_without_rollouts_says_so(tmp_path: Path) -> None:
    stored = write_run(tmp_path, FakeRun(TASK, np.empty((0, 1)), complete=False))
    with pytest.raises(StoreError, match="no rollouts yet"):
        read_rollouts(stored, ["score"])


@pytest.mark.parametrize("complete", [True, False])
def test_score_table_of_a_run(tmp_path: Path, complete: bool) -> None:
    stored = write_run(tmp_path, full_run(complete=complete))
    assert metric_names(stored) == ["score", "accuracy", "lock_in"]
    summaries = score_summaries(stored)
    assert summaries["score"].value == 1 and summaries["accuracy"].n_samples == 30
    results = stored.results()
    if results is not None:
        assert summaries["accuracy"].value == pytest.approx(results.metrics["accuracy"].mean, abs=1e-9)
    plain = write_run(tmp_path, FakeRun("plain", np.array([[1.0], [np.nan]])))
    rows = [ScoreRow("dpo/checkpoint-5", TASK, 4, summaries), ScoreRow("dpo", "plain", 1, score_summaries(plain))]
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(score_table(rows, console))
    text = capture.get()
    assert "score %" in text and "accuracy %" in text and "30 x 4" in text and "Unscored" in text


def test_movement_along_a_series(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        write_run(tmp_path, full_run(f"dpo/checkpoint-{step}", n=30 + step // 15, seed=0))
    write_run(tmp_path, full_run("base"))
    facts = facts_of(explore(tmp_path, "--json"))
    assert facts["movements"] == [], "30 and 31 samples"
    (note,) = (text for text in facts["notes"] if "no movement" in text)
    assert "(30 and 31, 30 in common)" in note and "--allow-incomplete" in note
    (found,) = facts_of(explore(tmp_path, "--allow-incomplete", "--json"))["movements"]
    assert (found["first_step"], found["last_step"], found["k"], found["n_samples"]) == (5, 15, 4, 30)
    changes = {one["quantity"]: one for one in found["changes"]}
    for one in changes.values():
        change = one["last"]["value"] - one["first"]["value"]
        assert one["difference"]["value"] == pytest.approx(change), one["quantity"]
        assert one["difference"]["interval"]["n_draws"] == 200
    shown = explore(tmp_path, "--allow-incomplete").output
    for text in ("dpo/checkpoint-5 to dpo/checkpoint-15, 30 samples", "Course", "Change", "pass@4 %", "1 pass@1 %"):
        assert text in shown, text


def test_movement_needs_runs_that_compare(tmp_path: Path) -> None:
    write_run(tmp_path, full_run("dpo/checkpoint-5"))
    write_run(tmp_path, full_run("dpo/checkpoint-15", temperature=0.5))
    facts = facts_of(explore(tmp_path, "--json"))
    assert len(facts["runs"]) == 2 and facts["movements"] == []
    assert any("no movement of dpo" in note and "temperature (0.5 or 1.0)" in note for note in facts["notes"])
    write_run(tmp_path, full_run("dpo/checkpoint-15", seed=3))
    assert facts_of(explore(tmp_path, "--json"))["movements"] == [], "two runs of one checkpoint"


def test_parts_of_a_task(tmp_path: Path) -> None:
    categories = [{"format": "json" if i % 3 else "boxed"} for i in range(30)]
    run = full_run(categories=categories)
    write_run(tmp_path, run)
    runs = facts_of(explore(tmp_path, "--tasks", f"{TASK}[format=json],formats_ood", "--json"))["runs"]
    assert [one["task"] for one in runs] == [f"{TASK}[format=json]", TASK]
    inside = np.arange(30) % 3 > 0
    assert runs[0]["n_samples"] == 20 and runs[1]["n_samples"] == 30
    assert runs[0]["at_k"][0]["pass_at_k"]["value"] == pytest.approx(run.metrics["accuracy"][inside].mean())
    assert run.n_tokens is not None and run.nucleus is not None
    expected = np.average(run.nucleus[inside], weights=run.n_tokens[inside])
    assert runs[0]["rbf"]["value"] == pytest.approx(expected)


def test_a_shortened_name_means_the_same_in_every_run(tmp_path: Path) -> None:
    for step, formats in ((5, ("json", "boxed")), (10, ("json", "bare"))):
        names = [{"format": formats[i % 2]} for i in range(30)]
        write_run(tmp_path, full_run(f"dpo/checkpoint-{step}", categories=names))
    # In each run alone "b" would be short for one name, and for another in the other.
    result = explore(tmp_path, "--tasks", f"{TASK}[format=b]")
    assert result.exit_code == 2 and "has no format 'b'" in result.output and "bare, boxed, json" in result.output
    runs = facts_of(explore(tmp_path, "--tasks", f"{TASK}[format=js],{TASK}[format!=box]", "--json"))["runs"]
    found = [(one["task"], one["step"], one["n_samples"]) for one in runs]
    assert found[:2] == [(f"{TASK}[format=json]", 5, 15), (f"{TASK}[format=json]", 10, 15)]
    assert found[2:] == [(f"{TASK}[format!=boxed]", 5, 15), (f"{TASK}[format!=boxed]", 10, 30)]
    result = explore(tmp_path, "--tasks", f"{TASK}[format=box]")
    assert result.exit_code == 2 and "dpo/checkpoint-10: no sample of" in result.output


def test_rbf_at_sample_counts(tmp_path: Path) -> None:
    write_run(tmp_path, full_run(n=130, k=2))
    (found,) = facts_of(explore(tmp_path, "--json"))["runs"]
    assert [one["n_samples"] for one in found["rbf_at"]] == [120]
    assert found["rbf_at"][0]["rbf"]["interval"]["method"] == "m-out-of-n bootstrap"
    assert "RBF@120" in explore(tmp_path).output
    facts = facts_of(explore(tmp_path, "--rbf-samples", "10,240", "--json"))
    assert [one["rbf"]["value"] is None for one in facts["runs"][0]["rbf_at"]] == [False, True]
    assert any("no RBF@240: the run has 130 samples" in note for note in facts["notes"])


def test_over_position(tmp_path: Path) -> None:
    bare = explore(full_store(tmp_path / "bare", None), "--over-position")
    assert bare.exit_code == 0 and "nothing over position" in bare.output and "run --per-position" in bare.output
    lists = [[[0.5] * (j + 1) if i else None for j in range(2)] for i in range(3)]
    store = full_store(tmp_path / "stored", lists)
    assert facts_of(explore(store, "--json"))["runs"][0]["positions"] == [], "not asked for"
    (found,) = facts_of(explore(store, "--over-position", "--json"))["runs"]
    assert [(one["first"], one["last"], one["n_positions"], one["n_rollouts"]) for one in found["positions"]] == [
        (1, 1, 4, 4), (2, 2, 2, 2),
    ]  # fmt: skip
    assert found["positions"][0]["entropy"]["value"] == 0.5 and found["positions"][1]["nucleus"]["value"] == 3
    shown = explore(store, "--over-position").output
    assert "At position" in shown and "2-3" in shown
    part = facts_of(explore(store, "--tasks", "plain[half=b]", "--over-position", "--json"))["runs"][0]
    assert part["positions"][0]["n_positions"] == 2


def full_store(store: Path, lists: Any) -> Path:
    sizes = None if lists is None else [[one and [3] * len(one) for one in row] for row in lists]
    categories = [{"half": half} for half in "aab"]
    run = FakeRun("plain", np.ones((3, 2)), entropies=lists, nucleus_sizes=sizes, categories=categories)
    write_run(store, run)
    return store


def test_a_course_in_one_line() -> None:
    assert sparkline([0.0, 0.5, None, 1.0]) == "▁▅ █" and sparkline([0.0, 1.0], unicode=False) == "18"
    assert sparkline([2.0, 2.0]) == "▄▄" and sparkline([]) == "" and sparkline([None]) == " "


def test_movement_starts_at_the_base_when_it_is_named(tmp_path: Path) -> None:
    for checkpoint in ("base", "dpo/checkpoint-5", "dpo/checkpoint-15", "sft/checkpoint-7"):
        write_run(tmp_path, full_run(checkpoint))
    (without,) = facts_of(explore(tmp_path, "--json"))["movements"]
    assert (without["first"], without["last"]) == ("dpo/checkpoint-5", "dpo/checkpoint-15")
    found = facts_of(explore(tmp_path, "--base", "base", "--json"))["movements"]
    assert [(one["series"], one["first"], one["last"]) for one in found] == [
        ("dpo", "base", "dpo/checkpoint-15"), ("sft", "base", "sft/checkpoint-7"),
    ]  # fmt: skip
    shown = explore(tmp_path, "--base", "base", "--series", "sft")
    assert "base to sft/checkpoint-7" in shown.output and "dpo" not in shown.output
    assert explore(tmp_path, "--base", "bas").exit_code == 2
