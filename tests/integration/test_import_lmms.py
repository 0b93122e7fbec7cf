"""Logs that lmms-eval itself writes, imported and then analysed: nothing by hand between the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.loggers import EvaluationTracker
from lmms_eval.tasks import TaskManager
from lmms_fakes import NoisyBackend, noisy_model
from lmms_toys import write_toys

import specs_eval.tasks
from specs_eval.cli import main
from specs_eval.store import RunStore

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


def write_log(
    folder: Path, toys: Path, monkeypatch: Any, tasks: list[str], checkpoint: str, texts: list[str], **options: Any
) -> dict[str, Any]:
    """Evaluate and log as lmms-eval's command line does; what it kept in memory is returned."""
    tracker = EvaluationTracker(output_path=str(folder))
    arguments = f"pretrained={checkpoint},batch_size=4"
    results = simple_evaluate(
        model=noisy_model(monkeypatch, NoisyBackend(texts), seed=3),
        model_args=arguments,
        tasks=tasks,
        task_manager=TaskManager(include_path=[str(toys), specs_eval.tasks.__path__[0]], include_defaults=False),
        gen_kwargs="temperature=1.0",
        evaluation_tracker=tracker,
        **SEEDS_LEFT_ALONE,
        **options,
    )
    results["config"]["model_args"] = arguments  # of an instance, lmms-eval keeps none
    samples = results.pop("samples")
    kept = json.loads(json.dumps(samples, default=str))
    tracker.save_results_aggregated(results=results, samples=samples, datetime_str="20250102_030405")
    for task in tasks:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return kept


def specs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_two_checkpoints_to_the_generalization_factor(toys: Path, tmp_path: Path, monkeypatch: Any) -> None:
    tasks = ["toy_exact", "toy_kinds"]
    kept = {}
    for step, texts in ((1, ["x", "0", "2"]), (2, ["0", "2", "4", "2"])):
        checkpoint = f"out/dpo/checkpoint-{step}"
        kept[step] = write_log(tmp_path / "logs", toys, monkeypatch, tasks, checkpoint, texts)
    store = tmp_path / "runs"
    first = specs("import", *(tmp_path / "logs").rglob("*_samples_toy_exact.jsonl"), "--store", store)
    assert first.exit_code == 0, first.output
    kinds = (tmp_path / "logs").rglob("*_samples_toy_kinds.jsonl")
    second = specs("import", *kinds, "--store", store, "--score-key", "even_acc", "--score-key", "odd_acc")
    assert second.exit_code == 0, second.output
    for run in RunStore.open(store).runs():
        step = run.manifest.checkpoint.step
        samples = kept[step][run.manifest.task]
        key = "exact_match"
        expected = [
            sample[key] if key in sample else sample.get("even_acc", sample.get("odd_acc"))["score"]
            for sample in samples
        ]
        table = run.table()
        assert table["score"].to_pylist() == expected
        assert table["response"].to_pylist() == [sample["resps"][0][0] for sample in samples]
        assert run.manifest.sampling.temperature == 1.0 and run.manifest.backend == "imported/lmms-eval-0.7"
        assert run.manifest.n_task_samples == 12 and run.manifest.checkpoint.series == "dpo"
    answer = specs("gf", "--id", "toy_exact", "--ood", "toy_kinds", "--store", store, "--json")
    assert answer.exit_code == 0, answer.output
    (series,) = json.loads(answer.stdout)["series"]
    assert [point["step"] for point in series["points"]] == [1, 2]
    assert series["points"][1]["id"]["value"] > series["points"][0]["id"]["value"]
    compared = specs("compare", "dpo/checkpoint-1", "dpo/checkpoint-2", "--store", store, "--json")
    assert compared.exit_code in (0, 1, 3) and "toy_exact" in compared.stdout, compared.output
    explored = specs("explore", "--tasks", "toy_exact", "--store", store)
    assert explored.exit_code == 0 and "temperature 1" in explored.output, explored.output


def test_scores_of_a_hundred_and_several_filters(toys: Path, tmp_path: Path, monkeypatch: Any) -> None:
    kept = write_log(tmp_path / "logs", toys, monkeypatch, ["toy_image", "toy_chat"], "m", ["red", "It is B", "A"])
    store = tmp_path / "runs"
    (image,) = (tmp_path / "logs").rglob("*_samples_toy_image.jsonl")
    (chat,) = (tmp_path / "logs").rglob("*_samples_toy_chat.jsonl")
    assert "--scale 100" in specs("import", image, "--store", store).output
    assert specs("import", image, "--store", store, "--scale", "100").exit_code == 0
    refused = specs("import", chat, "--store", store)
    assert refused.exit_code == 2 and "choose with --filter: last, whole" in refused.output
    assert specs("import", chat, "--store", store, "--score-key", "acc,whole").exit_code == 0
    runs = {run.manifest.task: run.table() for run in RunStore.open(store).runs()}
    expected = [sample["toy_score"]["score"] / 100 for sample in kept["toy_image"]]
    assert runs["toy_image"]["score"].to_pylist() == expected and 0 < sum(expected) < 12
    assert runs["toy_image"]["answer"].to_pylist() == [sample["toy_score"]["pred"] for sample in kept["toy_image"]]
    whole = [sample["acc"] for sample in kept["toy_chat"][12:]]
    assert runs["toy_chat"]["score"].to_pylist() == whole
    assert whole != [sample["acc"] for sample in kept["toy_chat"][:12]]


def test_our_own_tasks_with_rollouts(toys: Path, tmp_path: Path, monkeypatch: Any) -> None:
    texts = ["yes", "no", "<think>a</think><answer>red</answer>"]
    kept = write_log(tmp_path / "logs", toys, monkeypatch, ["specs_easyvqa"], "out/base", texts, limit=10, repeats=3)
    result = specs("import", tmp_path / "logs", "--store", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    (run,) = RunStore.open(tmp_path / "runs").runs()
    assert run.manifest.task == "easyvqa"
    assert run.table()["score"].to_pylist() == [sample["score"] for sample in kept["specs_easyvqa"]]
    assert "10 samples have several responses and one score" in result.output
