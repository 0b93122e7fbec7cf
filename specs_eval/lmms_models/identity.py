"""Which sample a document of an lmms-eval data set is, in the words of our own runs.

Sampling noise is keyed on task and sample id, and pairs are formed by them. Both ways of running a task, ours and
lmms-eval's, therefore take the names from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TASK_COLUMN = "specs_task"
"""Column of our own tasks' data sets: the task's short name."""
ID_COLUMN = "sample_id"
"""Column of our own tasks' data sets: the sample's id."""

OWN_ID_COLUMNS = ("id", "question_id", "questionId", "qid", "pid", "sample_id", "uid", "index")
"""Columns of foreign data sets that may hold an id; the first that is there and unique is taken."""


@dataclass(frozen=True, slots=True)
class DocNames:
    """The names of all documents of one split."""

    task: str
    """Short name of the task, as `specs-eval run` stores it."""
    sample_ids: tuple[str, ...]
    """By document number."""
    source: str
    """The column the ids come from, or ``document number``."""


def name_docs(docs: Any, lmms_task: str) -> DocNames:
    """Names for the documents of a split.

    Args:
        docs: the split: a `datasets.Dataset`, or any sequence of documents.
        lmms_task: lmms-eval's name of the task.

    Returns:
        For our own tasks the names they carry; else the task's lmms-eval name with the documents' own ids where a
        usual id column is unique, or six-digit document numbers.
    """
    columns = list(getattr(docs, "column_names", None) or [])
    if TASK_COLUMN in columns and ID_COLUMN in columns and len(docs):
        return DocNames(str(docs[0][TASK_COLUMN]), tuple(docs[ID_COLUMN]), ID_COLUMN)
    for column in OWN_ID_COLUMNS:
        if column in columns:
            ids = _unique_ids(list(docs[column]))
            if ids is not None:
                return DocNames(lmms_task, ids, column)
    return DocNames(lmms_task, tuple(f"{index:06d}" for index in range(len(docs))), "document number")


def _unique_ids(values: list[Any]) -> tuple[str, ...] | None:
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return None
    ids = tuple(str(value) for value in values)
    return ids if len(set(ids)) == len(ids) and all(ids) else None
