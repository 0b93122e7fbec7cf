"""The section on stuckness: lock-in to the trained format, wrong modes, and what becomes of stuck samples."""

from __future__ import annotations

from specs_eval.analysis.report.content import Content, Measurement
from specs_eval.analysis.report.curves import Frame, Look, step_figure
from specs_eval.analysis.report.document import Cell, Section, Table
from specs_eval.analysis.report.exploration_sections import by_task_of, of_quantities
from specs_eval.analysis.report.maps import FATE_KEY, flow_figure
from specs_eval.analysis.report.wording import checkpoint_label, estimate_cell, interval_text, signed
from specs_eval.analysis.stuck_series import StuckSeries

_LEAD = (
    "Format lock-in: share of prompts under changed instructions that are answered in the trained format. A sample is stuck "
    "when one wrong answer holds at least 80 % of its rollouts; the wrong-mode share is the share of such samples. The "
    "bars count what becomes of them from one checkpoint to the next: above the line stuck, below it free again."
)
_GAPS = {"wrong_mode gap": "Wrong-mode share", "persistence gap": "Persistence", "trained_format gap": "Trained format"}
_MOST_LISTED = 25
"""Stuck samples that the list of a series names."""


def stuck_section(content: Content, look: Look) -> Section | None:
    """Lock-in, then a part a task; None where nothing of it can be told."""
    parts = tuple(filter(None, (_part(place, task, content, look) for place, task in enumerate(_tasks(content)))))
    locked = tuple(
        step_figure(Frame(f"lock-in-{place}", f"Format lock-in: {task}", "lock_in", axis="zero"), ones, look)
        for place, (task, ones) in enumerate(by_task_of(of_quantities(content.measurements, "lock_in")).items())
    )
    reasons = {
        f"{series.task}: {point.wrong_mode.reason}"
        for series in content.stuck
        for point in series.points
        if point.wrong_mode.reason is not None and point.wrong_mode.value is None
    }
    if not (parts or locked or reasons):
        return None
    more = (_gap_table(content),) if content.gaps else ()
    return Section("stuck", "Stuckness", _LEAD, locked, more=more, notes=tuple(sorted(reasons)), parts=parts)


def _tasks(content: Content) -> list[str]:
    return list(dict.fromkeys(series.task for series in content.stuck))


def _part(place: int, task: str, content: Content, look: Look) -> Section | None:
    points = [one for one in of_quantities(content.measurements, "wrong_mode") if one.task == task]
    if all(one.estimate.value is None for one in points):
        return None
    of_task = [series for series in content.stuck if series.task == task]
    curve = step_figure(
        Frame(f"wrong-mode-{place}", f"Wrong-mode share: {task}", "wrong_mode", axis="zero"), points, look
    )
    flows = [
        flow_figure(f"flow-{place}-{number}", f"{series.series} on {task}: stuck samples", series.transitions)
        for number, series in enumerate(of_task)
        if series.transitions
    ]
    lists = [_stuck_list(series) for series in of_task if series.points[-1].samples]
    return Section(f"stuck-{place}", task, figures=(curve, *flows), more=tuple(lists), key=FATE_KEY if flows else ())


def _stuck_list(series: StuckSeries) -> Table:
    """Samples that are stuck at the last checkpoint, those that have been so for longest first."""
    last = series.points[-1]
    rows = tuple(
        (
            Cell(one.sample_id),
            Cell(one.answer, f"{one.n_answer} of {one.n_rollouts} rollouts"),
            Cell(one.target or "not known"),
            Cell(f"{one.streak}"),
        )
        for one in last.samples[:_MOST_LISTED]
    )
    kept = series.persistence
    pooled = ""
    if kept.value is not None:
        pooled = f"; persistence over the series {100 * kept.value:.0f} % {interval_text(kept.interval, 'persistence')}"
    first = f", the first {len(rows)} of {len(last.samples):,}" if len(last.samples) > len(rows) else ""
    caption = f"{series.series}: {len(last.samples):,} samples stuck at {_last(series)}{first}{pooled}"
    return Table(caption, ("Sample", "Stuck in", "Right answer", "Checkpoints in a row"), rows)


def _last(series: StuckSeries) -> str:
    last = series.points[-1]
    return checkpoint_label(last.checkpoint, series.series, last.step)


def _gap_table(content: Content) -> Table:
    rows = tuple(
        (Cell(one.label, method=one.series), Cell(one.task), Cell(_GAPS.get(one.quantity, one.quantity)), _gap(one))
        for one in content.gaps
    )
    return Table("OOD minus ID, points", ("Checkpoint", "Tasks", "Measure", "Difference"), rows)


def _gap(one: Measurement) -> Cell:
    cell = estimate_cell(one.estimate, one.quantity)
    return cell if one.estimate.value is None else Cell(signed(one.estimate.value, one.quantity), cell.detail)
