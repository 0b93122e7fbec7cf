"""``specs-eval rescore``: score stored responses again, without a model."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.judge_options import judge_facts, judge_options
from specs_eval.cli.run import STORE_OPTION
from specs_eval.errors import EXIT_INCOMPLETE, ConfigError, TaskDataError

if TYPE_CHECKING:
    from specs_eval.rescoring import Rescored
    from specs_eval.store import RunStore, StoredRun
    from specs_eval.task import Task
    from specs_eval.tasks.judging import Judge
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
@judge_options
@click.option("--dry-run", is_flag=True, help="Show what would change and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON on stdout.")
def rescore(
    runs: tuple[str, ...],
    store: Path,
    profile: Profile | None,
    data_dir: Path | None,
    dry_run: bool,
    as_json: bool,
    judge: Judge | None,
) -> None:
    """Score stored runs again by today's rules, and show what changed and why.

    RUN is a run's id or folder; without any, all runs of --store. Responses, tokens and statistics stay as they are.
    With another profile or judge the new scores are a run beside the old one. Exits 3 when the judge failed on any.

    \b
    specs-eval rescore --store runs --dry-run
    """
    from specs_eval.rescoring import rescore as score_again
    from specs_eval.rescoring import would_lose_scores

    path, chosen = _chosen(runs, store)
    reports = []
    for run in chosen:
        wanted = Wanted(profile, judge, data_dir)
        task, samples, note = _task(run, wanted)
        rescored = score_again(run, task, samples)
        written = None
        if not dry_run and would_lose_scores(path, rescored, _version(run, task)):
            note = "not written: the judge failed on rollouts that it scored before; try again"
        elif not dry_run:
            written = _save(path, rescored, task, keep_old=wanted.beside(run))
        reports.append(_report(rescored, written, note))
        if not as_json:
            _show(rescored, written, note)
    if as_json:
        facts = {"dry_run": dry_run, "runs": reports}
        click.echo(json.dumps(facts if judge is None else {**facts, "judge": judge_facts(judge)}, indent=2))
    sys.exit(EXIT_INCOMPLETE if any(report["n_judge_failed"] for report in reports) else 0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How runs are to be scored."""

    profile: Profile | None
    """None: each run's own."""
    judge: Judge | None
    data_dir: Path | None

    def beside(self, run: StoredRun) -> bool:
        """Whether the new scores are not the old ones brought up to date but other ones, that stand beside them."""
        from specs_eval.tasks.profiles import judged_by

        other_judge = self.judge is not None and judged_by(run.manifest.task_version) != self.judge.options.model
        return self.profile is not None or other_judge


def _chosen(names: tuple[str, ...], store_path: Path) -> tuple[RunStore, list[StoredRun]]:
    """The store and the runs in it that are meant.

    Raises:
        ConfigError: no store, or no such run in it; the runs that there are are named.
    """
    from specs_eval.importing.writing import BACKEND_PREFIX
    from specs_eval.store import RunStore
    from specs_eval.task_names import QUESTIONS_PREFIX

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
    imported = {name for name, run in runs.items() if run.manifest.backend.startswith(BACKEND_PREFIX)}
    training = {name for name, run in runs.items() if run.manifest.task.startswith(QUESTIONS_PREFIX)}
    for name in names:
        if name in imported:
            raise ConfigError(f"{name} was imported; its scores come from the log, and there is no scorer to ask again")
        if name in training:
            raise ConfigError(f"{name} answers training questions, which only the command that loads them can score")
    return store, [runs[name] for name in names or runs if name not in imported | training]


def _task(run: StoredRun, wanted: Wanted) -> tuple[Task, dict[str, Any] | None, str | None]:
    """The task of a run, its samples where what the run kept does not suffice, and a note for the user.

    Raises:
        ConfigError: the task has no profiles, or the run was scored with a judge and none is given.
    """
    from specs_eval.tasks.profiles import judged_by, profile_of
    from specs_eval.tasks.registry import get_task

    name, version = run.manifest.task, run.manifest.task_version
    known_judge = judged_by(version)
    if known_judge is not None and wanted.judge is None:
        raise ConfigError(
            f"{run.run_id} was scored with the judge {known_judge}; give --judge URL --judge-model {known_judge} (with "
            "the --judge-cache of that run nothing is asked twice), or name the runs to rescore without it"
        )
    profile = wanted.profile or profile_of(version)
    task = get_task(name, wanted.data_dir, profile=profile, judge=wanted.judge)
    if wanted.profile is not None and not hasattr(task, "profile"):
        raise ConfigError(f"task {task.name} has no scoring profiles; leave --profile out")
    sees_images = getattr(task, "judge", None) is not None and "megabench" in task.name
    if sees_images or type(task).__module__.startswith("specs_eval.tasks.lmms"):
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
        "n_judge_failed": rescored.n_judge_failed,
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
