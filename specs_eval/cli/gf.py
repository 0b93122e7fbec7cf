"""``specs-eval gf``: does what the checkpoints learned hold when the instructions change?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from specs_eval.analysis.final_performance import FINAL_AT, FinalAt
from specs_eval.analysis.generalization import DEFAULT_BETA, GAINS, Gain
from specs_eval.analysis.resampling import Resampling
from specs_eval.cli.analysis_options import analysis_options
from specs_eval.cli.charts import results_console
from specs_eval.cli.gf_answer import Question, answer_gf
from specs_eval.cli.gf_final import FinalQuestion
from specs_eval.cli.gf_show import show
from specs_eval.errors import EXIT_INCOMPLETE


@click.command()
@click.option(
    "--id",
    "id_task",
    required=True,
    metavar="SPLIT",
    help="In distribution, as trained: TASK or TASK[DIMENSION=VALUE].",
)
@click.option(
    "--ood",
    "ood_task",
    required=True,
    metavar="SPLIT",
    help="Out of distribution: another task, or part of the same one.",
)
@click.option("--base", metavar="CKPT", help="Model that training started from: a name, path or series in the store.")
@click.option("--metric", default="score", show_default=True, help="score, or a further metric such as accuracy.")
@click.option("--gain", type=click.Choice(GAINS), help="Default: difference with --base, else score.")
@click.option(
    "--beta", type=float, default=DEFAULT_BETA, show_default=True, help="OOD weighs beta^2 times as much as ID."
)
@click.option(
    "--versus", metavar="SERIES", help="Compare each other series with this one. Default: all pairs of up to four."
)
@click.option(
    "--final", "final_tasks", metavar="SPLIT[,SPLIT...]", help="Set GF against performance on these, with a line."
)
@click.option("--final-metric", default="score", show_default=True, help="Metric of final performance.")
@click.option(
    "--final-at", type=click.Choice(FINAL_AT), default="last", show_default=True, help="Whose GF stands for a series."
)
@click.option(
    "--final-of",
    multiple=True,
    metavar="SERIES=SERIES",
    help="Final performance of the first is that of the second's last checkpoint, such as dpo=dpo_grpo; repeatable.",
)
@analysis_options
def gf(
    id_task: str,
    ood_task: str,
    base: str | None,
    metric: str,
    gain: Gain | None,
    beta: float,
    versus: str | None,
    final_tasks: str | None,
    final_metric: str,
    final_at: FinalAt,
    final_of: tuple[str, ...],
    store: Path,
    series: tuple[str, ...],
    selects: tuple[str, ...],
    allow_incomplete: bool,
    bootstrap: int,
    level: float,
    seed: int,
    as_json: bool,
) -> None:
    """Generalization Factor of each checkpoint of each series, with intervals and curves.

    \b
    specs-eval gf --id formats_id --ood formats_ood --base base
    specs-eval gf --id 'mathvista[skills=algebraic reasoning]' --ood 'mathvista[skills!=algebraic reasoning]'
    specs-eval gf --id formats_id --ood 'formats_ood[format=json|boxed]' --final mathvista,mmmu
    """
    question = Question(
        store,
        id_task,
        ood_task,
        base,
        series,
        metric,
        gain,
        beta,
        selects,
        allow_incomplete,
        Resampling(bootstrap, level, seed),
        versus,
        None if final_tasks is None else FinalQuestion(final_tasks, final_metric, final_at, final_of),
    )
    answer = answer_gf(question)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        show(answer, results_console())
    if all(point.gf is None for one in answer.series for point in one.points if not point.is_base):
        sys.exit(EXIT_INCOMPLETE)
