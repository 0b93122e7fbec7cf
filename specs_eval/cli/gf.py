"""``specs-eval gf``: does what the checkpoints learned hold when the instructions change?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from specs_eval.analysis.generalization import DEFAULT_BETA, GAINS, Gain
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.series import GeneralizationSeries
from specs_eval.cli.analysis_options import analysis_options
from specs_eval.cli.charts import Line, curve_chart, has_unicode, printable, results_console
from specs_eval.cli.gf_answer import Answer, Question, answer_gf
from specs_eval.cli.result_tables import gf_table
from specs_eval.errors import EXIT_INCOMPLETE


@click.command()
@click.option("--id", "id_task", required=True, metavar="TASK", help="In-distribution task: the trained instruction.")
@click.option(
    "--ood", "ood_task", required=True, metavar="TASK", help="Out-of-distribution task: changed instructions."
)
@click.option("--base", metavar="CKPT", help="Model that training started from: a name, path or series in the store.")
@click.option("--metric", default="score", show_default=True, help="score, or a further metric such as accuracy.")
@click.option("--gain", type=click.Choice(GAINS), help="Default: difference with --base, else score.")
@click.option(
    "--beta", type=float, default=DEFAULT_BETA, show_default=True, help="OOD weighs beta^2 times as much as ID."
)
@analysis_options
def gf(
    id_task: str,
    ood_task: str,
    base: str | None,
    metric: str,
    gain: Gain | None,
    beta: float,
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
    """
    resampling = Resampling(bootstrap, level, seed)
    question = Question(
        store, id_task, ood_task, base, series, metric, gain, beta, selects, allow_incomplete, resampling
    )
    answer = answer_gf(question)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), indent=2, allow_nan=False))
    else:
        show(answer, results_console())
    if all(point.gf is None for one in answer.series for point in one.points if not point.is_base):
        sys.exit(EXIT_INCOMPLETE)


def show(answer: Answer, console: Console) -> None:
    """Tables, curves and what they mean."""
    console.print(Text(f"GF of {answer.metric}: ID {answer.id_task}, OOD {answer.ood_task}", "bold"))
    for series in answer.series:
        console.print()
        console.print(Text(f"Series {printable(series.series)}", "bold"))
        console.print(gf_table(series, console))
        chart = _chart(series, has_unicode(console))
        if chart is not None:
            console.print(chart)
    console.print()
    console.print(Text(answer.explanation()))
    console.print(Text(answer.provenance(), "dim"))
    for note in (*answer.notes, *_reasons(answer.series)):
        console.print(Text(f"Note: {printable(note)}", "yellow"))


def _chart(series: GeneralizationSeries, unicode: bool) -> Text | None:
    """ID, OOD and GF against step; None where there are no two steps."""
    stepped = [point for point in series.points if point.step is not None]
    if len({point.step for point in stepped}) < 2:
        return None

    def points(values: Sequence[float | None]) -> tuple[tuple[float, float], ...]:
        pairs = zip(stepped, values, strict=True)
        return tuple((float(point.step or 0), value) for point, value in pairs if value is not None)

    lines = [
        Line("I", "ID %", "cyan", points([point.id.value for point in stepped])),
        Line("O", "OOD %", "magenta", points([point.ood.value for point in stepped])),
        Line("G", "GF", "bold green", points([point.gf for point in stepped])),
    ]
    return curve_chart([line for line in lines if line.points], unicode=unicode)


def _reasons(all_series: Sequence[GeneralizationSeries]) -> list[str]:
    """Why GF or its interval is missing, where it is not for being the base."""
    found = [
        f"{point.checkpoint}: {'no GF' if point.gf is None else 'no interval of GF'}: {point.reason}"
        for series in all_series
        for point in series.points
        if point.reason is not None and not (point.is_base and point.gf is not None)
    ]
    return list(dict.fromkeys(found))
