"""From the run store to the arrays that analysis works on: the only place that knows both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts
from specs_eval.analysis.statistics import Estimate, summarize
from specs_eval.errors import ConfigError, StoreError
from specs_eval.splits import Split
from specs_eval.store import RunStore, StoredRun
from specs_eval.tables import METRIC_PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

_STATISTICS = ("answer", "n_tokens", "entropy", "nucleus")


def stored_runs(store: Path) -> list[StoredRun]:
    """All runs of a store.

    Raises:
        ConfigError: no store there, or an empty one.
    """
    runs = RunStore.open(store).runs()
    if not runs:
        raise ConfigError(f"the run store {store} holds no runs; evaluate something with 'specs-eval run'")
    return runs


def read_rollouts(
    run: StoredRun,
    metrics: Sequence[str],
    *,
    statistics: bool = False,
    split: Split | None = None,
    categories: bool = False,
) -> dict[str, Rollouts]:
    """The rollouts of a run for each of some metrics that it has.

    Args:
        run: a run, complete or not.
        metrics: ``score`` or names of further metrics; those that the run lacks are left out of the result.
        statistics: also answers and token statistics.
        split: only the samples that meet its conditions; None: all.
        categories: also the categories of each sample.

    Raises:
        StoreError: the run holds no rollout.
        ConfigError: no sample is in the split, or it names a category that the task does not have.
    """
    wanted = ["sample_id", "group", *map(_column, metrics), *(_STATISTICS if statistics else ())]
    in_part = split is not None and bool(split.conditions)
    table = run.table([*wanted, "category"] if categories or in_part else wanted)
    if not table.num_rows:
        raise StoreError(f"run {run.run_id} holds no rollouts yet; finish it with the same 'specs-eval run' command")
    if split is not None and in_part:
        table = _part(table, split)
    codes, sample_ids = _encoded(table["sample_id"])
    group_codes, groups = _encoded(table["group"])
    first_rows = np.unique(codes, return_index=True)[1]
    clusters = tuple(
        groups[group] if group >= 0 else sample_id
        for group, sample_id in zip(group_codes[first_rows].tolist(), sample_ids, strict=True)
    )
    extra: dict[str, Any] = {}
    if categories:
        category_codes, known = _categories(table)
        extra["categories"] = tuple(known[code] for code in category_codes[first_rows].tolist())
    if statistics:
        extra |= {name: _floats(table[name]) for name in ("n_tokens", "entropy", "nucleus")}
        extra["answers"], extra["answer_texts"] = _encoded(table["answer"])
    return {
        metric: Rollouts(sample_ids, clusters, codes, _floats(table[_column(metric)]), **extra)
        for metric in metrics
        if _column(metric) in table.column_names
    }


def _part(table: pa.Table, split: Split) -> pa.Table:
    """The rows of the samples that are in a split."""
    codes, known = _categories(table)
    chosen = split.resolved(known)
    inside = np.array([chosen.holds(category) for category in known], dtype=bool)[codes]
    if not inside.any():
        raise ConfigError(f"no sample of {split.task} meets all of {chosen}")
    return table.filter(_mask(inside))


def _mask(chosen: NDArray[np.bool_]) -> pa.BooleanArray:
    """A mask for Arrow, made from its bits: `pyarrow.array` would import pandas (see `_buffer`)."""
    import pyarrow as pa

    bits = np.packbits(chosen, bitorder="little").tobytes()
    return pa.BooleanArray.from_buffers(pa.bool_(), len(chosen), [None, pa.py_buffer(bits)])


def _categories(table: pa.Table) -> tuple[IntArray, tuple[Mapping[str, str], ...]]:
    """Code of the category of each row, and what the codes stand for: few categories, many rows."""
    codes, texts = _encoded(table["category"])
    return codes, tuple(json.loads(text) for text in texts)


def read_metric(run: StoredRun, metric: str, split: Split | None = None) -> Rollouts:
    """The rollouts of a run, or of a part of it, with one metric.

    Raises:
        ConfigError: the run lacks the metric, or has nothing in the split; the message lists what it has.
    """
    found = read_rollouts(run, [metric], split=split)
    if metric not in found:
        manifest = run.manifest
        raise ConfigError(
            f"{manifest.checkpoint.name} on {manifest.task} has no metric {metric!r}; "
            f"it has: {', '.join(metric_names(run))}"
        )
    return found[metric]


def metric_names(run: StoredRun) -> list[str]:
    """``score`` and the further metrics of a run."""
    results = run.results()
    if results is not None:
        return ["score", *(name for name in results.metrics if name != "score")]
    further = (name for name in run.table().column_names if name.startswith(METRIC_PREFIX))
    return ["score", *(name.removeprefix(METRIC_PREFIX) for name in further)]


def score_summaries(run: StoredRun, level: float = 0.95) -> dict[str, Estimate]:
    """Mean, interval, n and unscored rollouts of the score and of each further metric of a run."""
    return {name: summarize(one.by_sample(), level) for name, one in read_rollouts(run, metric_names(run)).items()}


def _column(metric: str) -> str:
    return "score" if metric == "score" else METRIC_PREFIX + metric


def _encoded(column: pa.ChunkedArray) -> tuple[IntArray, tuple[str, ...]]:
    """Codes in order of first appearance (-1: null), shape (n_rows,), and what they stand for."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = np.where(_valid(encoded.indices), _buffer(encoded.indices), -1).astype(np.int64)
    return codes, tuple(encoded.dictionary.to_pylist())


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """Numbers, NaN for null."""
    array = column.combine_chunks()
    return np.where(_valid(array), _buffer(array), np.nan).astype(np.float64)


def _buffer(array: pa.Array) -> NDArray[np.generic]:
    """The values of a primitive array, whatever stands where it is null.

    Arrow's own `to_numpy` imports pandas on first use, which would be a third of the time of the whole command.
    """
    values = np.frombuffer(array.buffers()[1], dtype=np.dtype(str(array.type)))
    return values[array.offset : array.offset + len(array)]


def _valid(array: pa.Array) -> NDArray[np.bool_]:
    """Which values are not null."""
    if not array.null_count:
        return np.ones(len(array), dtype=bool)
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], dtype=np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(bool)
