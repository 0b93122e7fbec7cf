"""Estimates as rich tables: percent on screen, intervals beside them, and what is missing in words.

Each table comes in two layouts, and the first that fits the console is taken: intervals beside the numbers, or compact
with intervals below them and fewer columns. ``--json`` always has everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.exploration import Exploration
from specs_eval.analysis.solving import AtK
from specs_eval.analysis.statistics import Estimate
from specs_eval.cli.cells import (
    fitting,
    name_cell,
    number_cell,
    percent_cell,
    result_table,
    unscored_cells,
)
from specs_eval.cli.charts import printable


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """What the score table says about one run."""

    checkpoint: str
    task: str
    n_rollouts: int
    """Rollouts a sample that were asked for."""
    metrics: Mapping[str, Estimate]
    """``score`` and further metrics."""


@dataclass(frozen=True, slots=True)
class ExplorationRow:
    """What the exploration tables say about one run."""

    checkpoint: str
    result: Exploration


def score_table(rows: Sequence[ScoreRow], console: Console) -> Table:
    """Mean and interval of each metric, a row a run; metrics that a task does not have stay empty."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    names.sort(key=lambda name: name != "score")
    failed = any(row.metrics["score"].n_unscored for row in rows)

    def build(compact: bool) -> Table:
        headings = [*(f"{printable(name)} %" for name in names), "n", *(["Unscored"] if failed else [])]
        table = result_table(console, ["Checkpoint", "Task"], headings)
        for row in rows:
            score = row.metrics["score"]
            cells = [percent_cell(row.metrics.get(name), compact) for name in names]
            counts = [Text(f"{score.n_samples:,} x {row.n_rollouts}"), *unscored_cells(score.n_unscored, failed)]
            table.add_row(name_cell(row.checkpoint), name_cell(row.task), *cells, *counts)
        return table

    return fitting(build, console)


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
