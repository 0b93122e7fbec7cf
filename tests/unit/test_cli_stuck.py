"""``specs-eval stuck`` over real stores with known numbers: figures, refusals, exit codes, output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from stored_runs import FakeRun, write_run

from specs_eval.cli import main
from specs_eval.cli.chosen_runs import Choice
from specs_eval.cli.stuck import show
from specs_eval.cli.stuck_answer import Question, answer_stuck

ID, OOD = "easyvqa_formats_id", "easyvqa_formats_ood"
STYLES = ("boxed", "json")


def stuck(store: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["stuck", "--store", str(store), "--bootstrap", "200", *more])


def facts_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return facts


def run_of(task: str, checkpoint: str, modes: Sequence[str], k: int = 5, **options: Any) -> FakeRun:
    """A run whose samples always give one answer each; "gold" is right. OOD: every question under two formats."""
    styles = STYLES if task == OOD else ("think_answer",)
    answers: list[list[str | None]] = [[mode] * k for mode in modes for _ in styles]
    right = np.array([[float(answer == "gold") for answer in row] for row in answers])
    locked = np.zeros_like(right)
    locked[:, 0] = 1
    metrics = {"accuracy": right, "format": np.ones_like(right) - locked}
    if task == OOD:
        metrics["lock_in"] = locked
    return FakeRun(
        task,
        metrics["format"],
        checkpoint,
        [f"q{i}/{style}" for i in range(len(modes)) for style in styles],
        [f"q{i}" for i in range(len(modes)) for _ in styles],
        metrics,
        answers,
        [{"format": style} for _ in modes for style in styles],
        **options,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    modes = {5: "aabgggg", 10: "abbgggg", 15: "agbaggg"}
    for step, letters in modes.items():
        answers = ["gold" if letter == "g" else letter for letter in letters]
        write_run(tmp_path, run_of(ID, f"dpo/checkpoint-{step}", answers))
        write_run(tmp_path, run_of(OOD, f"dpo/checkpoint-{step}", answers[::-1]))
    return tmp_path


def test_all_four_definitions(store: Path) -> None:
    facts = facts_of(stuck(store, "--id", ID, "--ood", OOD, "--json"))
    assert (facts["command"], facts["mode_share"], facts["seed"]) == ("stuck", 0.8, 0)
    one, other = facts["series"]
    assert (one["task"], other["task"], one["metric"]) == (ID, OOD, "accuracy")
    assert [point["wrong_mode"]["value"] for point in one["points"]] == pytest.approx([3 / 7, 3 / 7, 3 / 7])
    assert [point["wrong_mode"]["n_samples"] for point in other["points"]] == [14] * 3
    first = {name: value for name, value in one["transitions"][0].items() if name != "persistence"}
    assert first == {
        "before": "dpo/checkpoint-5", "after": "dpo/checkpoint-10", "before_step": 5, "after_step": 10, "stuck_same": 2,
        "stuck_other": 1, "unstuck_solved": 0, "unstuck_other": 0, "newly_stuck": 0, "never": 4, "unjudged": 0,
    }  # fmt: skip
    assert one["transitions"][1]["unstuck_solved"] == one["transitions"][1]["newly_stuck"] == 1
    assert one["transitions"][0]["persistence"]["value"] == pytest.approx(2 / 3)
    assert one["transitions"][0]["persistence"]["interval"]["method"] == "wilson"
    assert one["persistence"]["value"] == pytest.approx(4 / 6)
    changed, trained = other["points"][0]["lock_in"], one["points"][0]["lock_in"]
    assert changed["changed"] and not trained["changed"]
    assert changed["trained"]["value"] == pytest.approx(0.2) and changed["neither"]["value"] == pytest.approx(0)
    assert trained["trained"]["value"] == pytest.approx(0.8) and trained["neither"]["value"] == pytest.approx(0.2)
    listed = one["points"][2]["samples"]
    assert [(row["sample_id"], row["answer"], row["streak"], row["target"]) for row in listed] == [
        ("q0/think_answer", "a", 3, "gold"), ("q2/think_answer", "b", 3, "gold"), ("q3/think_answer", "a", 1, "gold"),
    ]  # fmt: skip
    gaps = {(gap["step"], gap["measure"]): gap for gap in facts["gaps"]}
    assert len(gaps) == 3 * 3 - 1, "no persistence at the last"
    assert gaps[5, "trained_format"]["difference"]["value"] == pytest.approx(-0.6)
    assert gaps[5, "wrong_mode"]["difference"]["value"] == pytest.approx(0)
    assert gaps[5, "wrong_mode"]["difference"]["interval"]["n_draws"] == 200


def test_on_screen(store: Path) -> None:
    shown = stuck(store, "--id", ID, "--ood", OOD, "--list", "2")
    assert shown.exit_code == 0 and "\x1b" not in shown.output
    for text in (
        f"{ID}, series dpo  (correct = accuracy >= 1)", "Wrong mode %", "Lock-in %", "Persistence %", "Newly stuck",
        "66.7 % [", "of 6 stuck samples", "q0/think_answer", "5 of 5", "OOD - ID (points)", "-60.0 [", "seed 0",
        "Stuck at dpo/checkpoint-15: 2 of 3",
    ):  # fmt: skip
        assert text in shown.output, text
    assert "q3/think_answer" not in shown.output and "Stuck at" not in stuck(store, "--list", "0").output


def test_every_task_and_parts_of_one(store: Path) -> None:
    everything = facts_of(stuck(store, "--json"))
    assert [one["task"] for one in everything["series"]] == [ID, OOD] and everything["gaps"] == []
    part = facts_of(stuck(store, "--tasks", "formats_ood[format=json]", "--json"))
    (one,) = part["series"]
    assert one["task"] == f"{OOD}[format=json]" and one["points"][0]["wrong_mode"]["n_samples"] == 7
    pair = ("--id", f"{OOD}[format=json]", "--ood", f"{OOD}[format=boxed]", "--json")
    assert all(gap["difference"]["value"] == 0 for gap in facts_of(stuck(store, *pair))["gaps"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--id", ID), 2, "name both --id and --ood"),
        (("--id", ID, "--ood", OOD, "--tasks", ID), 2, "--tasks alone"),
        (("--id", ID, "--ood", ID), 2, "are both"),
        (("--tasks", "formats_od"), 2, f"did you mean {OOD}?"),
        (("--tasks", f"{OOD}[format=xml]"), 2, "it has: boxed, json"),
        (("--series", "dpp"), 2, "did you mean dpo?"),
        (("--metric", "style"), 2, "it has: score, accuracy"),
        (("--mode-share", "0.4"), 2, "above 0.5"),
        (("--threshold", "nan"), 2, "threshold"),
        (("--list", "-1"), 2, "--list"),
        (("--base", "bse"), 2, "it has: dpo/checkpoint-5"),
        (("--id", OOD, "--ood", f"{OOD}[format=json]"), 2, "share 7 samples"),
        (("--id", f"{OOD}[format=js]", "--ood", f"{OOD}[format=json]"), 2, f"are both {OOD}[format=json]"),
    ],
)
def test_wrong_questions(store: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = stuck(store, *arguments)
    assert result.exit_code == code and message in result.output and "Traceback" not in result.output


def test_a_checkpoint_with_one_of_the_tasks_is_left_out(store: Path) -> None:
    write_run(store, run_of(ID, "dpo/checkpoint-20", ["gold"] * 7))
    facts = facts_of(stuck(store, "--id", ID, "--ood", OOD, "--json"))
    assert len(facts["series"][0]["points"]) == 3
    assert facts["notes"] == [f"dpo/checkpoint-20 is left out: it has no run of {OOD}"]
    write_run(store, run_of("other", "sft/checkpoint-1", ["gold"] * 7))
    result = stuck(store, "--id", ID, "--ood", "other")
    assert result.exit_code == 3 and "no checkpoint with runs of both" in result.output


def test_other_samples_need_permission(store: Path) -> None:
    write_run(store, run_of(ID, "dpo/checkpoint-20", ["a", "gold", "b"], complete=False))
    refused = stuck(store, "--tasks", ID)
    assert refused.exit_code == 3 and "not complete: dpo/checkpoint-20" in refused.output
    write_run(store, run_of(ID, "dpo/checkpoint-20", ["a", "gold", "b"]))
    refused = stuck(store, "--tasks", ID)
    assert refused.exit_code == 3 and "answered different samples" in refused.output
    assert "(3 and 7, 3 common" in refused.output and "Traceback" not in refused.output
    facts = facts_of(stuck(store, "--tasks", ID, "--allow-incomplete", "--json"))
    assert [point["wrong_mode"]["n_samples"] for point in facts["series"][0]["points"]] == [3] * 4
    assert facts["notes"] == [f"{ID}: only the 3 samples that all checkpoints answered are used, of 7"]


def test_runs_that_do_not_compare(store: Path) -> None:
    write_run(store, run_of(ID, "dpo/checkpoint-5", ["gold"] * 7, seed=3))
    refused = stuck(store, "--tasks", ID)
    assert refused.exit_code == 3 and "differ in seed" in refused.output
    assert stuck(store, "--tasks", ID, "--select", "seed=0").exit_code == 0
    write_run(store, run_of(ID, "dpo/checkpoint-20", ["gold"] * 7, temperature=0.5))
    refused = stuck(store, "--tasks", ID, "--select", "seed=0")
    assert refused.exit_code == 3 and "temperature (0.5 or 1.0)" in refused.output


def test_nothing_to_be_stuck_in(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("plain", np.array([[1.0], [0.0]]), answers=[["x"], ["y"]]))
    single = stuck(tmp_path)
    assert single.exit_code == 3 and "specs-eval run --rollouts 8 --temperature 1" in single.output
    (point,) = json.loads(stuck(tmp_path, "--json").stdout)["series"][0]["points"]
    assert point["wrong_mode"]["value"] is None and point["samples"] == []
    write_run(tmp_path, FakeRun("silent", np.zeros((3, 4))))
    assert "no rollout has an extracted answer" in stuck(tmp_path, "--tasks", "silent").output
    write_run(tmp_path, FakeRun("lost", np.full((3, 4), np.nan)))
    lost = stuck(tmp_path, "--tasks", "lost")
    assert lost.exit_code == 3 and "no rollout was scored" in lost.output and "Unscored" in lost.output


def test_failed_rollouts_count_nowhere(tmp_path: Path) -> None:
    run = run_of(ID, "dpo/checkpoint-5", ["a", "gold", "b"])
    run.scores[0, :2] = np.nan
    run.scores[2, :4] = np.nan
    write_run(tmp_path, run)
    (point,) = facts_of(stuck(tmp_path, "--json"))["series"][0]["points"]
    assert point["wrong_mode"]["n_samples"] == 2 and point["wrong_mode"]["n_unscored"] == 6
    assert [(row["sample_id"], row["n_rollouts"]) for row in point["samples"]] == [("q0/think_answer", 3)]


def test_what_makes_shares_hard_to_read_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, run_of(ID, "dpo/checkpoint-5", ["a", "gold"], temperature=0.0))
    write_run(tmp_path, run_of(ID, "dpo/checkpoint-10", ["a", "gold"], k=3, temperature=0.0))
    notes = facts_of(stuck(tmp_path, "--json"))["notes"]
    assert "temperature 0" in notes[0] and "3 to 5 rollouts a sample" in notes[1]


def test_answers_drive_no_terminal(tmp_path: Path) -> None:
    write_run(tmp_path, run_of(ID, "dpo/checkpoint-5", ["\x1b[2J\u202eevil[bold]" + "x" * 100, "gold"]))
    shown = stuck(tmp_path).output
    assert "\x1b" not in shown and "\u202e" not in shown and "?[2J?evil[bold]xx" in shown and "x" * 41 not in shown


def test_the_answer_is_a_function_of_the_question(store: Path) -> None:
    question = Question(store, id_task=ID, ood_task=OOD, choice=Choice(series=("dpo",)))
    assert answer_stuck(question) == answer_stuck(question)


def test_the_base_is_the_first_point_of_every_series(store: Path) -> None:
    write_run(store, run_of(ID, "base", ["a"] * 4 + ["gold"] * 3))
    write_run(store, run_of(ID, "sft/checkpoint-8", ["gold"] * 7))
    facts = facts_of(
        stuck(store, "--tasks", f"{ID},{OOD}", "--base", "base", "--series", "sft", "--series", "dpo", "--json")
    )
    assert facts["base"] == "base"
    steps = {(one["series"], one["task"]): [point["step"] for point in one["points"]] for one in facts["series"]}
    assert steps == {("dpo", ID): [0, 5, 10, 15], ("sft", ID): [0, 8], ("dpo", OOD): [5, 10, 15]}
    assert facts["notes"] == [f"base, the base, has no run of {OOD}"]
    first = facts["series"][0]["transitions"][0]
    assert (first["before"], first["before_step"], first["stuck_same"], first["unstuck_solved"]) == ("base", 0, 2, 1)
    shown = stuck(store, "--tasks", ID, "--base", "base", "--series", "sft").output
    assert f"{ID}, series sft from base (step 0)" in shown
    alone = facts_of(stuck(store, "--tasks", ID, "--base", "base", "--series", "base", "--json"))
    assert [len(one["points"]) for one in alone["series"]] == [1]


def test_a_run_that_holds_nothing_yet_is_named(store: Path) -> None:
    write_run(store, FakeRun(ID, np.empty((0, 1)), "dpo/checkpoint-20", complete=False))
    result = stuck(store, "--tasks", ID, "--allow-incomplete")
    assert result.exit_code == 3 and "dpo-checkpoint-20" in result.output and "holds no rollouts yet" in result.output


def test_a_narrow_terminal_gets_the_compact_layout(store: Path) -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        show(answer_stuck(Question(store, id_task=ID, ood_task=OOD)), 2, console)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "OOD - ID (points)" in text and "Persistence %" in text and "Newly stuck" not in text
