"""``specs-eval run --dry-run``: what would be evaluated, and what it would take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specs_eval.cost import Cost, Unit, estimate_cost, runs_at

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from specs_eval.backends.base import BackendOptions
    from specs_eval.runner import RunRequest


def show_cost(
    ckpts: Sequence[str],
    request: RunRequest,
    store_path: Path,
    backend_name: str,
    options: BackendOptions,
    as_json: bool,
) -> None:
    """Resolve checkpoints, tasks and store, print units and their cost. No model is loaded, and no store is made."""
    from specs_eval.backends.registry import create_backend
    from specs_eval.checkpoints import resolve_checkpoints
    from specs_eval.fingerprint import Fingerprinter
    from specs_eval.runner import evaluation_units
    from specs_eval.store import MARKER

    runs = runs_at(store_path)
    has_store = (store_path / MARKER).exists()
    fingerprinter = Fingerprinter(store_path / "fingerprints.json" if has_store else None)
    resolution = resolve_checkpoints(list(ckpts), fingerprinter, may_be_served=backend_name == "openai")
    engine = create_backend(backend_name, options)
    try:
        cost = estimate_cost(evaluation_units(resolution.checkpoints, request), request, runs, engine.numerics)
    finally:
        engine.close()
    if as_json:
        facts = {"command": "run", "dry_run": True, **cost.to_dict(), "problems": list(resolution.problems)}
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from specs_eval.cli.charts import results_console

    for note in (*resolution.notes, *resolution.problems):
        click.echo(note, err=True)
    print_cost(cost, results_console())


def print_cost(cost: Cost, console: Console) -> None:
    """A row a unit, the sums, and where the estimates come from."""
    from rich.text import Text

    from specs_eval.cli.charts import printable

    console.print(_table(cost, console))
    for line in source_lines(cost):
        console.print(Text(printable(line), "dim"))


def _table(cost: Cost, console: Console) -> Table:
    from specs_eval.cli.cells import name_cell, result_table

    table = result_table(
        console, ["Checkpoint", "Task"], ["Samples", "Rollouts", "Cached", "Owed", "Tokens", "Minutes"]
    )
    for unit in cost.units:
        numbers = [unit.n_samples, unit.n_rollouts, unit.n_cached, unit.n_owed]
        table.add_row(name_cell(unit.checkpoint), name_cell(unit.task), *map(_whole, numbers), *_estimates(unit))
    if len(cost.units) > 1:
        sums = [_whole(cost.total("n_cached")), _whole(cost.total("n_owed"))]
        tokens, seconds = cost.total("tokens_owed"), cost.total("seconds_owed")
        table.add_section()
        table.add_row(f"{len(cost.units)} units", "", "", "", *sums, _whole(tokens), minutes_text(seconds))
    return table


def _estimates(unit: Unit) -> tuple[str, str]:
    return _whole(unit.tokens_owed), minutes_text(unit.seconds_owed)


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def minutes_text(seconds: float | None) -> str:
    """Seconds as minutes; a dash where they are not known."""
    if seconds is None:
        return "-"
    return f"{seconds / 60:,.1f}" if seconds >= 6 or seconds == 0 else "<0.1"


def source_lines(cost: Cost) -> list[str]:
    """Where tokens and minutes come from, or that nothing tells."""
    owing = [unit for unit in cost.units if unit.n_owed]
    if not owing:
        return ["Everything is in the store: nothing would be generated."]
    lines = []
    for what, name in (("Tokens", "tokens"), ("Minutes", "seconds")):
        rates = [(unit.task, getattr(unit, name)) for unit in owing]
        found = dict.fromkeys(f"{task}: {rate.source}" for task, rate in rates if rate is not None)
        lines += [f"{what} of {source}" for source in found]
        missing = dict.fromkeys(task for task, rate in rates if rate is None)
        if missing:
            why = "" if name == "tokens" else f" with {cost.backend}"
            lines.append(f"{what} of {', '.join(missing)}: not known, as the store has no finished run{why}")
    if any(unit.tokens or unit.seconds for unit in owing):
        lines.append("Estimates are means a rollout of those runs; minutes leave out the start of the engine.")
    return lines
