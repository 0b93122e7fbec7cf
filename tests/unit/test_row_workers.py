"""Several processes: the same scored rows in the same order, also when a process dies."""

import os
import signal
import sys

import pytest
from click.testing import CliRunner

from specs_eval.cli.score import score
from specs_eval.tasks import rows as scorers
from specs_eval.tasks.megabench.rows import score_row
from specs_eval.tasks.row_workers import CHUNK_ROWS, RowRules, RowWorkers
from specs_eval.tasks.rows import encode_scored

POEM = "The cat sat on the mat.\nA dog ran by."


def row(number: int, metric: str, response: str, gold: str = "A", **more: object) -> dict[str, object]:
    return {
        "benchmark": "megabench",
        "model": f"m{number % 2}",
        "sample_id": str(number),
        "response": f"Answer: {response}",
        "gold": {"answer": gold},
        "metric_config": {
            "field_score_function": {"answer": metric},
            "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
            "response_parse_function": "answer_string",
        },
        **more,
    }


def mixed_rows(n: int) -> list[dict[str, object]]:
    """Rows whose scores need nothing, word lists, and a program that may not run."""
    kinds = [
        lambda i: row(i, "exact_str_match", "AB"[i % 2]),
        lambda i: row(i, "constrained_generation", POEM, eval_context={"contain": ["[cat]", "[pig]"][i % 2]}),
        lambda i: row(i, "jaccard_index", f"['a', {i % 5}]", "['a', 1]"),
        lambda i: row(i, "latex_expr_equality", f"{i % 4} + 1", "1 + 2"),
        lambda i: row(i, "program_judge", "print(1)"),
        lambda i: row(i, "exact_str_match", "\ud800\x00"),
    ]
    return [kinds[number % len(kinds)](number) for number in range(n)]


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_scores_are_those_of_one_process_in_the_order_of_the_rows(n_processes: int) -> None:
    rows = mixed_rows(10 * CHUNK_ROWS + 5)
    expected = [encode_scored(score_row(each)) for each in rows]
    with RowWorkers(n_processes, RowRules()) as workers:
        assert [encode_scored(each) for each in workers.score(rows)] == expected
        backwards = [encode_scored(each) for each in workers.score(rows[::-1])]
        assert workers.score([]) == []
    assert backwards[::-1] == expected


def test_the_rules_reach_the_processes() -> None:
    silent = row(0, "set_precision", "[]", "['a']")
    with RowWorkers(2, RowRules(profile="reasoning")) as workers:
        assert [each.score for each in workers.score([silent] * 3)] == [0.0] * 3
    with RowWorkers(2, RowRules()) as workers:
        assert [each.score for each in workers.score([silent] * 3)] == [1.0] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="the scorer is replaced before a fork")
@pytest.mark.parametrize("fate", ["dies", "hangs"])
def test_rows_of_a_process_that_dies_are_scored_by_another_and_the_deadly_one_has_a_reason(
    monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    def deadly(row, **options):  # type: ignore[no-untyped-def]
        if row["sample_id"] == "30":
            if fate == "hangs":
                signal.pause()
            os.kill(os.getpid(), signal.SIGKILL)
        return score_row(row, **options)

    if fate == "hangs":
        monkeypatch.setattr("specs_eval.tasks.row_workers.MAX_SECONDS", 2.0)

    monkeypatch.setattr(scorers, "score_row", deadly)
    rows = [row(number, "exact_str_match", "A") for number in range(3 * CHUNK_ROWS)]
    with RowWorkers(2, RowRules()) as workers:
        scored = workers.score(rows)
        processes = [worker.process for worker in workers._workers]
    assert [each.score for each in scored] == [None if number == 30 else 1.0 for number in range(len(rows))]
    assert scored[30].sample_id == "30" and "died" in (scored[30].reason or "")
    assert not any(process.is_alive() for process in processes)


def test_the_command_writes_the_same_file_whatever_the_workers(tmp_path, monkeypatch):
    import json

    monkeypatch.setattr("specs_eval.cli.score.MIN_ROWS_FOR_WORKERS", 10)
    monkeypatch.setattr("specs_eval.cli.score.BLOCK_ROWS", 100)
    lines = [json.dumps(each) for each in mixed_rows(330)]
    lines[5] = "{not json"
    lines[7] = json.dumps({"benchmark": "mmmu", "response": "B", "choices": ["x", "y"], "gold": "B"})
    (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    written = []
    for workers in ("1", "2", "4"):
        target = tmp_path / f"scored{workers}.jsonl"
        result = CliRunner().invoke(score, [str(tmp_path / "rows.jsonl"), "-o", str(target), "--workers", workers])
        assert result.exit_code == 3, result.output  # the programs and the broken line have no score
        written.append(target.read_bytes())
    assert len(written[0].splitlines()) == 330 and len(set(written)) == 1
