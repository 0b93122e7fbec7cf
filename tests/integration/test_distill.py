"""Self-distillation from the shipped tiny model, through the command line, into TRL's trainers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from specs_eval.cli import main
from specs_eval.tasks.formats.styles import THINK_ANSWER
from specs_eval.training.distill.dataset import load_pairs
from specs_eval.training.distill.pipeline import prepare
from specs_eval.training.questions.sources import load_questions
from specs_eval.training.rewards import ID_COLUMN, TaskReward
from specs_eval.training.tiny import checkpoint_path

SPECS = str(Path(sys.executable).parent / "specs-eval")
N_QUESTIONS = 60

TRAINING: dict[str, Any] = {
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "seed": 0,
}


def command(folder: Path, *more: str) -> list[str]:
    arguments = ["distill", "--ckpt", f"zero={checkpoint_path()}", "--questions", "easyvqa", "--rollouts", "4"]
    arguments += ["--limit", str(N_QUESTIONS), "--validation", "0.2", "--batch-size", "4", "--eval-tasks", "easyvqa"]
    return [*arguments, "--store", str(folder / "runs"), "--output", str(folder / "pairs"), *more]


def invoke(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    invoke(*command(folder))
    return folder


def tiny() -> tuple[Any, Any]:
    from specs_eval.training.tiny.architecture import load_checkpoint

    return load_checkpoint(checkpoint_path())


def test_the_tiny_models_own_answers_become_pairs(whole: Path) -> None:
    facts = json.loads(invoke(*command(whole), "--json").stdout)
    assert facts["unchanged"] and facts["run"]["task"] == "questions_easyvqa_formats_id"
    rollouts, questions = facts["counts"]["rollouts"], facts["counts"]["questions"]
    assert rollouts["sampled"] == 4 * N_QUESTIONS and questions["also evaluated"] == 0
    assert questions["with a chosen response"] > N_QUESTIONS / 3
    pairs = facts["counts"]["pairs"]
    assert sum(map(sum, ((kinds.values()) for kinds in pairs.values()))) == questions["with a chosen response"]
    assert all(max(kinds.values()) - min(kinds.values()) <= 1 for kinds in pairs.values())


@pytest.mark.slow
def test_killed_with_sigkill_then_continued_it_makes_the_same_files(tmp_path: Path, whole: Path) -> None:
    child = subprocess.Popen([SPECS, *command(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline, lines = time.monotonic() + 120, 0
    while time.monotonic() < deadline and lines < 20 and child.poll() is None:
        lines = sum(len(path.read_bytes().splitlines()) for path in tmp_path.glob("runs/*/journal.jsonl"))
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert lines >= 20 and not (tmp_path / "pairs").exists()
    invoke(*command(tmp_path))
    for name in ("train-00000.parquet", "validation-00000.parquet", "distill.json", "README.md"):
        assert (tmp_path / "pairs" / name).read_bytes() == (whole / "pairs" / name).read_bytes(), name


def test_other_pairs_from_the_same_responses_ask_the_model_nothing(whole: Path) -> None:
    result = invoke(*command(whole, "--output", str(whole / "coupled"), "--data", "coupled", "--no-filter"))
    assert "all 240 rollouts are in the store" in result.stderr
    assert load_pairs(whole / "coupled", provenance=True)["train"]["data"][0] == "coupled"


def test_the_run_is_left_alone_by_rescore(whole: Path) -> None:
    store = str(whole / "runs")
    assert json.loads(invoke("rescore", "--store", store, "--json").stdout)["runs"] == []
    (run,) = (path.parent.name for path in (whole / "runs").glob("*/manifest.json"))
    assert "training questions" in invoke("rescore", run, "--store", store, code=2).output


def test_what_trl_trains_on_is_what_the_model_was_asked(whole: Path) -> None:
    from trl.data_utils import apply_chat_template, prepare_multimodal_messages

    from specs_eval.backends.hf.chats import ChatEncoder

    model, processor = tiny()
    encoder = ChatEncoder(processor, model.dtype, "tiny")
    chats = {s.sample_id: s.chat for s in prepare(load_questions("easyvqa", N_QUESTIONS)).task().samples()}
    for row in load_pairs(whole / "pairs", provenance=True)["train"].select(range(5)):
        filled = {name: prepare_multimodal_messages(row[name]) for name in ("chosen", "rejected")}
        prompt = prepare_multimodal_messages(row["prompt"], images=row["images"])
        told = apply_chat_template({"prompt": prompt, **filled}, processor)
        assert told["prompt"] == encoder.render(chats[f"{row['question_id']}/{THINK_ANSWER.name}"])
        assert told["chosen"].startswith("<think>") and "<|im_end|>" in told["chosen"]


def test_a_dpo_step_on_the_pairs(whole: Path, tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    model, processor = tiny()
    settings = DPOConfig(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=8,
        max_length=None,
        learning_rate=3e-4,
        **TRAINING,
    )
    pairs = load_pairs(whole / "pairs")
    trainer = DPOTrainer(
        model, args=settings, train_dataset=pairs["train"], eval_dataset=pairs["validation"], processing_class=processor
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    assert logged[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "policy and reference start as one model"
    assert logged[-1]["rewards/margins"] > 0


def test_a_grpo_step_on_the_reward(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from specs_eval.chat import images_of
    from specs_eval.training.distill.dataset import messages_of

    model, processor = tiny()
    reward = TaskReward(prepare(load_questions("easyvqa", 8)).task())
    rows = [
        {ID_COLUMN: sample_id, "prompt": messages_of(sample.chat), "images": [images_of(sample.chat)[0].load()]}
        for sample_id, sample in reward.rows()
    ]
    settings = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=32,
        beta=0.0,
        **TRAINING,
    )
    trainer = GRPOTrainer(
        model, reward_funcs=[reward], args=settings, train_dataset=Dataset.from_list(rows), processing_class=processor
    )
    trainer.train()
    (logged,) = (entry for entry in trainer.state.log_history if "reward" in entry)
    expected = 0.5 * logged["reward/format"] + logged["reward/accuracy"]
    assert 0 < logged["reward"] == pytest.approx(expected, abs=1e-6)
    assert logged["reward/unjudged"] == 0.0


def test_nothing_usable_stops_with_code_3_and_the_counts(tmp_path: Path) -> None:
    result = invoke(*command(tmp_path, "--max-new-tokens", "2"), code=3)
    assert "no usable pair. Counts at each filter:" in result.output and "rollouts: sampled: 240" in result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--questions", "nothing"], "easyvqa, orsta:PATH"),
        (["--no-filter", "--require-conclusion"], "--no-filter"),
        (["--judge-consistency"], "--judge"),
        (["--pairs-per-question", "0"], "pairs_per_question"),
        (["--eval-tasks", "nope"], "nope"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, more: list[str], message: str) -> None:
    assert message in invoke(*command(tmp_path, *more), code=2).output
