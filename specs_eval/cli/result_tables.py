"""Scores of runs as a rich table: percent on screen, intervals beside them, and what is missing in words.

Each table comes in two layouts, and the first that fits the console is taken: intervals beside the numbers, or compact
with intervals below them and fewer columns. ``--json`` always has everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs_eval.analysis.statistics import Estimate
from specs_eval.cli.cells import fitting, name_cell, percent_cell, result_table, unscored_cells
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
