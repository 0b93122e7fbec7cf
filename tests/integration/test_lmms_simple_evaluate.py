"""The same task, model and noise inside lmms-eval and inside our runner: the same responses and scores."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from fakes import ListObserver, fake_checkpoint
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from lmms_fakes import NoisyBackend, noisy_model
from lmms_toys import write_toys

import specs_eval.tasks
from specs_eval.errors import GenerationError
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore
from specs_eval.task import Task
from specs_eval.tasks.lmms.adapter import LmmsEvalTask
from specs_eval.tasks.lmms.find import builtin_task_files
from specs_eval.tasks.registry import get_task

CLI_OPTIONS = Namespace(
    reasoning_tags='[["<think>", "</think>"], ["<analysis>", "</analysis>"]]', process_with_media=False
)
SEEDS_LEFT_ALONE: dict[str, Any] = {
    "random_seed": None,
    "numpy_random_seed": None,
    "torch_random_seed": None,
    "bootstrap_iters": 0,
    "process_docs_parallel": 1,
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys") / "tasks", n=12)


def rollouts_of_our_runner(task: Task, engine: NoisyBackend, store: Path, **options: Any) -> list[dict[str, Any]]:
    request = RunRequest(tasks=[task], seed=3, **options)
    evaluation = evaluate([fake_checkpoint()], request, RunStore.create(store), engine, ListObserver())
    return evaluation.runs[0].table().to_pylist()


@pytest.mark.parametrize(
    ("name", "texts", "metric"),
    [
        ("toy_exact", ["2", "<think>1 + 1</think>2", " 4 ", "Q: 2", "none", ""], "exact_match"),
        ("toy_image", ["red", "Green", "blue ", "<think>red</think>blue"], "toy_score"),
        ("toy_chat", ["A", "It is B", "B, or A", "a"], "acc"),
        ("toy_kinds", ["0", "2", "4"], None),
    ],
)
def test_their_tasks(name: str, texts: list[str], metric: str | None, toys: Path, tmp_path: Path, monkeypatch: Any):
    results = simple_evaluate(
        model=noisy_model(monkeypatch, NoisyBackend(texts), seed=3),
        tasks=[name],
        task_manager=TaskManager(include_path=str(toys), include_defaults=False),
        gen_kwargs="temperature=1.0,do_sample=True",
        cli_args=CLI_OPTIONS,
        **SEEDS_LEFT_ALONE,
    )
    samples = results["samples"][name][:12]  # of the first filter
    task = LmmsEvalTask(name, [toys])
    rollouts = rollouts_of_our_runner(task, NoisyBackend(texts), tmp_path, temperature=1.0)
    assert len(samples) == len(rollouts) == 12
    right = 0
    for sample, rollout in zip(samples, rollouts, strict=True):
        key = metric or next(key for key in ("even_acc", "odd_acc") if key in sample)
        value = sample[key]["score"] if isinstance(sample[key], dict) else sample[key]
        assert rollout["score"] == pytest.approx(value / (100 if name == "toy_image" else 1))
        right += rollout["score"]
    assert 0 < right < 12


@pytest.mark.parametrize("name", ["specs_easyvqa", "specs_formats_id"])
def test_our_tasks(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    texts = ["yes", "no", "<think>It is.</think>\n<answer>red</answer>", "## Reasoning\nx\n## Answer\nblue"]
    results = simple_evaluate(
        model=noisy_model(monkeypatch, NoisyBackend(texts), seed=3),
        tasks=[name],
        task_manager=TaskManager(include_path=specs_eval.tasks.__path__[0], include_defaults=False),
        limit=40,
        repeats=4,
        gen_kwargs="temperature=1.0",
        cli_args=CLI_OPTIONS,
        **SEEDS_LEFT_ALONE,
    )
    samples = results["samples"][name]
    task = get_task(name)
    rollouts = rollouts_of_our_runner(task, NoisyBackend(texts), tmp_path, n_rollouts=4, limit=40)
    assert results["versions"][name] == task.version
    assert [sample["doc"]["sample_id"] for sample in samples] == [row["sample_id"] for row in rollouts[::4]]
    for sample, start in zip(samples, range(0, 160, 4), strict=True):
        rows = rollouts[start : start + 4]
        assert sample["resps"] == [[row["response"] for row in rows]]
        assert sample["score"] == pytest.approx(sum(row["score"] for row in rows) / 4)
    assert len({sample["doc_hash"] for sample in samples}) == 40
    totals = results["results"][name]
    assert totals["score,none"] == pytest.approx(sum(row["score"] for row in rollouts) / 160)
    assert totals["failed,none"] == 0.0
    assert len({text for sample in samples for text in sample["resps"][0]}) == 4


def test_failed_rollouts_are_counted_and_not_scored(monkeypatch: Any) -> None:
    engine = NoisyBackend(["yes"])
    ids = [sample.sample_id for sample in get_task("easyvqa").samples()[:10]]
    engine.fail = {(ids[2], 0), (ids[5], 0)}
    results = simple_evaluate(
        model=noisy_model(monkeypatch, engine),
        tasks=["specs_easyvqa"],
        task_manager=TaskManager(include_path=specs_eval.tasks.__path__[0], include_defaults=False),
        limit=10,
        **SEEDS_LEFT_ALONE,
    )
    samples = results["samples"]["specs_easyvqa"]
    assert [sample["score"] is None for sample in samples] == [number in (2, 5) for number in range(10)]
    scored = [sample["score"] for sample in samples if sample["score"] is not None]
    totals = results["results"]["specs_easyvqa"]
    assert totals["score,none"] == pytest.approx(sum(scored) / 8)
    assert totals["failed,none"] == 0.2
    assert samples[2]["resps"] == [[None]]


def test_a_failure_on_their_task_ends_the_evaluation(toys: Path, monkeypatch: Any) -> None:
    engine = NoisyBackend(["2"])
    engine.fail = {("000003", 0)}
    with pytest.raises(GenerationError, match="out of memory"):
        simple_evaluate(
            model=noisy_model(monkeypatch, engine),
            tasks=["toy_exact"],
            task_manager=TaskManager(include_path=str(toys), include_defaults=False),
            **SEEDS_LEFT_ALONE,
        )


@pytest.mark.slow
def test_our_index_knows_every_name_that_lmms_eval_knows() -> None:
    manager = TaskManager()
    ours = builtin_task_files()
    tasks = {name for name, entry in manager.task_index.items() if entry["type"] in ("task", "python_task")}
    assert tasks - set(ours.tasks) == set()
    assert set(manager.all_groups) | set(manager.all_tags) <= set(ours.groups) | set(ours.tasks)
    different = [n for n in tasks if Path(manager.task_index[n]["yaml_path"]) != ours.tasks[n]]
    assert different == []
