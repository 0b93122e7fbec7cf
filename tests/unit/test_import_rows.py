"""Plain rows of sample id and score into the store, and everything that may be wrong with them."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.errors import ConfigError
from specs_eval.importing.imported import ImportOptions
from specs_eval.importing.plain_rows import imported_rows
from specs_eval.importing.scores import number
from specs_eval.store import RunStore, StoredRun


def specs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(names)
        writer.writerows([["" if row.get(name) is None else row[name] for name in names] for row in rows])
    return path


def run_import(tmp_path: Path, path: Path, *more: str) -> Result:
    return specs("import", path, "--store", tmp_path / "runs", *more)


def stored(tmp_path: Path) -> list[StoredRun]:
    return RunStore.open(tmp_path / "runs").runs()


ROWS = [
    {
        "checkpoint": f"dpo/checkpoint-{step}",
        "task": "specs_mine",
        "sample_id": f"q{question}",
        "rollout": rollout,
        "score": score,
        "response": f'say "{score}", then\nstop',
        "answer": str(score),
        "target": "1",
        "prompt": f"Question {question}?",
        "group": f"image{question // 2}",
        "category_kind": "even" if question % 2 == 0 else "odd; prime",
        "metric_format": 1,
    }
    for step in (5, 10)
    for question in range(3)
    for rollout, score in enumerate((0, 1, 0.5))
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_all_columns_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"rows{suffix}", ROWS)
    for expected in ("imported", "already in the store"):
        result = run_import(tmp_path, path)
        assert result.exit_code == 0 and expected in result.output, result.output
    runs = {run.manifest.checkpoint.step: run for run in stored(tmp_path)}
    assert sorted(runs) == [5, 10] and {run.manifest.task for run in runs.values()} == {"mine"}
    assert len({run.manifest.task_version for run in runs.values()}) == 1
    manifest = runs[5].manifest
    assert manifest.n_samples == 3 and manifest.n_rollouts == 3 and manifest.backend == "imported/rows"
    assert set(manifest.sampling.model_dump().values()) == {None}
    rows = runs[5].table().to_pylist()
    assert [row["score"] for row in rows] == [0, 1, 0.5] * 3
    assert rows[0]["response"] == 'say "0", then\nstop' and rows[0]["target"] == "1" and rows[0]["group"] == "image0"
    assert json.loads(rows[3]["category"]) == {"kind": "odd; prime"} and rows[0]["metric_format"] == 1
    assert runs[5].samples()["q2"].prompt == "Question 2?"
    frame = load_runs(tmp_path / "runs")
    assert frame["temperature"].dtype == "float64" and frame["seed"].dtype == "Int64"
    assert frame[["temperature", "seed", "entropy"]].isna().all(axis=None)
    part = specs("gf", "--id", "mine[kind=even]", "--ood", "mine[kind=prime]", "--store", tmp_path / "runs", "--json")
    assert part.exit_code == 0, part.output


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffsample_id,acc\r\n1,100\r\n2,\r\n3,nan\r\n", encoding="utf-8")
    options = ("--task", "t", "--checkpoint", "base", "--score-key", "acc", "--scale", "100")
    assert run_import(tmp_path, path, *options).exit_code == 0
    (run,) = stored(tmp_path)
    rows = run.table().to_pylist()
    assert [row["score"] for row in rows] == [1, None, None]
    assert [row["reason"] for row in rows] == [None, "the log has no acc", "acc is NaN in the log"]


def test_rows_of_specs_eval_score(tmp_path: Path) -> None:
    row = {
        "benchmark": "mathvista", "model": "gpt", "sample_id": "1", "score": None, "field_scores": {}, "extracted": None,
        "rule": "judge", "reason": "no judge",
    }  # fmt: skip
    path = write_rows(
        tmp_path / "scored.jsonl", [row, row | {"sample_id": "2", "score": 1.0, "extracted": "B", "reason": None}]
    )
    result = run_import(tmp_path, path)
    assert result.exit_code == 0 and "left out" not in result.output
    (run,) = stored(tmp_path)
    rows = run.table().to_pylist()
    assert [(row["score"], row["answer"], row["reason"], row["rule"]) for row in rows] == [
        (None, None, "no judge", "judge"),
        (1.0, "B", None, "judge"),
    ]


def test_categories_as_an_object_or_a_text(tmp_path: Path) -> None:
    rows = [
        {"sample_id": 1, "score": 1, "category": {"skill": "algebra", "grade": 3}},
        {"sample_id": 2, "score": 1, "category": "geometry", "extra": 4},
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    result = run_import(tmp_path, path, "--task", "t", "--checkpoint", "base")
    assert "columns left out: extra" in result.output
    (run,) = stored(tmp_path)
    assert [record.category for record in run.samples().values()] == [
        {"skill": "algebra", "grade": "3"},
        {"category": "geometry"},
    ]


GOOD = {"sample_id": "a", "score": 1, "task": "t", "checkpoint": "c"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sample_id": None}, "no sample_id"),
        ({"sample_id": ["a"]}, "sample_id must be text or a number"),
        ({"task": None}, "add a column task"),
        ({"checkpoint": ""}, "add a column checkpoint"),
        ({"score": "high"}, "score is not a number but 'high'"),
        ({"score": 55}, "--scale 100"),
        ({"score": [1]}, "score is not a number"),
        ({"rollout": 0.5}, "rollout must be a whole number"),
        ({"rollout": -1}, "rollout must lie between"),
        ({"rollout": 1e300}, "rollout must be a whole number"),
        ({"step": "five"}, "step must be a whole number"),
        ({}, "has rollout 0 twice"),
        ({"rollout": 1, "target": "other"}, "the rollouts of a sample must agree"),
        ({"sample_id": "b", "step": 7}, "another series or step"),
        ({"sample_id": "b", "metric_f": 3}, "metric_f is 3, outside [0, 1]"),
        ({"sample_id": "b", "group": {"x": 1}}, "group must be text"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, GOOD | row])
    result = run_import(tmp_path, path)
    assert result.exit_code == 2 and f"{path}:2: " in result.output and message in result.output
    assert "Traceback" not in result.output and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", "", "holds no rows"),
        ("r.jsonl", '{"sample_id": 1}\n', ":1: no checkpoint"),
        ("r.csv", "", "must name the columns"),
        ("r.csv", "a,a\n1,2\n", "each once"),
        ("r.csv", "sample_id;score\n1;1\n", "between a semicolon, and a .csv file is read with a comma"),
        ("r.csv", "sample_id\tscore\n1\t1\n", "between a tab, and a .csv file"),
        ("r.tsv", "sample_id,score\n1,1\n", "between a comma, and a .tsv file is read with a tab"),
        ("r.csv", "sample_id,score\n1\n", ":2: 1 cells under 2 columns"),
        ("r.csv", 'sample_id,score\n"1,2\n', "cannot read"),
        ("r.csv", "sample_id,points,task,checkpoint\n1,1,t,c\n", "no score; name the column"),
        ("r.parquet", "PAR1", "not .jsonl, .json, .csv or .tsv"),
        ("r.json", "[]", "no list of samples"),
        ("r.json", "{", "cannot read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    result = run_import(tmp_path, path)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file or folder" in run_import(tmp_path, tmp_path / "nowhere.csv").output


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.importing.reading.MAX_LINE_BYTES", 1000)
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, GOOD | {"sample_id": "b", "response": "x" * 2000}])
    result = run_import(tmp_path, path)
    assert result.exit_code == 2 and ":2: the line is longer" in result.output


@given(st.one_of(st.floats(), st.integers(), st.booleans()))
def test_numbers_are_read_from_text_as_from_json(value: float) -> None:
    read, direct = number(str(value)), number(value)
    if isinstance(value, int) and abs(value) > 10**300:
        return
    assert read is not None and direct is not None
    assert read == direct or (math.isnan(read) and math.isnan(direct))


@given(st.text())
def test_text_that_is_no_number_is_none(text: str) -> None:
    found = number(text)
    if found is not None:
        assert text.strip().lower() in ("true", "false") or float(text) == found or math.isnan(found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = (
    "score",
    "task",
    "checkpoint",
    "rollout",
    "response",
    "answer",
    "target",
    "category",
    "group",
    "step",
    "metric_a",
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({"sample_id": VALUES}, optional=dict.fromkeys(NAMES, VALUES)), max_size=4))
def test_any_rows_are_imported_or_refused_in_words(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            logs = imported_rows(path, ImportOptions(checkpoint="c", task="t"))
        except ConfigError as error:
            assert str(path) in str(error)
        else:
            scores = [rollout.score for log in logs for rollout in log.rollouts]
            assert len(scores) == len(rows)
            assert all(score is None or 0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_that_are_not_utf8_are_refused_before_ids_change(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    lines = ("sample_id,score,checkpoint,task", "caf\xe9,1,c,t", "caf\xe8,0,c,t")
    path.write_text("\n".join(lines).replace(",", "\t" if suffix == ".tsv" else ","), encoding="latin-1")
    result = run_import(tmp_path, path)
    assert result.exit_code == 2 and "it is not UTF-8" in result.output and "save it as UTF-8" in result.output
    assert not (tmp_path / "runs").exists()


def test_imports_of_partly_the_same_samples_compare_where_asked(tmp_path: Path) -> None:
    def rows(checkpoint: str, numbers: range, **more: Any) -> list[dict[str, Any]]:
        facts = {"checkpoint": checkpoint, "task": "t"}
        return [{**facts, "sample_id": f"q{n}", "prompt": f"Question {n}?", "score": n % 2, **more} for n in numbers]

    everything = [*rows("a", range(8)), *rows("b", range(3, 10)), *rows("c", range(8), prompt="Another?")]
    run_import(tmp_path, write_rows(tmp_path / "rows.jsonl", everything))
    other = [{**row, "mark": row["score"]} for row in rows("d", range(8))]
    run_import(tmp_path, write_rows(tmp_path / "other.jsonl", other), "--score-key", "mark")

    def compare(candidate: str, *more: str) -> Result:
        return specs("compare", "a", candidate, "--store", tmp_path / "runs", "--permutations", "99", *more)

    refused = " ".join(compare("b").output.split())
    assert compare("b").exit_code == 3 and "use those that both have with --overlap" in refused
    allowed = compare("b", "--overlap", "--json")
    assert allowed.exit_code == 0, allowed.output
    answer = json.loads(allowed.stdout)
    assert answer["tasks"][0]["difference"]["n_samples"] == 5
    assert "t: only the 5 samples that both answered are used, of 10" in answer["notes"]
    # An overlap never makes comparable what was asked otherwise, or scored otherwise.
    asked = compare("c", "--overlap")
    assert asked.exit_code == 3 and "differ in the prompt of 8 of 8 samples" in " ".join(asked.output.split())
    scored = compare("d", "--overlap")
    assert scored.exit_code == 3 and "with the same --score-key" in " ".join(scored.output.split())


def test_a_check_takes_the_common_samples_of_imports(tmp_path: Path) -> None:
    rows = [
        {"checkpoint": name, "task": "t", "sample_id": f"q{n}", "prompt": f"Question {n}?", "score": n % 3 > 0}
        for name, numbers in (("a", range(300)), ("b", range(20, 320)))
        for n in numbers
    ]
    run_import(tmp_path, write_rows(tmp_path / "rows.jsonl", rows))
    policy = tmp_path / "policy.toml"
    policy.write_text('[[gates]]\ntask = "t"\nmetric = "score"\nmax_drop = 0.1\n')
    asked = ("check", "--store", tmp_path / "runs", "--policy", policy, "--baseline", "a", "--candidate", "b")
    refused, allowed = specs(*asked), specs(*asked, "--overlap")
    assert refused.exit_code == 3 and "with --overlap" in " ".join(refused.output.split())
    assert allowed.exit_code == 0, allowed.output
