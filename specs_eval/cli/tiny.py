"""``specs-eval tiny``: the tiny VLM that ships with specs-eval, made again or trained further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from specs_eval.training.tiny.series import Method


@click.group()
def tiny() -> None:
    """The tiny VLM that ships with specs-eval: a Qwen2.5-VL of 0.66 M parameters, trained on easy-VQA."""


@tiny.command()
def path() -> None:
    """Print the folder of the shipped checkpoint."""
    from specs_eval.training.tiny import checkpoint_path

    click.echo(checkpoint_path())


@tiny.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, data order and augmentation.")
@click.option("--steps", type=click.IntRange(min=1), help="Language training steps; default: as in the recipe.")
@click.option("--vision-steps", type=click.IntRange(min=1), help="Vision warm-up steps; default: as in the recipe.")
@click.option(
    "--questions", type=click.IntRange(min=1), default=300, show_default=True, help="Test questions measured."
)
def build(output: Path, seed: int, steps: int | None, vision_steps: int | None, questions: int) -> None:
    """Build and train the tiny VLM from nothing into the folder OUTPUT (15 to 20 minutes on one core)."""
    _show_progress()
    from specs_eval.training.tiny.build import build as build_tiny

    click.echo(build_tiny(output, seed=seed, steps=steps, vision_steps=vision_steps, n_questions=questions))


@tiny.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="Checkpoint to start from; default: the shipped one.")
@click.option(
    "--method",
    type=click.Choice(["sft", "mixed"]),
    default="sft",
    show_default=True,
    help="sft: the trained instruction alone; mixed: half practice instructions.",
)
@click.option("--steps", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--save-every", type=click.IntRange(min=1), default=10, show_default=True, help="Steps a checkpoint.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the data order.")
def series(output: Path, base: Path | None, method: Method, steps: int, save_every: int, seed: int) -> None:
    """Fine-tune the tiny VLM, keeping checkpoint-N folders in the folder OUTPUT (about a minute)."""
    _show_progress()
    from specs_eval.training.tiny import checkpoint_path, train_series

    start = base or checkpoint_path()
    folders = train_series(start, output, steps=steps, save_every=save_every, seed=seed, method=method)
    for folder in folders:
        click.echo(folder)


def _show_progress() -> None:
    """Steps and losses to stderr, without the progress bars of weight loading."""
    import logging

    from transformers.utils import logging as transformers_logging

    logging.getLogger("specs_eval.training.tiny").setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
