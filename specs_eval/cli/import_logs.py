"""``specs-eval import``: results that other programs wrote, as runs of the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.run import STORE_OPTION
from specs_eval.errors import ConfigError

if TYPE_CHECKING:
    from specs_eval.importing.imported import ImportedLog, ImportOptions
    from specs_eval.importing.writing import ImportedRun


@click.command(name="import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@STORE_OPTION
@click.option("--checkpoint", metavar="NAME", help="Whose results these are; default: what the log says.")
@click.option("--series", metavar="NAME", help="Series of the checkpoints; default: from the name.")
@click.option("--step", type=click.IntRange(min=0), help="Training step; default: from the name, as in checkpoint-500.")
@click.option("--task", metavar="NAME", help="Name of the task; default: what the log says.")
@click.option(
    "--score-key",
    "score_keys",
    multiple=True,
    metavar="KEY",
    help="Which value is the score, such as acc or FIELD.NAME; repeatable: the first that a sample has.",
)
@click.option("--scale", type=float, metavar="TOP", help="The best score in the log, such as 100. Default: 1.")
@click.option(
    "--filter", "filter_name", metavar="NAME", help="Whose rows count, where lmms-eval applied several filters."
)
@click.option("--category", "categories", multiple=True, metavar="FIELD", help="Further field to keep as a category.")
@click.option("--dry-run", is_flag=True, help="Read everything, say what would be imported, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was imported as JSON on stdout.")
def import_logs(
    paths: tuple[Path, ...],
    store: Path,
    checkpoint: str | None,
    series: str | None,
    step: int | None,
    task: str | None,
    score_keys: tuple[str, ...],
    scale: float | None,
    filter_name: str | None,
    categories: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import results into a run store: logs of lmms-eval, or rows of sample id and score.

    PATH is a samples JSONL or results JSON of lmms-eval (versions 0.2 to 0.7), a folder of them, or a JSONL, CSV or TSV
    file with the columns sample_id and score. All files are read before anything is written. The same results again
    change nothing.

    \b
    specs-eval import out/lmms_logs
    specs-eval import scores.csv --task mybench --checkpoint dpo/checkpoint-500
    """
    from specs_eval.importing.imported import ImportOptions
    from specs_eval.importing.writing import write_log
    from specs_eval.store import RunStore

    options = ImportOptions(checkpoint, series, step, task, score_keys, scale, filter_name, categories)
    logs, notes = read_all(paths, options)
    written: list[ImportedRun] = []
    if not dry_run:
        target = RunStore.create(store)
        written = [write_log(target, log, on_wait=lambda text: click.echo(text, err=True)) for log in logs]
        notes += _several(target, logs)
    facts = [_facts(log, written[place] if written else None) for place, log in enumerate(logs)]
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "runs": facts, "notes": notes}, indent=2, allow_nan=False))
        return
    _show(logs, written, dry_run)
    for note in notes:
        click.echo(f"note: {note}", err=True)


def read_all(paths: Sequence[Path], options: ImportOptions) -> tuple[list[ImportedLog], list[str]]:
    """All runs that the files hold, and what to tell the user about them.

    Raises:
        ConfigError: a file is missing or broken, two say different things about one run, or an option cannot be for all.
    """
    notes: list[str] = []
    logs: list[ImportedLog] = []
    problems: list[str] = []
    for path in _files(paths, notes):
        try:
            logs += _read(path, options)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join([*problems, "Nothing was imported."]))
    by_run: dict[tuple[str, str], ImportedLog] = {}
    for log in logs:
        other = by_run.setdefault((log.checkpoint.name, log.task), log)
        if other is not log and options.checkpoint is not None and other.path != log.path:
            raise ConfigError(
                f"{other.source} and {log.source} are of different models ({other.path}, {log.path}); import them one at "
                "a time to give each a --checkpoint"
            )
    return logs, notes


def _files(paths: Sequence[Path], notes: list[str]) -> list[Path]:
    from specs_eval.importing.lmms_logs import find_samples_files, samples_of_results

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, skipped = find_samples_files(path)
            if not inside:
                raise ConfigError(
                    f"{path} holds no logs of lmms-eval (*_samples_*.jsonl); name files of rows one by one"
                )
            if skipped:
                notes.append(f"{path}: {skipped} other JSON files passed over; name them to import them")
            found += inside
        elif not path.is_file():
            raise ConfigError(f"no such file or folder: {path}")
        elif path.name.endswith("_results.json"):
            found += samples_of_results(path)
        else:
            found.append(path)
    return list({path.resolve(): path for path in found}.values())


def _read(path: Path, options: ImportOptions) -> list[ImportedLog]:
    from specs_eval.importing.lmms_logs import is_samples_file, read_log
    from specs_eval.importing.lmms_rows import LogJudge
    from specs_eval.importing.lmms_samples import imported_log
    from specs_eval.importing.plain_rows import imported_rows
    from specs_eval.tasks.mmmu.lmms_log import NOTE, logged_categories, logged_scores

    if path.suffix == ".json" or (path.suffix == ".jsonl" and is_samples_file(path)):
        mmmu = LogJudge(logged_scores, logged_categories, NOTE)
        return [imported_log(read_log(path), options, [mmmu])]
    if path.suffix in (".jsonl", ".csv", ".tsv"):
        return imported_rows(path, options)
    raise ConfigError(f"{path}: not .jsonl, .json, .csv or .tsv")


def _several(store: Any, logs: Sequence[ImportedLog]) -> list[str]:
    """A sentence for each checkpoint and task that has several runs now."""
    from specs_eval.analysis.stored.selection import several_runs

    touched = {(log.checkpoint.name, log.task) for log in logs}
    runs = [run for run in store.runs() if (run.manifest.checkpoint.name, run.manifest.task) in touched]
    return several_runs(runs)


def _facts(log: ImportedLog, written: ImportedRun | None) -> dict[str, Any]:
    from specs_eval.importing.writing import identity_of

    identity = identity_of(log)
    return {
        "run_id": identity.run_id,
        "status": "read" if written is None else "imported" if written.new else "already in the store",
        "checkpoint": log.checkpoint.name,
        "series": log.checkpoint.series,
        "step": log.checkpoint.step,
        "task": log.task,
        "task_version": identity.task_version,
        "backend": identity.backend,
        "score": log.score_name,
        "n_samples": len(log.samples),
        "n_rollouts": len(log.rollouts),
        "n_unscored": sum(rollout.score is None for rollout in log.rollouts),
        "mean": _mean(log),
        "source": log.source,
        "not_known": list(log.gaps),
        "notes": list(log.notes),
    }


def _mean(log: ImportedLog) -> float | None:
    """Mean over samples of the mean over scored rollouts."""
    by_sample: dict[str, list[float]] = {}
    for rollout in log.rollouts:
        if rollout.score is not None:
            by_sample.setdefault(rollout.sample_id, []).append(rollout.score)
    means = [sum(scores) / len(scores) for scores in by_sample.values()]
    return sum(means) / len(means) if means else None


def _show(logs: Sequence[ImportedLog], written: Sequence[ImportedRun], dry_run: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from specs_eval.cli.charts import printable, results_console

    console = results_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("Checkpoint", "Task", "Score", "Mean %", "n", "Unscored", ""):
        table.add_column(name, justify="right" if name in ("Mean %", "n", "Unscored") else "left", overflow="fold")
    for place, log in enumerate(logs):
        facts = _facts(log, written[place] if written else None)
        mean = facts["mean"]
        cells = (
            log.checkpoint.name,
            log.task,
            log.score_name,
            "-" if mean is None else f"{100 * mean:.2f}",
            f"{facts['n_samples']:,}" + (f" x {log.n_rollouts}" if log.n_rollouts > 1 else ""),
            f"{facts['n_unscored']:,}" if facts["n_unscored"] else "",
            facts["status"],
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    gaps = dict.fromkeys(gap for log in logs for gap in log.gaps)
    console.print(Text(f"Not in the logs, and kept as unknown: {', '.join(gaps)}.", "dim"))
    for log in logs:
        for note in log.notes:
            console.print(Text(printable(f"{log.source}: {note}"), "yellow"))
    if dry_run:
        console.print(Text("Dry run: nothing was written."))
