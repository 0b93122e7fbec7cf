"""``specs-eval check --run``: what is missing is evaluated as the baseline was, and only that; then the verdicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fakes import ListObserver, Parrot, write_checkpoint
from stored_runs import FakeRun, write_run

from specs_eval.backends.base import Request, Response
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.cli import main
from specs_eval.errors import CheckpointError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore, StoredRun

SCORE = '[[gates]]\nname = "score"\nmetric = "score"\ntask = "formats_id"\nmax_drop = 0.05\n'
ACCURACY = '[[gates]]\nname = "accuracy"\nmetric = "accuracy"\ntask = "formats_ood"\nmax_drop = 0.05\n'
FACTOR = '[[gates]]\nname = "gf"\nmetric = "gf"\nid = "formats_id"\nood = "formats_ood"\nmin = 0.1\nbase = "BASE"\n'
LENIENT = 'undecided = "pass"\n'


class Engine(Parrot):
    """Answers in the trained format; checkpoints whose name holds "bad" answer nothing. Notes what it was asked."""

    numerics = "fake/bfloat16"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, SamplingSpec]] = []
        self.options: list[tuple[str, Any]] = []
        self.broken: set[str] = set()
        self.current = ""

    def load(self, checkpoint: Checkpoint) -> None:
        if checkpoint.name in self.broken:
            raise CheckpointError(f"{checkpoint.name} does not load: shapes differ")
        self.current = checkpoint.name
        super().load(checkpoint)

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[tuple[Request, list[Response]]]:
        for request, responses in super().generate(requests, spec):
            self.asked.append((self.current, len(request.rollouts), spec))
            yield request, [Response(r.rollout, "", 1) for r in responses] if "bad" in self.current else responses


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    backend = Engine()

    def create(name: str, options: Any) -> Engine:
        backend.options.append((name, options))
        return backend

    monkeypatch.setattr("specs_eval.backends.registry.create_backend", create)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "SPECS_EVAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "base", b"base")
    write_checkpoint(tmp_path / "out" / "dpo" / "checkpoint-600", b"good")
    write_checkpoint(tmp_path / "out" / "bad" / "checkpoint-600", b"evil")
    return backend


def specs(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def check(policy: str, *more: str, pair: tuple[str, str] = ("base", "out/dpo/checkpoint-600")) -> Result:
    Path("specs-eval.toml").write_text(policy)
    return specs("check", "--baseline", pair[0], "--candidate", pair[1], "--run", *more)


def evaluate(ckpt: str = "base", *more: str, tasks: str = "formats_id", limit: int = 60) -> None:
    result = specs("run", "--ckpt", ckpt, "--tasks", tasks, "--limit", str(limit), *more)
    assert result.exit_code == 0, result.output


def stored() -> dict[tuple[str, str], StoredRun]:
    return {(run.manifest.checkpoint.name, run.manifest.task): run for run in RunStore.open("runs").runs()}


def test_the_candidate_is_evaluated_exactly_as_the_baseline_was(engine: Engine) -> None:
    evaluate(
        "base", "--rollouts", "2", "--temperature", "0.7", "--top-p", "0.9", "--seed", "3", "--max-new-tokens", "9"
    )
    engine.options.clear()
    result = check(LENIENT + SCORE, "--device", "cpu", "--batch-size", "5")
    assert result.exit_code == 0, result.output
    assert "may replace base: 1 " in result.output
    runs = stored()
    candidate = runs["dpo/checkpoint-600", "easyvqa_formats_id"].manifest
    baseline = runs["base", "easyvqa_formats_id"].manifest
    assert candidate.sampling == baseline.sampling
    assert candidate.sampling.temperature == 0.7 and candidate.sampling.seed == 3
    assert (candidate.n_samples, candidate.n_rollouts, candidate.backend) == (60, 2, baseline.backend)
    assert candidate.status == "complete" and candidate.checkpoint.series == "dpo" and candidate.checkpoint.step == 600
    ((name, options),) = engine.options
    assert (name, options.dtype, options.device, options.batch_size) == ("fake", "bfloat16", "cpu", 5)


def test_what_is_stored_needs_no_engine_and_no_data(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate()
    assert check(LENIENT + SCORE).exit_code == 0
    n_engines = len(engine.options)
    monkeypatch.setattr("specs_eval.tasks.registry.get_task", lambda *arguments: pytest.fail("the task was read"))
    for candidate in ("out/dpo/checkpoint-600", "dpo/600", "dpo/checkpoint-600"):
        assert check(LENIENT + SCORE, pair=("base", candidate)).exit_code == 0
    assert len(engine.options) == n_engines


def test_a_worse_candidate_fails(engine: Engine) -> None:
    evaluate(limit=200)
    result = check(SCORE, "--json", pair=("base", "out/bad/checkpoint-600"))
    assert result.exit_code == 1, result.output
    facts = json.loads(result.stdout)
    assert facts["verdicts"][0]["estimate"] == -1.0
    assert facts["policy_file"].endswith("specs-eval.toml")


def test_where_nobody_answered_the_options_of_run_hold_for_both(engine: Engine) -> None:
    result = check(LENIENT + SCORE, "--limit", "7", "--rollouts", "2", "--temperature", "0.5")
    assert result.exit_code == 0, result.output
    for run in stored().values():
        manifest = run.manifest
        assert (manifest.n_samples, manifest.n_rollouts, manifest.sampling.temperature) == (7, 2, 0.5)
    assert {name for name, _ in stored()} == {"base", "dpo/checkpoint-600"}
    assert len(engine.options) == 1, "both owe the same, so one engine answers"
    # the same command again: the options still fit what is stored now
    assert check(LENIENT + SCORE, "--limit", "7", "--rollouts", "2", "--temperature", "0.5").exit_code == 0


@pytest.mark.parametrize("option", [("--limit", "50"), ("--rollouts", "4"), ("--temperature", "0.5")])
def test_options_that_contradict_the_store_are_refused(option: tuple[str, str]) -> None:
    evaluate()
    result = check(SCORE, *option)
    assert result.exit_code == 2
    assert f"{option[0]} {option[1]} does not fit" in result.output


def test_a_dry_run_only_says_what_would_be_done(engine: Engine, tmp_path: Path) -> None:
    result = check(SCORE + ACCURACY, "--dry-run", "--limit", "7")
    assert result.exit_code == 0
    assert result.stdout.count("would evaluate") == 4
    assert not Path("runs").exists()
    evaluate("base", "--rollouts", "2")
    before = sorted(tmp_path.rglob("*"))
    result = check(SCORE, "--dry-run")
    assert result.stdout.startswith(
        "would evaluate dpo/checkpoint-600 on easyvqa_formats_id: 60 samples x 2 rollouts, 120 owed"
    )
    assert "temperature 1.0" in result.stdout and "like base" in result.stdout
    facts = json.loads(check(SCORE, "--dry-run", "--json").stdout)
    assert [(o["role"], o["n_owed"], o["backend"]) for o in facts["owed"]] == [("candidate", 120, "fake/bfloat16")]
    (unit,) = facts["cost"]["units"]
    assert (unit["checkpoint"], unit["n_cached"], unit["n_owed"]) == ("dpo/checkpoint-600", 0, 120)
    base = stored()["base", "easyvqa_formats_id"]
    assert unit["seconds_owed"] == pytest.approx(base.manifest.seconds) and facts["cost"]["backend"] == "fake/bfloat16"
    assert "Minutes of easyvqa_formats_id: 1 run of easyvqa_formats_id with fake/bfloat16" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before
    check(SCORE)
    assert "nothing is missing" in check(SCORE, "--dry-run").stdout
    assert json.loads(check(SCORE, "--dry-run", "--json").stdout)["cost"] is None


def test_a_dry_run_of_what_cannot_be_evaluated_says_so_as_the_run_would(engine: Engine) -> None:
    write_run(
        Path("runs"),
        FakeRun("easyvqa_formats_id", np.ones((20, 1)), "old", task_version="1-0", backend="fake/bfloat16"),
    )
    result = check(SCORE, "--dry-run", pair=("old", "out/dpo/checkpoint-600"))
    assert result.exit_code == 3 and result.stdout.startswith("would evaluate dpo/checkpoint-600")
    assert "they would differ in task_version" in " ".join(result.output.split())


def test_interrupted_the_same_command_continues(engine: Engine) -> None:
    evaluate()
    engine.calls.clear()
    engine.die_after = 25
    assert check(LENIENT + SCORE).exit_code == 130
    assert stored()["dpo/checkpoint-600", "easyvqa_formats_id"].manifest.status == "started"
    done = len(list(stored()["dpo/checkpoint-600", "easyvqa_formats_id"].rollouts()))
    assert f"{60 - done} owed" in check(SCORE, "--dry-run").stdout
    engine.die_after = None
    assert check(LENIENT + SCORE).exit_code == 0
    assert len(engine.calls) <= 60 + engine.block, "no more than the block that was interrupted is done again"


def test_a_candidate_that_cannot_be_used_is_incomplete_not_a_verdict(engine: Engine) -> None:
    evaluate()
    Path("out/dpo/checkpoint-600/model.safetensors").write_bytes(b"half")
    torn = check(SCORE)
    assert torn.exit_code == 3
    assert "the candidate cannot be evaluated" in torn.output
    engine.broken = {"bad/checkpoint-600"}
    unloadable = check(SCORE, pair=("base", "out/bad/checkpoint-600"))
    assert unloadable.exit_code == 3
    assert (
        "not evaluated, so nothing is judged: bad/checkpoint-600: bad/checkpoint-600 does not load" in unloadable.output
    )


def test_changed_data_is_found_before_anything_is_generated(engine: Engine) -> None:
    scores = np.ones((20, 1))
    write_run(
        Path("runs"), FakeRun("easyvqa_formats_id", scores, "old", task_version="1-0123", backend="fake/bfloat16")
    )
    result = check(SCORE, pair=("old", "out/dpo/checkpoint-600"))
    assert result.exit_code == 3
    assert "they would differ in task_version (baseline '1-0123'" in " ".join(result.output.split())
    assert not engine.asked


def test_a_baseline_that_answered_other_samples_than_the_first(engine: Engine) -> None:
    from specs_eval.runner import RunRequest
    from specs_eval.runner import evaluate as answer
    from specs_eval.tasks.registry import get_task

    task = get_task("formats_id")
    ids = [sample.sample_id for sample in task.samples()[10:70]]
    request = RunRequest([task], chosen={task.name: ids})
    checkpoints = resolve_checkpoints(["base"], Fingerprinter()).checkpoints
    answer(checkpoints, request, RunStore.create("runs"), engine, ListObserver())
    result = check(LENIENT + SCORE)
    assert result.exit_code == 0, result.output
    assert set(stored()["dpo/checkpoint-600", task.name].samples()) == set(ids)
    # Another candidate with other samples: each catches up with the other.
    evaluate("out/bad", limit=10)
    facts = json.loads(check(SCORE, "--dry-run", "--json", pair=("base", "out/bad/checkpoint-600")).stdout)
    assert [(one["role"], one["n_samples"], one["n_owed"]) for one in facts["owed"]] == [
        ("baseline", 70, 10),
        ("candidate", 70, 60),
    ]
    units = facts["cost"]["units"]
    assert [(unit["n_samples"], unit["n_cached"], unit["n_owed"]) for unit in units] == [(70, 60, 10), (70, 10, 60)]
    n_asked = len(engine.calls)
    assert check(SCORE, pair=("base", "out/bad/checkpoint-600")).exit_code == 1
    assert len(engine.calls) - n_asked <= 70 + 2 * engine.block
    assert {run.manifest.n_samples for (_, name), run in stored().items() if name == task.name} == {60, 70}


def test_tasks_of_different_sizes_go_through_one_engine(engine: Engine) -> None:
    evaluate("base", limit=12)
    evaluate("base", tasks="formats_ood", limit=30)
    evaluate("base", tasks="easyvqa", limit=20)
    engine.options.clear()
    engine.loaded.clear()
    policy = LENIENT + SCORE + ACCURACY + SCORE.replace("formats_id", "easyvqa").replace("score", "answers", 1)
    assert check(policy).exit_code == 0
    assert len(engine.options) == 1
    assert engine.loaded.count("dpo/checkpoint-600") == 1
    sizes = {task: run.manifest.n_samples for (name, task), run in stored().items() if name == "dpo/checkpoint-600"}
    assert sizes == {"easyvqa_formats_id": 12, "easyvqa_formats_ood": 30, "easyvqa": 20}
    tokens = {task: run.manifest.sampling.max_new_tokens for (_, task), run in stored().items()}
    assert tokens["easyvqa"] < tokens["easyvqa_formats_id"], "each task keeps its own budget"


def test_an_engine_that_answers_in_another_way_than_it_did_is_told(engine: Engine) -> None:
    evaluate()
    engine.numerics = "fake/bfloat16-2"
    result = check(SCORE)
    assert result.exit_code == 3
    assert "this engine answers in another way now" in " ".join(result.output.split())


def test_models_of_an_endpoint(engine: Engine) -> None:
    evaluate()
    refused = check(SCORE, pair=("base", "served:theirs"))
    assert refused.exit_code == 2
    assert "evaluate both in the same way" in " ".join(refused.output.split())
    engine.numerics = "openai/served"
    evaluate("served:mine", "--backend", "openai", "--base-url", "http://localhost:1/v1")
    engine.options.clear()
    options = ("--base-url", "http://localhost:2/v1", "--backend-arg", "n=4")
    result = check(LENIENT + SCORE, *options, pair=("served:mine", "served:theirs"))
    assert result.exit_code == 0, result.output
    ((name, chosen),) = engine.options
    assert (name, chosen.dtype, chosen.extra) == ("openai", None, {"n": "4", "base_url": "http://localhost:2/v1"})
    assert ("theirs", "easyvqa_formats_id") in stored()
    # found by its name in the store, and asked for a task that nobody has answered
    more = check(LENIENT + SCORE + ACCURACY, *options, "--limit", "60", pair=("mine", "theirs"))
    assert more.exit_code == 0, more.output
    assert {name for name, _ in engine.options} == {"openai"}


def test_a_hub_id_is_fetched_and_evaluated(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate()
    fetched = write_checkpoint(tmp_path / "cache" / "abc", b"hub")
    monkeypatch.setattr("specs_eval.checkpoints._download", lambda hub_id: fetched)
    result = check(LENIENT + SCORE, pair=("base", "org/model"))
    assert result.exit_code == 0, result.output
    assert ("org/model", "easyvqa_formats_id") in stored()
    n_engines = len(engine.options)
    monkeypatch.setattr("specs_eval.checkpoints._download", lambda hub_id: pytest.fail("fetched again"))
    assert check(LENIENT + SCORE, pair=("base", "org/model")).exit_code == 0
    assert len(engine.options) == n_engines


def test_only_what_a_gate_needs_is_evaluated(engine: Engine) -> None:
    policy = LENIENT + SCORE.replace("max_drop = 0.05", "min = 0.5") + ACCURACY
    assert check(policy, "--limit", "6").exit_code == 0
    assert set(stored()) == {
        ("dpo/checkpoint-600", "easyvqa_formats_id"),
        ("dpo/checkpoint-600", "easyvqa_formats_ood"),
        ("base", "easyvqa_formats_ood"),
    }


def test_the_base_of_a_factor_is_evaluated_too_and_may_be_named_by_its_folder(engine: Engine, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "models" / "start", b"start")
    policy = LENIENT + FACTOR.replace("BASE", "models/start")
    result = check(policy, "--limit", "12", "--json")
    assert result.exit_code in (0, 1), result.output
    assert ("start", "easyvqa_formats_ood") in stored()
    assert ("base", "easyvqa_formats_ood") not in stored(), "a rule on the candidate alone needs no baseline"
    facts = json.loads(result.stdout)
    assert facts["policy"]["gates"][0]["base"] == "models/start"
    assert len(facts["verdicts"][0]["runs"]) == 4


def test_who_has_fewer_rollouts_or_samples_catches_up(engine: Engine) -> None:
    evaluate("base", "--rollouts", "2")
    evaluate("out/dpo", "--rollouts", "4", limit=80)
    result = check(LENIENT + SCORE)
    assert result.exit_code == 0, result.output
    manifest = stored()["base", "easyvqa_formats_id"].manifest
    assert (manifest.n_samples, manifest.n_rollouts) == (80, 4)


def test_of_several_runs_of_the_candidate_the_one_like_the_baseline_counts(engine: Engine) -> None:
    evaluate("base", "--rollouts", "2")
    evaluate("out/dpo")
    assert check(LENIENT + SCORE).exit_code == 0
    evaluate("base")
    several = check(LENIENT + SCORE)
    assert several.exit_code == 3
    assert "choose with --select temperature=" in several.output
    assert check(LENIENT + SCORE, "--select", "temperature=0").exit_code == 0


def test_a_run_that_never_began_to_answer_does_not_stand_beside_one_that_did(engine: Engine) -> None:
    evaluate("base", "--rollouts", "2")
    engine.broken = {"base"}
    specs("run", "--ckpt", "base", "--tasks", "formats_id", "--limit", "60", "--store", "runs")
    engine.broken = set()
    assert len([run for run in RunStore.open("runs").runs() if run.unanswered]) == 1
    result = check(LENIENT + SCORE)
    assert result.exit_code == 0, result.output
    assert stored()["dpo/checkpoint-600", "easyvqa_formats_id"].manifest.n_rollouts == 2


def test_an_overwritten_folder_is_another_candidate(engine: Engine, tmp_path: Path) -> None:
    evaluate()
    check(SCORE)
    write_checkpoint(tmp_path / "out" / "dpo" / "checkpoint-600", b"newer")
    result = check(LENIENT + SCORE, "--json")
    assert result.exit_code == 0, result.output
    fingerprints = {run.manifest.checkpoint.fingerprint for run in RunStore.open("runs").runs()}
    assert len(fingerprints) == 3
    assert json.loads(result.stdout)["candidate_fingerprint"] in fingerprints


def test_a_renamed_checkpoint_keeps_the_name_that_the_store_knows(engine: Engine) -> None:
    evaluate()
    evaluate("start=out/dpo/checkpoint-600")
    n_asked = len(engine.asked)
    result = check(LENIENT + SCORE)
    assert "start/checkpoint-600 may replace base" in result.output
    assert len(engine.asked) == n_asked


def test_the_same_weights_are_not_evaluated(engine: Engine) -> None:
    shutil.copytree("base", "copy")
    result = check(SCORE, pair=("base", "copy"))
    assert result.exit_code == 0
    assert "is the baseline itself" in result.output
    assert not engine.asked
    assert "the same weights" in check(SCORE, "--dry-run", pair=("base", "copy")).output


def test_a_pinned_baseline_is_evaluated_from_where_it_was(engine: Engine) -> None:
    evaluate()
    assert specs("baseline", "save", "main", "base").exit_code == 0
    assert check(LENIENT + SCORE + ACCURACY, "--limit", "60", pair=("main", "out/dpo/checkpoint-600")).exit_code == 0
    assert ("base", "easyvqa_formats_ood") in stored()
    write_checkpoint(Path("base"), b"other weights")
    policy = LENIENT + SCORE.replace("formats_id", "easyvqa")
    gone = check(policy, "--limit", "5", pair=("main", "out/dpo/checkpoint-600"))
    assert gone.exit_code == 3
    assert "does not hold it any more; name the folder that does" in " ".join(gone.output.split())
    shutil.rmtree("base")
    assert check(policy, "--limit", "5", pair=("main", "out/dpo/checkpoint-600")).exit_code == 3


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("base", "out/dpo/checkpoint-700"), "no such folder; out/dpo has checkpoint-600"),
        (("base", "dpo/700"), "'dpo/700' is not in the store"),
        (("nothing", "out/dpo/checkpoint-600"), "baseline: --ckpt 'nothing'"),
        (("base", "out/many"), "stands for 2 checkpoints: many/checkpoint-1, many/checkpoint-2; name one"),
    ],
)
def test_checkpoints_that_are_nowhere(tmp_path: Path, pair: tuple[str, str], told: str) -> None:
    evaluate("out/dpo")
    for step in (1, 2):
        write_checkpoint(tmp_path / "out" / "many" / f"checkpoint-{step}", bytes([step]))
    result = check(SCORE, pair=pair)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())


def test_an_imported_baseline_cannot_be_imitated() -> None:
    Path("rows.csv").write_text("sample_id,score\n" + "".join(f"{i},1\n" for i in range(9)))
    assert specs("import", "rows.csv", "--task", "formats_id", "--checkpoint", "theirs").exit_code == 0
    result = check(SCORE, pair=("theirs", "out/dpo/checkpoint-600"))
    assert result.exit_code == 2
    assert "was imported" in result.output


@pytest.mark.parametrize(
    "more", [("--dry-run",), ("--device", "cpu"), ("--limit", "5"), ("--batch-size", "2"), ("--include-path", ".")]
)
def test_options_of_run_need_it(more: tuple[str, ...]) -> None:
    Path("specs-eval.toml").write_text(SCORE)
    result = specs("check", "--baseline", "a", "--candidate", "b", *more)
    assert result.exit_code == 2
    assert f"{more[0]}: only with --run" in result.output


@pytest.mark.parametrize(
    ("policy", "code", "told"),
    [
        (SCORE.replace("formats_id", "formats_xd"), 2, "unknown task 'formats_xd'; did you mean"),
        (SCORE.replace('"score"\ntask', '"elegance"\ntask'), 2, "has no metric 'elegance'"),
        ("alpha = 0.9\n" + SCORE, 2, "specs-eval.toml:1: alpha"),
    ],
)
def test_bad_policies(policy: str, code: int, told: str) -> None:
    result = check(policy, "--limit", "4")
    assert result.exit_code == code, result.output
    assert told in " ".join(result.output.split())


def test_a_candidate_all_of_whose_rollouts_failed_is_undecided(engine: Engine) -> None:
    from specs_eval.tasks.registry import get_task

    evaluate(limit=10)
    engine.fail_samples = {sample.sample_id for sample in get_task("formats_id").samples()[:10]}
    result = check(SCORE)
    assert result.exit_code == 3
    assert "no sample is scored on both sides" in " ".join(result.output.split())
