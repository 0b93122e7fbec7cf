"""``specs-eval check``: may this candidate replace the baseline?"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specs_eval.cli.check_run_options import Running, run_options
from specs_eval.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from specs_eval.analysis.checks.answer import Answer, Question
    from specs_eval.policy import Policy

_COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}
_STYLES = {"pass": "green", "fail": "bold red", "undecided": "yellow"}


@click.command()
@click.option(
    "--baseline",
    metavar="CKPT",
    help="A pinned name (specs-eval baseline), or a checkpoint of the store.",
)
@click.option(
    "--series",
    metavar="NAME",
    help="Instead of two checkpoints: where along this series the gates' metrics peaked and broke.",
)
@click.option("--candidate", metavar="CKPT", help="A checkpoint of the store; with --run also a folder or hub id.")
@click.option(
    "--policy", "policy_path", type=click.Path(path_type=Path), help="Default: specs-eval.toml here or above."
)
@click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the run store."
)
@click.option(
    "--baselines", "pin_path", type=click.Path(path_type=Path), help="Default: specs-eval-baselines.toml here or above."
)
@click.option(
    "--select",
    "selects",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only runs with this temperature, seed, backend, ...",
)
@click.option("--overlap", is_flag=True, help="Use the samples that both answered, where they differ.")
@click.option("--allow-incomplete", is_flag=True, help="Also use runs that are not finished.")
@click.option("--bootstrap", type=int, default=2000, show_default=True, metavar="N", help="Draws of the bootstrap.")
@run_options
@click.option("--sequential", is_flag=True, help="Look block by block, and stop each gate as soon as it is decided.")
@click.option("--max-samples", type=int, metavar="N", help="With --sequential: samples to ask the candidate at most.")
@click.option("--max-minutes", type=float, metavar="M", help="With --sequential: begin no block after this time.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit XML.")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write Markdown for a pull request; also appended to $GITHUB_STEP_SUMMARY where that is set.",
)
@click.option(
    "--metrics", type=click.Path(path_type=Path), metavar="FILE", help="Write OpenMetrics, GitLab's metrics report."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def check(
    baseline: str | None,
    candidate: str | None,
    series: str | None,
    policy_path: Path | None,
    store: Path,
    pin_path: Path | None,
    selects: tuple[str, ...],
    overlap: bool,
    allow_incomplete: bool,
    bootstrap: int,
    running: Running | None,
    sequential: bool,
    max_samples: int | None,
    max_minutes: float | None,
    junit: Path | None,
    markdown: Path | None,
    metrics: Path | None,
    as_json: bool,
) -> None:
    """Hold a candidate against a baseline and a policy. Exit codes: 0 pass, 1 regression, 2 usage, 3 undecided.

    \b
    specs-eval check --baseline main --candidate dpo/600 --policy specs-eval.toml
    specs-eval check --baseline main --candidate out/dpo/checkpoint-600 --run
    specs-eval check --baseline main --candidate out/dpo/checkpoint-600 --run --sequential --max-minutes 30
    specs-eval check --series dpo
    """
    from specs_eval.analysis.checks.answer import Question, answer_check
    from specs_eval.baselines import find_pin_file
    from specs_eval.policy import load_policy

    if not sequential and (max_samples is not None or max_minutes is not None):
        raise ConfigError("--max-samples and --max-minutes are for --sequential")
    policy, policy_file = load_policy(policy_path)
    if series is not None:
        if baseline or candidate or junit or markdown or metrics or overlap or running or sequential:
            raise ConfigError(
                "--series follows one training run: it takes --policy, --select and --json, and no checkpoints"
            )
        _check_series(store, series, policy, selects, allow_incomplete, bootstrap, as_json)
        return
    if baseline is None or candidate is None:
        raise ConfigError("name --baseline and --candidate, or a --series")
    pin_file = pin_path or find_pin_file(Path.cwd())
    question = Question(
        store, policy, policy_file, baseline, candidate, pin_file, selects, allow_incomplete, overlap, bootstrap
    )
    if running is not None and running.dry_run:
        _show_plan(question, running, as_json)
        return
    if sequential:
        from specs_eval.cli.check_sequential import answer_sequentially

        answer = answer_sequentially(question, running, max_samples, max_minutes)
    else:
        answer = answer_check(question) if running is None else _answer_with_runs(question, running)
    write_outputs(answer, junit, markdown, metrics)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        from specs_eval.cli.charts import results_console

        show(answer, results_console())
    sys.exit(answer.exit_code)


def _show_plan(question: Question, running: Running, as_json: bool) -> None:
    from specs_eval.cli.check_cost import show_plan
    from specs_eval.cli.check_run import make_plan

    show_plan(make_plan(question, running), question.store, running, as_json)


def _answer_with_runs(question: Question, running: Running) -> Answer:
    from specs_eval.cli.check_run import answer_with_runs

    return answer_with_runs(question, running)


def _check_series(
    store: Path,
    series: str,
    policy: Policy,
    selects: tuple[str, ...],
    allow_incomplete: bool,
    n_draws: int,
    as_json: bool,
) -> None:
    from specs_eval.analysis.checks.series import SeriesQuestion, answer_series, find_series
    from specs_eval.analysis.stored.reading import stored_runs

    runs = tuple(stored_runs(store))
    answer = answer_series(SeriesQuestion(runs, find_series(runs, series), policy, selects, allow_incomplete, n_draws))
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        for one in answer.verdicts:
            click.secho(f"{one.outcome:<10}", fg=_COLOURS[one.outcome], nl=False)
            click.echo(f"{one.gate} ({one.rule}): {one.text}")
        click.echo(
            f"{answer.series}: {len(answer.steps)} checkpoints, steps {answer.steps[0]:,} to {answer.steps[-1]:,}"
        )
    sys.exit(answer.exit_code)


def write_outputs(answer: Answer, junit: Path | None, markdown: Path | None, metrics: Path | None) -> None:
    """Files that were asked for, and what a CI system takes by itself.

    Raises:
        StoreError: a file cannot be written.
    """
    from specs_eval.cli.check_outputs import github_lines, to_junit, to_markdown, to_openmetrics

    for path, text in ((junit, to_junit(answer)), (markdown, to_markdown(answer)), (metrics, to_openmetrics(answer))):
        if path is not None:
            _write(path, text, append=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _write(Path(summary), to_markdown(answer), append=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_lines(answer):
            # Workflow commands are read from both streams; stdout is kept for results.
            click.echo(line, err=True)


def show(answer: Answer, console: Console) -> None:
    """The verdicts as a table, what they mean, and the summary last."""
    from rich.text import Text

    from specs_eval.cli.charts import printable

    if answer.verdicts:
        console.print(_table(answer, console))
        policy = answer.policy
        console.print(
            Text(
                f"pass: shown to keep its bound (a bad candidate passes with at most {100 * policy.alpha:g} %). fail: shown to "
                f"break it (a good candidate fails with at most {100 * policy.beta:g} %, Holm over the gates). Changes in points, "
                f"levels in percent, with {100 * answer.verdicts[0].level:g} % intervals.",
                "dim",
            )
        )
    for one in answer.verdicts:
        if one.reason:
            console.print(Text(f"{printable(one.gate)}: {printable(one.reason)}", "yellow"))
    for note in answer.notes:
        console.print(Text(f"Note: {printable(note)}", "yellow"))
    style = "bold red" if answer.exit_code == 1 else "bold yellow" if answer.exit_code else "bold green"
    console.print(Text(printable(answer.summary()), style))


def _table(answer: Answer, console: Console) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from specs_eval.cli.charts import has_unicode, printable
    from specs_eval.cli.check_outputs import estimate_text, p_text, samples_text

    table = Table(box=box.SIMPLE_HEAD if has_unicode(console) else box.ASCII2, pad_edge=False, collapse_padding=True)
    for heading in ("Gate", "Verdict", "Estimate", "Rule"):
        table.add_column(heading, overflow="fold")
    for heading in ("p pass", "p fail", "Samples"):
        table.add_column(heading, justify="right", overflow="fold")
    for one in answer.verdicts:
        table.add_row(
            Text(printable(one.gate)),
            Text(one.outcome, _STYLES[one.outcome]),
            estimate_text(one),
            one.rule,
            p_text(one.p_pass),
            p_text(one.p_fail_adjusted),
            samples_text(one),
        )
    return table


def _write(path: Path, text: str, *, append: bool) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
