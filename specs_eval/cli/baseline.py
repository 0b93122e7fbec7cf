"""``specs-eval baseline``: pin the checkpoint that candidates are checked against."""

from __future__ import annotations

import json
from pathlib import Path

import click

from specs_eval.errors import ConfigError

STORE = click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the run store."
)
FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    help="Baseline file; default: specs-eval-baselines.toml here or above.",
)


@click.group()
def baseline() -> None:
    """Pin a baseline in a small text file that goes into git: 'specs-eval check --baseline NAME' finds it there."""


@baseline.command()
@click.argument("name")
@click.argument("checkpoint")
@STORE
@FILE
def save(name: str, checkpoint: str, store: Path, path: Path | None) -> None:
    """Pin CHECKPOINT of the store (name, path, series/step or fingerprint) as NAME.

    \b
    specs-eval baseline save main dpo/400
    """
    from specs_eval.analysis.report.wording import counted
    from specs_eval.analysis.stored.reading import stored_runs
    from specs_eval.analysis.stored.sides import find_side
    from specs_eval.baselines import Pin, find_pin_file, save_pin, today

    side = find_side(stored_runs(store), checkpoint)
    runs = [run for run in side.runs if run.complete]
    if not runs:
        raise ConfigError(f"{side.key.name} has no finished run in {store}; evaluate it with 'specs-eval run'")
    scores = {}
    for run in runs:
        results = run.results()
        mean = results.metrics["score"].mean if results is not None else None
        if mean is not None:
            scores[run.manifest.task] = mean
    pin = Pin(
        checkpoint=side.key.name,
        fingerprint=side.fingerprint,
        saved=today(),
        tasks={run.manifest.task: run.manifest.task_version for run in runs},
        scores=scores,
    )
    where = path or find_pin_file(Path.cwd())
    save_pin(where, name, pin)
    tasks = counted(len(pin.tasks), "task")
    click.echo(f"{name} is {pin.checkpoint} ({pin.fingerprint[:16]}), with {tasks}; written to {where}")


@baseline.command("list")
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(path: Path | None, as_json: bool) -> None:
    """List the pinned baselines."""
    from specs_eval.analysis.report.wording import counted
    from specs_eval.baselines import find_pin_file, load_pins

    where = path or find_pin_file(Path.cwd())
    pins = load_pins(where)
    if as_json:
        click.echo(json.dumps({name: pin.model_dump(mode="json") for name, pin in pins.items()}, indent=2))
        return
    if not pins:
        click.echo(f"no baseline in {where}; pin one with 'specs-eval baseline save NAME CHECKPOINT'")
    for name, pin in pins.items():
        tasks = counted(len(pin.tasks), "task")
        click.echo(f"{name}  {pin.checkpoint}  {pin.fingerprint[:16]}  saved {pin.saved}  {tasks}")


@baseline.command()
@click.argument("name")
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, path: Path | None, as_json: bool) -> None:
    """Show one baseline: its weights, and the score of each task when it was pinned."""
    from specs_eval.baselines import find_pin_file, load_pins

    where = path or find_pin_file(Path.cwd())
    pins = load_pins(where)
    if name not in pins:
        raise ConfigError(f"no baseline {name!r} in {where}; it has: {', '.join(pins) or 'none'}")
    pin = pins[name]
    if as_json:
        click.echo(json.dumps(pin.model_dump(mode="json"), indent=2))
        return
    click.echo(f"{name}: {pin.checkpoint}\nfingerprint {pin.fingerprint}\nsaved {pin.saved}")
    for task, version in pin.tasks.items():
        score = f"{100 * pin.scores[task]:.1f} %" if task in pin.scores else "no score"
        click.echo(f"  {task}  {score}  version {version}")
