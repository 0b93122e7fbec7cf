"""Building the tiny VLM from nothing: vision warm-up, language training on the mix, measured scores, one folder."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from specs_eval.task import Sample
from specs_eval.training.tiny.architecture import Size, build_model, build_processor, load_checkpoint, save_checkpoint
from specs_eval.training.tiny.batches import Collator, ImageBank, loss_of, train_samples
from specs_eval.training.tiny.corpus import Corpus, Mix, all_texts
from specs_eval.training.tiny.folders import complete_or_absent
from specs_eval.training.tiny.loop import Schedule, train
from specs_eval.training.tiny.scores import Scores, measure
from specs_eval.training.tiny.vision import warm_up_vision

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.json"
WEIGHTS_FILE = "model.safetensors"
MEASURED_PACKAGES = ("torch", "transformers", "tokenizers", "easy-vqa")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the weights depend on, apart from library versions and the processor's arithmetic."""

    seed: int = 0
    vision: Schedule = field(default_factory=lambda: Schedule(steps=2000, learning_rate=3e-3))
    language: Schedule = field(default_factory=lambda: Schedule(steps=3000, learning_rate=2e-3))
    batch_size: int = 32
    """Prompts a step of language training."""
    mix: Mix = field(default_factory=Mix)
    size: Size = field(default_factory=Size)


def build(
    output_dir: str | Path,
    seed: int = 0,
    steps: int | None = None,
    vision_steps: int | None = None,
    recipe: Recipe | None = None,
    n_questions: int = 300,
) -> Path:
    """Build and train the tiny VLM on one thread; the shipped one was made with the defaults.

    Args:
        output_dir: folder to be made; it appears when all is done.
        seed: of weights, data order and augmentation.
        steps: language training steps; None: as in the recipe. Fewer make a worse model sooner.
        vision_steps: vision warm-up steps; None: as in the recipe.
        recipe: all settings; the arguments above are put into it.
        n_questions: test questions asked under each instruction to measure the scores in ``recipe.json``.

    Returns:
        The folder: a hub-format checkpoint with ``recipe.json``.

    Raises:
        ConfigError: the folder exists already or cannot be written.
        TaskDataError: the easy-VQA data is missing.
    """
    recipe = replace(recipe or Recipe(), seed=seed)
    if steps is not None:
        recipe = replace(recipe, language=replace(recipe.language, steps=steps))
    if vision_steps is not None:
        recipe = replace(recipe, vision=replace(recipe.vision, steps=vision_steps))
    folder = Path(output_dir)
    with complete_or_absent(folder) as scratch, one_thread():
        started = time.monotonic()
        model, processor = _trained(recipe, train_samples())
        seconds = time.monotonic() - started
        save_checkpoint(model, processor, scratch)
        logger.info("trained in %.0f s; measuring on the test split", seconds)
        scores = measure(*load_checkpoint(scratch), n_questions=n_questions)
        _write_recipe(scratch, recipe, scores, seconds)
    return folder


def _trained(
    recipe: Recipe, samples: Sequence[Sample]
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    processor = build_processor(all_texts(samples))
    model = build_model(processor.tokenizer, recipe.seed, recipe.size)
    bank, collator, corpus = ImageBank(samples), Collator(processor), Corpus(samples, recipe.mix)
    warm_up_vision(model, collator, bank, corpus.facts, recipe.vision, recipe.seed)
    rng = random.Random(f"language {recipe.seed}")

    def loss() -> torch.Tensor:
        examples = [corpus.draw(rng) for _ in range(recipe.batch_size)]
        images = bank.take([str(example.sample.group) for example in examples], rng)
        return loss_of(model, collator.collate(examples, images))

    for step, value in train(model, recipe.language, loss):
        if step % 100 == 0 or step == recipe.language.steps:
            logger.info("language step %d/%d: loss %.3f", step, recipe.language.steps, value)
    return model.eval(), processor


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: sums in another order would give other weights, and spinning threads are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _write_recipe(folder: Path, recipe: Recipe, scores: Scores, seconds: float) -> None:
    record = {
        "what": "tiny Qwen2.5-VL trained on the easy-VQA train split by specs_eval.training.tiny.build",
        "recipe": asdict(recipe),
        "training_seconds": round(seconds),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in MEASURED_PACKAGES}},
        "sha256": weights_digest(folder),
        "measured": {
            "how": "first questions of the easy-VQA test split, generate() in float32, T = 1 unless greedy, seed 0",
            **scores.to_dict(),
        },
    }
    (folder / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) of the weights file of a checkpoint."""
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
