"""``specs-eval rescore``: score stored responses again, without a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.run import STORE_OPTION
from specs_eval.errors import ConfigError, TaskDataError

if TYPE_CHECKING:
    from specs_eval.rescoring import Rescored
    from specs_eval.store import RunStore, StoredRun
    from specs_eval.task import Task
    from specs_eval.tasks.profiles import Profile

MAX_EXAMPLES = 8
MAX_JSON_CHANGES = 10_000


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@STORE_OPTION
@click.option(
    "--profile", type=click.Choice(["official", "reasoning"]), help="Score under this profile, as a run beside."
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA", help="Where benchmark data lies."
)
@click.option("--dry-run", is_flag=True, help="Show what would change and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON on stdout.")
def rescore(
    runs: tuple[str, ...], store: Path, profile: Profile | None, data_dir: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Score stored runs again by today's rules, and show what changed and why.

    RUN is a run's id or folder; without any, all runs of --store. Responses, tokens and statistics stay as they are.

    \b
    specs-eval rescore --store runs --dry-run
    """
    from specs_eval.rescoring import rescore as score_again

    path, chosen = _chosen(runs, store)
    reports = []
    for run in chosen:
        task, samples, note = _task(run, profile, data_dir)
        rescored = score_again(run, task, samples)
        written = None if dry_run else _save(path, rescored, task, keep_old=profile is not None)
        reports.append(_report(rescored, written, note))
        if not as_json:
            _show(rescored, written, note)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "runs": reports}, indent=2))


def _chosen(names: tuple[str, ...], store_path: Path) -> tuple[RunStore, list[StoredRun]]:
    """The store and the runs in it that are meant.

    Raises:
        ConfigError: no store, or no such run in it; the runs that there are are named.
    """
    from specs_eval.store import RunStore

    folders = [Path(name) for name in names]
    if folders and all((folder / "manifest.json").is_file() for folder in folders):
        parents = {folder.resolve().parent for folder in folders}
        if len(parents) != 1:
            raise ConfigError("the runs lie in several stores; rescore one store at a time")
        store_path, names = parents.pop(), tuple(folder.resolve().name for folder in folders)
    store = RunStore.open(store_path)
    runs = {run.run_id: run for run in store.runs()}
    unknown = [name for name in names if name not in runs]
    if unknown:
        raise ConfigError(f"no run {unknown[0]!r} in {store_path}; there are: {', '.join(runs) or 'none'}")
    return store, [runs[name] for name in names] if names else list(runs.values())


def _task(
    run: StoredRun, profile: Profile | None, data_dir: Path | None
) -> tuple[Task, dict[str, Any] | None, str | None]:
    """The task of a run, its samples where what the run kept does not suffice, and a note for the user."""
    from specs_eval.tasks.profiles import PROFILES
    from specs_eval.tasks.registry import get_task

    own = [name for name in PROFILES if f"-{name}-" in run.manifest.task_version]
    task = get_task(run.manifest.task, data_dir, profile=profile or (own[0] if own else "official"))
    if profile is not None and not hasattr(task, "profile"):
        raise ConfigError(f"task {task.name} has no scoring profiles; leave --profile out")
    if type(task).__module__.startswith("specs_eval.tasks.lmms"):
        return task, {sample.sample_id: sample for sample in task.samples()}, None
    return task, None, None


def _save(store: RunStore, rescored: Rescored, task: Task, *, keep_old: bool) -> StoredRun:
    from specs_eval.rescoring import save

    def say(text: str) -> None:
        click.echo(text, err=True)

    return save(store, rescored, _version(rescored.run, task), keep_old=keep_old, on_wait=say)


def _version(run: StoredRun, task: Task) -> str:
    """The task's version: from its data where it is at hand, else the scorer's own part with the stored content hash."""
    old = run.manifest.task_version
    try:
        version = task.version
    except TaskDataError:
        prefix = getattr(task, "scoring_version", None)
        return f"{prefix}-{old.rpartition('-')[2]}" if isinstance(prefix, str) else old
    if version.rpartition("-")[2] != old.rpartition("-")[2] and hasattr(task, "scoring_version"):
        raise ConfigError(
            f"{run.run_id} was asked other questions than the data of {task.name} holds now (version {old}, now "
            f"{version}); give the --data-dir that it was run with"
        )
    return version


def _report(rescored: Rescored, written: StoredRun | None, note: str | None) -> dict[str, Any]:
    from specs_eval.rescoring import change_facts

    return {
        "run": rescored.run.run_id,
        "written": None if written is None else written.run_id,
        "task": rescored.run.manifest.task,
        "n_rollouts": len(rescored.rollouts),
        "n_changed": len(rescored.changes),
        "n_updated": rescored.n_updated,
        "mean_before": rescored.before,
        "mean_after": rescored.after,
        "why": dict(Counter(change.why for change in rescored.changes)),
        "changes": [change_facts(change) for change in rescored.changes[:MAX_JSON_CHANGES]],
        "note": note,
    }


def _show(rescored: Rescored, written: StoredRun | None, note: str | None) -> None:
    run = rescored.run
    click.echo(
        f"{run.run_id}: {len(rescored.changes)} of {len(rescored.rollouts)} scores changed; mean "
        f"{_percent(rescored.before)} -> {_percent(rescored.after)} %"
    )
    for why, n in Counter(change.why for change in rescored.changes).most_common():
        click.echo(f"  {n:>6}  {why}")
    for change in rescored.changes[:MAX_EXAMPLES]:
        reason = f" ({change.reason})" if change.reason else ""
        click.echo(f"    {change.sample_id} #{change.rollout}: {change.before} -> {change.after}{reason}")
    if written is not None and written.run_id != run.run_id:
        click.echo(f"  written as {written.run_id}")
    if note:
        click.echo(f"  {note}")


def _percent(mean: float | None) -> str:
    return "-" if mean is None else f"{100 * mean:.2f}"
