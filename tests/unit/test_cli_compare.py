"""``specs-eval compare`` over real stores with known numbers: figures, refusals, flips, exit codes, output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from stored_runs import FakeRun, write_run

from specs_eval.analysis.pairs import pair_samples
from specs_eval.analysis.stored.reading import read_metric
from specs_eval.analysis.stored.sides import check_questions
from specs_eval.cli import main
from specs_eval.cli.compare import show
from specs_eval.cli.compare_answer import Question, answer_compare
from specs_eval.cli.compare_flips import excerpt
from specs_eval.errors import ComparisonError, SpecsEvalError
from specs_eval.store import StoredRun
from specs_eval.tables import rollout_table

BASE, BETTER = "base", "dpo/checkpoint-20"
N = 100


def compare(store: Path, *arguments: str, sides: tuple[str, str] = (BASE, BETTER)) -> Result:
    return CliRunner().invoke(main, ["compare", *sides, "--store", str(store), *arguments])


def facts_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    facts: dict[str, Any] = json.loads(result.stdout, parse_constant=refuse)
    return facts


def yes_no(n_right: int, flipped: tuple[int, int] = (0, 0)) -> np.ndarray:
    """One rollout for each of N samples: the first n_right are right; (gained at the end, lost at the front) flipped."""
    scores = np.zeros((N, 1))
    scores[:n_right] = 1
    scores[N - flipped[0] :] = 1
    scores[: flipped[1]] = 0
    return scores


def write_pair(store: Path, task: str, before: np.ndarray, after: np.ndarray, **options: Any) -> None:
    """Both checkpoints on a task."""
    for checkpoint, scores in ((BASE, before), (BETTER, after)):
        run = FakeRun(task, scores, checkpoint)
        for name, value in options.items():
            setattr(run, name, value)
        write_run(store, run)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    kinds = [{"kind": "count" if i < 50 else "color", "level": "a; b" if i % 2 else "b"} for i in range(N)]
    write_pair(root, "up", yes_no(50), yes_no(50, (20, 2)), categories=kinds)
    write_pair(root, "down", yes_no(80), yes_no(80, (0, 12)))
    graded = np.random.default_rng(0).integers(0, 2, (N, 4)).astype(float)
    groups = [f"image{i // 2}" for i in range(N)]
    moved = np.where(np.random.default_rng(1).random((N, 4)) < 0.3, 1 - graded, graded)
    write_pair(root, "same", graded, moved, groups=groups)
    for checkpoint in (BASE, BETTER):
        write_run(root, FakeRun("only-" + checkpoint.partition("/")[0], np.ones((4, 1)), checkpoint))
    return root


def test_differences_tests_and_outcomes_by_task(store: Path) -> None:
    facts = facts_of(compare(store, "--json"))
    assert facts["baseline"]["checkpoint"] == BASE and facts["candidate"]["step"] == 20
    by_task = {one["task"]: one for one in facts["tasks"]}
    assert list(by_task) == ["down", "same", "up"]
    up, down, same = by_task["up"], by_task["down"], by_task["same"]
    assert (up["baseline"]["value"], up["candidate"]["value"]) == (0.5, 0.68)
    assert up["difference"]["value"] == pytest.approx(0.18) and up["difference"]["interval"]["method"] == "tango"
    # Exact McNemar of 20 against 2: 2 (1 + 22 + 231) / 2^22.
    assert up["test"]["p"] == pytest.approx(2 * 254 / 2**22) and up["test"]["method"] == "exact McNemar"
    assert down["test"]["p"] == pytest.approx(2 / 2**12) and down["p_adjusted"] == pytest.approx(2 * 2 / 2**12)
    assert up["p_adjusted"] == pytest.approx(3 * 2 * 254 / 2**22)
    assert (up["outcome"], down["outcome"], same["outcome"]) == ("improved", "regressed", "undecided")
    assert same["test"]["method"] == "sign flips, drawn" and same["test"]["seed"] == 0 and same["n_rollouts"] == 4
    assert same["difference"]["n_clusters"] == 50 and same["difference"]["n_samples"] == 100
    assert [up["flips"]["threshold"], len(up["flips"]["gained"]), len(up["flips"]["lost"])] == [0.5, 20, 2]
    assert up["power"]["alpha"] == 0.05 and 0 < up["power"]["minimum_effect"] < 0.18
    assert up["power"]["effect"] == pytest.approx(0.18) and up["power"]["n_samples"] < N
    assert facts["summary"] == f"{BETTER} against {BASE}: 1 improved (up), 1 regressed (down), 1 undecided (same)"
    assert facts["notes"] == [
        "only-base is left out: only base has it",
        "only-dpo is left out: only dpo/checkpoint-20 has it",
    ]


@pytest.mark.parametrize("name", [BETTER, "/models/dpo/checkpoint-20", "dpo/20", "dpo"])
def test_checkpoints_by_name_path_step_or_series(store: Path, name: str) -> None:
    assert facts_of(compare(store, "--json", sides=(BASE, name)))["candidate"]["checkpoint"] == BETTER


def test_swapping_the_sides_changes_the_sign_and_nothing_else(store: Path) -> None:
    there = facts_of(compare(store, "--json"))["tasks"]
    back = facts_of(compare(store, "--json", sides=(BETTER, BASE)))["tasks"]
    for one, other in zip(there, back, strict=True):
        assert one["difference"]["value"] == -other["difference"]["value"]
        assert one["test"] == other["test"] and one["power"] == other["power"]
        assert one["difference"]["interval"]["low"] == pytest.approx(-other["difference"]["interval"]["high"])
        assert {one["outcome"], other["outcome"]} in ({"improved", "regressed"}, {"undecided"})


def test_categories_are_a_family_of_their_own(store: Path) -> None:
    facts = facts_of(compare(store, "--json", "--categories", "--tasks", "up"))
    (up,) = facts["tasks"]
    names = [(one["dimension"], one["value"]) for one in up["categories"]]
    assert names == [("kind", "color"), ("kind", "count"), ("level", "a"), ("level", "b")]
    color, count, some, every = up["categories"]
    assert color["difference"]["value"] == pytest.approx(0.4) and color["difference"]["n_samples"] == 50
    assert count["difference"]["value"] == pytest.approx(-0.04) and some["difference"]["n_samples"] == 50
    assert every["difference"]["n_samples"] == 100, "a sample with two values is in both categories"
    assert up["n_family"] == 1 and {one["n_family"] for one in up["categories"]} == {4}
    assert color["p_adjusted"] == pytest.approx(4 * color["test"]["p"])
    only = facts_of(compare(store, "--json", "--by", "kind"))
    assert [len(one["categories"]) for one in only["tasks"]] == [0, 0, 2]
    shown = compare(store, "--by", "kind").output
    assert "Categories of up" in shown and "kind=color" in shown and "Categories of down" not in shown


def test_parts_of_tasks(store: Path) -> None:
    facts = facts_of(compare(store, "--json", "--tasks", "up[kind=count],up[kind=color],down"))
    assert [one["task"] for one in facts["tasks"]] == ["up[kind=count]", "up[kind=color]", "down"]
    assert facts["tasks"][1]["difference"]["n_samples"] == 50 and facts["tasks"][1]["n_family"] == 3


def test_other_metrics_are_taken_where_both_have_them(store: Path) -> None:
    scores = yes_no(40)
    write_pair(store, "formats", scores, scores, metrics={"accuracy": 1 - scores})
    facts = facts_of(compare(store, "--json", "--metric", "accuracy"))
    assert [one["task"] for one in facts["tasks"]] == ["formats"]
    assert facts["tasks"][0]["baseline"]["value"] == pytest.approx(0.6)
    assert any("up is left out: base on up has no metric 'accuracy'" in note for note in facts["notes"])
    asked = compare(store, "--metric", "accuracy", "--tasks", "up")
    assert asked.exit_code == 2 and "has no metric 'accuracy'; it has: score" in asked.output
    nowhere = compare(store, "--metric", "style")
    assert nowhere.exit_code == 2 and "no task has the metric 'style' in both runs" in nowhere.output


def test_on_screen(store: Path) -> None:
    result = compare(store)
    assert result.exit_code == 0 and "\x1b" not in result.output
    for text in (
        "1 improved (up), 1 regressed (down), 1 undecided (same)",
        "+18.00 [+",
        "-12.00 [-",
        "1.2e-04",
        "3.6e-04",
        "Detectable",
        "exact McNemar",
        "Holm's correction over the tasks",
        "80 % probability",
        "Note: only-base is left out",
    ):
        assert text in result.output, text
    assert "prompt" not in result.output, "flips are listed on request"


@pytest.mark.parametrize(("width", "color"), [(60, False), (80, True), (160, True)])
def test_any_terminal_width_shows_the_differences(store: Path, width: int, color: bool) -> None:
    console = Console(width=width, force_terminal=color, color_system="standard" if color else None, record=True)
    with console.capture() as capture:
        show(answer_compare(Question(store, BASE, BETTER, n_listed=2)), console)
    text = capture.get()
    assert "…" not in text and ("\x1b[" in text) is color
    assert all(number in text for number in ("+18.00", "-12.00", "improved", "regressed", "undecided"))


def test_samples_that_flipped_can_be_looked_at(tmp_path: Path) -> None:
    before, after = np.zeros((3, 4)), np.zeros((3, 4))
    after[0], before[1] = [1, 1, 1, 0], 1
    answers = [["cat", "cat", "dog", None]] * 3
    write_run(tmp_path, FakeRun("t", before, BASE, answers=answers))
    write_run(tmp_path, FakeRun("t", after, BETTER, answers=[["gold", "gold", "gold", "x" * 500]] * 3))
    (task,) = facts_of(compare(tmp_path, "--json"))["tasks"]
    (gained,), (lost,) = task["flips"]["gained"], task["flips"]["lost"]
    assert (gained["sample_id"], gained["change"], gained["prompt"], gained["target"]) == ("s0000", 0.75, "?", "gold")
    first, second = gained["candidate_answers"]
    assert first == {"answer": "gold", "rule": "test", "score": 1.0, "reason": None, "count": 3}
    assert second["answer"].endswith("...") and len(second["answer"]) == 120 and second["score"] == 0
    assert [one["count"] for one in gained["baseline_answers"]] == [2, 1, 1]
    assert gained["baseline_answers"][2]["answer"] is None and lost["sample_id"] == "s0001" and lost["change"] == -1
    shown = compare(tmp_path, "--list", "1").output
    for text in (
        "+ s0000  0.00 -> 0.75",
        "2 x 'cat' (0, test); 'dog' (0, test); no answer (0, test)",
        "target     gold",
    ):
        assert text in shown, text
    assert "1 gained (a change of at least 0.5)" in shown and "- s0001  1.00 -> 0.00" in shown
    strict = facts_of(compare(tmp_path, "--json", "--flip", "1"))["tasks"][0]["flips"]
    assert strict["gained"] == [] and strict["threshold"] == 1


def test_list_shows_so_many_each_way(store: Path) -> None:
    shown = compare(store, "--list", "3", "--tasks", "up").output
    assert shown.count("  + s") == 3 and shown.count("  - s") == 2
    assert "20 gained (a change of at least 0.5, 3 shown)" in shown


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("task_version", "2-def", "specs-eval rescore"),
        ("temperature", 0.5, "--temperature"),
        ("max_new_tokens", 64, "--max-new-tokens"),
        ("backend", "hf/bfloat16", "--dtype"),
    ],
)
def test_runs_whose_scores_mean_something_else_are_refused(
    tmp_path: Path, field: str, value: object, what: str
) -> None:
    write_run(tmp_path, FakeRun("t", yes_no(50), BASE))
    other = FakeRun("t", yes_no(60), BETTER)
    setattr(other, field, value)
    write_run(tmp_path, other)
    result = compare(tmp_path)
    assert result.exit_code == 3 and result.stdout == "" and "Traceback" not in result.output
    assert f"differ in {field} (baseline " in result.output and repr(value) in result.output and what in result.output


def test_imports_of_other_samples_are_not_sent_to_be_scored_again(tmp_path: Path) -> None:
    for name, ids in (("base", range(10)), ("better", range(5, 15))):
        rows = tmp_path / f"{name}.csv"
        rows.write_text("sample_id,score,checkpoint,task\n" + "".join(f"s{i},1,{name},t\n" for i in ids))
        assert CliRunner().invoke(main, ["import", str(rows), "--store", str(tmp_path / "runs")]).exit_code == 0
    result = CliRunner().invoke(main, ["compare", "base", "better", "--store", str(tmp_path / "runs")])
    assert result.exit_code == 3 and "differ in task_version" in result.output
    assert "import logs of the same samples" in result.output and "rescore" not in result.output
    assert "use those that both have with --overlap" in result.output


def test_other_numbers_of_rollouts_are_refused_and_all_fields_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("t", np.ones((5, 2)), BASE))
    write_run(tmp_path, FakeRun("t", np.ones((5, 4)), BETTER, temperature=0.5))
    result = compare(tmp_path)
    assert result.exit_code == 3 and "n_rollouts (baseline 2, candidate 4)" in result.output
    assert "temperature (baseline 1.0, candidate 0.5)" in result.output and "raise the smaller" in result.output


def _edit_samples(run: StoredRun, **facts: str) -> None:
    """Change what a stored run says of its third sample, and finish the table again."""
    path = run.directory / "samples.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[2] |= facts
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    pq.write_table(rollout_table(run.samples(), run.rollouts()), run.directory / "rollouts.parquet")


@pytest.mark.parametrize(("field", "what"), [("prompt_hash", "prompt"), ("target", "target")])
def test_other_questions_under_the_same_ids_are_refused(tmp_path: Path, field: str, what: str) -> None:
    write_run(tmp_path, FakeRun("t", yes_no(50), BASE))
    _edit_samples(write_run(tmp_path, FakeRun("t", yes_no(60), BETTER)), **{field: "f" * 64})
    result = compare(tmp_path)
    assert result.exit_code == 3
    assert f"differ in the {what} of 1 of 100 samples, such as s0002" in result.output


def test_prompts_that_a_run_does_not_know_are_said_and_not_held_against_it(tmp_path: Path) -> None:
    one = write_run(tmp_path, FakeRun("t", yes_no(50), BASE))
    other = write_run(tmp_path, FakeRun("t", yes_no(60), BETTER))
    assert check_questions(one, other) is None
    _edit_samples(other, prompt_hash="")
    note = check_questions(one, other)
    assert note is not None and "does not know its prompts" in note
    assert note in facts_of(compare(tmp_path, "--json"))["notes"]


def test_other_samples_are_refused_unless_the_common_ones_are_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("t", np.ones((6, 1)), BASE))
    write_run(tmp_path, FakeRun("t", np.zeros((4, 1)), BETTER))
    result = compare(tmp_path)
    assert result.exit_code == 3
    assert "t: the runs answered different samples: 4 in common, 2 only in the baseline" in result.output
    facts = facts_of(compare(tmp_path, "--overlap", "--json"))
    assert facts["tasks"][0]["difference"]["n_samples"] == 4
    assert facts["notes"] == ["t: only the 4 samples that both answered are used, of 6"]
    write_run(tmp_path, FakeRun("t", np.zeros((4, 1)), "sft/checkpoint-1", sample_ids=list("abcd")))
    none = compare(tmp_path, "--overlap", sides=(BASE, "sft"))
    assert none.exit_code == 3 and "no sample in common" in none.output


def test_incomplete_runs_need_permission(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("t", yes_no(50), BASE))
    write_run(tmp_path, FakeRun("t", yes_no(60), BETTER, complete=False))
    result = compare(tmp_path)
    assert result.exit_code == 3 and f"not complete: {BETTER} on t" in result.output
    assert facts_of(compare(tmp_path, "--allow-incomplete", "--json"))["tasks"][0]["difference"]["n_samples"] == N


def test_failed_rollouts_leave_their_pair_out_and_are_counted(tmp_path: Path) -> None:
    before, after = yes_no(50), yes_no(60)
    before[:3], after[2:7] = np.nan, np.nan
    write_pair(tmp_path, "t", before, after)
    facts = facts_of(compare(tmp_path, "--json"))
    (task,) = facts["tasks"]
    assert task["n_left_out"] == 7 and task["difference"]["n_samples"] == 93
    assert (task["baseline"]["n_unscored"], task["candidate"]["n_unscored"]) == (3, 5)
    assert task["baseline"]["value"] == pytest.approx(43 / 93) and task["candidate"]["value"] == pytest.approx(53 / 93)
    (note,) = facts["notes"]
    assert note.startswith("t: 7 of 100 samples are left out") and "(3 rollouts of the baseline and 5 of" in note
    assert "Left out" in compare(tmp_path).output


def test_a_difference_that_nobody_can_tell_is_not_a_pass(tmp_path: Path) -> None:
    write_pair(tmp_path, "t", np.full((4, 1), np.nan), np.ones((4, 1)))
    result = compare(tmp_path, "--json")
    assert result.exit_code == 3
    (task,) = json.loads(result.stdout)["tasks"]
    assert task["difference"]["value"] is None and task["test"] is None and task["p_adjusted"] is None
    assert "t: no difference: no sample is scored on both sides" in json.loads(result.stdout)["notes"]
    write_pair(tmp_path, "other", yes_no(50), yes_no(50))
    assert compare(tmp_path).exit_code == 0, "one of two tasks can be compared"


def test_a_run_against_itself_and_the_same_weights_say_so(store: Path) -> None:
    facts = facts_of(compare(store, "--json", sides=(BASE, BASE)))
    assert facts["notes"][0] == "baseline and candidate are the same runs: nothing can differ"
    assert {one["outcome"] for one in facts["tasks"]} == {"undecided"}
    up = facts["tasks"][-1]
    assert up["difference"]["value"] == 0 and up["test"]["p"] == 1
    assert up["difference"]["interval"]["low"] < 0 < up["difference"]["interval"]["high"]
    assert up["power"]["n_samples"] is None and "name an effect" in up["power"]["reason"]


def test_the_same_weights_under_two_names_say_so(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("t", yes_no(50), "one", weights="two"))
    write_run(tmp_path, FakeRun("t", yes_no(60), "onetwo", seed=1))
    facts = facts_of(compare(tmp_path, "--json", sides=("one", "onetwo")))
    assert facts["baseline"]["fingerprint"] == facts["candidate"]["fingerprint"]
    assert facts["notes"][0].startswith("baseline and candidate are the same weights (fingerprint ")
    assert facts["tasks"][0]["difference"]["value"] == pytest.approx(0.1)


def test_what_an_imported_run_does_not_know_is_said_and_not_held_against_it(tmp_path: Path) -> None:
    imported = write_run(tmp_path, FakeRun("t", yes_no(50), BASE, backend="lmms-eval/unknown"))
    write_run(tmp_path, FakeRun("t", yes_no(60), BETTER))
    path = imported.directory / "manifest.json"
    facts = json.loads(path.read_text())
    facts["sampling"] |= {"temperature": None, "seed": None, "stop": None}
    facts["checkpoint"]["fingerprint"] = "imported:" + "0" * 64
    path.write_text(json.dumps(facts))
    found = facts_of(compare(tmp_path, "--json"))
    assert found["tasks"][0]["difference"]["value"] == pytest.approx(0.1)
    assert found["notes"] == ["t: an imported run does not know its temperature, stop, backend: not compared"]
    facts["sampling"]["top_p"] = 0.5
    path.write_text(json.dumps(facts))
    assert "top_p (baseline 0.5, candidate 1.0)" in compare(tmp_path).output, "what it knows counts"


def test_seeds_may_differ(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("t", yes_no(50), BASE, seed=0))
    write_run(tmp_path, FakeRun("t", yes_no(60), BETTER, seed=7))
    assert facts_of(compare(tmp_path, "--json"))["notes"] == ["t: sampled with different seeds (0 and 7)"]


def test_an_overwritten_checkpoint_is_named_by_its_fingerprint(tmp_path: Path) -> None:
    old = write_run(tmp_path, FakeRun("t", yes_no(50), BASE, weights="old"))
    new = write_run(tmp_path, FakeRun("t", yes_no(50, (20, 0)), BASE, weights="new"))
    prints = [run.manifest.checkpoint.fingerprint for run in (old, new)]
    result = compare(tmp_path, sides=(BASE, BASE))
    assert result.exit_code == 2 and "2 checkpoints with different weights" in result.output
    assert all(one[:16] in result.output for one in prints)
    facts = facts_of(compare(tmp_path, "--json", sides=(prints[0][:16], prints[1][:16])))
    assert facts["tasks"][0]["difference"]["value"] == pytest.approx(0.2) and facts["notes"] == []


def test_several_runs_of_a_task_must_be_told_apart(store: Path) -> None:
    write_pair(store, "up", yes_no(50), yes_no(70), temperature=0.0)
    result = compare(store, "--tasks", "up")
    assert result.exit_code == 3 and "differ in temperature (0.0 or 1.0)" in result.output
    facts = facts_of(compare(store, "--tasks", "up", "--select", "temperature=0", "--json"))
    assert facts["tasks"][0]["difference"]["value"] == pytest.approx(0.2)


def test_planning_for_an_effect(store: Path) -> None:
    (small,) = facts_of(compare(store, "--tasks", "up", "--effect", "0.02", "--json"))["tasks"]
    (large,) = facts_of(compare(store, "--tasks", "up", "--effect", "0.02", "--power", "0.95", "--json"))["tasks"]
    assert small["power"]["effect"] == 0.02 and small["power"]["n_samples"] > 1000
    assert large["power"]["n_samples"] > small["power"]["n_samples"]
    assert large["power"]["minimum_effect"] > small["power"]["minimum_effect"]


def test_draws_too_few_for_the_family_are_said(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((N, 1))
    for number in range(6):
        write_pair(tmp_path, f"t{number}", values, np.clip(values + 0.2, 0, 1))
    facts = facts_of(compare(tmp_path, "--permutations", "100", "--json"))
    assert {one["outcome"] for one in facts["tasks"]} == {"undecided"}
    assert any("100 sign flips cannot bring a p value below" in note and "120" in note for note in facts["notes"])
    assert {one["outcome"] for one in facts_of(compare(tmp_path, "--json"))["tasks"]} == {"improved"}


@pytest.mark.parametrize(
    ("arguments", "sides", "code", "message"),
    [
        ((), (BASE, "nothing"), 2, "'nothing' is not in the store; it has: base, dpo/checkpoint-20"),
        (("--tasks", "only-base"), (BASE, BETTER), 2, "dpo/checkpoint-20 has no run of 'only-base'; it has: down"),
        (("--tasks", "up[kind=shape]"), (BASE, BETTER), 2, "has no kind 'shape'"),
        (("--by", "subject"), (BASE, BETTER), 2, "no task that is compared has a dimension 'subject'; they have: kind"),
        (("--level", "95"), (BASE, BETTER), 2, "level must lie between 0 and 1"),
        (("--power", "0.2"), (BASE, BETTER), 2, "power must lie"),
        (("--effect", "2"), (BASE, BETTER), 2, "0.02 for two points"),
        (("--flip", "0"), (BASE, BETTER), 2, "above 0"),
        (("--list", "-1"), (BASE, BETTER), 2, "--list takes"),
        (("--permutations", "3"), (BASE, BETTER), 2, "100 to 1,000,000 draws"),
        (("--seed", "-1"), (BASE, BETTER), 2, "seed must be >= 0"),
        (("--select", "color=red"), (BASE, BETTER), 2, "FIELD one of task_version"),
    ],
)
def test_wrong_questions_are_answered_with_what_to_write(
    store: Path, arguments: tuple[str, ...], sides: tuple[str, str], code: int, message: str
) -> None:
    result = compare(store, *arguments, sides=sides)
    assert result.exit_code == code, result.output
    assert message in result.output and "Traceback" not in result.output and result.stdout == ""


def test_checkpoints_without_a_common_task(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("a", np.ones((3, 1)), BASE))
    write_run(tmp_path, FakeRun("b", np.ones((3, 1)), BETTER))
    result = compare(tmp_path)
    assert result.exit_code == 3 and "base has a; dpo/checkpoint-20 has b" in result.output


def test_a_series_with_several_steps_is_ambiguous(store: Path) -> None:
    write_run(store, FakeRun("up", yes_no(70), "dpo/checkpoint-40"))
    result = compare(store, sides=(BASE, "dpo"))
    assert (
        result.exit_code == 2 and "matches several checkpoints: dpo/checkpoint-20, dpo/checkpoint-40" in result.output
    )


def test_texts_from_a_store_do_not_drive_the_terminal(tmp_path: Path) -> None:
    evil = "evil\x1b[31m[bold]/checkpoint-1"
    write_run(tmp_path, FakeRun("t", np.zeros((4, 1)), BASE, answers=[["\x1b]0;title\x07"]] * 4))
    write_run(tmp_path, FakeRun("t", np.ones((4, 1)), evil, answers=[["[red]x[/red]\u202e"]] * 4))
    result = compare(tmp_path, "--list", "9", sides=(BASE, evil))
    assert result.exit_code == 0 and not {"\x1b", "\x07", "\u202e"} & set(result.output)
    assert "evil?[31m[bold]" in result.output and "[red]x[/red]" in result.output


def test_excerpts_are_bounded_and_on_one_line() -> None:
    assert excerpt(" a\n\tb ", 10) == "a b"
    assert excerpt("x" * 11, 10) == "xxxxxxx..." and excerpt("x" * 10, 10) == "x" * 10
    assert len(excerpt("word " * 10**6, 240)) <= 240 and excerpt(" " * 99 + "end", 10).endswith("...")


def test_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(SpecsEvalError):
        answer_compare(Question(tmp_path, BASE, BETTER))


def test_the_pieces_are_there_for_reports_and_gates(store: Path) -> None:
    answer = answer_compare(Question(store, BASE, BETTER, tasks="up"))
    assert answer.of_outcome("improved") == ["up"] and answer.tasks[0].details.gained == ()
    one, other = (
        next(run for run in side.runs if run.manifest.task == "up") for side in (answer.baseline, answer.candidate)
    )
    pairs = pair_samples(read_metric(one, "score"), read_metric(other, "score"))
    assert len(pairs.sample_ids) == N
    with pytest.raises(ComparisonError):
        pair_samples(read_metric(one, "score"), read_metric(answer.baseline.runs[-2], "score"))


def test_nothing_heavy_is_imported(store: Path) -> None:
    heavy = ("torch", "transformers", "pandas", "scipy", "plotly", "lmms_eval", "PIL", "safetensors")
    code = (
        "import sys; from specs_eval.cli import main\n"
        f"main({['compare', BASE, BETTER, '--list', '2', '--by', 'kind', '--store', str(store)]!r}, standalone_mode=False)\n"
        f"print('IMPORTED', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
