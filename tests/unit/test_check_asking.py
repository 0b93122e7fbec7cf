"""``specs-eval check --run --sequential``: only the samples that are needed are asked, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes import FakeBackend, FakeTask, write_checkpoint

from specs_eval.backends.base import Request, Response
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli import main
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore, StoredRun

SCORE = '[[gates]]\nname = "score"\nmetric = "score"\ntask = "fake"\nmax_drop = 0.1\n'
ENTROPY = '[[gates]]\nname = "entropy"\nmetric = "entropy"\ntask = "fake"\nmax_drop = 0.5\n'
CHANCES = {"base": 0.6, "good": 0.75, "bad": 0.3, "same": 0.6}


class Engine(FakeBackend):
    """Answers right with a chance that depends on the checkpoint."""

    def __init__(self) -> None:
        super().__init__(block=8)
        self.asked: list[tuple[str, str]] = []
        self.current = ""

    def load(self, checkpoint: Checkpoint) -> None:
        self.current = checkpoint.name
        self.chance = CHANCES[checkpoint.name]
        super().load(checkpoint)

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[tuple[Request, list[Response]]]:
        for request, responses in super().generate(requests, spec):
            self.asked.append((self.current, request.sample_id))
            yield request, responses

    def n_asked(self, name: str) -> int:
        return len({sample for who, sample in self.asked if who == name})


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    backend = Engine()
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: backend)
    monkeypatch.setattr("specs_eval.tasks.registry.get_task", lambda *arguments, **more: FakeTask(600))
    monkeypatch.setattr("specs_eval.tasks.registry.parse_task_list", lambda *arguments: [FakeTask(600)])
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "SPECS_EVAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in CHANCES:
        write_checkpoint(tmp_path / name, name.encode())
    return backend


def specs(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def check(policy: str, candidate: str, *more: str, store: str = "runs") -> Result:
    Path("specs-eval.toml").write_text(policy)
    arguments = ["check", "--baseline", "base", "--candidate", candidate, "--run", "--sequential", "--json"]
    return specs(*arguments, "--store", store, *more)


def verdict(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1, 3), result.output
    found: dict[str, Any] = json.loads(result.stdout)["verdicts"][0]
    return found


def evaluate_baseline(*more: str) -> None:
    result = specs("run", "--ckpt", "base", "--tasks", "fake", *more)
    assert result.exit_code == 0, result.output


def run_of(name: str, store: str = "runs") -> StoredRun:
    (found,) = [run for run in RunStore.open(store).runs() if run.manifest.checkpoint.name == name]
    return found


@pytest.mark.parametrize(("candidate", "word", "code"), [("good", "pass", 0), ("bad", "fail", 1)])
def test_a_clear_candidate_is_asked_a_part(engine: Engine, candidate: str, word: str, code: int) -> None:
    evaluate_baseline()
    result = check(SCORE, candidate)
    found = verdict(result)
    assert (found["outcome"], result.exit_code) == (word, code)
    assert found["n_used"] == engine.n_asked(candidate) < 300
    run = run_of(candidate)
    assert run.complete and (run.manifest.n_samples, run.manifest.n_task_samples) == (found["n_used"], 600)
    assert engine.n_asked("base") == 600, "the baseline had answered all and is not asked again"
    assert len(engine.asked) == 600 + found["n_used"]
    assert engine.loaded.count(candidate) == 1, "one load for all rounds"


def test_a_baseline_that_is_missing_is_asked_along(engine: Engine) -> None:
    found = verdict(check(SCORE, "good"))
    assert found["outcome"] == "pass"
    assert found["n_used"] == engine.n_asked("good") <= engine.n_asked("base") < 600
    assert engine.loaded.count("base") <= 6
    n = len(engine.asked)
    assert verdict(check(SCORE, "good")) == found
    assert len(engine.asked) == n, "the same question again costs nothing"


def test_a_budget_ends_undecided_and_a_larger_one_continues(engine: Engine) -> None:
    evaluate_baseline()
    result = check(SCORE, "same", "--max-samples", "70")
    found = verdict(result)
    assert (found["outcome"], result.exit_code, found["n_used"]) == ("undecided", 3, 64)
    assert "--max-samples 70 ended the check (the next look is at 80 samples)" in found["reason"]
    first = {sample for who, sample in engine.asked if who == "same"}
    whole = verdict(check(SCORE, "same"))
    again = [sample for who, sample in engine.asked if who == "same"]
    assert len(again) == len(set(again)) and first == set(again[:64])
    other = verdict(check(SCORE, "same", store="other"))
    for key in ("outcome", "p_pass", "p_fail", "estimate", "n_used"):
        assert other[key] == whole[key], "as if it had never been stopped"


def test_interrupted_it_continues_and_ends_as_if_it_had_not_been(engine: Engine) -> None:
    evaluate_baseline()
    whole = verdict(check(SCORE, "good"))
    reference = run_of("good")
    specs("run", "--ckpt", "base", "--tasks", "fake", "--store", "other")
    engine.calls.clear()
    engine.die_after = 45
    assert check(SCORE, "good", store="other").exit_code == 130
    engine.die_after = None
    cut = run_of("good", "other")
    assert 0 < cut.table().num_rows < reference.table().num_rows
    assert verdict(check(SCORE, "good", store="other"))["p_pass"] == whole["p_pass"]
    assert run_of("good", "other").table().equals(reference.table())


def test_failures_are_asked_once_and_help_neither_claim(engine: Engine) -> None:
    evaluate_baseline()
    engine.fail_samples = {f"s{i:04d}" for i in range(0, 600, 3)}
    found = verdict(check(SCORE, "good"))
    assert found["outcome"] == "undecided" and found["n_unscored"] == 200 and found["n_used"] == 400
    assert "200 failed rollouts count as the worst for each claim" in found["reason"]


def test_gates_without_bounds_are_tested_on_what_there_is(engine: Engine) -> None:
    evaluate_baseline()
    result = check(SCORE + ENTROPY, "good")
    answer = json.loads(result.stdout)
    score, entropy = answer["verdicts"]
    assert score["outcome"] == "pass" and entropy["sequential"] is False
    assert entropy["n_used"] == score["n_used"] == engine.n_asked("good")
    assert "tested like a fixed sample" in entropy["reason"]
    alone = json.loads(check(ENTROPY, "bad").stdout)["verdicts"][0]
    assert alone["n_used"] == 600, "with nothing to stop for, all samples are asked"


def test_a_limited_baseline_limits_the_check(engine: Engine) -> None:
    evaluate_baseline("--limit", "40")
    found = verdict(check(SCORE, "same"))
    assert found["n_all"] == 40 and engine.n_asked("same") <= 40


def test_minutes_that_are_over(engine: Engine) -> None:
    evaluate_baseline()
    found = verdict(check(SCORE, "same", "--max-minutes", "1e-9"))
    assert found["outcome"] == "undecided" and found["estimate"] is None
    assert engine.n_asked("same") == 0
