"""Logs of lmms-eval of every layout, whole and broken, into the store."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from lmms_logs import SAMPLES, sample_02, sample_07, write_log, write_old_log

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.errors import ConfigError
from specs_eval.importing.imported import ImportOptions
from specs_eval.importing.lmms_logs import read_log
from specs_eval.importing.lmms_rows import LogJudge
from specs_eval.importing.lmms_samples import imported_log
from specs_eval.importing.writing import write_log as write_to_store
from specs_eval.store import RunStore
from specs_eval.tasks.mmmu.lmms_log import NOTE, logged_categories, logged_scores

SCORES = (1.0, 0.0, 1.0, 0.0)


def specs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_import(tmp_path: Path, path: Path, *more: str) -> Result:
    return specs("import", path, "--store", tmp_path / "runs", *more)


def stored(tmp_path: Path) -> Any:
    (run,) = RunStore.open(tmp_path / "runs").runs()
    return run


@pytest.mark.parametrize("layout", ["before-0.3", *SAMPLES])
def test_every_layout_comes_to_the_same_run(tmp_path: Path, layout: str) -> None:
    if layout == "before-0.3":
        path = write_old_log(tmp_path / "logs", [sample_02(i, score) for i, score in enumerate(SCORES)])
    else:
        path = write_log(tmp_path / "logs", [SAMPLES[layout](i, score) for i, score in enumerate(SCORES)])
    for _ in range(2):
        result = run_import(tmp_path, path)
        assert result.exit_code == 0, result.output
    assert "already in the store" in result.output
    run = stored(tmp_path)
    manifest, rows = run.manifest, run.table().to_pylist()
    assert run.complete and manifest.backend == f"imported/lmms-eval-{layout}" and manifest.task == "toy"
    names = manifest.checkpoint
    assert (names.name, names.series, names.step) == ("dpo/checkpoint-500", "dpo", 500)
    assert names.path == "out/dpo/checkpoint-500" and names.fingerprint.startswith("imported:")
    assert [row["score"] for row in rows] == list(SCORES)
    assert [row["sample_id"] for row in rows] == ["000000", "000001", "000002", "000003"]
    assert [row["response"] for row in rows] == [f"It is {i}" for i in range(4)]
    assert [row["answer"] for row in rows] == [f"It is {i}" for i in range(4)]
    assert [row["target"] for row in rows] == list("0123")
    assert run.samples()["000002"].prompt == "What is 2?"
    assert all(row[name] is None for row in rows for name in ("n_tokens", "entropy", "nucleus", "reason"))
    expected = ("even", "odd") if layout in ("before-0.3", "0.3") else (None, None)
    assert tuple(json.loads(row["category"]).get("category") for row in rows[:2]) == expected
    assert run.results().metrics["score"].mean == 0.5


def test_sampling_is_what_the_log_says_and_nothing_else(tmp_path: Path) -> None:
    samples = [sample_07(i, score) for i, score in enumerate(SCORES)]
    run_import(tmp_path, write_log(tmp_path / "logs", samples))
    sampling = stored(tmp_path).manifest.sampling
    assert (sampling.temperature, sampling.max_new_tokens, sampling.stop) == (0.0, 16, ("\n\n",))
    assert sampling.seed is None and sampling.top_p is None
    manifest = stored(tmp_path).manifest
    assert manifest.n_samples == 4 and manifest.n_task_samples == 100
    assert "weights" in manifest.environment["not_known"]
    frame = load_runs(tmp_path / "runs")
    assert frame["temperature"].eq(0).all() and frame["seed"].isna().all()


def test_rollouts_of_their_own_scores(tmp_path: Path) -> None:
    sample = {
        **sample_07(0, 0.0),
        "resps": ["<think>a</think> wrong", "b", "c", "d"],
        "filtered_resps": ["wrong", "b", "c", "d"],
        "acc": {"score": 0.5, "cluster": "c0", "all": [0, 0, 1, 1], "n": 4},
        "other": {"score": 0.25, "all": [1, 0, 0, 0]},
        "flat": 0.5,
    }
    assert run_import(tmp_path, write_log(tmp_path / "logs", [sample]), "--score-key", "acc").exit_code == 0
    rows = stored(tmp_path).table().to_pylist()
    assert [row["score"] for row in rows] == [0, 0, 1, 1] and [row["rollout"] for row in rows] == [0, 1, 2, 3]
    assert [row["response"] for row in rows] == ["<think>a</think> wrong", "b", "c", "d"]
    assert [row["answer"] for row in rows] == ["wrong", "b", "c", "d"]
    assert [row["metric_other"] for row in rows] == [1, 0, 0, 0] and "metric_flat" not in rows[0]
    assert rows[0]["group"] == "c0"


def test_several_responses_with_one_score_stay_one_rollout_and_it_is_said(tmp_path: Path) -> None:
    sample = {**sample_07(0, 0.75), "resps": ["a", "b", "a", "a"], "filtered_resps": ["a", "b", "a", "a"]}
    result = run_import(tmp_path, write_log(tmp_path / "logs", [sample], total=0.75))
    (row,) = stored(tmp_path).table().to_pylist()
    assert row["score"] == 0.75 and row["rule"] == "imported acc of 4 responses together" and row["answer"] is None
    assert "[response 2 of 4]\nb" in row["response"] and "pass@k is not known" in result.output


FILTERS = [{"name": "last"}, {"name": "whole"}]


def test_one_row_a_filter(tmp_path: Path) -> None:
    samples = [sample_07(i, float(i == 0)) for i in range(3)] + [sample_07(i, 1.0) for i in range(3)]
    path = write_log(tmp_path / "logs", samples, filter_list=FILTERS)
    result = run_import(tmp_path, path)
    assert result.exit_code == 2 and "choose with --filter: last, whole" in result.output
    assert not (tmp_path / "runs").exists()
    assert run_import(tmp_path, path, "--filter", "last").exit_code == 0
    assert stored(tmp_path).table()["score"].to_pylist() == [1, 0, 0]
    assert "no filter 'first'" in run_import(tmp_path, path, "--filter", "first").output
    assert run_import(tmp_path, path, "--score-key", "acc,whole").exit_code == 0
    runs = RunStore.open(tmp_path / "runs").runs()
    assert sorted(sum(run.table()["score"].to_pylist()) for run in runs) == [1, 3]


def test_a_filter_cut_off_is_an_error(tmp_path: Path) -> None:
    samples = [sample_07(i, 1.0) for i in range(3)] + [sample_07(0, 1.0)]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples, filter_list=FILTERS))
    assert result.exit_code == 2 and "cut off" in result.output and ".jsonl:2:" in result.output


def numbers(**more: Any) -> dict[str, Any]:
    sample = sample_07(0, 0.0)
    del sample["acc"]
    return sample | more


@pytest.mark.parametrize(
    ("fields", "options", "score"),
    [
        ({"gpt_eval_score": 1}, (), 1.0),
        ({"correct": True}, (), 1.0),
        ({"pope_accuracy": {"score": 1.0}, "pope_f1": {"score": 1.0}}, (), 1.0),
        ({"score": 0.5, "format": 1.0}, (), 0.5),
        ({"exact_match": 0.5, "f1": 1.0}, (), 0.5),
        ({"m": {"true_false": True, "extraction": "B"}}, ("--score-key", "m.true_false"), 1.0),
        ({"even": {"score": 1.0}, "odd": 0.0}, ("--score-key", "none", "--score-key", "odd"), None),
        ({"mathvista": 100.0}, ("--scale", "100"), 1.0),
        ({"numpy": "0.25"}, ("--score-key", "numpy"), 0.25),
        ({"anls": None, "f1": 0.0}, ("--score-key", "anls", "--score-key", "f1"), None),
        ({"s": 1.0000001}, (), 1.0),
    ],
)
def test_which_number_is_the_score(
    tmp_path: Path, fields: dict[str, Any], options: tuple[str, ...], score: float | None
) -> None:
    result = run_import(tmp_path, write_log(tmp_path / "logs", [numbers(**fields)], metric_list=[]), *options)
    if score is None:
        assert result.exit_code == 2 and "no sample has" in result.output
    else:
        assert result.exit_code == 0, result.output
        assert stored(tmp_path).table()["score"].to_pylist() == [score]


def mmmu(doc_id: int, kind: str, answer: str, parsed: Any) -> dict[str, Any]:
    name = f"validation_Art_Theory_{doc_id}"
    inside = {"id": name, "subdomain": "Art_Theory", "question_type": kind, "answer": answer, "parsed_pred": parsed}
    return numbers(mmmu_acc=inside, mmmu_acc_pass_at_k=inside, submission={name: "B"}, doc_id=doc_id)


def test_mmmu_is_scored_from_its_parsed_answers(tmp_path: Path) -> None:
    samples = [
        mmmu(0, "multiple-choice", "B", ["B", "A"]),
        mmmu(1, "open", "24", [["24 cm", 24.0], ["7"]]),
        mmmu(2, "multiple-choice", "C", "C"),
        mmmu(3, "open", "yes", ["no", "it is no"]),
    ]
    metrics = [{"metric": "mmmu_acc", "higher_is_better": True}]
    path = write_log(tmp_path / "logs", samples, task="mmmu_val", metric_list=metrics)
    result = run_import(tmp_path, path)
    assert result.exit_code == 0 and "draws a letter at random" in result.output, result.output
    rows = stored(tmp_path).table().to_pylist()
    assert [(row["sample_id"][-1], row["score"]) for row in rows] == [
        ("0", 1), ("0", 0), ("1", 1), ("1", 0), ("2", 1), ("3", 0),
    ]  # fmt: skip
    assert json.loads(rows[0]["category"]) == {
        "subdomain": "Art_Theory", "subject": "Art_Theory", "domain": "Art and Design",
        "question_type": "multiple-choice",
    }  # fmt: skip
    assert "MMMU by domain" in specs("results", "--store", tmp_path / "runs").output


def test_mathvista_pope_mmstar_and_mme_as_they_are_logged(tmp_path: Path) -> None:
    metadata = {"task": "math word problem", "skills": ["algebraic reasoning", "statistical reasoning"]}
    result = {"question_id": "7", "extraction": "4", "true_false": True, "metadata": metadata}
    logs = {
        "mathvista": [numbers(llm_as_judge_eval=result, submission=result)],
        "pope": [numbers(**{f"pope_{name}": {"score": 1.0, "prediction": "yes"} for name in ("accuracy", "f1_score")})],
        "mmstar": [numbers(math={"score": 1.0}, average={"score": 1.0}), numbers(logic={"score": 0.0}, average={"score": 0.0})],
        "mme": [numbers(mme_perception_score={"score": 1.0}), numbers(mme_cognition_score={"score": 0.0})],
    }  # fmt: skip
    for task, samples in logs.items():
        rows = [sample | {"doc_id": place} for place, sample in enumerate(samples)]
        write_log(tmp_path / "logs" / task, rows, task=task, metric_list=[])
    outcome = run_import(tmp_path, tmp_path / "logs", "--json")
    assert outcome.exit_code == 0, outcome.output
    chosen = {run["task"]: (run["score"], run["mean"]) for run in json.loads(outcome.stdout)["runs"]}
    assert chosen == {
        "mathvista": ("llm_as_judge_eval", 1.0),
        "pope": ("pope_accuracy", 1.0),
        "mmstar": ("average", 0.5),
        "mme": ("mme_perception_score or mme_cognition_score", 0.5),
    }
    tables = {run.manifest.task: run.table().to_pylist() for run in RunStore.open(tmp_path / "runs").runs()}
    assert json.loads(tables["mathvista"][0]["category"]) == {
        "task": "math word problem", "skills": "algebraic reasoning; statistical reasoning",
    }  # fmt: skip
    assert tables["mathvista"][0]["answer"] == "4" and tables["pope"][0]["answer"] == "yes"


def test_each_sample_takes_the_first_key_that_it_has(tmp_path: Path) -> None:
    samples = [numbers(even={"score": 1.0}, x=0.0), numbers(odd={"score": 0.0}, x=1.0) | {"doc_id": 1}]
    path = write_log(tmp_path / "logs", samples)
    assert run_import(tmp_path, path, "--score-key", "even", "--score-key", "odd").exit_code == 0
    assert stored(tmp_path).table()["score"].to_pylist() == [1, 0]
    assert stored(tmp_path).manifest.task_version.startswith("imported-even_or_odd-")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": 1.0, "b": 0.0}, "which number is the score? Name it with --score-key"),
        ({"mega": {"parsed": "B", "answer": "B"}}, "mega.parsed, mega.answer"),
        ({}, "the fields are: none"),
        ({"m": 87.5}, "say what the best score is, such as --scale 100"),
        ({"m": -1.0}, "outside [0, 1]"),
        ({"m": float("inf")}, "outside [0, 1]"),
    ],
)
def test_what_is_not_clear_is_refused_and_nothing_written(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    good = write_log(tmp_path / "good", [sample_07(0, 1.0)])
    bad = write_log(tmp_path / "bad", [numbers(**fields)])
    result = specs("import", good, bad, "--store", tmp_path / "runs")
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert "Nothing was imported" in result.output and not (tmp_path / "runs").exists()


def test_a_number_that_every_sample_has_is_no_score_where_others_say_otherwise(tmp_path: Path) -> None:
    samples = [numbers(even=1.0, precision=0.0), numbers(odd=0.0, precision=1.0) | {"doc_id": 1}]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples, metric_list=[]))
    assert result.exit_code == 2 and "which number is the score" in result.output


def test_lower_is_better_is_no_score_and_other_metrics_are_kept(tmp_path: Path) -> None:
    results = {"results": {"toy": {}}, "higher_is_better": {"toy": {"right": True, "cost": False, "length": False}}}
    samples = [numbers(cost=0.5, length=17, right=1.0)]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples, results=results), "--checkpoint", "m")
    assert result.exit_code == 0, result.output
    (row,) = stored(tmp_path).table().to_pylist()
    assert row["score"] == 1.0 and row["metric_cost"] == 0.5 and "metric_length" not in row
    assert "left out, not shares in [0, 1]: length" in result.output


def test_nan_null_and_failed_requests_are_unscored_with_their_reason(tmp_path: Path) -> None:
    failed = sample_07(2, 1.0) | {"filtered_resps": "[LMMS_EVAL_REQUEST_FAILED after 5 retries] timeout"}
    inside = sample_07(4, 1.0) | {"acc": {"score": None}}
    samples = [sample_07(0, float("nan")), sample_07(1, 1.0) | {"acc": None}, failed, sample_07(3, 1.0), inside]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples, total=1.0))
    assert result.exit_code == 0
    rows = stored(tmp_path).table().to_pylist()
    assert [row["score"] for row in rows] == [None, None, None, 1.0, None]
    assert [row["reason"] for row in rows[:2]] == ["acc is NaN in the log", "the log has no acc"]
    assert "timeout" in rows[2]["reason"] and stored(tmp_path).results().n_failed == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"doc_id": 1, "acc": 1.0', "not a JSON object"),
        (b"[1, 2]", "not a JSON object but list"),
        (b'{"acc": 1.0}', "no doc_id"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"doc_id": ' + b"9" * 5000 + b"}", "not a JSON object"),
        (b'{"doc_id": 1, "acc": "one"}', "acc is not a number but 'one'"),
        (b"\xff\xfe", "not a JSON object"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(tmp_path: Path, line: bytes, message: str) -> None:
    path = write_log(tmp_path / "logs", [sample_07(0, 1.0)])
    path.write_bytes(path.read_bytes() + line)
    result = run_import(tmp_path, path, "--score-key", "acc")
    assert result.exit_code == 2 and f"{path}:2: " in result.output and message in result.output
    assert "Traceback" not in result.output and not (tmp_path / "runs").exists()


def test_hostile_text_is_kept_as_text(tmp_path: Path) -> None:
    nasty = "\x1b[2J\u202e\ud800<script>alert(1)</script>" + "x" * 2_000_000
    sample = sample_07(0, 1.0) | {"filtered_resps": nasty, "target": {"a": [1]}, "input": ["x", {"y": 1}]}
    path = tmp_path / "logs" / "d_samples_[a,b]\x1b.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(sample) + "\n")
    result = run_import(tmp_path, path, "--checkpoint", "a\x1b[2Jb")
    assert result.exit_code == 0 and "\x1b" not in result.output
    (row,) = stored(tmp_path).table().to_pylist()
    assert row["response"].startswith("\x1b[2J\u202e\ufffd<script>") and len(row["response"]) == 1_000_000
    assert len(row["answer"]) <= 1000


def test_ids_that_collide_are_refused(tmp_path: Path) -> None:
    samples = [sample_07(1, 1.0), sample_07(0, 1.0) | {"doc_id": "000001"}]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples))
    assert result.exit_code == 2 and "several documents have one doc_id" in result.output


def test_two_checkpoints_share_the_version_and_other_data_or_another_score_do_not(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a", [sample_07(i, 1.0) | {"f1": 0.0} for i in range(3)])
    other = write_log(tmp_path / "b", [sample_07(i, 0.0) | {"input": "other?", "f1": 0.0} for i in range(3)])
    for name, file, more in (("a", path, ()), ("b", path, ()), ("c", other, ()), ("d", path, ("--score-key", "f1"))):
        assert run_import(tmp_path, file, "--checkpoint", name, *more).exit_code == 0
    runs = {run.manifest.checkpoint.name: run.manifest for run in RunStore.open(tmp_path / "runs").runs()}
    assert runs["a"].task_version == runs["b"].task_version
    assert len({manifest.task_version for manifest in runs.values()}) == 3
    assert len({manifest.checkpoint.fingerprint for manifest in runs.values()}) == 4


def test_a_second_log_of_a_checkpoint_is_a_second_run_and_it_is_said(tmp_path: Path) -> None:
    run_import(tmp_path, write_log(tmp_path / "a", [sample_07(0, 1.0)]))
    result = run_import(tmp_path, write_log(tmp_path / "b", [sample_07(0, 0.0)]))
    assert result.exit_code == 0 and "has 2 runs of toy" in result.stderr and "--select fingerprint=" in result.stderr


def test_names_from_options(tmp_path: Path) -> None:
    path = write_log(tmp_path / "logs", [sample_07(0, 1.0)], results={})
    assert "name it with --checkpoint" in run_import(tmp_path, path).output
    options = ("--checkpoint", "org/model", "--series", "sft", "--step", "7", "--task", "specs_mine")
    assert run_import(tmp_path, path, *options).exit_code == 0
    manifest = stored(tmp_path).manifest
    assert (manifest.checkpoint.name, manifest.checkpoint.series, manifest.checkpoint.step) == ("org/model", "sft", 7)
    assert manifest.task == "mine" and manifest.checkpoint.path == ""


def test_two_models_cannot_be_one_checkpoint(tmp_path: Path) -> None:
    from lmms_logs import results_json

    write_log(tmp_path / "logs" / "a", [sample_07(0, 1.0)])
    other = results_json("toy", 1.0, 1) | {"config": {"model_args": "pretrained=out/dpo/checkpoint-600"}}
    write_log(tmp_path / "logs" / "b", [sample_07(0, 1.0)], results=other)
    result = run_import(tmp_path, tmp_path / "logs", "--checkpoint", "x")
    assert result.exit_code == 2 and "different models" in result.output
    assert run_import(tmp_path, tmp_path / "logs").exit_code == 0
    assert [run.manifest.checkpoint.step for run in RunStore.open(tmp_path / "runs").runs()] == [500, 600]


def test_folders_and_results_files(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "dpo__checkpoint-500"
    path = write_log(folder, [sample_07(0, 1.0)], task="mme_samples_x")
    (folder / "notes.json").write_text("{}")
    result = run_import(tmp_path, tmp_path / "logs", "--json", "--dry-run")
    assert result.exit_code == 0 and not (tmp_path / "runs").exists()
    facts = json.loads(result.stdout)
    assert [run["task"] for run in facts["runs"]] == ["mme_samples_x"] and "1 other JSON files" in facts["notes"][0]
    (results,) = folder.glob("*_results.json")
    assert run_import(tmp_path, results).exit_code == 0
    path.unlink()
    assert "run lmms-eval with --log_samples" in run_import(tmp_path, results).output
    assert "holds no logs" in run_import(tmp_path, tmp_path / "logs").output


def test_totals_and_counts_that_do_not_agree_are_said(tmp_path: Path) -> None:
    results = {
        "results": {"toy": {"acc,none": 0.9}},
        "n-samples": {"toy": {"original": 9, "effective": 5}},
        "config": {"model_args": {"pretrained": "m"}},
    }
    samples = [sample_07(i, score) for i, score in enumerate(SCORES)]
    result = run_import(tmp_path, write_log(tmp_path / "logs", samples, results=results))
    assert "lmms-eval's total of acc is 0.9; the mean over samples is 50.00 %" in result.output
    assert "evaluated 5 documents, and the log holds 4" in result.output
    assert "total of acc" not in run_import(tmp_path, write_log(tmp_path / "same", samples)).output


def test_an_import_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_log(tmp_path / "logs", [sample_07(i, score) for i, score in enumerate(SCORES)])
    with monkeypatch.context() as patched:
        patched.setattr("specs_eval.store.OpenRun.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        run_import(tmp_path, path)
    assert not stored(tmp_path).complete
    assert run_import(tmp_path, path).exit_code == 0
    assert stored(tmp_path).complete and stored(tmp_path).table().num_rows == 4
    assert len(list(stored(tmp_path).rollouts())) == 4


def test_rescore_leaves_imported_runs_alone(tmp_path: Path) -> None:
    run_import(tmp_path, write_log(tmp_path / "logs", [sample_07(0, 1.0)]))
    assert specs("rescore", "--store", tmp_path / "runs").exit_code == 0
    result = specs("rescore", stored(tmp_path).run_id, "--store", tmp_path / "runs")
    assert result.exit_code == 2 and "was imported" in result.output


INNER = ("score", "all", "cluster", "parsed_pred", "answer", "question_type", "metadata", "skills", "true_false")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("resps", "filtered_resps", "input", "target", "doc", "arguments", "token_counts", "f1", "score")
TOP = ("results", "configs", "higher_is_better", "n-samples", "config", "lmms_eval_version", "model_name")
ROWS = st.fixed_dictionaries(
    {"doc_id": st.integers(0, 3) | VALUES, "acc": VALUES | st.sampled_from([0.0, 1.0])},
    optional=dict.fromkeys(FIELDS, VALUES),
)
RESULTS = st.fixed_dictionaries({}, optional=dict.fromkeys(TOP, VALUES | st.dictionaries(st.just("toy"), VALUES)))


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4), RESULTS | VALUES)
def test_any_log_is_imported_or_refused_in_words(rows: list[dict[str, Any]], results: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d_samples_toy.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        path.with_name("d_results.json").write_text(json.dumps(results))
        try:
            log = imported_log(
                read_log(path), ImportOptions(checkpoint="c"), [LogJudge(logged_scores, logged_categories, NOTE)]
            )
        except ConfigError as error:
            assert str(path) in str(error)
            return
        store = RunStore.create(Path(folder) / "runs")
        written = write_to_store(store, log)
        assert written.new and not write_to_store(store, log).new
        scores = written.run.table()["score"].to_pylist()
        assert len(scores) == len(log.rollouts)
        assert all(score is None or 0 <= score <= 1 for score in scores)
