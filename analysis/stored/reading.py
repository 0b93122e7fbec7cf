"""From the run store to the arrays that analysis works on: the only place that knows both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specs_eval.analysis.positions import PositionStatistics
from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts
from specs_eval.analysis.statistics import Estimate, summarize
from specs_eval.errors import ConfigError, StoreError
from specs_eval.splits import Split
from specs_eval.store import RunStore, StoredRun
from specs_eval.tables import METRIC_PREFIX

if TYPE_CHECKING:
    import pyarrow as pa

_STATISTICS = ("n_tokens", "entropy", "nucleus")
_LISTS = ("entropies", "nucleus_sizes")

_PREFERRED = ("accuracy", "score")
"""What makes a rollout correct unless the user says."""


def stored_runs(store: Path) -> list[StoredRun]:
    """All runs of a store.

    Raises:
        ConfigError: no store there, or an empty one.
    """
    runs = RunStore.open(store).runs()
    if not runs:
        raise ConfigError(f"the run store {store} holds no runs; evaluate something with 'specs-eval run'")
    return runs


def rollouts_done(run: StoredRun) -> int:
    """Rollouts of a run that have a score."""
    results = run.results()
    if results is not None:
        return results.n_rollouts - results.n_failed
    return len({(one.sample_id, one.rollout) for one in run.rollouts() if not one.failed})


def read_rollouts(
    run: StoredRun,
    metrics: Sequence[str],
    *,
    split: Split | None = None,
    answers: bool = False,
    statistics: bool = False,
    categories: bool = False,
) -> dict[str, Rollouts]:
    """The rollouts of a run for each of some metrics that it has.

    Args:
        run: a run, complete or not.
        metrics: ``score`` or names of further metrics; those that the run lacks are left out of the result.
        split: only the samples that meet its conditions; None: all.
        answers: also the extracted answers.
        statistics: also the answers and the token statistics.
        categories: also the categories of each sample.

    Raises:
        StoreError: the run holds no rollout.
        ConfigError: no sample is in the split, or it names a category that the task does not have.
    """
    wanted = ["sample_id", "group", *map(_column, metrics)]
    wanted += [*(["answer"] if answers or statistics else []), *(_STATISTICS if statistics else ())]
    in_part = split is not None and bool(split.conditions)
    table = run.table([*wanted, "category"] if categories or in_part else wanted)
    if not table.num_rows:
        raise StoreError(f"run {run.run_id} holds no rollouts yet; finish it with the same 'specs-eval run' command")
    if split is not None and in_part:
        table = _part(run, table, split)
    codes, sample_ids = _encoded(table["sample_id"])
    clusters = _clusters(table, codes, sample_ids)
    extra: dict[str, Any] = {}
    if categories:
        category_codes, known = _categories(table)
        first_rows = np.unique(codes, return_index=True)[1]
        extra["categories"] = tuple(known[code] for code in category_codes[first_rows].tolist())
    if statistics:
        extra |= {name: _floats(table[name]) for name in _STATISTICS}
    if answers or statistics:
        extra["answers"], extra["answer_texts"] = _encoded(table["answer"])
    return {
        metric: Rollouts(sample_ids, clusters, codes, _floats(table[_column(metric)]), **extra)
        for metric in metrics
        if _column(metric) in table.column_names
    }


def _clusters(table: pa.Table, codes: IntArray, sample_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The group of each sample; its own id where it stands alone."""
    group_codes, groups = _encoded(table["group"])
    first_rows = np.unique(codes, return_index=True)[1]
    return tuple(
        groups[group] if group >= 0 else sample_id
        for group, sample_id in zip(group_codes[first_rows].tolist(), sample_ids, strict=True)
    )


def read_categories(run: StoredRun) -> tuple[Mapping[str, str], ...]:
    """The categories that the samples of a run have, each once."""
    return _categories(run.table(["category"]))[1]


def _part(run: StoredRun, table: pa.Table, split: Split) -> pa.Table:
    """The rows of the samples that are in a split."""
    codes, known = _categories(table)
    chosen = split.resolved(known)
    inside = np.array([chosen.holds(category) for category in known], dtype=bool)[codes]
    if not inside.any():
        name = run.manifest.checkpoint.name
        raise ConfigError(f"{name}: no sample of {split.task} meets all of {chosen}")
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


def read_metric(run: StoredRun, metric: str, split: Split | None = None, *, categories: bool = False) -> Rollouts:
    """The rollouts of a run, or of a part of it, with one metric, on request with the categories of the samples.

    Raises:
        ConfigError: the run lacks the metric, or has nothing in the split; the message lists what it has.
    """
    found = read_rollouts(run, [metric], split=split, categories=categories)
    if metric not in found:
        raise _lacks(run, metric)
    return found[metric]


def read_correctness(
    run: StoredRun, metric: str | None, further: Sequence[str] = (), *, split: Split | None, statistics: bool = False
) -> tuple[str, dict[str, Rollouts]]:
    """The rollouts of a run with their answers, and the metric that decides whether one is correct.

    Args:
        run: a run, complete or not.
        metric: None: accuracy where there is one, else score: where the score is about form, accuracy is about the answer.
        further: metrics that are wanted beside it, where the run has them.
        split: only the samples that meet its conditions; None: all.
        statistics: also the token statistics.

    Returns:
        The metric's name, and the rollouts by metric.

    Raises:
        ConfigError: the run lacks the metric, or has nothing in the split; the message lists what it has.
    """
    asked = _PREFERRED if metric is None else (metric,)
    wanted = list(dict.fromkeys([*asked, *further]))
    found = read_rollouts(run, wanted, split=split, answers=True, statistics=statistics)
    for name in asked:
        if name in found:
            return name, found
    raise _lacks(run, metric)


def read_positions(run: StoredRun, split: Split | None = None) -> PositionStatistics | None:
    """Entropy and nucleus size of each generated position of a run, or of a part of it; None where none are stored."""
    in_part = split is not None and bool(split.conditions)
    table = run.table(["sample_id", "group", *_LISTS, *(["category"] if in_part else [])])
    if any(name not in table.column_names or table[name].null_count == table.num_rows for name in _LISTS):
        return None
    if split is not None and in_part:
        table = _part(run, table, split)
    codes, sample_ids = _encoded(table["sample_id"])
    (lengths, entropies), (other_lengths, sizes) = (_lists(table[name]) for name in _LISTS)
    if not np.array_equal(lengths, other_lengths):
        raise StoreError(f"run {run.run_id} has entropies and nucleus sizes of different lengths; evaluate it again")
    return PositionStatistics(_clusters(table, codes, sample_ids), codes, lengths, entropies, sizes)


def read_targets(run: StoredRun) -> dict[str, str]:
    """The right answer to each sample of a run, as stored."""
    table = run.table(["sample_id", "target"])
    codes, sample_ids = _encoded(table["sample_id"])
    target_codes, targets = _encoded(table["target"])
    first_rows = np.unique(codes, return_index=True)[1]
    return {
        sample_id: targets[code]
        for sample_id, code in zip(sample_ids, target_codes[first_rows].tolist(), strict=True)
        if code >= 0
    }


def read_sample_facts(run: StoredRun, columns: Sequence[str]) -> dict[str, tuple[str | None, ...]]:
    """Text columns that say the same in all rollouts of a sample (``prompt_hash``, ``target``), by sample id.

    Returns:
        One entry a column for each sample; None where the run does not know it.
    """
    table = run.table(["sample_id", *columns])
    codes, sample_ids = _encoded(table["sample_id"])
    first_rows = np.unique(codes, return_index=True)[1]
    facts = []
    for column in columns:
        value_codes, values = _encoded(table[column])
        facts.append([values[code] if code >= 0 else None for code in value_codes[first_rows].tolist()])
    return dict(zip(sample_ids, zip(*facts, strict=True), strict=True))


def read_rows(run: StoredRun, columns: Sequence[str], sample_ids: AbstractSet[str]) -> list[dict[str, Any]]:
    """The rollouts of some samples, a row each in the order of the table; columns that the run lacks are left out."""
    rows: list[dict[str, Any]] = []
    for table in run.batches(["sample_id", *columns]):
        codes, known = _encoded(table["sample_id"])
        inside = np.array([sample_id in sample_ids for sample_id in known], dtype=bool)[codes]
        if inside.any():
            rows += table.filter(_mask(inside)).to_pylist()
    return rows


def _lacks(run: StoredRun, metric: str | None) -> ConfigError:
    manifest = run.manifest
    names = ", ".join(metric_names(run))
    return ConfigError(f"{manifest.checkpoint.name} on {manifest.task} has no metric {metric!r}; it has: {names}")


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


def _lists(column: pa.ChunkedArray) -> tuple[IntArray, FloatArray]:
    """Length of each list (0: null), and the numbers of all of them."""
    import pyarrow as pa

    array = column.combine_chunks()
    lengths = np.where(_valid(array), np.diff(_buffer(array.offsets)), 0).astype(np.int64)
    return lengths, _floats(pa.chunked_array([array.flatten().cast(pa.float64())]))


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
