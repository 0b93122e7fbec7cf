"""GF as rich tables: the checkpoints of a series, two series beside each other, GF against final performance."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.final_performance import FinalPerformance
from specs_eval.analysis.series import GeneralizationPoint, GeneralizationSeries
from specs_eval.analysis.series_difference import Difference, SeriesDifference, StepDifference
from specs_eval.cli.cells import fitting, name_cell, percent_cell, result_table, spacer, unscored_cells, value_cell


def gf_table(series: GeneralizationSeries, console: Console) -> Table:
    """ID, OOD, gains and GF of each checkpoint, in step order."""
    failed = any(point.id.n_unscored + point.ood.n_unscored for point in series.points)

    def build(compact: bool) -> Table:
        gains = [] if compact or series.gain == "score" else ["Gain ID", "Gain OOD"]
        headings = ["ID %", "OOD %", *gains, "GF", "n ID / OOD", *(["Unscored"] if failed else [])]
        table = result_table(console, ["Step"], headings)
        for point in series.points:
            gain_cells = [_signed(point.id_gain), _signed(point.ood_gain)] if gains else []
            table.add_row(
                _step(point),
                percent_cell(point.id, compact),
                percent_cell(point.ood, compact),
                *gain_cells,
                _factor(point, compact),
                Text(f"{point.id.n_samples:,} / {point.ood.n_samples:,}"),
                *unscored_cells(point.id.n_unscored + point.ood.n_unscored, failed),
            )
        return table

    return fitting(build, console)


def _step(point: GeneralizationPoint) -> Text:
    if point.is_base:
        return Text("0 (base)")
    return name_cell(point.checkpoint) if point.step is None else Text(f"{point.step:,}")


def _factor(point: GeneralizationPoint, compact: bool) -> Text:
    text = value_cell(point.gf, point.interval, compact, 100, 1)
    if point.regressed:
        text.append(f"{spacer(compact)}regressed: {', '.join(role.upper() for role in point.regressed)}", "red")
    return text


def _signed(value: float | None) -> Text:
    return Text("-", "dim") if value is None else Text(f"{100 * value:+.1f}", "red" if value < 0 else "")


def difference_table(steps: Sequence[StepDifference], console: Console) -> Table:
    """Differences of ID, OOD and GF at each step in percentage points; a star where the interval excludes 0."""

    def build(compact: bool) -> Table:
        table = result_table(console, ["Step"], ["ID", "OOD", "GF", "p (GF)"])
        for one in steps:
            step = Text("-" if one.step is None else f"{one.step:,}")
            cells = [difference_cell(each, compact) for each in (one.id, one.ood, one.gf)]
            table.add_row(step, *cells, p_cell(one.gf.p_value))
        return table

    return fitting(build, console)


def difference_cell(difference: Difference, compact: bool) -> Text:
    """A difference in percentage points with its interval, starred where that excludes 0."""
    text = value_cell(difference.value, difference.interval, compact, 100, 1, signed=True)
    text.append("*" if difference.excludes_zero else " ", "bold green")
    return text


def p_cell(p_value: float | None) -> Text:
    """A p value to the digits that a bootstrap can give."""
    if p_value is None:
        return Text("-", "dim")
    return Text("<0.001" if p_value < 0.001 else f"{p_value:.3f}")


def final_table(final: FinalPerformance, console: Console) -> Table:
    """GF and final performance of each series."""
    several = len(final.tasks) > 1

    def build(compact: bool) -> Table:
        names = [] if compact or not several else [f"{task} %" for task in final.tasks]
        with_end = any(point.end != point.checkpoint for point in final.points)
        left = ["Series", "Checkpoint", *(["Final of"] if with_end else [])]
        table = result_table(console, left, ["GF", *names, "Mean %" if several else f"{final.tasks[0]} %", "n"])
        for point in final.points:
            labels = [point.series, point.checkpoint, *([point.end] if with_end else [])]
            table.add_row(
                *map(name_cell, labels),
                value_cell(point.gf, point.gf_interval, compact, 100, 1),
                *([percent_cell(task.score, compact) for task in point.tasks] if names else []),
                percent_cell(point.final, compact),
                Text(f"{point.final.n_samples:,}"),
            )
        return table

    return fitting(build, console)


def shown_steps(pair: SeriesDifference, most: int) -> tuple[StepDifference, ...]:
    """At most so many steps, spread over all, first and last among them."""
    steps = pair.steps
    if len(steps) <= most:
        return steps
    return tuple(steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most))
