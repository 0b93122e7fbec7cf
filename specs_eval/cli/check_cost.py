"""``specs-eval check --run --dry-run``: what would be evaluated, like what, and what it would take."""

from __future__ import annotations

import json
from pathlib import Path

import click

from specs_eval.cli.check_missing import Owed
from specs_eval.cli.check_run import Plan, evaluations_of
from specs_eval.cli.check_run_options import Running
from specs_eval.cost import Cost, estimate_cost, runs_at
from specs_eval.fingerprint import Fingerprinter
from specs_eval.store import MARKER


def show_plan(plan: Plan, store: Path, running: Running, as_json: bool) -> None:
    """Print what is missing and its cost. Nothing is loaded, and nothing written.

    Raises:
        ConfigError, ComparisonError: it could not be evaluated: no such task or backend, other data, files that are gone.
    """
    if not as_json:
        # First, as what follows needs the tasks' data and the checkpoints' files, and may end in an error.
        click.echo("\n".join(plan_lines(plan)))
    cost = owed_cost(plan, store, running)
    if as_json:
        facts = {
            "command": "check",
            "dry_run": True,
            "owed": [one.to_dict() for one in plan.owed],
            "cost": None if cost is None else cost.to_dict(),
        }
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
    elif cost is not None:
        from specs_eval.cli.charts import results_console
        from specs_eval.cli.run_cost import print_cost

        print_cost(cost, results_console())


def owed_cost(plan: Plan, store: Path, running: Running) -> Cost | None:
    """What the missing evaluations would take; None: there are none.

    Raises:
        ConfigError, ComparisonError: they could not be made.
    """
    from specs_eval.backends.registry import create_backend
    from specs_eval.runner import evaluation_units

    if not plan.owed:
        return None
    runs = runs_at(store)
    fingerprinter = Fingerprinter(store / "fingerprints.json" if (store / MARKER).exists() else None)
    costs = []
    for one in evaluations_of(plan.owed, fingerprinter, running):
        engine = create_backend(one.backend, one.options)
        try:
            units = evaluation_units(one.checkpoints, one.request)
            costs.append(estimate_cost(units, one.request, runs, engine.numerics))
        finally:
            engine.close()
    backends = dict.fromkeys(cost.backend for cost in costs)
    return Cost(tuple(unit for cost in costs for unit in cost.units), ", ".join(backends))


def plan_lines(plan: Plan) -> list[str]:
    """What would be evaluated, a line each."""
    if plan.same:
        return ["candidate and baseline are the same weights: nothing would be evaluated"]
    return [_line(one) for one in plan.owed] or ["nothing is missing: every gate can be judged on what is stored"]


def _line(owed: Owed) -> str:
    terms, name = owed.terms, owed.contender.side.key.name
    size = f"{'all' if terms.n_samples is None else f'{terms.n_samples:,}'} samples x {terms.n_rollouts} rollouts"
    if owed.n_owed is not None:
        size += f", {owed.n_owed:,} owed"
    if terms.reference is None:
        return f"would evaluate {name} on {terms.task}: {size}; nobody has answered it yet"
    manifest = terms.reference.manifest
    sampling = manifest.sampling
    return (
        f"would evaluate {name} on {terms.task}: {size}, temperature {sampling.temperature}, top_p {sampling.top_p}, "
        f"max_new_tokens {sampling.max_new_tokens}, seed {sampling.seed}, {manifest.backend}, version "
        f"{manifest.task_version}; like {manifest.checkpoint.name}"
    )
