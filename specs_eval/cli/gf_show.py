"""The answer of ``specs-eval gf`` on a terminal: tables, curves, and what they mean in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from rich.console import Console
from rich.text import Text

from specs_eval.analysis.best_checkpoint import BestCheckpoint, Candidate
from specs_eval.analysis.curve_area import CurveArea
from specs_eval.analysis.final_performance import FinalPerformance
from specs_eval.analysis.series import GeneralizationPoint, GeneralizationSeries
from specs_eval.analysis.series_difference import SeriesDifference
from specs_eval.analysis.statistics import Interval
from specs_eval.cli.charts import Line, print_chart, printable
from specs_eval.cli.gf_answer import Answer
from specs_eval.cli.gf_tables import difference_cell, difference_table, final_table, gf_table, p_cell, shown_steps

_MOST_STEPS = 10
"""Rows of a table of differences where there are several."""

_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")


def show(answer: Answer, console: Console) -> None:
    """Tables, curves and what they mean."""
    console.print(Text(printable(f"GF of {answer.metric}: ID {answer.id_task}, OOD {answer.ood_task}"), "bold"))
    for series in answer.series:
        _show_series(series, console)
    if len(answer.series) > 1:
        _show_together(answer.series, console)
    for pair in answer.differences:
        _show_difference(pair, _MOST_STEPS if len(answer.differences) > 1 else len(pair.steps), console)
    if answer.final is not None:
        _show_final(answer.final, console)
    console.print()
    for sentence in (answer.explanation(), *answer.reading_guide()):
        console.print(Text(printable(sentence)))
    console.print(Text(answer.provenance(), "dim"))
    for note in (*answer.notes, *_reasons(answer.series)):
        console.print(Text(f"Note: {printable(note)}", "yellow"))


def _show_series(series: GeneralizationSeries, console: Console) -> None:
    console.print()
    console.print(Text(f"Series {printable(series.series)}", "bold"))
    console.print(gf_table(series, console))
    stepped = [point for point in series.points if point.step is not None]
    if len({point.step for point in stepped}) > 1:
        lines = [
            Line("I", "ID %", "cyan", _curve(stepped, [point.id.value for point in stepped])),
            Line("O", "OOD %", "magenta", _curve(stepped, [point.ood.value for point in stepped])),
            Line("G", "GF", "bold green", _curve(stepped, [point.gf for point in stepped])),
        ]
        print_chart(lines, console)
    console.print(Text(_area_sentence(series.area)))
    console.print(Text(printable(_best_sentence(series.best))))


def _show_together(all_series: Sequence[GeneralizationSeries], console: Console) -> None:
    """The GF curves of all series in one chart, as far as there are letters."""
    lines: list[Line] = []
    for number, series in enumerate(all_series[: len(ascii_uppercase)]):
        stepped = [point for point in series.points if point.step is not None]
        points = _curve(stepped, [point.gf for point in stepped])
        if points:
            mark = ascii_uppercase[len(lines)]
            lines.append(Line(mark, printable(series.series), _STYLES[number % len(_STYLES)], points))
    if len(lines) > 1 and len({step for line in lines for step, _ in line.points}) > 1:
        console.print()
        console.print(Text("GF of all series", "bold"))
        print_chart(lines, console)


def _show_difference(pair: SeriesDifference, most_steps: int, console: Console) -> None:
    console.print()
    console.print(Text(f"{printable(pair.first)} minus {printable(pair.second)}, percentage points", "bold"))
    if pair.reason is not None:
        console.print(Text(f"not compared: {printable(pair.reason)}", "yellow"))
        return
    steps = shown_steps(pair, most_steps)
    if steps:
        console.print(difference_table(steps, console))
    else:
        console.print(Text("no step in common"))
    for sentence in _difference_sentences(pair, len(steps)):
        console.print(sentence)


def _difference_sentences(pair: SeriesDifference, n_shown: int) -> Iterator[Text]:
    ours, theirs = printable(pair.first), printable(pair.second)
    if n_shown < len(pair.steps):
        yield Text(
            f"{n_shown} of {len(pair.steps)} steps; all of them with --series {ours} --series {theirs}, or --json"
        )
    for name, steps in ((ours, pair.only_first), (theirs, pair.only_second)):
        if steps:
            word = "step" if len(steps) == 1 else "steps"
            yield Text(f"Only {name} has {word} {_listed([f'{step:,}' for step in steps], 40)}")
    if pair.area.value is None:
        yield Text(f"No difference of areas: {pair.area.reason}")
        return
    areas = (pair.first_area, pair.second_area)
    text = Text(f"Area under GF, steps {areas[0].first_step:,} to {areas[0].last_step:,}: ")
    text.append(f"{_percent(areas[0].value)} against {_percent(areas[1].value)}: ")
    text.append_text(difference_cell(pair.area, False))
    text.rstrip()
    text.append(f", p {p_cell(pair.area.p_value)}" if pair.area.interval else f"; no interval: {pair.area.reason}")
    yield text


def _show_final(final: FinalPerformance, console: Console) -> None:
    console.print()
    of = f"macro mean of {', '.join(final.tasks)}" if len(final.tasks) > 1 else final.tasks[0]
    which = "last checkpoint" if final.at == "last" else "best checkpoint by GF"
    console.print(Text(printable(f"GF of the {which} against final performance ({of}, {final.metric})"), "bold"))
    if final.points:
        console.print(final_table(final, console))
    console.print(Text(_line_sentence(final)))


def _line_sentence(final: FinalPerformance) -> str:
    line = final.line
    if line.slope is None or line.intercept is None or line.r_squared is None:
        return f"No line: {line.reason}"
    low_high = ""
    if line.slope_interval is not None:
        low_high = f" [{line.slope_interval.low:.3f}, {line.slope_interval.high:.3f}]"
    return (
        f"Least squares: final % = {100 * line.intercept:.2f} + {line.slope:.3f}{low_high} x GF; "
        f"R2 {line.r_squared:.3f} over n = {line.n_points} series"
    )


def _area_sentence(area: CurveArea) -> str:
    if area.value is None or area.first_step is None or area.last_step is None:
        return f"No area under GF: {area.reason}"
    return (
        f"Area under GF, steps {area.first_step:,} to {area.last_step:,}: {_percent(area.value)}"
        f"{_interval(area.interval)} (mean height of the curve)" + (f"; {area.reason}" if area.reason else "")
    )


def _best_sentence(best: BestCheckpoint) -> str:
    if best.gf is None or best.checkpoint is None:
        return f"No best checkpoint: {best.reason}"
    text = f"Best by GF: {_label(best.checkpoint, best.step)} with {_percent(best.gf)}{_interval(best.interval)}"
    if len(best.candidates) == 1:
        return text + ", the only one"
    if best.share_best is None or best.optimism is None:
        return text + f"; how certain is open: {best.reason}"
    text += f", best in {100 * best.share_best:.0f} % of the resamples"
    others = sorted(best.not_told_apart, key=_by_share)
    text += f"; cannot be told apart: {_labels(others)}" if others else "; told apart from all others"
    return text + f"; chosen for being highest, it overstates itself by about {_percent(best.optimism)}"


def _by_share(candidate: Candidate) -> float:
    return -(candidate.share_best or 0.0)


def _label(checkpoint: str, step: int | None) -> str:
    return checkpoint if step is None else f"step {step:,}"


def _labels(candidates: Sequence[Candidate]) -> str:
    if any(one.step is None for one in candidates):
        return _listed([one.checkpoint for one in candidates])
    word = "step" if len(candidates) == 1 else "steps"
    return f"{word} {_listed([f'{one.step:,}' for one in candidates])}"


def _listed(items: Sequence[str], most: int = 12) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" [{_percent(interval.low)}, {_percent(interval.high)}]"


def _curve(points: Sequence[GeneralizationPoint], values: Sequence[float | None]) -> tuple[tuple[float, float], ...]:
    pairs = zip(points, values, strict=True)
    return tuple((float(point.step or 0), value) for point, value in pairs if value is not None)


def _reasons(all_series: Sequence[GeneralizationSeries]) -> list[str]:
    """Why GF or its interval is missing, where it is not for being the base."""
    found = [
        f"{point.checkpoint}: {'no GF' if point.gf is None else 'no interval of GF'}: {point.reason}"
        for series in all_series
        for point in series.points
        if point.reason is not None and not (point.is_base and point.gf is not None)
    ]
    return list(dict.fromkeys(found))
