"""From the data frame that `specs_eval.load_runs` gives to the arrays that every analysis takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from specs_eval.analysis.samples import FloatArray, Rollouts
from specs_eval.errors import ComparisonError, ConfigError

if TYPE_CHECKING:
    import pandas as pd

_NEEDED = ("sample_id",)
_FURTHER = "metric_"


def rollouts_of(frame: pd.DataFrame, metric: str = "score") -> Rollouts:
    """The rollouts of one run as arrays.

    Args:
        frame: rows of one run, such as ``frame[frame.run_id == ...]``; a part of it (``frame[frame.rollout < 4]``) is fine. Your own
            frame needs the columns ``sample_id`` and the metric; ``group``, ``answer``, ``category`` (JSON text), ``n_tokens``,
            ``entropy`` and ``nucleus`` are used where they are there.
        metric: ``score``, or a further metric without its prefix ``metric_``.

    Returns:
        Samples in order of first appearance; a missing metric is NaN, a missing answer -1.

    Raises:
        ConfigError: a column is missing, or there are no rows; the message lists what there is.
        ComparisonError: the rows are of several runs: the same sample under two checkpoints is not one sample.
    """
    column = metric if metric in frame.columns else _FURTHER + metric
    missing = [name for name in (*_NEEDED, column) if name not in frame.columns]
    if missing or not len(frame):
        names = ", ".join(map(str, frame.columns))
        raise ConfigError(
            f"no {missing[0]!r} in the frame; its columns are: {names}" if missing else "the frame has no rows"
        )
    if "run_id" in frame.columns and frame["run_id"].nunique() > 1:
        runs = ", ".join(frame["run_id"].unique()[:3])
        raise ComparisonError(f"the frame has rows of {frame['run_id'].nunique()} runs ({runs}, ...); choose one")
    codes, ids = frame["sample_id"].factorize()
    first = np.unique(codes, return_index=True)[1]
    sample_ids = tuple(map(str, ids))
    answers, texts = (None, ()) if "answer" not in frame.columns else _answers(frame)
    return Rollouts(
        sample_ids=sample_ids,
        clusters=_clusters(frame, first, sample_ids),
        samples=codes.astype(np.int64),
        values=_floats(frame, column),
        answers=answers,
        n_tokens=_optional(frame, "n_tokens"),
        entropy=_optional(frame, "entropy"),
        nucleus=_optional(frame, "nucleus"),
        answer_texts=texts,
        categories=_categories(frame, first),
    )


def _floats(frame: pd.DataFrame, column: str) -> FloatArray:
    return frame[column].to_numpy(dtype=np.float64, na_value=np.nan)


def _optional(frame: pd.DataFrame, column: str) -> FloatArray | None:
    return _floats(frame, column) if column in frame.columns else None


def _answers(frame: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    codes, answers = frame["answer"].factorize()
    return codes.astype(np.int64), tuple(map(str, answers))


def _clusters(frame: pd.DataFrame, first: np.ndarray, sample_ids: tuple[str, ...]) -> tuple[str, ...]:
    if "group" not in frame.columns:
        return sample_ids
    groups = frame["group"].iloc[first]
    alone = groups.isna()
    return tuple(
        own if is_alone else str(group) for own, group, is_alone in zip(sample_ids, groups, alone, strict=True)
    )


def _categories(frame: pd.DataFrame, first: np.ndarray) -> tuple[dict[str, str], ...]:
    if "category" not in frame.columns:
        return ()
    known: dict[str, dict[str, str]] = {}
    found = []
    for text in frame["category"].iloc[first]:
        if text not in known:
            known[text] = json.loads(text) if isinstance(text, str) and text else {}
        found.append(known[text])
    return tuple(found)
