"""``specs-eval explore``: how much room to explore is left in each checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from specs_eval.analysis.exploration import Exploration
from specs_eval.analysis.exploration import explore as explore_rollouts
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import Rollouts
from specs_eval.cli.analysis_options import analysis_options
from specs_eval.cli.charts import printable, results_console
from specs_eval.cli.reading import metric_names, read_rollouts, stored_runs
from specs_eval.cli.result_tables import ExplorationRow, solving_table, variety_table
from specs_eval.cli.selection import CheckpointKey, check_complete, check_series, runs_of_task, several_runs, tasks_in
from specs_eval.errors import ConfigError
from specs_eval.store import StoredRun

_PREFERRED = ("accuracy", "score")
"""What counts as correct unless the user says: where the score is about form, accuracy is about the answer."""


@dataclass(frozen=True, slots=True)
class Explored:
    """The exploration of one run."""

    checkpoint: str
    series: str
    step: int | None
    task: str
    metric: str
    """What decides whether a rollout is correct."""
    temperature: float | None
    run: str
    result: Exploration

    def label(self) -> str:
        """Series and step, or the name where there is no step."""
        return self.checkpoint if self.step is None else f"{self.series} {self.step}"

    def to_dict(self) -> dict[str, object]:
        """The numbers as plain JSON types."""
        return {
            "checkpoint": self.checkpoint,
            "series": self.series,
            "step": self.step,
            "task": self.task,
            "metric": self.metric,
            "temperature": self.temperature,
            "run": self.run,
            **self.result.to_dict(),
        }


@click.command()
@click.option("--tasks", "task_list", metavar="TASK,...", help="Default: all tasks in the store.")
@click.option("--metric", help="What makes a rollout correct. Default: accuracy where there is one, else score.")
@click.option("--threshold", type=float, default=1.0, show_default=True, help="Correct from this value of it on.")
@click.option("--k", "k_list", metavar="K,...", help="Default: 1, 2, 4 ... up to the rollouts a sample.")
@analysis_options
def explore(
    task_list: str | None,
    metric: str | None,
    threshold: float,
    k_list: str | None,
    store: Path,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    bootstrap: int,
    level: float,
    seed: int,
    as_json: bool,
) -> None:
    """pass@k, unsolvable share, majority vote, branching factor, entropy and variety of answers.

    \b
    specs-eval explore --tasks formats_ood --series dpo
    """
    ks = _parse_ks(k_list)
    resampling = Resampling(bootstrap, level, seed)
    runs = _chosen(store, task_list, series, selects)
    check_complete(runs, allow_incomplete)
    explored = [_explored(run, metric, threshold, ks, resampling) for run in runs]
    notes = [*several_runs(runs), *_notes(explored)]
    if as_json:
        facts = {
            "command": "explore",
            "level": level,
            "n_draws": bootstrap,
            "seed": seed,
            "runs": [one.to_dict() for one in explored],
            "notes": notes,
        }
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        show(explored, notes, resampling, results_console())


def show(explored: list[Explored], notes: list[str], resampling: Resampling, console: Console) -> None:
    """Two tables a task: what is solved, and how varied the rollouts are."""
    groups: dict[tuple[str, str, float | None], list[ExplorationRow]] = {}
    for one in explored:
        key = (one.task, one.metric, one.temperature)
        groups.setdefault(key, []).append(ExplorationRow(one.label(), one.result))
    for (task, metric, temperature), rows in groups.items():
        console.print()
        correct = f"correct = {metric} >= {rows[0].result.threshold:g}"
        drawn = "temperature not known" if temperature is None else f"temperature {temperature:g}"
        console.print(Text(printable(f"{task}  ({correct}, {drawn})"), "bold"))
        console.print(solving_table(rows, console))
        console.print(variety_table(rows, console))
    console.print(
        Text(
            "pass@k: a share of samples that one of k rollouts solves (unbiased); unsolvable@k: those that none solves; "
            "maj@k: those that the majority solves. RBF: tokens in the 95 % nucleus, averaged over positions."
        )
    )
    console.print(
        Text(
            f"{100 * resampling.level:g} % intervals: shares by Wilson at the effective sample size, the rest by a cluster "
            f"bootstrap ({resampling.n_draws:,} draws, seed {resampling.seed}).",
            "dim",
        )
    )
    for note in notes:
        console.print(Text(f"Note: {printable(note)}", "yellow"))


def _chosen(store: Path, task_list: str | None, series: tuple[str, ...], selects: tuple[str, ...]) -> list[StoredRun]:
    """The runs to look at, by task as asked for, then by series and step."""
    stored = stored_runs(store)
    tasks = tasks_in(stored) if task_list is None else [name.strip() for name in task_list.split(",") if name.strip()]
    if not tasks:
        raise ConfigError("--tasks names no task")
    check_series(series, (run.manifest.checkpoint.series for run in stored))
    chosen: list[StoredRun] = []
    for task in tasks:
        found = [
            run for run in runs_of_task(stored, task, selects) if not series or run.manifest.checkpoint.series in series
        ]
        chosen += sorted(found, key=lambda run: (CheckpointKey.of(run.manifest), run.run_id))
    if not chosen:
        raise ConfigError(f"no run of {', '.join(tasks)} in series {', '.join(series)}")
    return list({run.run_id: run for run in chosen}.values())


def _explored(
    run: StoredRun, metric: str | None, threshold: float, ks: tuple[int, ...] | None, resampling: Resampling
) -> Explored:
    name, rollouts = _correctness(run, metric)
    manifest = run.manifest
    return Explored(
        checkpoint=manifest.checkpoint.name,
        series=manifest.checkpoint.series,
        step=manifest.checkpoint.step,
        task=manifest.task,
        metric=name,
        temperature=manifest.sampling.temperature,
        run=run.run_id,
        result=explore_rollouts(rollouts, ks=ks, threshold=threshold, resampling=resampling),
    )


def _correctness(run: StoredRun, metric: str | None) -> tuple[str, Rollouts]:
    """The metric that decides and the rollouts with it."""
    asked = _PREFERRED if metric is None else (metric,)
    found = read_rollouts(run, asked, statistics=True)
    for name in asked:
        if name in found:
            return name, found[name]
    manifest = run.manifest
    raise ConfigError(
        f"{manifest.checkpoint.name} on {manifest.task} has no metric {metric!r}; it has: {', '.join(metric_names(run))}"
    )


def _parse_ks(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        ks = tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise ConfigError(f"--k takes whole numbers such as 1,4,8, not {text!r}") from error
    if not ks or ks[0] < 1:
        raise ConfigError(f"--k takes numbers from 1 on, not {text!r}")
    return ks


def _notes(explored: list[Explored]) -> list[str]:
    """What is missing and how to get it, each sentence once, with the runs that it is about."""
    about: dict[str, list[str]] = {}
    for one in explored:
        for reason in _missing(one):
            about.setdefault(reason, []).append(f"{one.checkpoint} on {one.task}")
    return [f"{reason} ({_some(names)})" for reason, names in about.items()]


def _missing(one: Explored) -> list[str]:
    result = one.result
    reasons = []
    for what, estimate in (
        ("RBF", result.rbf),
        ("entropy", result.entropy),
        ("distinct answers", result.distinct),
        *((f"pass@{at.k}", at.pass_at_k) for at in result.at_k),
        *((f"maj@{at.k}", at.majority) for at in result.at_k),
    ):
        if estimate.value is None and estimate.reason is not None:
            reasons.append(f"no {what}: {estimate.reason}")
    if one.temperature == 0 and result.most_rollouts > 1:
        reasons.append("temperature 0: all rollouts of a sample are the same; use --temperature 1 to see exploration")
    if result.fewest_rollouts != result.most_rollouts:
        reasons.append("samples differ in scored rollouts; each pass@k is over the samples that have k")
    return reasons


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
