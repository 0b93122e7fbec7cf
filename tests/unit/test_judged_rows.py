"""``score`` with a judge: asked only where the official code asks a model, in order, every failure visible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from judge_server import JudgeServer, running
from judged_data import METRIC_INFO, judge_answer

from specs_eval.cli.score import score
from specs_eval.tasks.mathvista.judge_prompt import extraction_prompt

VISTA = {
    "benchmark": "mathvista",
    "model": "m",
    "question": "Which?",
    "question_type": "multi_choice",
    "answer_type": "text",
    "choices": ["cat", "dog"],
    "gold": "dog",
    "precision": None,
}

MEGA = {
    "benchmark": "megabench",
    "model": "m",
    "question": "number",
    "gold": {"name": "n0", "why": "gold"},
    "metric_config": METRIC_INFO,
    "eval_context": {},
}


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as ready:
        ready.answer = judge_answer
        yield ready


def run(tmp_path: Path, server: JudgeServer, rows: list[dict[str, Any]], *more: str) -> tuple[Result, list[Any]]:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--judge", server.url, "--judge-model", "m", "--from", "response"]
    result = CliRunner().invoke(score, [str(source), "-o", str(target), *options, *more])
    return result, [json.loads(line) for line in target.read_text().splitlines()]


def vista(text: str, **more: Any) -> dict[str, Any]:
    return {**VISTA, "sample_id": text, "response": text, **more}


def mega(number: int) -> dict[str, Any]:
    answer = {"name": "n0", "why": f"because 0.{number % 10} {number}"}
    return {**MEGA, "sample_id": str(number), "response": json.dumps(answer)}


def test_mathvista_asks_only_where_the_official_code_asks_a_model(tmp_path: Path, server: JudgeServer) -> None:
    texts = ("dog", "", "surely it is a dog", "cat", "I think not")
    result, rows = run(tmp_path, server, [vista(text) for text in texts], "--json", "--judge-price", "1000000", "0")
    assert result.exit_code == 0, result.output
    assert [row["score"] for row in rows] == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert rows[2]["rule"] == "official: judge m, choice"
    assert sorted(prompt.rsplit("\n\n", 2)[1] for prompt in server.prompts) == ["I think not", "surely it is a dog"]
    facts = json.loads(result.stdout)["judge"]
    assert facts["completion_tokens"] == 2 and facts["amount"] == 14.0 and "url" not in facts
    assert "2 questions, 0 answered before, 0 failed, 2 requests, 14 + 2 tokens, cost 14.0000" in result.stderr


def test_recorded_extractions_are_not_asked_for_again(tmp_path: Path, server: JudgeServer) -> None:
    recorded = vista("surely it is a dog", official_extraction="cat")
    _, rows = run(tmp_path, server, [recorded], "--from", "auto")
    assert rows[0]["score"] == 0.0 and server.bodies == []
    _, rows = run(tmp_path, server, [recorded], "--from", "extraction")
    assert rows[0]["score"] == 0.0 and server.bodies == []
    _, rows = run(tmp_path, server, [recorded])
    assert rows[0]["score"] == 1.0 and len(server.bodies) == 1


def test_rows_of_all_kinds_keep_their_order(tmp_path: Path, server: JudgeServer) -> None:
    server.seconds = 0.002
    rows: list[dict[str, Any]] = []
    for number in range(60):
        rows += [mega(number), vista(f"it is a {'dog' if number % 3 else 'cat'} {number}"), {"benchmark": "none"}]
    result, scored = run(tmp_path, server, rows, "--judge-concurrency", "5", "--workers", "1")
    assert result.exit_code == 3 and server.most_busy <= 5
    assert [row["sample_id"] for row in scored] == [str(row.get("sample_id", "")) for row in rows]
    assert [row["score"] for row in scored[::3]] == [pytest.approx((1 + number % 10 / 10) / 2) for number in range(60)]
    assert [row["score"] for row in scored[1::3]] == [float(bool(number % 3)) for number in range(60)]
    again, same = run(tmp_path, server, rows, "--workers", "2")
    assert same == scored and again.exit_code == 3


def test_rows_that_the_judge_fails_on_are_unscored(tmp_path: Path, server: JudgeServer) -> None:
    server.plan = [403, 403]
    result, (first, second) = run(tmp_path, server, [vista("a dog it is"), mega(1)], "--judge-concurrency", "1")
    assert result.exit_code == 3 and first["score"] is second["score"] is None
    assert "HTTP 403" in first["reason"] and "HTTP 403" in second["reason"]
    assert first["rule"] == second["rule"] == "judge failed" and second["field_scores"] == {"name": 1.0, "why": None}


def test_the_official_prompt() -> None:
    text = extraction_prompt("Q", "R")
    assert text.startswith("Please read the following example.") and text.endswith("\n\nQ\n\nR\n\nExtracted answer: ")
    assert text.count("Extracted answer:") == 6
