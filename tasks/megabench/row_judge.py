"""The judge of a stored row: its configuration and question from the row, its images from where the data set lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.chat import ImagePart
from specs_eval.errors import TaskDataError
from specs_eval.tasks.megabench.fields import Query
from specs_eval.tasks.megabench.judge import QueryJudge, sees_images
from specs_eval.tasks.megabench.media import media_images

if TYPE_CHECKING:
    from specs_eval.tasks.rows import RowJudge


def judge_of_row(
    row: Mapping[str, Any], query: Query, metric_config: Mapping[str, Any], judge: RowJudge, *, strict: bool
) -> QueryJudge:
    """The judge and what it is told: ``metric_config``, ``question`` (the query's text) and ``images`` of the row."""
    configuration = metric_config.get("gpt4o_eval_configs")
    known = configuration if isinstance(configuration, Mapping) else {}
    images, n_missing = _images(row, judge.data_dir) if sees_images(known) else ([], 0)
    return QueryJudge(
        judge=judge.judge,
        configuration=known,
        question=str(row.get("question") or ""),
        images=images,
        n_missing=n_missing,
        gold=query.gold,
        context=query.context,
        strict=strict,
    )


def _images(row: Mapping[str, Any], data_dir: Path | None) -> tuple[list[ImagePart], int]:
    """The images that are at hand, and how many are not."""
    column = row.get("images")
    names = [str(name) for name in column] if isinstance(column, list) else []
    if data_dir is None:
        return [], len(names)
    images: list[ImagePart] = []
    n_missing = 0
    for name in names:
        try:
            images += media_images(name, str(row.get("sample_id")), data_dir)
        except TaskDataError:
            n_missing += 1
    return images, n_missing
