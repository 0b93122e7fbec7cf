"""``specs-eval report``: the page that one would have made by hand, and the same numbers for a PR, a table or a paper."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specs_eval.analysis.generalization import DEFAULT_BETA, GAINS, Gain
from specs_eval.analysis.resampling import Resampling
from specs_eval.cli.chosen_runs import Choice
from specs_eval.errors import ConfigError

if TYPE_CHECKING:
    from specs_eval.cli.report_answer import Answer

FORMATS = ("html", "md", "json", "parquet", "png", "svg")
_DEFAULT_OUTPUT = {
    "html": "report.html",
    "md": "report.md",
    "json": "report.json",
    "parquet": "report.parquet",
    "png": "figures",
    "svg": "figures",
}


@click.command()
@click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the run store."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; for png and svg a folder.")
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="Default: what the output's name ends with, else html."
)
@click.option("--tasks", metavar="TASK,...", help="Default: all tasks in the store.")
@click.option("--id", "id_tasks", multiple=True, metavar="TASK", help="In-distribution task; repeatable, with --ood.")
@click.option("--ood", "ood_tasks", multiple=True, metavar="TASK", help="Default: X_formats_id with X_formats_ood.")
@click.option("--base", metavar="CKPT", help="Default: the one checkpoint without a step.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    metavar="SERIES=CKPT",
    help="What a series was trained from, where that is not the base: its curves of ID, OOD and GF start there.",
)
@click.option("--gain", type=click.Choice(GAINS), help="How GF reads performance. Default: difference with a base.")
@click.option("--beta", type=float, default=DEFAULT_BETA, show_default=True, help="Weight of OOD in GF.")
@click.option(
    "--final",
    metavar="TASK,...",
    help="Set GF against the mean of these. Default: tasks outside the pairs, from three methods on.",
)
@click.option("--series", multiple=True, metavar="NAME", help="Only this series; repeatable. The base is always shown.")
@click.option(
    "--select", "selects", multiple=True, metavar="FIELD=VALUE", help="Only runs with this setting, as in gf."
)
@click.option("--allow-incomplete", is_flag=True, help="Also show runs that are not finished.")
@click.option(
    "--training", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help="Training logs; repeatable."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Benchmark data, for thumbnails of its images.")
@click.option("--images/--no-images", default=True, show_default=True, help="Thumbnails in the sample browser.")
@click.option(
    "--max-mb", type=float, default=8.0, show_default=True, help="Size of the page, plotly.js (2.0) included."
)
@click.option("--bootstrap", type=int, default=2000, show_default=True, metavar="N", help="Draws of the bootstrap.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Coverage of the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of bootstrap and random samples.")
def report(
    store: Path,
    output: Path | None,
    kind: str | None,
    tasks: str | None,
    id_tasks: tuple[str, ...],
    ood_tasks: tuple[str, ...],
    base: str | None,
    starts: tuple[str, ...],
    gain: Gain | None,
    beta: float,
    final: str | None,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    training: tuple[Path, ...],
    data_dir: Path | None,
    images: bool,
    max_mb: float,
    bootstrap: int,
    level: float,
    seed: int,
) -> None:
    """One offline HTML page on all checkpoints of a store; or Markdown, data, figures.

    \b
    specs-eval report -o report.html
    specs-eval report --format md -o summary.md
    specs-eval report --format svg -o figures/
    """
    from specs_eval.cli.report_answer import Question, answer_report
    from specs_eval.cli.report_pictures import Pictures
    from specs_eval.cli.report_writing import Target, write_report

    started = time.monotonic()
    if len(id_tasks) != len(ood_tasks):
        raise ConfigError(f"--id and --ood come in pairs; there are {len(id_tasks)} and {len(ood_tasks)}")
    chosen = kind or _kind_of(output)
    target = Target(output or Path(_DEFAULT_OUTPUT[chosen]), chosen, max_mb, seed, Pictures(data_dir, images))
    target.check()
    question = Question(
        store=store,
        pairs=tuple(zip(id_tasks, ood_tasks, strict=True)),
        base=base,
        tasks=tasks,
        gain=gain,
        beta=beta,
        final=final,
        choice=Choice(series, selects, allow_incomplete),
        resampling=Resampling(bootstrap, level, seed),
        training=training,
        starts=starts,
    )
    answer = answer_report(question)
    for sentence in write_report(answer, target):
        click.echo(sentence)
    _say(answer, time.monotonic() - started)


def _kind_of(output: Path | None) -> str:
    """The format that a file name tells."""
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    return {"markdown": "md", "htm": "html", "": "html"}.get(suffix, suffix if suffix in FORMATS else "html")


def _say(answer: Answer, seconds: float) -> None:
    """What was shown, and what was not: on stderr, so that stdout names files alone."""
    from specs_eval.analysis.report.wording import counted

    content = answer.content
    checkpoints = counted(len({run.checkpoint for run in content.runs}), "checkpoint")
    click.echo(f"{checkpoints}, {counted(len(content.runs), 'run')}, {seconds:.1f} s.", err=True)
    problems = [
        f"no GF of {pair.id_task} and {pair.ood_task}: {pair.problem}" for pair in content.pairs if pair.problem
    ]
    for note in (*content.notes, *problems):
        click.echo(f"Note: {''.join(char if char.isprintable() else '?' for char in note)}", err=True)
