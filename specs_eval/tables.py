"""Rollouts as an Arrow table: the columns that every analysis reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import pyarrow as pa

from specs_eval.records import SCHEMA_VERSION, MetricTotal, Rollout, RunResults, SampleRecord

METRIC_PREFIX = "metric_"

_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("sample_id", pa.string()),
    ("rollout", pa.int32()),
    ("response", pa.string()),
    ("answer", pa.string()),
    ("target", pa.string()),
    ("score", pa.float64()),
    ("rule", pa.string()),
    ("reason", pa.string()),
    ("finish_reason", pa.string()),
    ("n_tokens", pa.int32()),
    ("entropy", pa.float64()),
    ("nucleus", pa.float64()),
    ("nucleus_sizes", pa.list_(pa.int32())),
    ("entropies", pa.list_(pa.float32())),
    ("group", pa.string()),
    ("category", pa.string()),
    ("prompt_hash", pa.string()),
)


def rollout_table(samples: Mapping[str, SampleRecord], rollouts: Iterable[Rollout]) -> pa.Table:
    """One row a rollout, ordered by sample (as in `samples`) and rollout number.

    Where a rollout was written twice (a failed one tried again), the scored one counts, else the last. Rollouts of
    samples that are not in `samples` are left out.
    """
    order = {sample_id: position for position, sample_id in enumerate(samples)}
    best: dict[tuple[int, int], Rollout] = {}
    for rollout in rollouts:
        position = order.get(rollout.sample_id)
        if position is not None:
            key = (position, rollout.rollout)
            before = best.setdefault(key, rollout)
            if before is not rollout and before.failed:
                best[key] = rollout
    rows = [best[key] for key in sorted(best)]
    columns = {name: pa.array(_values(name, rows, samples), type=kind) for name, kind in _COLUMNS}
    for metric in sorted({name for row in rows for name in row.metrics}):
        values = [None if row.failed else row.metrics.get(metric) for row in rows]
        columns[METRIC_PREFIX + metric] = pa.array(values, type=pa.float64())
    return pa.table(columns)


def _values(name: str, rows: list[Rollout], samples: Mapping[str, SampleRecord]) -> list[Any]:
    if name == "category":
        texts = {key: json.dumps(record.category, sort_keys=True) for key, record in samples.items()}
        return [texts[row.sample_id] for row in rows]
    value = attrgetter(name)
    if name in ("target", "group", "prompt_hash"):
        values = {key: value(record) for key, record in samples.items()}
        return [values[row.sample_id] for row in rows]
    return list(map(value, rows))


def results_of(run_id: str, table: pa.Table) -> RunResults:
    """The totals of a run: means over samples of the mean over scored rollouts."""
    import pyarrow.compute as pc

    metrics = {}
    for column in ("score", *(name for name in table.column_names if name.startswith(METRIC_PREFIX))):
        scored = table.select(["sample_id", column]).filter(pc.is_valid(table[column]))
        per_sample = scored.group_by("sample_id", use_threads=False).aggregate([(column, "mean")])[f"{column}_mean"]
        mean = pc.mean(per_sample).as_py()
        metrics[column.removeprefix(METRIC_PREFIX)] = MetricTotal(
            mean=None if mean is None else round(mean, 12), n_samples=len(per_sample)
        )
    return RunResults(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        n_samples=pc.count_distinct(table["sample_id"]).as_py(),
        n_rollouts=table.num_rows,
        n_failed=table["score"].null_count,
        n_tokens=pc.sum(table["n_tokens"]).as_py() or 0,
        metrics=metrics,
    )
