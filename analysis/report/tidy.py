"""All numbers of a report as data: a tidy table (one number a row), and JSON with everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from specs_eval.analysis.report.content import Content, Measurement
from specs_eval.analysis.report.embedding import finite
from specs_eval.records import valid_text

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: dict[str, str] = {
    "quantity": "string",
    "task": "string",
    "dimension": "string",
    "category": "string",
    "series": "string",
    "step": "int64",
    "checkpoint": "string",
    "k": "int64",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "level": "float64",
    "method": "string",
    "n_draws": "int64",
    "seed": "int64",
    "stderr": "float64",
    "n_samples": "int64",
    "n_clusters": "int64",
    "n_unscored": "int64",
    "reason": "string",
    "runs": "string",
}
"""Column -> Arrow type. Shares in [0, 1]; low, high and level are those of the interval, method says how it was made;
runs are the ids of the runs that a number comes from, separated by blanks; missing where undefined, with the reason."""


def rows(content: Content) -> Iterator[dict[str, Any]]:
    """The tidy table, row by row."""
    for one in (*content.measurements, *content.gaps):
        yield _row(one)
    for change in content.changes:
        quantity = f"{change.metric} difference"
        step = None
        estimate = change.difference
        runs: tuple[str, ...] = ()
        yield _row(Measurement(quantity, change.task, change.checkpoint, change.series, step, estimate, runs))


def tidy_table(content: Content) -> pa.Table:
    """The tidy table in Arrow."""
    import pyarrow as pa

    found = list(rows(content))
    return pa.table(
        {name: pa.array([row[name] for row in found], type=pa.type_for_alias(kind)) for name, kind in COLUMNS.items()}
    )


def report_json(content: Content) -> str:
    """Everything as JSON text: what the report was made from, the tidy table, and the results behind it."""
    facts = {
        "command": "report",
        "version": content.version,
        "created": content.created,
        "store": content.store,
        "base": content.base,
        "level": content.resampling.level,
        "n_draws": content.resampling.n_draws,
        "seed": content.resampling.seed,
        "correctness": dict(content.correctness),
        "runs": [asdict(run) for run in content.runs],
        "numbers": list(rows(content)),
        "gf": [_pair(pair) for pair in content.pairs],
        "changes": [asdict(change) for change in content.changes],
        "stuck": [series.to_dict() for series in content.stuck],
        "movements": [one.to_dict() for one in content.movements],
        "training": [asdict(curve) for curve in content.training],
        "notes": list(content.notes),
    }
    return json.dumps(facts, indent=2, allow_nan=False) + "\n"


def _pair(pair: Any) -> dict[str, Any]:
    facts = {name: getattr(pair, name) for name in ("id_task", "ood_task", "metric", "gain", "base", "problem")}
    return {
        **facts,
        "series": [one.to_dict() for one in pair.series],
        "differences": [one.to_dict() for one in pair.differences],
        "final": None if pair.final is None else pair.final.to_dict(),
        "explanation": pair.explanation,
        "notes": list(pair.notes),
    }


def _row(one: Measurement) -> dict[str, Any]:
    estimate, interval = one.estimate, one.estimate.interval
    row = {
        "quantity": one.quantity,
        "task": one.task,
        "dimension": one.dimension or None,
        "category": one.value or None,
        "series": one.series,
        "step": one.step,
        "checkpoint": one.checkpoint,
        "k": one.k,
        "value": finite(estimate.value),
        "low": None if interval is None else finite(interval.low),
        "high": None if interval is None else finite(interval.high),
        "level": None if interval is None else interval.level,
        "method": None if interval is None else interval.method,
        "n_draws": None if interval is None else interval.n_draws,
        "seed": None if interval is None else interval.seed,
        "stderr": finite(estimate.stderr),
        "n_samples": estimate.n_samples,
        "n_clusters": estimate.n_clusters,
        "n_unscored": estimate.n_unscored,
        "reason": estimate.reason,
        "runs": " ".join(one.runs) or None,
    }
    return {name: valid_text(value) if isinstance(value, str) else value for name, value in row.items()}
