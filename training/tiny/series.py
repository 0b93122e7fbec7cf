"""A short series of checkpoints trained from the tiny base on the spot: something real to evaluate in a minute."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError

from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.tasks.formats.styles import THINK_ANSWER
from specs_eval.training.tiny.architecture import load_checkpoint, save_checkpoint
from specs_eval.training.tiny.batches import Collator, ImageBank, loss_of, train_samples
from specs_eval.training.tiny.build import WEIGHTS_FILE, one_thread, weights_digest
from specs_eval.training.tiny.corpus import Corpus, Example
from specs_eval.training.tiny.folders import complete_or_absent
from specs_eval.training.tiny.loop import Schedule, train
from specs_eval.training.tiny.practice import PRACTICE_FORMATS

logger = logging.getLogger(__name__)

Method = Literal["sft", "mixed"]

METHODS: dict[Method, str] = {
    "sft": "supervised fine-tuning on the trained (ID) instruction alone",
    "mixed": "supervised fine-tuning, half on the ID instruction, half on five practice instructions that no task asks",
}
"""What each method trains on. Responses are right and in the asked format; evaluated OOD instructions are in neither."""

STATE_FILE = "trainer_state.json"
SETTINGS_FILE = "series.json"


@dataclass(frozen=True, slots=True)
class SeriesSettings:
    """What the weights of a series depend on."""

    method: Method
    steps: int
    save_every: int
    seed: int
    learning_rate: float
    batch_size: int
    base_sha256: str

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigError(f"unknown method {self.method!r}; choose from {', '.join(get_args(Method))}")
        for name in ("steps", "save_every", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be a finite number > 0, not {self.learning_rate}")

    def saved_steps(self) -> list[int]:
        """Steps after which a checkpoint is written; the last step always is one."""
        return sorted({*range(self.save_every, self.steps + 1, self.save_every), self.steps})


def train_series(
    base_dir: str | Path,
    output_dir: str | Path,
    *,
    steps: int = 60,
    save_every: int = 10,
    seed: int = 0,
    method: Method = "sft",
    learning_rate: float = 3e-4,
    batch_size: int = 32,
) -> list[Path]:
    """Fine-tune a tiny checkpoint and keep checkpoints on the way: ``output_dir/checkpoint-<step>``.

    A checkpoint folder has its final name only when it is complete. Called again with the same settings, a finished
    series is returned as it is, and an interrupted one is trained again from the base (same seed, same data) and
    completed: checkpoints that are there already are kept.

    Args:
        base_dir: the checkpoint to start from, of the tiny architecture.
        output_dir: folder of the series.
        steps: optimizer steps.
        save_every: a checkpoint after each so many steps, and after the last.
        seed: of the data order.
        method: see `METHODS`.
        learning_rate: peak of AdamW's rate (short warm-up, then constant).
        batch_size: prompts a step.

    Returns:
        Checkpoint folders in step order.

    Raises:
        ConfigError: a setting is out of range, the folder holds a series with other settings, or cannot be written.
        CheckpointError: the base is missing or not of this architecture.
    """
    base, output = Path(base_dir), Path(output_dir)
    if not (base / WEIGHTS_FILE).is_file():
        raise CheckpointError(f"{base} holds no {WEIGHTS_FILE}: name a checkpoint folder of the tiny architecture")
    settings = SeriesSettings(method, steps, save_every, seed, learning_rate, batch_size, weights_digest(base))
    folders = [output / f"checkpoint-{step}" for step in settings.saved_steps()]
    _claim(output, settings)
    if not all(folder.is_dir() for folder in folders):
        with one_thread():
            _train(base, output, settings)
    return folders


def _claim(output: Path, settings: SeriesSettings) -> None:
    """Write the settings into a new series folder, or check that an old one has the same."""
    file, text = output / SETTINGS_FILE, json.dumps(asdict(settings), indent=2) + "\n"
    try:
        if file.is_file():
            if file.read_text(encoding="utf-8") != text:
                raise ConfigError(f"{output} holds a series with other settings ({file}); name another folder")
            return
        if output.exists() and any(output.iterdir()):
            raise ConfigError(f"{output} is not empty and not a series; name another folder")
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {output}: {error.strerror or error}") from error


def _train(base: Path, output: Path, settings: SeriesSettings) -> None:
    try:
        model, processor = load_checkpoint(base)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{base} does not load as a tiny checkpoint: {error}") from error
    samples = train_samples()
    bank, collator = ImageBank(samples), Collator(processor)
    draw, rng = _drawing(Corpus(samples), settings.method), random.Random(f"{settings.method} {settings.seed}")

    def loss() -> torch.Tensor:
        examples = [draw(rng) for _ in range(settings.batch_size)]
        images = bank.take([str(example.sample.group) for example in examples], rng)
        return loss_of(model, collator.collate(examples, images))

    schedule = Schedule(settings.steps, settings.learning_rate, warmup=max(1, settings.steps // 10), floor=1.0)
    log: list[dict[str, float]] = []
    for step, value in train(model, schedule, loss):
        log.append({"step": step, "loss": value, "learning_rate": schedule.at(step - 1)})
        folder = output / f"checkpoint-{step}"
        if step in settings.saved_steps() and not folder.is_dir():
            with complete_or_absent(folder) as scratch:
                save_checkpoint(model, processor, scratch)
                (scratch / STATE_FILE).write_text(_state(log, settings), encoding="utf-8")
            logger.info("%s step %d/%d: loss %.3f, saved %s", settings.method, step, settings.steps, value, folder)


def _drawing(corpus: Corpus, method: Method) -> Callable[[random.Random], Example]:
    def draw(rng: random.Random) -> Example:
        if method == "mixed" and rng.random() < 0.5:
            return corpus.answer(rng.choice(PRACTICE_FORMATS), rng)
        return corpus.answer(THINK_ANSWER, rng)

    return draw


def _state(log: list[dict[str, float]], settings: SeriesSettings) -> str:
    """The loss log in the form of transformers' ``trainer_state.json``."""
    state = {
        "global_step": int(log[-1]["step"]),
        "max_steps": settings.steps,
        "save_steps": settings.save_every,
        "train_batch_size": settings.batch_size,
        "log_history": log,
    }
    return json.dumps(state, indent=2) + "\n"
