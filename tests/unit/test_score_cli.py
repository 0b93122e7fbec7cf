"""``specs-eval score``: rows in, scored rows out, in order, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from specs_eval.cli.score import score
from specs_eval.cli.score_tables import summary
from specs_eval.cli.score_totals import Totals
from specs_eval.tasks.rows import ScoredRow, score_row

SHARED = Path(__file__).parents[3] / "shared/data"

MV = {
    "benchmark": "mathvista",
    "model": "m",
    "sample_id": "1",
    "question_type": "multi_choice",
    "answer_type": "text",
    "choices": ["cat", "dog", "horse"],
    "gold": "dog",
    "meta": {"skills": ["logic", "algebra"], "task": "t"},
}
MM = {
    "benchmark": "mmmu",
    "model": "m",
    "sample_id": "validation_Art_1",
    "question_type": "multiple-choice",
    "choices": ["w", "x", "y", "z"],
    "gold": "B",
    "meta": {"subject": "Art"},
}


def run(tmp_path: Path, lines: list[str], *options: str) -> tuple[int, list[dict[str, Any]], str]:
    source, target = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    source.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    result = CliRunner().invoke(score, [str(source), "-o", str(target), *options])
    scored = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    return result.exit_code, scored, result.output


def test_rows_are_scored_in_order_with_all_columns(tmp_path: Path) -> None:
    rows = [{**MV, "response": "dog"}, {**MM, "response": "(A)"}, {**MV, "sample_id": "2", "response": "cat"}]
    code, scored, _ = run(tmp_path, [json.dumps(row) for row in rows])
    assert code == 0
    assert [row["sample_id"] for row in scored] == ["1", "validation_Art_1", "2"]
    assert [row["score"] for row in scored] == [1.0, 0.0, 0.0]
    columns = {"benchmark", "model", "sample_id", "score", "field_scores", "extracted", "rule", "reason"}
    assert all(columns <= set(row) for row in scored)


def test_auto_scores_rules_from_the_response_and_the_rest_from_what_was_recorded() -> None:
    asked_a_model = {**MV, "response": "I would say the dog.", "official_extraction": "A"}
    assert score_row(asked_a_model).score == 0.0
    assert score_row(asked_a_model, source="response").score == 1.0
    assert score_row(asked_a_model, source="extraction").score == 0.0
    by_rule = {**MV, "response": "dog", "official_extraction": "dog"}
    assert score_row(by_rule).rule == "official: choice, choice"
    assert score_row({**by_rule, "official_extraction": "cat"}).score == 0.0, "that run asked a model here too"
    without = {**MV, "response": "dog"}
    assert score_row(without).score == 1.0 and score_row(without, source="extraction").score is None
    executed = {**MV, "response": "print('dog')", "execution": "dog", "response_label": "execution"}
    assert score_row(executed).score == 1.0
    assert score_row({**MV, "official_extraction": "B"}).score == 1.0, "no response at all"


def test_which_parser_a_row_asks_for() -> None:
    row = {**MM, "response": "B. yes"}
    assert score_row(row).score == 0.0 and score_row(row).metrics["chance_credit"] == 0.25
    for mark in ({"metric": "mmmu_pro_multiple_choice"}, {"benchmark": "mmmu_pro"}, {"parser": "mmmu-pro/evaluate.py"}):
        assert score_row({**row, **mark}).score == 1.0
    opened = {**MM, "question_type": "short-answer", "choices": None, "gold": ["4", "four"], "response": "it is four"}
    assert score_row(opened).score == 1.0
    assert score_row({**opened, "official_extraction": [4.0]}, source="extraction").score == 1.0
    assert score_row(row, profile="reasoning").score == 1.0
    assert score_row({**MM, "response": {"error": "timeout"}}).score == 0.0


def mega(task: str, name: str, answer: str) -> str:
    config = {
        "field_score_function": {"answer": "exact_str_match"},
        "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
        "response_parse_function": "answer_string",
    }
    facts = {"benchmark": "megabench", "model": "m", "sample_id": name, "task_name": task, "metric_config": config}
    return json.dumps({**facts, "gold": {"answer": "A"}, "response": f"Answer: {answer}"})


def test_megabench_is_broken_down_over_its_tasks(tmp_path: Path) -> None:
    lines = [mega("Ad_count_detection", f"a{number}", "A" if number < 3 else "B") for number in range(4)]
    lines += [
        mega("GUI_Act_Mobile_swipe", "g", "B"),
        mega("GUI_Act_Mobile_swipe", "g", "A"),
        mega("unlisted", "u", "A"),
    ]
    code, _, output = run(tmp_path, lines, "--json")
    (facts,) = json.loads(output)["models"]
    assert code == 0 and facts["mean"] == pytest.approx(5 / 7)
    overall, by = facts["overall"], facts["categories"]
    assert overall["macro"]["value"] == pytest.approx((0.75 + 0.5 + 1) / 3) and overall["n_tasks"] == 3
    assert overall["micro"]["value"] == pytest.approx((3 + 0.5 + 1) / 6), "two rows of one sample are two rollouts"
    assert {value: one["macro"]["value"] for value, one in by["app"].items()} == {"Perception": 0.75, "Planning": 0.5}
    assert by["skills"]["Spatial and Temporal Reasoning"]["n_tasks"] == 1 and by["kind"]["rule"]["n_tasks"] == 2
    assert by["task"]["unlisted"]["n_samples"] == 1
    _, _, shown = run(tmp_path, lines, "--breakdown")
    assert "megabench m: app" in shown and "Macro %" in shown and "Planning" in shown


def test_a_query_that_does_not_count_adds_nothing(tmp_path: Path) -> None:
    totals = Totals()
    for score_of_row in (1.0, -1.0, None):
        totals.add({"task_name": "t"}, ScoredRow("megabench", "m", str(score_of_row), score_of_row))
    facts = summary(totals, tmp_path, "auto", "official")["models"][0]
    assert (facts["sum"], facts["n"], facts["n_unscored"]) == (1.0, 2, 1)
    assert facts["overall"]["macro"]["value"] == 0.5


BAD = [
    "{not json",
    "[1, 2]",
    '"text"',
    "[" * 100_000,
    json.dumps({"benchmark": "gsm8k", "response": "1"}),
    json.dumps({**MV, "choices": None, "response": "dog"}),
    json.dumps({**MV, "question_type": ["x"], "response": "dog"}),
    json.dumps({**MV, "answer_type": 3, "response": "dog"}),
    json.dumps({**MV, "precision": "two", "response": "dog"}),
    json.dumps({**MV, "response": 3}),
    json.dumps({**MV}),
    json.dumps({**MM, "gold": None, "response": "A"}),
    json.dumps({**MM, "gold": {"a": 1}, "response": "A"}),
    json.dumps({**MM, "choices": [], "response": "A"}),
    '{"benchmark": "mathvista", "gold": ' + "9" * 5_000 + "}",
    "{}",
]


def test_bad_rows_have_no_score_but_a_reason_and_the_rest_is_scored(tmp_path: Path) -> None:
    lines = [json.dumps({**MV, "response": "dog"}), *BAD, json.dumps({**MM, "response": "B"})]
    code, scored, output = run(tmp_path, lines)
    assert code == 3
    assert [row["score"] for row in scored] == [1.0, *[None] * len(BAD), 1.0]
    assert all(row["reason"] for row in scored[1:-1])
    assert scored[1]["reason"].startswith("line 2: not a JSON object")
    assert "rows.jsonl:2:" in output


def test_blank_lines_surrogates_and_odd_names_are_survived(tmp_path: Path) -> None:
    row = {**MV, "model": ["\ud800", 1], "sample_id": None, "response": "dog\ud800\x00"}
    code, scored, _ = run(tmp_path, ["", json.dumps(row), "  "])
    assert code == 0 and len(scored) == 1


def test_json_has_totals_metrics_and_categories(tmp_path: Path) -> None:
    rows = [{**MV, "response": text} for text in ("dog", "cat", "", "I cannot tell")]
    rows += [{**MM, "response": text} for text in ("B", "hmm")]
    code, _, output = run(tmp_path, [json.dumps(row) for row in rows], "--json", "--from", "response")
    assert code == 0
    facts = json.loads(output)
    mathvista, mmmu = facts["models"]
    assert (mathvista["sum"], mathvista["n"], mathvista["coverage"]) == (1.0, 4, 1.0)
    assert mathvista["categories"]["skills"]["logic"]["n"] == 4
    assert mathvista["metrics"]["no_answer"]["sum"] == 2.0
    assert mmmu["categories"]["domain"]["Art and Design"]["mean"] == 0.5
    assert mmmu["metrics"]["chance_credit"]["sum"] == 0.25
    assert mmmu["interval"][0] < 0.5 < mmmu["interval"][1]


def test_the_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    missing = CliRunner().invoke(score, [str(tmp_path / "no.jsonl"), "-o", str(tmp_path / "out.jsonl")])
    assert missing.exit_code != 0 and not (tmp_path / "out.jsonl").exists()
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({**MV, "response": "dog"}) + "\n")
    same = CliRunner().invoke(score, [str(source), "-o", str(source)])
    assert same.exit_code != 0 and json.loads(source.read_text())["response"] == "dog"
    nowhere = CliRunner().invoke(score, [str(source), "-o", str(tmp_path / "a/b.jsonl")])
    assert nowhere.exit_code != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_scoring_imports_no_torch_and_no_lmms_eval(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({**row, "response": "B"}) + "\n" for row in (MV, MM)))
    code = (
        "import sys\nfrom specs_eval.cli.score import score\n"
        f"score([{str(source)!r}, '-o', {str(tmp_path / 'o.jsonl')!r}], standalone_mode=False)\n"
    )
    check = (
        "\nimport atexit\natexit.register(lambda: print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'lmms_eval', 'transformers', 'pandas', 'pyarrow'})))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", "import sys" + check + code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().endswith("[]")


@pytest.mark.skipif(not SHARED.exists(), reason="the public outputs are not here")
def test_public_rows_and_their_totals(tmp_path: Path) -> None:
    for name in ("mathvista", "mmmu"):
        target = tmp_path / f"{name}.jsonl"
        result = CliRunner().invoke(score, [str(SHARED / f"public/{name}.jsonl"), "-o", str(target), "--json"])
        assert result.exit_code == 0
        parity = subprocess.run(
            [sys.executable, str(SHARED / "check_parity.py"), str(target), "--benchmark", name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert parity.returncode == 0, parity.stdout[-2000:]
        expected = json.loads((SHARED / f"public/{name}_aggregates.json").read_text())
        draws = random_credit(SHARED / f"public/{name}.jsonl")
        for model in json.loads(result.output)["models"]:
            want = expected[model["model"]]
            assert model["n"] == want["n"]
            drawn = sum(draws.get((model["model"], "", ""), [0.0]))
            assert (model["sum"] + drawn) / model["n"] == pytest.approx(want["mean_score"], abs=1e-6)
            for dimension, values in model["categories"].items():
                for value, total in values.items():
                    if dimension in want:
                        drawn = sum(draws.get((model["model"], dimension, value), [0.0]))
                        assert [total["sum"] + drawn, total["n"]] == want[dimension][value]


def random_credit(path: Path) -> dict[tuple[str, str, str], list[float]]:
    """What the official draws earned, by model and category: the aggregates hold it, our scores do not."""
    credit: dict[tuple[str, str, str], list[float]] = {}
    for line in path.open(encoding="utf-8"):
        row = json.loads(line)
        if row.get("random_fallback"):
            keys = [("", ""), *((name, str(value)) for name, value in row["meta"].items())]
            for dimension, value in keys:
                credit.setdefault((row["model"], dimension, value), []).append(row["official_score"])
    return credit
