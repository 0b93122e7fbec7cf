"""Exploration as rich tables: what is solved, how varied the rollouts are, and how both move along a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.exploration import Exploration
from specs_eval.analysis.movement import Movement, Moving
from specs_eval.analysis.positions import PositionBin
from specs_eval.analysis.solving import AtK
from specs_eval.cli.cells import (
    fitting,
    name_cell,
    number_cell,
    percent_cell,
    result_table,
    unscored_cells,
    value_cell,
)
from specs_eval.cli.charts import has_unicode, sparkline

_QUANTITIES: dict[Moving, tuple[str, int, int]] = {
    "pass_at_1": ("pass@1 %", 100, 1),
    "pass_at_n": ("pass@{k} %", 100, 1),
    "unsolvable_at_n": ("unsolvable@{k} %", 100, 1),
    "rbf": ("RBF", 1, 3),
    "entropy": ("Entropy (nats)", 1, 3),
    "distinct": ("Distinct answers", 1, 2),
    "effective": ("Effective answers", 1, 2),
}
"""Heading, factor and digits of each."""


@dataclass(frozen=True, slots=True)
class ExplorationRow:
    """What the exploration tables say about one run."""

    checkpoint: str
    result: Exploration


def solving_table(rows: Sequence[ExplorationRow], console: Console) -> Table:
    """pass@k for a few k; the unsolvable share and maj@k for the largest."""
    failed = any(row.result.n_unscored for row in rows)

    def build(compact: bool) -> Table:
        ks = _shown_ks(rows, 2 if compact else 4)
        headings = [f"pass@{k} %" for k in ks]
        headings += [heading for k in ks[-1:] for heading in (f"unsolvable@{k} %", f"maj@{k} %")]
        table = result_table(console, ["Checkpoint"], [*headings, "n", *(["Unscored"] if failed else [])])
        for row in rows:
            at: dict[int, AtK] = {one.k: one for one in row.result.at_k}
            cells = [percent_cell(at[k].pass_at_k if k in at else None, compact) for k in ks]
            for k in ks[-1:]:
                cells.append(percent_cell(at[k].unsolvable if k in at else None, compact))
                cells.append(percent_cell(at[k].majority if k in at else None, compact))
            counts = [_counts(row.result), *unscored_cells(row.result.n_unscored, failed)]
            table.add_row(name_cell(row.checkpoint), *cells, *counts)
        return table

    return fitting(build, console)


def variety_table(rows: Sequence[ExplorationRow], console: Console) -> Table:
    """Branching, entropy and the number of different answers."""

    def build(compact: bool) -> Table:
        headings = ["RBF", "Entropy (nats)", "Distinct answers", "Effective answers"]
        table = result_table(console, ["Checkpoint"], headings)
        for row in rows:
            one = row.result
            numbers = (one.rbf, one.entropy, one.distinct, one.effective)
            table.add_row(name_cell(row.checkpoint), *(number_cell(number, compact) for number in numbers))
        return table

    return fitting(build, console)


def rbf_table(rows: Sequence[ExplorationRow], console: Console) -> Table | None:
    """RBF at numbers of samples; None where no run has any."""
    asked = sorted({at.n_samples for row in rows for at in row.result.rbf_at})
    if not asked:
        return None

    def build(compact: bool) -> Table:
        table = result_table(console, ["Checkpoint"], [f"RBF@{n}" for n in asked])
        for row in rows:
            at = {one.n_samples: one.rbf for one in row.result.rbf_at}
            table.add_row(
                name_cell(row.checkpoint), *(number_cell(at[n], compact) if n in at else Text("") for n in asked)
            )
        return table

    return fitting(build, console)


def position_table(rows: Sequence[tuple[str, Sequence[PositionBin]]], console: Console) -> Table:
    """Entropy and nucleus size in bins of positions, a row a run and quantity; the last bin ends with the longest response."""
    longest = max((bins for _, bins in rows), key=len)
    headings = ["1" if one.first == 1 else f"{one.first}-{2 * one.first - 1}" for one in longest]
    table = result_table(console, ["Checkpoint", "At position"], headings)
    for label, bins in rows:
        for what, numbers in (
            ("entropy", [one.entropy for one in bins]),
            ("nucleus", [one.nucleus for one in bins]),
        ):
            table.add_row(name_cell(label), Text(what), *(value_cell(one.value, None, False, 1, 2) for one in numbers))
    return table


def movement_table(one: Movement, curves: Mapping[Moving, Sequence[float | None]], console: Console) -> Table:
    """First, last and change of each quantity, with its course over all checkpoints."""
    unicode = has_unicode(console)

    def build(compact: bool) -> Table:
        headings = [_end(one.first, one.first_step), _end(one.last, one.last_step), "Change"]
        table = result_table(console, ["Quantity", "Course"], headings)
        for change in one.changes:
            heading, scale, digits = _QUANTITIES[change.quantity]
            ends = [value_cell(side.value, None, compact, scale, digits) for side in (change.first, change.last)]
            difference = change.difference
            table.add_row(
                Text(heading.format(k=one.k)),
                Text(sparkline(curves.get(change.quantity, ()), unicode=unicode)),
                *ends,
                value_cell(difference.value, difference.interval, compact, scale, digits, signed=True),
            )
        return table

    return fitting(build, console)


def _end(checkpoint: str, step: int | None) -> str:
    return name_cell(checkpoint).plain if step is None else f"{step:,}"


def _counts(result: Exploration) -> Text:
    fewest, most = result.fewest_rollouts, result.most_rollouts
    rollouts = f"{most}" if fewest == most else f"{fewest}..{most}"
    return Text(f"{result.n_samples:,} x {rollouts}")


def _shown_ks(rows: Sequence[ExplorationRow], most: int) -> list[int]:
    """At most so many values of k, spread over those that there are, first and last among them."""
    ks = sorted({one.k for row in rows for one in row.result.at_k})
    if len(ks) <= most:
        return ks
    return [ks[round(place * (len(ks) - 1) / (most - 1))] for place in range(most)]
