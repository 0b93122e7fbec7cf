"""``specs-eval plan``: what a check will take, before a GPU is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from specs_eval.analysis.checks.plan_answer import PlannedGate

_TRUTHS = {"equal": "equal", "better": "better by the bound"}


@click.command()
@click.option("--baseline", required=True, metavar="CKPT", help="A pinned name, or a checkpoint of the store.")
@click.option(
    "--policy", "policy_path", type=click.Path(path_type=Path), help="Default: specs-eval.toml here or above."
)
@click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the run store."
)
@click.option(
    "--baselines", "pin_path", type=click.Path(path_type=Path), help="Default: specs-eval-baselines.toml here or above."
)
@click.option("--select", "selects", multiple=True, metavar="FIELD=VALUE", help="Only runs with this temperature, ...")
@click.option("--like", metavar="CKPT", help="A stored checkpoint that differs from the baseline as candidates do.")
@click.option("--discordant", type=float, metavar="SHARE", help="Share of samples on which they differ.")
@click.option("--checks", type=int, default=200, show_default=True, help="Simulated checks a gate and truth.")
@click.option("--allow-incomplete", is_flag=True, help="Also use runs that are not finished.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def plan(
    baseline: str,
    policy_path: Path | None,
    store: Path,
    pin_path: Path | None,
    selects: tuple[str, ...],
    like: str | None,
    discordant: float | None,
    checks: int,
    allow_incomplete: bool,
    as_json: bool,
) -> None:
    """Samples, rollouts and minutes that a policy's gates will take, from what the baseline answered.

    \b
    specs-eval plan --baseline main --policy specs-eval.toml
    """
    from specs_eval.analysis.checks.answer import Question, find_pinned
    from specs_eval.analysis.checks.plan_answer import PlanQuestion, plan_policy
    from specs_eval.analysis.stored.reading import stored_runs
    from specs_eval.analysis.stored.sides import find_side
    from specs_eval.baselines import find_pin_file, load_pins
    from specs_eval.policy import load_policy

    policy, policy_file = load_policy(policy_path)
    runs = stored_runs(store)
    pin_file = pin_path or find_pin_file(Path.cwd())
    pin = load_pins(pin_file).get(baseline)
    asked = Question(store, policy, policy_file, baseline, baseline, pin_file)
    side = find_side(runs, baseline) if pin is None else find_pinned(runs, asked, pin)
    question = PlanQuestion(policy, side, tuple(runs), selects, like, discordant, checks, allow_incomplete)
    planned = plan_policy(question)
    if as_json:
        facts = {
            "command": "plan",
            "baseline": side.key.name,
            "policy_file": str(policy_file),
            "alpha": policy.alpha,
            "beta": policy.beta,
            "seed": policy.seed,
            "gates": [one.to_dict() for one in planned],
        }
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from specs_eval.cli.charts import results_console

    show(planned, results_console())


def show(planned: Sequence[PlannedGate], console: Console) -> None:
    """A row a gate and truth, and what must be known."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from specs_eval.cli.charts import has_unicode, printable

    table = Table(box=box.SIMPLE_HEAD if has_unicode(console) else box.ASCII2, pad_edge=False, collapse_padding=True)
    for heading in ("Gate", "Candidate"):
        table.add_column(heading, overflow="fold")
    for heading in ("Fixed n", "Power", "Sequential n", "90 % within", "Rollouts", "Minutes", "Pass/fail %"):
        table.add_column(heading, justify="right", overflow="fold")
    for one in planned:
        for row in _rows(one):
            table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    console.print(
        Text(
            "Fixed n: samples that a fixed-sample test needs for 90 % power; power: with all samples there are. Sequential n: samples "
            "that 'check --sequential' asks on average. Rollouts and minutes of the candidate on average, as the baseline took.",
            "dim",
        )
    )
    for one in planned:
        console.print(Text(f"{printable(one.gate.title)}: {_told(one)}", "dim"))
        if (warning := one.warning()) is not None:
            console.print(Text(f"{printable(one.gate.title)}: {warning}", "yellow"))


def _told(one: PlannedGate) -> str:
    if one.plan is None:
        return one.difference
    return (
        f"{one.plan.n_samples:,} samples; differences as of {one.difference}; {one.plan.n_simulated:,} simulated checks"
    )


def _rows(one: PlannedGate) -> list[tuple[str, ...]]:
    if one.plan is None:
        return [(one.gate.title, *["-"] * 8)]
    rows: list[tuple[str, ...]] = []
    for number, scenario in enumerate(one.plan.scenarios):
        fixed, sequential = scenario.fixed, scenario.sequential
        minutes = one.minutes(sequential.mean)
        rows.append(
            (
                "" if number else one.gate.title,
                _TRUTHS[scenario.name],
                "never" if fixed.n_samples is None else f"{fixed.n_samples:,}",
                f"{100 * fixed.power:.0f} %",
                f"{sequential.mean:,.0f}",
                f"{sequential.high:,.0f}",
                f"{sequential.mean * one.n_rollouts:,.0f}",
                "?" if minutes is None else f"{minutes:,.1f}",
                f"{100 * sequential.passed:.0f}/{100 * sequential.failed:.0f}",
            )
        )
    return rows
