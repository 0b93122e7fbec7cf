"""``specs-eval train``: a recipe's stages, gated on generalization, from the base to the report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.errors import EXIT_INTERRUPTED, EXIT_REGRESSION, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from specs_eval.training.config import Recipe, StageName
    from specs_eval.training.pipeline import Outcome
    from specs_eval.training.state import RunState

_STAGES = ("base", "zero", "distill", "cold_start", "rl")


@click.command()
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--from", "redo_from", type=click.Choice(_STAGES), help="Run this stage and all later ones again.")
@click.option("--dry-run", is_flag=True, help="Check the recipe and tell what would be done.")
@click.option("--output", type=click.Path(path_type=Path), help="Instead of the recipe's output folder.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html at the end.")
def train(
    recipe_name: str, redo_from: StageName | None, dry_run: bool, output: Path | None, seed: int | None, report: bool
) -> None:
    """Train a model in gated stages: base, zero, distill, cold start, RL.

    RECIPE is a YAML file, or the name of one that ships: tiny_cpu, lora_single_gpu, qwen2_5_vl_7b_8gpu. Every stage is
    evaluated as it goes; a gate that closes ends it. Killed at any instant, the same command goes on.

    \b
    specs-eval train tiny_cpu --dry-run
    accelerate launch --config_file zero3.yaml -m specs_eval train recipe.yaml
    """
    from rich.console import Console

    from specs_eval.training.recipe_file import find_recipe, load_recipe

    console = Console(stderr=True)
    changes: dict[str, Any] = {"output": output, "seed": seed}
    recipe = load_recipe(find_recipe(recipe_name), {key: value for key, value in changes.items() if value is not None})
    if dry_run:
        _show_plan(recipe, redo_from)
        return
    started = time.monotonic()
    outcome = _trained(recipe, redo_from, console)
    if outcome is None:
        return
    _show(recipe, outcome)
    if report:
        _report(recipe, outcome)
    click.echo(f"{time.monotonic() - started:.0f} s in this call; everything is in {recipe.output}/")
    if outcome.closed is not None:
        sys.exit(EXIT_REGRESSION)


def _trained(recipe: Recipe, redo_from: StageName | None, console: Console) -> Outcome | None:
    """The outcome; None in all processes but the first."""
    from specs_eval.cli.progress import LineObserver
    from specs_eval.training.pipeline import train as run

    observer = _Quiet(LineObserver(console, 0))
    try:
        outcome = run(recipe, observer=observer, talk=lambda text: _say(console, text), redo_from=redo_from)
    except ImportError as error:
        missing = f"{error.name} is missing" if error.name else str(error).strip()
        raise ConfigError(f"training needs more packages ({missing}): pip install 'specs-eval[train]'") from error
    except KeyboardInterrupt:
        command = "the same command" if redo_from is None else "the same command without --from"
        _say(console, f"Interrupted. Whole checkpoints and evaluations are kept; {command} goes on.")
        sys.exit(EXIT_INTERRUPTED)
    return outcome if int(os.environ.get("RANK", "0")) == 0 else None


class _Quiet:
    """An observer of many small evaluations: only what goes wrong is shown."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def run_started(self, checkpoint: Any, task: str, owed: int, total: int) -> None:
        """Nothing to say."""

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Nothing to say."""

    def run_finished(self, run: Any) -> None:
        """Nothing to say."""

    def problem(self, text: str) -> None:
        """Say it."""
        self._inner.problem(text)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _show_plan(recipe: Recipe, redo_from: StageName | None) -> None:
    from specs_eval.training.plan import plan
    from specs_eval.training.redoing import forget
    from specs_eval.training.state import check_unchanged, load_state

    devices = int(os.environ.get("WORLD_SIZE", "1"))
    _check(recipe, devices)
    state = load_state(recipe.output)
    if redo_from is not None:
        forget(recipe, state, redo_from)
    check_unchanged(recipe, state)
    click.echo(
        f"{recipe.model.path}, {'adapter' if recipe.model.lora else 'all weights'}, seed {recipe.seed}, {devices} processes"
    )
    for number, stage in enumerate(plan(recipe, state, devices), 1):
        click.echo(f"{number}. {stage.stage} ({stage.status})")
        for line in stage.lines:
            click.echo(f"   {line}")


def _check(recipe: Recipe, devices: int) -> None:
    """Whatever a run refuses before it trains, but for packages: a plan may be made on another machine."""
    from importlib.util import find_spec

    from specs_eval.training.gating import check_gates
    from specs_eval.training.measuring import evaluation_tasks
    from specs_eval.training.preflight import check_arguments, check_evaluation, check_numbers
    from specs_eval.training.recipe_checks import check_recipe

    check_recipe(recipe)
    tasks = [] if recipe.evaluation is None else evaluation_tasks(recipe.evaluation)
    check_evaluation(recipe, tasks)
    check_gates(recipe, tasks)
    check_numbers(recipe, devices)
    if devices == 1 and find_spec("trl") is not None:
        check_arguments(recipe)


def _show(recipe: Recipe, outcome: Outcome) -> None:
    """A line for each series, and what was handed on."""
    from specs_eval.training.stages import order

    for stage, state in outcome.state.stages.items():
        for name, series in state.series.items():
            best = max(series.evaluated, key=order, default=None)
            if best is not None:
                values = (("ID", best.id), ("OOD", best.ood), ("GF", best.gf))
                told = ", ".join(f"{word} {100 * value:.1f} %" for word, value in values if value is not None)
                ended = f"; stopped at {series.stopped}" if series.stopped else ""
                click.echo(f"{stage:<11} {name:<8} best at step {best.step}: {told} ({series.seconds:.0f} s){ended}")
    if outcome.closed is not None:
        click.echo(f"a gate is closed at {outcome.closed}: {outcome.state.stages[outcome.closed].note}")
    elif outcome.best is not None:
        click.echo(f"best checkpoint: {outcome.best.name} in {outcome.best.folder}")


def starts_of(state: RunState) -> list[str]:
    """SERIES=CHECKPOINT for every series that did not start from the base, as ``report --start`` takes them."""
    return [
        f"{series}={stage.start.name}"
        for stage in state.stages.values()
        if stage.start is not None and stage.start.name != "base"
        for series in stage.series
    ]


def _report(recipe: Recipe, outcome: Outcome) -> None:
    if recipe.evaluation is None:
        return
    from specs_eval.cli import main
    from specs_eval.training.pipeline import store_of

    series = [name for state in outcome.state.stages.values() for name in state.series]
    trained = [part for name in series for part in ("--training", str(recipe.output / name))]
    # Not the questions that pairs were sampled from: they lie in the same store.
    asked = recipe.evaluation
    reading = ["--tasks", ",".join(text.partition("[")[0] for text in (asked.id, asked.ood, *asked.tasks))]
    reading += [] if "[" in asked.id + asked.ood else ["--id", asked.id, "--ood", asked.ood]
    reading += [part for text in starts_of(outcome.state) for part in ("--start", text)]
    reading += ["--gain", asked.gain] if asked.gain else []
    reading += ["--beta", str(asked.gf_beta), "-o", str(recipe.output / "report.html")]
    main(["report", "--store", str(store_of(recipe)), "--base", "base", *trained, *reading], standalone_mode=False)
