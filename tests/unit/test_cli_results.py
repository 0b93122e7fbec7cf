"""``specs-eval results`` and what ``run`` ends with: the papers' tables, missing answers, coverage, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import Parrot, write_checkpoint
from stored_runs import FakeRun, write_run

from specs_eval.cli import main
from specs_eval.tasks.megabench.breakdown import CORE_CATEGORIES, task_cards
from specs_eval.tasks.mmmu.subjects import DOMAINS
from specs_eval.tasks.paper_tables import paper_tables

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "public"
NAN = float("nan")


def specs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def column(values: Sequence[float]) -> Any:
    return np.array(values, dtype=float)[:, None]


def results(store: Path, *more: str | Path) -> str:
    result = specs("results", "--store", store, *more)
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(store: Path, *more: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(results(store, "--json", *more))
    return whole


def write_mathvista(root: Path, checkpoint: str = "dpo/checkpoint-5", **more: Any) -> None:
    categories = [
        {"task": "math word problem", "skills": "algebraic reasoning; statistical reasoning", "grade": "college"},
        {"task": "math word problem", "skills": "algebraic reasoning", "grade": "high school"},
        {"task": "visual question answering", "skills": "numeric commonsense", "grade": "college"},
        {"task": "visual question answering", "skills": "numeric commonsense", "grade": "college"},
    ]
    metrics = {"no_answer": column([0, 0, 1, NAN]), "free_credit": column([0.5, 0, 0, NAN])}
    run = FakeRun("mathvista", column([1, 0, 0, NAN]), checkpoint, metrics=metrics, categories=categories, **more)
    write_run(root, run)


def row_of(text: str, first: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.split()[: len(first.split())] == first.split())
    return line.split()[len(first.split()) :]


def test_mathvista_as_in_the_paper(tmp_path: Path) -> None:
    write_mathvista(tmp_path)
    text = results(tmp_path)
    by_task, by_skill = text.partition("MathVista by task, %")[2].split("MathVista by skill, %")
    assert by_task.split()[:7] == ["Checkpoint", "All", "FQA", "GPS", "MWP", "TQA", "VQA"]
    assert row_of(by_task, "dpo/checkpoint-5") == ["33.3", "50.0", "0.0"]
    assert row_of(by_skill, "dpo/checkpoint-5") == ["33.3", "50.0", "0.0", "100.0"]
    score, answers = text.split("MathVista by task")[0].split("Percent with 95 % intervals")
    cells = row_of(score, "dpo/checkpoint-5 mathvista")
    assert cells[0] == "33.3" and cells[-4:] == ["3", "x", "1", "1"] and "Unscored" in score
    assert "no_answer" not in score, "answers are counted in a table of their own"
    assert row_of(answers, "dpo/checkpoint-5 mathvista") == ["1", "(33.3", "%)", "+16.67"]
    assert "Free credit: points in the score" in answers and "Chance credit" not in answers


def test_all_categories_with_n_unscored_and_coverage(tmp_path: Path) -> None:
    write_mathvista(tmp_path)
    text = results(tmp_path, "--categories")
    grades = text.partition("score by grade")[2]
    assert grades.split()[:6] == ["grade", "%", "n", "Unscored", "Coverage", "%"]
    college = row_of(grades, "college")
    assert college[0] == "50.0" and college[-3:] == ["3", "1", "66.7"]
    assert text.index("score by task") < text.index("score by skills") < text.index("score by grade")


def test_json_has_every_category_with_interval_n_unscored_and_coverage(tmp_path: Path) -> None:
    write_mathvista(tmp_path)
    (run,) = facts(tmp_path)["runs"]
    entries = {(one["dimension"], one["value"]): one for one in run["categories"]}
    assert {dimension for dimension, _ in entries} == {"task", "skills", "grade"}
    college = entries["grade", "college"]
    assert college["n_samples"] == 3 and college["n_unscored"] == 1 and college["macro"] is None
    assert college["coverage"] == pytest.approx(2 / 3) and college["metric"] == "score"
    assert college["micro"]["value"] == 0.5 and 0 <= college["micro"]["interval"]["low"] < 0.5
    assert college["micro"]["interval"]["level"] == 0.95
    assert entries["skills", "algebraic reasoning"]["n_samples"] == 2
    assert run["answers"]["no_answer"] == {"mean": pytest.approx(1 / 3), "total": 1.0, "n_rollouts": 3}
    assert run["overall"]["coverage"] == 0.75 and run["n_failed"] == 1 and run["metrics"]["score"]["value"]


def test_mmmu_by_domain_and_subject_with_chance_credit(tmp_path: Path) -> None:
    subjects = [(domain, subject) for domain, subjects in DOMAINS.items() for subject in subjects]
    categories = [{"domain": domain, "subject": subject} for domain, subject in subjects]
    scores = [float(domain == "Science") for domain, _ in subjects]
    metrics = {"chance_credit": column([0.25] * len(subjects))}
    write_run(tmp_path, FakeRun("mmmu", column(scores), metrics=metrics, categories=categories))
    text = results(tmp_path, "--categories")
    table = text.partition("MMMU by domain, %")[2]
    assert table.split()[:8] == ["Checkpoint", "All", "Art", "Business", "Science", "Health", "Human.", "Tech"]
    assert row_of(table, "dpo/checkpoint-5") == ["16.7", "0.0", "0.0", "100.0", "0.0", "0.0", "0.0"]
    assert all(subject in text for _, subject in subjects) and "+25.00" in text


def write_megabench(root: Path, task: str = "megabench") -> list[str]:
    """Three tasks of different sizes: 4 queries right, 1 wrong, 1 half right and 1 unscored."""
    kind = "rule" if task == "megabench" else "llm"
    app = "Coding" if kind == "rule" else "Perception"
    names = [name for name, card in task_cards().items() if card.kind == kind and app in card.keywords["app"]][:3]
    queries = [names[0]] * 4 + [names[1]] + [names[2]] * 2
    categories = [
        {"task": name, "kind": kind}
        | {dimension: "; ".join(values) for dimension, values in task_cards()[name].keywords.items()}
        for name in queries
    ]
    coverage = {"coverage": column([1, 1, 1, 1, 1, 0.5, NAN])}
    run = FakeRun(task, column([1, 1, 1, 1, 0, 0.5, NAN]), metrics=coverage, categories=categories, groups=queries)
    write_run(root, run)
    return names


def test_megabench_headline_is_the_mean_over_tasks(tmp_path: Path) -> None:
    names = write_megabench(tmp_path)
    text = results(tmp_path)
    table = text.partition("MEGA-Bench by application (means over tasks), %")[2]
    assert table.split()[:4] == ["Checkpoint", "Macro", "Micro", "Know"]
    assert row_of(table, "dpo/checkpoint-5") == ["50.0", "75.0", "50.0"]
    assert row_of(text.partition("Percent with")[2], "dpo/checkpoint-5 megabench") == [f"{100 * 5.5 / 7:.1f}"]
    (run,) = facts(tmp_path, "--categories")["runs"]
    assert run["overall"]["macro"]["value"] == 0.5 and run["overall"]["micro"]["value"] == 0.75
    assert run["overall"]["n_tasks"] == 3 and run["overall"]["coverage"] == pytest.approx(5.5 / 7)
    tasks = {one["value"]: one["macro"]["value"] for one in run["categories"] if one["dimension"] == "task"}
    assert tasks == dict(zip(names, (1.0, 0.0, 0.5), strict=True))


def test_open_megabench_tasks_by_application_too(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("megabench_open", column([1.0]), categories=[{"task": "t", "app": "Perception"}]))
    assert "MEGA-Bench by application" in results(tmp_path)


def test_core_and_open_together_are_the_whole_benchmark(tmp_path: Path) -> None:
    write_megabench(tmp_path)
    assert "Whole benchmarks" not in results(tmp_path) and facts(tmp_path)["benchmarks"] == []
    write_megabench(tmp_path, "megabench_open")
    text = results(tmp_path).partition("Whole benchmarks")[2]
    cells = row_of(text, "dpo/checkpoint-5 megabench + megabench_open")
    assert cells[0] == "50.0" and cells[-3:] == ["6", "14", "78.6"]
    (whole,) = facts(tmp_path)["benchmarks"]
    assert whole["macro"]["value"] == 0.5 and whole["micro"]["value"] == 0.75
    assert (whole["n_tasks"], whole["n_samples"], whole["macro"]["n_samples"]) == (6, 14, 6)


def test_an_imported_run_without_task_names_has_no_macro_mean(tmp_path: Path) -> None:
    write_run(tmp_path, FakeRun("megabench", column([1.0, 0.0]), categories=[{"app": "Coding"}, {}]))
    (run,) = facts(tmp_path)["runs"]
    assert run["overall"]["macro"] is None and run["overall"]["micro"]["value"] == 0.5


def test_paper_tables_hold_all_values_and_no_other() -> None:
    mega, mmmu = paper_tables("megabench"), paper_tables("mmmu_pro_vision_formats_ood")
    assert mega is not None and tuple(mega.headline[0].columns) == CORE_CATEGORIES
    assert mmmu is not None and tuple(mmmu.headline[0].columns) == tuple(DOMAINS)
    assert paper_tables("mathvista_test") is paper_tables("mathvista")
    assert paper_tables("easyvqa") is None and paper_tables("mathvistas") is None


def test_formats_show_format_and_accuracy(tmp_path: Path) -> None:
    categories = [{"format": "json", "kind": "color"}, {"format": "boxed", "kind": "color"}]
    accuracy = {"accuracy": column([0, 1])}
    write_run(tmp_path, FakeRun("easyvqa_formats_ood", column([1, 0]), metrics=accuracy, categories=categories))
    text = results(tmp_path, "--categories")
    assert row_of(text.partition("score by format")[2], "json")[0] == "100.0"
    assert row_of(text.partition("accuracy by format")[2], "json")[0] == "0.0"


def test_choosing_runs_and_parts(tmp_path: Path) -> None:
    write_mathvista(tmp_path)
    write_mathvista(tmp_path, "sft/checkpoint-5")
    write_run(tmp_path, FakeRun("easyvqa", column([1, 0]), complete=False))
    assert "not complete" in specs("results", "--store", tmp_path).output
    assert "easyvqa" in results(tmp_path, "--allow-incomplete")
    text = results(tmp_path, "--tasks", "mathvista[grade=college]", "--series", "sft")
    assert "dpo" not in text and "mathvista[grade=college]" in text
    (run,) = facts(tmp_path, "--tasks", "mathvista[grade=college]", "--series", "sft")["runs"]
    assert run["n_samples"] == 3 and run["task"] == "mathvista[grade=college]"
    assert "no run of task 'mmmu'" in specs("results", "--store", tmp_path, "--tasks", "mmmu").output


def test_names_do_not_drive_the_terminal(tmp_path: Path) -> None:
    run = FakeRun("mathvista", column([1, 0]), categories=[{"task": "\x1b[2J[bold]x", "e\x1bvil": "y"}] * 2)
    write_run(tmp_path, run)
    text = results(tmp_path, "--categories")
    assert "\x1b" not in text and "[bold]x" in text


def test_long_dimensions_only_on_request(tmp_path: Path) -> None:
    categories = [{"image": f"i{place}", "half": str(place % 2)} for place in range(150)]
    write_run(tmp_path, FakeRun("easyvqa", column([1.0] * 150), categories=categories))
    assert {one["dimension"] for one in facts(tmp_path)["runs"][0]["categories"]} == {"half"}
    assert len(facts(tmp_path, "--categories")["runs"][0]["categories"]) == 152


def test_run_ends_with_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: Parrot())
    ckpt = write_checkpoint(tmp_path / "model")
    command = (
        "run",
        "--ckpt",
        ckpt,
        "--tasks",
        "easyvqa",
        "--limit",
        "12",
        "--store",
        tmp_path / "runs",
        "--categories",
    )
    done = specs(*command)
    assert done.exit_code == 0 and "score by kind" in done.stdout and "yes/no" in done.stdout
    assert done.stdout == results(tmp_path / "runs", "--categories")
    run = json.loads(specs(*command, "--json").stdout)["runs"][0]
    assert {one["value"] for one in run["categories"]} <= {"yes/no", "color", "shape"} and run["categories"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published figures are not here")
def test_published_mathvista_and_mmmu_tables(tmp_path: Path) -> None:
    """The official scores of real outputs, imported as rows: sums and numbers of every category as published."""
    for benchmark, model, dimensions in (
        ("mathvista", "bard", ("task", "skills", "context", "grade", "source", "question_type")),
        ("mmmu", None, ("subject",)),
    ):
        published = json.loads((SHARED / f"{benchmark}_aggregates.json").read_text())
        model = model or next(name for name, one in published.items() if "subject" in one)
        rows = tmp_path / f"{benchmark}.jsonl"
        with (SHARED / f"{benchmark}.jsonl").open() as lines, rows.open("w") as written:
            for line in lines:
                row = json.loads(line)
                if row["model"] == model and row["official_score"] is not None:
                    written.write(json.dumps(_plain(row, dimensions)) + "\n")
        assert specs("import", rows, "--store", tmp_path / benchmark).exit_code == 0
        (run,) = facts(tmp_path / benchmark)["runs"]
        assert run["n_samples"] == published[model]["n"]
        found: dict[str, dict[str, list[int]]] = {}
        for one in run["categories"]:
            total = round(one["micro"]["value"] * one["micro"]["n_samples"], 6)
            found.setdefault(one["dimension"], {})[one["value"]] = [total, one["n_samples"]]
        for dimension in set(dimensions) & set(published[model]):
            assert found[dimension] == published[model][dimension]
        assert set(dimensions) & set(published[model])


def _plain(row: dict[str, Any], dimensions: Sequence[str]) -> dict[str, Any]:
    known = row | row["meta"]
    category = {name: known[name] for name in dimensions if known.get(name)}
    category = {name: "; ".join(value) if isinstance(value, list) else value for name, value in category.items()}
    names = {"task": row["benchmark"], "checkpoint": "model"}
    return {"sample_id": row["sample_id"], "score": row["official_score"], "category": category, **names}
