"""Stuckness as rich tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.stuck_gaps import StuckGap, StuckMeasure
from specs_eval.analysis.stuck_series import StuckPoint, StuckSample, StuckSeries
from specs_eval.analysis.stuckness import Transition
from specs_eval.cli.cells import fitting, name_cell, percent_cell, result_table, unscored_cells, value_cell
from specs_eval.cli.charts import has_unicode, printable

_LONGEST = 40
"""Characters of an answer that a table shows."""

_MEASURES: dict[StuckMeasure, str] = {
    "wrong_mode": "Wrong-mode share",
    "persistence": "Persistence",
    "trained_format": "Trained format",
}


def stuck_table(series: StuckSeries, console: Console) -> Table:
    """Wrong-mode share and formats of each checkpoint, in step order."""
    formats = [point.lock_in for point in series.points if point.lock_in is not None]
    names = ["Lock-in %", "Asked format %", "Neither %"] if any(one.changed for one in formats) else ["Format %"]
    failed = any(point.wrong_mode.n_unscored for point in series.points)

    def build(compact: bool) -> Table:
        shown = (names[:2] if compact else names) if formats else []
        headings = ["Wrong mode %", *shown, "Stuck", "n", *(["Unscored"] if failed else [])]
        table = result_table(console, ["Checkpoint"], headings)
        for point in series.points:
            one = point.lock_in
            found = (None, None, None) if one is None else (one.trained, one.asked, one.neither)
            table.add_row(
                _place(point.checkpoint, point.step),
                percent_cell(point.wrong_mode, compact),
                *(percent_cell(share, compact) for share in found[: len(shown)]),
                Text(f"{len(point.samples):,}"),
                _size(point),
                *unscored_cells(point.wrong_mode.n_unscored, failed),
            )
        return table

    return fitting(build, console)


def transition_table(series: StuckSeries, console: Console) -> Table:
    """What became of the samples from each checkpoint to the next."""
    unjudged = any(one.unjudged for one in series.transitions)

    def build(compact: bool) -> Table:
        headings = ["Stuck, same", "Stuck, other", "Now solved", "Now unsure", "Newly stuck", "Never"]
        if compact:
            headings = ["Same", "Other", "Solved", "Unsure", "New", "Never"]
        headings += ["Unjudged"] if unjudged else []
        table = result_table(console, ["From", "To"], [*headings, "Persistence %"])
        for one in series.transitions:
            counts = [
                one.stuck_same,
                one.stuck_other,
                one.unstuck_solved,
                one.unstuck_other,
                one.newly_stuck,
                one.never,
            ]
            table.add_row(
                _place(one.before, one.before_step),
                _place(one.after, one.after_step),
                *(Text(f"{count:,}") for count in (*counts, *([one.unjudged] if unjudged else []))),
                percent_cell(one.persistence, compact),
            )
        return table

    return fitting(build, console)


def gap_table(gaps: Sequence[StuckGap], console: Console) -> Table:
    """ID against OOD, a row a checkpoint and measure."""

    def build(compact: bool) -> Table:
        table = result_table(console, ["Checkpoint", "Measure"], ["ID %", "OOD %", "OOD - ID (points)"])
        for one in gaps:
            difference = value_cell(one.difference.value, one.difference.interval, compact, 100, 1, signed=True)
            table.add_row(
                _place(one.checkpoint, one.step),
                Text(_MEASURES[one.measure]),
                percent_cell(one.id, compact),
                percent_cell(one.ood, compact),
                difference,
            )
        return table

    return fitting(build, console)


def sample_table(samples: Sequence[StuckSample], console: Console) -> Table:
    """Stuck samples with their wrong answer, its share, the target and the number of checkpoints in a row."""
    table = result_table(console, ["Sample", "Wrong answer", "Target"], ["Share %", "Rollouts", "In a row"])
    for one in samples:
        table.add_row(
            name_cell(one.sample_id),
            _cut(one.answer, console),
            Text("-", "dim") if one.target is None else _cut(one.target, console),
            Text(f"{100 * one.share:.1f}"),
            Text(f"{one.n_answer} of {one.n_rollouts}"),
            Text(f"{one.streak}"),
        )
    return table


def transition_of_steps(one: Transition) -> tuple[float, float] | None:
    """(step of the later checkpoint, persistence), for a curve; None where one of them is missing."""
    return None if one.after_step is None or one.persistence.value is None else (one.after_step, one.persistence.value)


def _cut(text: str, console: Console) -> Text:
    clean = printable(text)
    more = "…" if has_unicode(console) else "..."
    return Text(clean if len(clean) <= _LONGEST else clean[: _LONGEST - len(more)] + more)


def _place(checkpoint: str, step: int | None) -> Text:
    return name_cell(checkpoint) if step is None else Text(f"{step:,}")


def _size(point: StuckPoint) -> Text:
    return Text(f"{point.wrong_mode.n_samples:,} x {point.n_rollouts}")
