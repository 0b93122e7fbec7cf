"""Tasks, core, open and overall, breakdowns: closed forms, and the published figures when they are at hand."""

import json
from pathlib import Path

import pytest

from specs_eval.tasks.megabench.aggregation import TaskResult, summarize, summarize_benchmark, task_kind, task_result
from specs_eval.tasks.megabench.breakdown import CORE_CATEGORIES, TaskCard, breakdown, core_categories, task_cards

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "public"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published figures are not here")


def test_a_query_that_does_not_count_adds_nothing_but_stays_in_the_number():
    result = task_result("t", "rule", [1.0, -1.0, 0.5, None])
    assert (result.score, result.total, result.n_queries, result.n_scored) == (0.5, 1.5, 4, 3)
    assert task_result("t", "rule", [None]).score is None


def test_macro_weighs_tasks_and_micro_weighs_queries():
    tasks = [
        task_result("a", "rule", [1.0]),
        task_result("b", "rule", [0.0, 0.0, 0.0]),
        task_result("c", "llm", [None]),
    ]
    whole = summarize_benchmark(tasks)
    assert (whole.core.macro, whole.core.micro) == (0.5, 0.25)
    assert (whole.open.macro, whole.open.coverage) == (None, 0.0)
    assert (whole.overall.macro, whole.overall.n_tasks) == (0.5, 3)
    assert summarize([]).macro is None


def test_kinds():
    assert task_kind({"a": "exact_str_match"}) == "rule"
    assert task_kind({"a": "exact_str_match", "b": "gpt_4o_as_judge"}) == "llm"


def test_breakdown_counts_a_task_under_each_of_its_skills():
    cards = {
        "a": TaskCard("rule", {"skills": ("s", "t"), "app": ("Coding",)}),
        "b": TaskCard("llm", {"skills": ("s",)}),
    }
    tasks = [
        task_result("a", "rule", [1.0, 0.0]),
        task_result("b", "llm", [1.0]),
        task_result("no card", "rule", [1.0]),
    ]
    groups = breakdown(tasks, cards)
    assert groups["skills"]["s"].score == 0.75
    assert groups["skills"]["s"].n_samples == 5
    assert groups["skills"]["t"].n_tasks == 1
    assert list(core_categories(tasks, cards)) == ["Coding"]


def test_cards_cover_the_benchmark():
    cards = task_cards()
    assert len(cards) == 505
    assert sum(card.kind == "rule" for card in cards.values()) == 440
    assert {app for card in cards.values() for app in card.keywords["app"]} == set(CORE_CATEGORIES)


@needs_shared
def test_published_breakdowns_are_reproduced():
    runs = {}
    for line in (SHARED / "megabench_task_results.jsonl").read_text().splitlines():
        row = json.loads(line)
        n, score = row["num_query"], row["official_task_score"]
        result = TaskResult(row["task_name"], row["eval_type"], score, score * n, n, n, row["num_demo"])
        runs.setdefault(row["run"], []).append(result)
    expected = json.loads((SHARED / "megabench_breakdown_expected.json").read_text())
    assert set(expected) == set(runs)
    for run, figures in expected.items():
        whole, groups = summarize_benchmark(runs[run]), breakdown(runs[run])
        summary = figures["model_summary"]
        for part, ours in (("core", whole.core), ("open", whole.open)):
            assert ours.macro == pytest.approx(summary[part]["macro_mean_score"], abs=1e-9)
            assert (ours.n_tasks, ours.n_queries) == (
                summary[part]["num_eval_tasks"],
                summary[part]["num_eval_samples"],
            )
        assert whole.overall.macro == pytest.approx(summary["overall_score"], abs=1e-9)
        for dimension, keywords in figures["keyword_stats"].items():
            assert set(groups[dimension]) == set(keywords)
            for keyword, facts in keywords.items():
                ours = groups[dimension][keyword]
                assert (ours.n_tasks, ours.n_samples) == (facts["count"], facts["num_samples"])
                assert ours.score == pytest.approx(facts["average_score"], abs=1e-9)


@needs_shared
def test_recorded_open_run_is_reproduced():
    from specs_eval.tasks.megabench.rows import score_row

    expected = json.loads((SHARED / "megabench_aggregates.json").read_text())["Grok-2-vision-1212"]
    scores = {}
    with (SHARED / "megabench.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["kind"] == "recorded_open":
                scores.setdefault(row["task_name"], []).append(score_row(row).score)
    tasks = [task_result(name, "llm", of_task) for name, of_task in scores.items()]
    means = {task.name: task.score for task in tasks}
    assert means == pytest.approx(expected["recorded_open_task_means"], abs=1e-6)
    whole = summarize_benchmark(tasks).open
    assert whole.macro == pytest.approx(expected["recorded_open_macro"], abs=1e-6)
    assert whole.micro == pytest.approx(expected["recorded_open_micro"], abs=1e-6)
