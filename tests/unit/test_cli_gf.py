"""``specs-eval gf`` over real stores with known numbers: figures, refusals, exit codes, output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gf_stores import ID, OOD, facts_of, gf, pair
from rich.console import Console
from stored_runs import FakeRun, write_run

from specs_eval.analysis.generalization import generalization_factor
from specs_eval.analysis.resampling import Resampling
from specs_eval.cli.charts import Line, curve_chart, print_chart
from specs_eval.cli.gf_answer import Question, answer_gf
from specs_eval.cli.gf_show import show
from specs_eval.errors import SpecsEvalError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    pair(root, "base", 0.4, 0.1)
    for step, id_share, ood_share in ((20, 0.95, 0.8), (5, 0.9, 0.2), (10, 0.95, 0.5)):
        pair(root, f"dpo/checkpoint-{step}", id_share, ood_share)
    pair(root, "sft/checkpoint-5", 0.95, 0.05)
    return root


def test_series_in_step_order_over_a_base(store: Path) -> None:
    facts = facts_of(gf(store, "--base", "base", "--json"))
    assert (facts["gain"], facts["base"], facts["beta"], facts["seed"]) == ("difference", "base", 2.0, 0)
    assert [one["series"] for one in facts["series"]] == ["dpo", "sft"]
    points = facts["series"][0]["points"]
    assert [(point["step"], point["is_base"]) for point in points] == [(0, True), (5, False), (10, False), (20, False)]
    last = points[-1]
    assert last["id"]["value"] == pytest.approx(0.95) and last["ood"]["value"] == pytest.approx(0.8)
    assert last["gf"] == pytest.approx(generalization_factor(0.55, 0.7))
    assert last["interval"]["low"] < last["gf"] < last["interval"]["high"]
    assert last["interval"]["n_draws"] == 200 and last["id"]["n_samples"] == 20 and last["ood"]["n_samples"] == 60
    assert last["ood"]["n_clusters"] == 10 and last["id_run"].startswith("dpo-checkpoint-20--easyvqa_formats_id--")
    assert facts["series"][1]["points"][1]["regressed"] == ["ood"]


def test_readings_metrics_and_task_spellings(store: Path) -> None:
    by_score = facts_of(gf(store, "--json", "--series", "dpo", tasks=("specs_formats_id", "formats_ood")))
    assert by_score["gain"] == "score" and by_score["id_task"] == ID
    assert by_score["series"][0]["points"][-1]["gf"] == pytest.approx(generalization_factor(0.95, 0.8))
    room = facts_of(gf(store, "--json", "--base", "/models/base", "--gain", "normalized", "--beta", "1"))
    assert room["series"][0]["points"][-1]["ood_gain"] == pytest.approx(0.7 / 0.9)
    other = facts_of(gf(store, "--json", "--metric", "accuracy", "--series", "dpo"))
    assert other["series"][0]["points"][-1]["id"]["value"] == pytest.approx(0.05)


def test_on_screen(store: Path) -> None:
    result = gf(store, "--base", "base")
    assert result.exit_code == 0 and "\x1b" not in result.output
    for text in (
        "Series dpo",
        "0 (base)",
        "95.0 [",
        "regressed: OOD",
        "I ID %",
        "OOD weighs 4 times",
        "--gain difference",
    ):
        assert text in result.output, text
    assert (
        "paired" in result.output and "seed 0" in result.output and "points over the base model (base)" in result.output
    )


@pytest.mark.parametrize(("width", "color"), [(60, False), (80, True), (120, True)])
def test_any_terminal_width_shows_every_number(store: Path, width: int, color: bool) -> None:
    question = Question(store, ID, OOD, "base", ("dpo",), "score", None, 2.0, (), False, Resampling(200))
    console = Console(width=width, force_terminal=color, color_system="standard" if color else None, record=True)
    with console.capture() as capture:
        show(answer_gf(question), console)
    text = capture.get()
    assert "…" not in text and ("\x1b[" in text) is color
    assert all(number in text for number in ("95.0", "80.0", "50.0"))


@pytest.mark.parametrize("width", [30, 60, 200])
def test_curves_are_as_wide_as_the_terminal_allows(width: int) -> None:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        print_chart([Line("G", "GF", "", ((0, 0.0), (10, 0.5), (20, 1.0))), Line("X", "none", "", ())], console)
    lines = capture.get().splitlines()
    assert len(lines) == 13 and max(map(len, lines)) == min(width, 70), "eleven rows, none broken; steps; the legend"
    assert "X" not in capture.get()
    with console.capture() as capture:
        print_chart([Line("G", "GF", "", ((5, 0.5),))], console)
    assert capture.get() == "", "a single step is no curve"


def test_a_plain_terminal_gets_plain_characters() -> None:
    line = Line("G", "GF", "green", ((0, 0.0), (10, 0.5), (20, 1.0)))
    ascii_chart = curve_chart([line], unicode=False).plain
    assert ascii_chart.isascii() and ascii_chart.count("G") == 5
    rows = ascii_chart.splitlines()
    assert rows[0].startswith(" 100 |") and rows[0].rstrip().endswith("G") and rows[10].startswith("   0 |G")
    assert rows[11].split() == ["step", "0", "10", "20"]
    assert "⣀" in curve_chart([line]).plain or "⠤" in curve_chart([line]).plain


@pytest.mark.parametrize(
    ("arguments", "tasks", "code", "message"),
    [
        ((), ("formats_idd", OOD), 2, "did you mean easyvqa_formats_id? It has: easyvqa_formats_id"),
        ((), (ID, "mmmu"), 2, "no run of task 'mmmu'"),
        ((), (ID, ID), 2, "both easyvqa_formats_id"),
        (("--series", "dpp"), (ID, OOD), 2, "did you mean dpo? It has: base, dpo, sft"),
        (("--base", "nothing"), (ID, OOD), 2, "base, dpo/checkpoint-5"),
        (("--base", "dpo"), (ID, OOD), 2, "matches several checkpoints: dpo/checkpoint-5, dpo/checkpoint-10"),
        (("--gain", "difference"), (ID, OOD), 2, "name one with --base"),
        (("--metric", "style"), (ID, OOD), 2, "it has: score, accuracy"),
        (("--beta", "0"), (ID, OOD), 2, "beta must lie in"),
        (("--beta", "nan"), (ID, OOD), 2, "beta must lie in"),
        (("--level", "95"), (ID, OOD), 2, "level must lie between 0 and 1"),
        (("--bootstrap", "3"), (ID, OOD), 2, "draws"),
        (("--select", "temperature=0"), (ID, OOD), 2, "have temperature (1.0)"),
        (("--select", "temperature=hot"), (ID, OOD), 2, "temperature is a number"),
        (("--select", "color=red"), (ID, OOD), 2, "FIELD one of task_version"),
        (("--base", "base", "--series", "base"), (ID, OOD), 3, "only the base model has"),
    ],
)
def test_wrong_questions_are_answered_with_what_to_write(
    store: Path, arguments: tuple[str, ...], tasks: tuple[str, str], code: int, message: str
) -> None:
    result = gf(store, *arguments, tasks=tasks)
    assert result.exit_code == code, result.output
    assert message in result.output and "Traceback" not in result.output and result.stdout == ""


def test_no_store_and_an_empty_one(tmp_path: Path) -> None:
    assert "no run store" in gf(tmp_path / "none").output
    (tmp_path / "specs-eval-store.json").write_text('{"schema_version": 1}')
    result = gf(tmp_path)
    assert result.exit_code == 2 and "holds no runs" in result.output


def test_several_runs_of_a_checkpoint_must_be_told_apart(store: Path) -> None:
    pair(store, "dpo/checkpoint-5", 0.5, 0.5, temperature=0.0)
    result = gf(store)
    assert result.exit_code == 3 and "differ in temperature (0.0 or 1.0)" in result.output
    assert "--select temperature=0.0" in result.output
    facts = facts_of(gf(store, "--select", "temperature=1", "--json"))
    assert sum(len(one["points"]) for one in facts["series"]) == 5
    assert gf(store, "--series", "sft").exit_code == 0, "another series is none of its business"


def test_an_overwritten_checkpoint_is_another_checkpoint(store: Path) -> None:
    pair(store, "dpo/checkpoint-5", 0.5, 0.5, weights="new")
    result = gf(store)
    assert result.exit_code == 3 and "differ in fingerprint (" in result.output


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.5), ("max_new_tokens", 64), ("task_version", "2-def")])
def test_a_curve_over_different_settings_is_refused(store: Path, field: str, value: object) -> None:
    pair(store, "dpo/checkpoint-30", 0.9, 0.9, **{field: value})
    result = gf(store, "--series", "dpo")
    assert result.exit_code == 3 and f"differ in {field} (" in result.output and f"--select {field}=" in result.output


def test_id_and_ood_at_different_temperatures_are_refused(tmp_path: Path) -> None:
    scores = np.eye(4)
    write_run(tmp_path, FakeRun(ID, scores, temperature=0.0))
    write_run(tmp_path, FakeRun(OOD, scores, temperature=1.0))
    result = gf(tmp_path)
    assert result.exit_code == 3 and "differ in temperature (0.0 or 1.0)" in result.output


def test_checkpoints_that_lack_a_task_are_named(store: Path) -> None:
    write_run(store, FakeRun(ID, np.ones((4, 2)), "dpo/checkpoint-25"))
    facts = facts_of(gf(store, "--json"))
    assert facts["notes"] == [f"dpo/checkpoint-25 is left out: it has no run of {OOD}"]
    assert "Note: dpo/checkpoint-25 is left out" in gf(store).output
    write_run(store, FakeRun("other", np.ones((4, 2)), "grpo/checkpoint-1"))
    result = gf(store, tasks=(ID, "other"))
    assert result.exit_code == 3 and "no checkpoint with runs of both" in result.output


def test_incomplete_runs_need_permission(store: Path) -> None:
    pair(store, "dpo/checkpoint-30", 0.9, 0.9, n=12, complete=False)
    result = gf(store)
    assert result.exit_code == 3 and f"not complete: dpo/checkpoint-30 on {ID}" in result.output
    facts = facts_of(gf(store, "--allow-incomplete", "--json"))
    assert all(point["id"]["n_samples"] == 12 for one in facts["series"] for point in one["points"])
    assert facts["notes"][0] == "ID: only the 12 samples that all checkpoints answered are used, of 20"


def test_other_samples_do_not_compare(store: Path) -> None:
    pair(store, "dpo/checkpoint-30", 0.9, 0.9, n=12)
    result = gf(store)
    assert result.exit_code == 3 and "answered different ID samples" in result.output


def test_failed_rollouts_are_counted_and_shown(store: Path) -> None:
    values = np.ones((20, 2))
    values[:3] = np.nan
    ids, groups = [f"q{i}/0" for i in range(20)], [f"image{i // 2}" for i in range(20)]
    write_run(store, FakeRun(ID, values, "sft/checkpoint-9", ids, groups))
    oods = [f"q{i}/{style}" for i in range(20) for style in range(3)]
    write_run(store, FakeRun(OOD, np.full((60, 2), np.nan), "sft/checkpoint-9", oods, list(np.repeat(groups, 3))))
    point = facts_of(gf(store, "--series", "sft", "--json"))["series"][0]["points"][-1]
    assert point["id"]["n_unscored"] == 6 and point["id"]["n_samples"] == 17
    assert point["gf"] is None and point["reason"] == "no rollout was scored" and point["ood"]["value"] is None
    shown = gf(store, "--series", "sft").output
    assert "Unscored" in shown and "126" in shown and "no GF: no rollout was scored" in shown


def test_a_gf_that_nobody_has_is_not_a_pass(tmp_path: Path) -> None:
    for task in (ID, OOD):
        write_run(tmp_path, FakeRun(task, np.full((4, 2), np.nan)))
    result = gf(tmp_path)
    assert result.exit_code == 3 and "no GF: no rollout was scored" in result.stdout


def test_names_from_a_store_do_not_drive_the_terminal(tmp_path: Path) -> None:
    for task in (ID, OOD):
        write_run(tmp_path, FakeRun(task, np.eye(4), "evil\x1b[31m[bold]/checkpoint-1"))
    result = gf(tmp_path)
    assert result.exit_code == 0 and "\x1b" not in result.output and "evil?[31m[bold]" in result.output


def test_errors_are_ours(tmp_path: Path) -> None:
    question = Question(tmp_path, ID, OOD, None, (), "score", None, 2.0, (), False, Resampling())
    with pytest.raises(SpecsEvalError):
        answer_gf(question)


@pytest.mark.parametrize("command", [["gf", "--id", ID, "--ood", OOD, "--base", "base"], ["explore"]])
def test_on_a_warm_store_nothing_heavy_is_imported(store: Path, command: list[str]) -> None:
    heavy = ("torch", "transformers", "pandas", "scipy", "plotly", "lmms_eval", "PIL", "safetensors")
    code = (
        "import sys; from specs_eval.cli import main\n"
        f"main({[*command, '--store', str(store)]!r}, standalone_mode=False)\n"
        f"print('IMPORTED', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"
