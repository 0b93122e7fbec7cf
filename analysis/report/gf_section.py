"""The section on generalization: ID, OOD and GF along training, as in the SPECS paper's figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from specs_eval.analysis.report.content import Measurement, Pair
from specs_eval.analysis.report.curves import Frame, Look, step_figure
from specs_eval.analysis.report.document import Cell, Figure, Section, Table, Tone
from specs_eval.analysis.report.final_figure import final_figure
from specs_eval.analysis.report.wording import checkpoint_label, estimate_cell, interval_text, number, signed
from specs_eval.analysis.series import GeneralizationPoint, GeneralizationSeries
from specs_eval.analysis.series_difference import Difference
from specs_eval.analysis.statistics import Estimate

_LEAD = (
    "ID is the output format that was trained, OOD the same questions under changed format requirements. A rising ID "
    "curve looks like success; GF rises only where OOD rises with it. Bands are intervals."
)


def gf_section(pairs: tuple[Pair, ...], look: Look) -> Section:
    """A part a pair of tasks: three panels and the table."""
    parts = tuple(_part(number, pair, look) for number, pair in enumerate(pairs))
    notes = () if pairs else ("no pair of an ID and an OOD task in the store; name one with --id and --ood",)
    return Section("gf", "Generalization", _LEAD if pairs else "", notes=notes, parts=parts)


def gf_measurements(pair: Pair) -> Iterator[Measurement]:
    """ID, OOD and GF of each point as rows of the tidy table; the base once."""
    names = f"{pair.id_task} / {pair.ood_task}"
    seen = set()
    for series in pair.series:
        for point in series.points:
            if point.checkpoint not in seen:
                seen.add(point.checkpoint)
                for quantity, estimate in (("id", point.id), ("ood", point.ood), ("gf", gf_estimate(point))):
                    yield _measurement(series, point, quantity, estimate, names)


def gf_estimate(point: GeneralizationPoint) -> Estimate:
    """GF of a point in the form of every other number; n is that of the smaller task."""
    smaller = min(point.id, point.ood, key=lambda one: one.n_samples)
    unscored = point.id.n_unscored + point.ood.n_unscored
    return Estimate(point.gf, None, point.interval, smaller.n_samples, smaller.n_clusters, unscored, point.reason)


def _measurement(
    series: GeneralizationSeries, point: GeneralizationPoint, quantity: str, estimate: Estimate, names: str
) -> Measurement:
    runs = tuple(filter(None, (point.id_run, point.ood_run)))
    return Measurement(quantity, names, point.checkpoint, series.series, point.step, estimate, runs)


def _part(place: int, pair: Pair, look: Look) -> Section:
    title = f"{pair.id_task} against {pair.ood_task}"
    if pair.problem is not None:
        return Section(f"gf-{place}", title, notes=(f"no GF: {pair.problem}",))
    figures = [_panel(place, pair, quantity, look) for quantity in ("id", "ood", "gf")]
    if pair.final is not None and pair.final.points:
        figures.append(final_figure(f"gf-{place}-final", pair.final, look))
    lead = f"{pair.explanation} {pair.provenance}".strip()
    more = (_difference_table(pair),) if pair.differences else ()
    return Section(f"gf-{place}", title, lead, tuple(figures), (_table(pair, look.base),), more, pair.notes)


def _panel(place: int, pair: Pair, quantity: str, look: Look) -> Figure:
    """One of the three panels. Each curve starts at what was trained from; GF in points over the base is 0 there."""
    names = f"{pair.id_task} / {pair.ood_task}"
    points = [
        _measurement(series, point, quantity, _panel_estimate(point, quantity), names)
        for series in pair.series
        for point in _from_its_start(series, pair, look)
    ]
    titles = {"id": f"ID: {pair.id_task}", "ood": f"OOD: {pair.ood_task}", "gf": f"GF ({pair.gain})"}
    y_title = "GF" if quantity == "gf" else f"{pair.metric} %"
    frame = Frame(
        f"gf-{place}-{quantity}",
        titles[quantity],
        quantity,
        y_title=y_title,
        axis="zero" if quantity == "gf" else "share",
    )
    return step_figure(frame, points, look)


def _from_its_start(series: GeneralizationSeries, pair: Pair, look: Look) -> list[GeneralizationPoint]:
    """The points of a series; where it did not start from the base, what it started from stands at step 0 instead."""
    start = look.starts.get(series.series)
    found = [point for other in pair.series for point in other.points if point.checkpoint == start]
    if not found:
        return list(series.points)
    return [replace(found[0], step=0), *(point for point in series.points if not point.is_base)]


def _panel_estimate(point: GeneralizationPoint, quantity: str) -> Estimate:
    return {"id": point.id, "ood": point.ood}.get(quantity) or gf_estimate(point)


def _table(pair: Pair, base: str | None) -> Table:
    gains = () if pair.gain == "score" else ("Gain ID", "Gain OOD")
    headings = ("Checkpoint", "ID %", "OOD %", *gains, "GF", "n ID / OOD", "Unscored")
    rows = tuple(
        _row(series.series, point, bool(gains), base)
        for number, series in enumerate(pair.series)
        for point in series.points
        if not (point.is_base and number)
    )
    return Table(f"GF of {pair.metric}, gain read as {pair.gain}, beta {_beta(pair)}", headings, rows)


def _difference_table(pair: Pair) -> Table:
    """Method against method at each common step, and over the whole curve."""
    rows: list[tuple[Cell, ...]] = []
    for one in pair.differences:
        names = f"{one.first} - {one.second}"
        if one.reason is not None:
            rows.append((Cell(names), Cell("–", one.reason), Cell(""), Cell(""), Cell("")))
            continue
        rows.append((Cell(names), Cell("whole curve (area)"), Cell(""), Cell(""), _difference(one.area)))
        rows += [
            (Cell(names), Cell(_step(step.step)), *(_difference(part) for part in (step.id, step.ood, step.gf)))
            for step in one.steps
        ]
    return Table("Methods against each other, points", ("Methods", "Step", "ID", "OOD", "GF"), tuple(rows))


def _step(step: int | None) -> str:
    return "no step" if step is None else f"{step:,}"


def _difference(one: Difference) -> Cell:
    if one.value is None:
        return Cell("–", one.reason or "undefined")
    tone: Tone = "" if not one.excludes_zero else "good" if one.value > 0 else "bad"
    return Cell(signed(one.value, "gf"), interval_text(one.interval, "gf"), tone)


def _beta(pair: Pair) -> str:
    return f"{pair.series[0].beta:g}" if pair.series else ""


def _row(series: str, point: GeneralizationPoint, gains: bool, base: str | None) -> tuple[Cell, ...]:
    gain_cells = (Cell(_signed(point.id_gain)), Cell(_signed(point.ood_gain))) if gains else ()
    return (
        Cell(
            f"{point.checkpoint} (base)" if point.is_base else checkpoint_label(point.checkpoint, series, point.step),
            method=base or "" if point.is_base else series,
        ),
        estimate_cell(point.id, "id"),
        estimate_cell(point.ood, "ood"),
        *gain_cells,
        _gf_cell(point),
        Cell(f"{point.id.n_samples:,} / {point.ood.n_samples:,}"),
        Cell(f"{point.id.n_unscored + point.ood.n_unscored:,}"),
    )


def _signed(value: float | None) -> str:
    return "–" if value is None else signed(value, "gain")


def _gf_cell(point: GeneralizationPoint) -> Cell:
    if point.gf is None:
        return Cell("–", point.reason or "undefined")
    if point.regressed:
        return Cell(number(point.gf, "gf"), f"regressed: {', '.join(role.upper() for role in point.regressed)}", "bad")
    return Cell(number(point.gf, "gf"), interval_text(point.interval, "gf"))
