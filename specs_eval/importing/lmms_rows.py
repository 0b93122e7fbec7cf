"""Which rows of an lmms-eval log count, and scores for those that were logged without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.importing.lmms_logs import LmmsLog
from specs_eval.importing.reading import Row
from specs_eval.importing.scores import number

STRUCTURE = frozenset(
    {
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "token_counts", "doc_hash", "prompt_hash",
        "target_hash", "input", "input_media",
    }
)  # fmt: skip
"""Fields of a sample that are no metrics."""


@dataclass(frozen=True, slots=True)
class LogJudge:
    """Scores for a metric's mapping that holds answers and no score."""

    scores: Callable[[Mapping[str, Any]], list[float] | None]
    """One number in [0, 1] for each response; None: the mapping is of another benchmark."""
    categories: Callable[[Mapping[str, Any]], dict[str, str]]
    """Categories that follow from the mapping."""
    note: str
    """What a reader of the scores should know."""


def rows_of_filter(log: LmmsLog, wanted: str | None) -> tuple[list[Row], tuple[str, ...]]:
    """One row a document: lmms-eval writes one for each filter, filter by filter, and names none.

    Returns:
        The rows by document, and a note where others were left out.

    Raises:
        ConfigError: several filters and none asked for, one that the task does not have, or a document without one.
    """
    by_doc: dict[str, list[Row]] = {}
    for line, row in log.rows:
        by_doc.setdefault(str(row["doc_id"]), []).append((line, row))
    n = max(map(len, by_doc.values()))
    short = next((rows[0][0] for rows in by_doc.values() if len(rows) != n), None)
    if short is not None:
        raise ConfigError(f"{log.path}:{short}: this document has fewer rows than others ({n}); was the log cut off?")
    names = log.filters if len(log.filters) == n else tuple(str(index) for index in range(1, n + 1))
    if n == 1 and wanted in (None, *names):
        position = 0
    elif wanted in names:
        position = names.index(wanted)
    else:
        problem = f"has no filter {wanted!r}" if wanted else f"has {n} rows a document, one for each filter"
        raise ConfigError(f"{log.path} {problem}; choose with --filter: {', '.join(names)}")
    notes = (f"rows of filter {names[position]}",) if n > 1 else ()
    return sorted((rows[position] for rows in by_doc.values()), key=lambda row: _order(row[1]["doc_id"])), notes


def judged_rows(rows: Sequence[Row], judges: Sequence[LogJudge]) -> tuple[list[Row], tuple[str, ...]]:
    """The rows with the scores of the judges in those mappings that have none, and their notes."""
    notes: dict[str, None] = {}
    judged: list[Row] = []
    for line, row in rows:
        new = dict(row)
        for key, value in row.items():
            if key in STRUCTURE or not isinstance(value, Mapping) or number(value) is not None:
                continue
            for judge in judges:
                scores = judge.scores(value)
                if scores:
                    new[key] = {**value, "score": sum(scores) / len(scores), "all": scores, **judge.categories(value)}
                    notes[judge.note] = None
                    break
        judged.append((line, new))
    return judged, tuple(notes)


def _order(doc_id: int | str) -> tuple[int, int, str]:
    return (0, doc_id, "") if isinstance(doc_id, int) else (1, 0, doc_id)
