"""What our trainers cost over plain TRL: the same model, data and settings, a plain TRL script beside our stage.

Rounds alternate between the two in one process; the time of a step runs from the end of one step to the end of the next, so that
loading and the first steps (warm-up) do not count. Without a GPU it is CPU time, which a busy machine hardly changes. The goal is at most 5 % over plain TRL. The plain script is what a
user writes with TRL's trainers and the same arguments; its rewards are functions of a few lines.

    python benchmarks/bench_train.py                                   # the shipped tiny model, CPU
    python benchmarks/bench_train.py --hidden 512 --layers 12 --per-device 16   # a larger one, random weights, GPU
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))

from tiny_training import tiny_recipe, write_pairs

from specs_eval.tasks.formats.styles import THINK_ANSWER
from specs_eval.training.arguments import Series
from specs_eval.training.callbacks import quiet, stage_callbacks
from specs_eval.training.cold_start import cold_start_config, cold_start_trainer
from specs_eval.training.config import Recipe
from specs_eval.training.distill.dataset import load_pairs
from specs_eval.training.distilling import prepared_questions
from specs_eval.training.models import load_model, load_processor
from specs_eval.training.rl import grpo_config, make_reward, question_rows, rl_trainer
from specs_eval.training.tiny import checkpoint_path

METHODS = ("sft", "dpo", "dpo+sft", "grpo")
WARM_UP = 3


def main() -> None:
    """Measure each method and print its ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="pairs a step; GRPO takes a quarter as many prompts")
    parser.add_argument("--per-device", type=int, default=32)
    parser.add_argument(
        "--hidden",
        type=int,
        help="width, a multiple of 128, of a model with random weights; default: the shipped model",
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--device", choices=("auto", "cpu"), default="cpu")
    asked = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        start = checkpoint_path() if asked.hidden is None else random_model(work / "model", asked)
        pairs = write_pairs(work / "pairs", 256, 2)
        for method in asked.methods.split(","):
            compare(method, asked, start, pairs, work / method)


def compare(method: str, asked: argparse.Namespace, start: Path, pairs: Path, work: Path) -> None:
    """Alternate between plain TRL and ours; print medians over all steps of all rounds."""
    recipe = recipe_of(method, asked, start, pairs, work)
    makers: dict[str, Callable[[Path], Any]] = {
        "plain": lambda folder: plain_trainer(method, recipe, start, pairs, folder),
        "ours": lambda folder: our_trainer(method, recipe, start, pairs, folder),
    }
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    peaks: dict[str, float] = {}
    for number in range(asked.rounds):
        # The order changes from round to round: a machine that slows down must not count against one of them.
        for name in list(makers)[:: 1 if number % 2 else -1]:
            trainer = makers[name](work / f"{name}-{number}")
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            seconds[name] += step_seconds(trainer)
            if torch.cuda.is_available():
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30
    plain, ours = (statistics.median(seconds[name]) for name in ("plain", "ours"))
    memory = "".join(f", {name} {peak:.2f} GiB" for name, peak in peaks.items())
    print(f"{method:8} plain {plain:.3f} s/step, ours {ours:.3f} s/step: {ours / plain - 1:+.1%} (n {len(seconds['ours'])}){memory}", flush=True)  # fmt: skip


def step_seconds(trainer: Any) -> list[float]:
    """Seconds from one step's end to the next, after the warm-up: of the wall on a GPU, of the process's CPU without one."""
    from transformers import PrinterCallback, TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter() if torch.cuda.is_available() else time.process_time())

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.train()
    # Steps on one generation of GRPO differ, so that they are taken together.
    group = getattr(trainer.args, "steps_per_generation", 0) or trainer.args.gradient_accumulation_steps
    group = max(1, group // trainer.args.gradient_accumulation_steps)
    marks = ends[WARM_UP::group]
    return [(later - earlier) / group for earlier, later in itertools.pairwise(marks)]


def recipe_of(method: str, asked: argparse.Namespace, start: Path, pairs: Path, work: Path) -> Recipe:
    """The stage as a recipe; nothing is saved before its end."""
    common = {"steps": asked.steps, "per_device": asked.per_device, "learning_rate": 1e-4}
    if method == "grpo":
        stages = {"zero": {**common, "batch": asked.batch // 4, "rollouts": 8}}
    else:
        stages = {"cold_start": {**common, "batch": asked.batch, "methods": [method], "data": str(pairs)}}
    model = {"path": str(start), "device": asked.device, "gradient_checkpointing": False}
    return tiny_recipe(work, stages, model=model, questions={"source": "easyvqa", "limit": 256})


def our_trainer(method: str, recipe: Recipe, start: Path, pairs: Path, folder: Path) -> Any:
    """The trainer of our stage, with the callbacks that it has in a run."""
    callbacks = stage_callbacks(method, lambda step: False, lambda text: None)
    if method == "grpo":
        assert recipe.stages.zero is not None
        reward = make_reward(prepared_questions(recipe, ()).task(), recipe.stages.zero)
        return rl_trainer(recipe, Series("zero", "zero"), start, folder, reward, callbacks)
    return cold_start_trainer(recipe, Series(method, "cold_start", method), start, folder, pairs, callbacks)  # type: ignore[arg-type]


def plain_trainer(method: str, recipe: Recipe, start: Path, pairs: Path, folder: Path) -> Any:
    """TRL's own trainer with the same arguments, as a script would set it up."""
    from trl import DPOTrainer, GRPOTrainer, SFTTrainer

    model, processor = load_model(start, recipe.model), load_processor(start, recipe.model)
    if method == "grpo":
        assert recipe.stages.zero is not None
        task = prepared_questions(recipe, ()).task()
        golds = {sample.sample_id: sample.target for sample in task.samples()}
        rows = question_rows(make_reward(task, recipe.stages.zero))
        rows = rows.add_column("gold", [golds[sample_id] for sample_id in rows["sample_id"]])
        config = grpo_config(recipe, Series("zero", "zero"), folder, task.max_new_tokens)
        return GRPOTrainer(
            model=model, args=config, train_dataset=rows, processing_class=processor, reward_funcs=[in_format, is_right]
        )
    series = Series(method, "cold_start", method)  # type: ignore[arg-type]
    config, data = cold_start_config(recipe, series, folder), load_pairs(pairs)["train"]
    if method == "sft":
        data = data.remove_columns("rejected").rename_column("chosen", "completion")
        return SFTTrainer(model=model, args=config, train_dataset=data, processing_class=processor)
    return DPOTrainer(model=model, args=config, train_dataset=data, processing_class=processor)


def in_format(completions: Any, **_: Any) -> list[float]:
    """1 where the response is in the trained format."""
    return [float(THINK_ANSWER.parse(text_of(one)).ok) for one in completions]


def is_right(completions: Any, gold: list[str], **_: Any) -> list[float]:
    """1 where the gold answer is the text between the answer tags."""
    return [
        float((THINK_ANSWER.parse(text_of(one)).answer or "").lower() == answer.lower())
        for one, answer in zip(completions, gold, strict=True)
    ]


def text_of(completion: Any) -> str:
    """The text of a conversational completion."""
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def random_model(folder: Path, asked: argparse.Namespace) -> Path:
    """A model of the tiny architecture in another size with random weights: for speed alone."""
    from specs_eval.training.tiny.architecture import Size, build_model, load_checkpoint, save_checkpoint

    _, processor = load_checkpoint(checkpoint_path())
    width, depth = asked.hidden, asked.layers
    size = Size(width, depth, width // 32, 4 * width, width // 2, max(2, depth // 2), vision_intermediate=2 * width)
    model = build_model(processor.tokenizer, 0, size)
    print(f"random weights, {sum(weights.numel() for weights in model.parameters()) / 1e6:.1f} M parameters")
    save_checkpoint(model, processor, folder)
    return folder


if __name__ == "__main__":
    main()
