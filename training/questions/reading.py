"""From rows to a set of questions: bad rows are counted with their reason, and memory holds only what was asked for."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specs_eval.chat import ImagePart, combined_digest
from specs_eval.errors import TaskDataError
from specs_eval.tasks.benchmark_data import relative_name
from specs_eval.training.questions.question import Question, UnusableQuestion

Row = dict[str, Any]
Layout = Callable[[Row, Path, str], Question]
"""(row, folder of its file, its number in the file) -> a question, or UnusableQuestion."""

BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens that a response may take."""

    answer_tokens: int = 64
    reasoning_tokens: int = 1984


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions of one source, in a fixed random order: every prefix is a fair sample."""

    name: str
    """Part of the task's name: letters, digits and ``_``."""
    questions: tuple[Question, ...]
    n_usable: int
    """Usable questions of the source; more than there are here under a limit."""
    content_hash: str
    """12 hex digits over all usable questions of the source, so that it does not change with a limit."""
    problems: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows that gave no question for it."""
    budget: Budget = field(default_factory=Budget)


def collect(
    name: str,
    rows: Iterable[Question | UnusableQuestion],
    *,
    place: str,
    limit: int | None = None,
    budget: Budget | None = None,
) -> QuestionSet:
    """The usable questions among rows.

    Args:
        name: of the set.
        rows: one question, or the reason why there is none, a row.
        place: where the rows come from, for messages.
        limit: keep so many; None: all.
        budget: tokens of a response.

    Raises:
        TaskDataError: no row is usable; the message counts the reasons.
    """
    problems: Counter[str] = Counter()
    digests: dict[str, str] = {}

    def usable() -> Iterator[Question]:
        for row in rows:
            if isinstance(row, UnusableQuestion):
                problems[str(row)] += 1
                continue
            if row.question_id in digests:
                problems["the id was used before"] += 1
                continue
            digests[row.question_id] = _digest(row)
            yield row

    kept = heapq.nsmallest(limit, usable(), key=_order) if limit is not None else sorted(usable(), key=_order)
    if not kept:
        counts = "; ".join(f"{count:,} x {reason}" for reason, count in problems.most_common()) or "it has no rows"
        raise TaskDataError(f"{place} gives no usable question: {counts}")
    content = combined_digest([digests[key] for key in sorted(digests)])[:12]
    return QuestionSet(name, tuple(kept), len(digests), content, dict(problems.most_common()), budget or Budget())


def _order(question: Question) -> bytes:
    return hashlib.sha256(question.question_id.encode("utf-8", "surrogatepass")).digest()


def _digest(question: Question) -> str:
    facts = [question.question_id, question.text, question.answer, question.kind, question.decimals, question.group]
    lists = [question.choices, question.alternatives, [image.digest for image in question.images]]
    return json.dumps([*facts, *lists])


def questions_of(rows: Iterable[Row], layout: Layout, root: Path) -> Iterator[Question | UnusableQuestion]:
    """One question, or the reason why there is none, for each row."""
    for number, row in enumerate(rows):
        try:
            question = layout(row, root, f"{number:06d}")
            for image in question.images:
                check_image(image)
        except UnusableQuestion as problem:
            yield problem
        else:
            yield question


def check_image(image: ImagePart) -> None:
    """Decode the image's header.

    Raises:
        UnusableQuestion: it cannot be decoded.
    """
    import io

    from PIL import Image

    if isinstance(image.source, Image.Image):
        return
    try:
        with Image.open(io.BytesIO(image.source) if isinstance(image.source, bytes) else image.source) as opened:
            opened.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableQuestion("image unreadable") from error


def read_image(value: object, root: Path) -> ImagePart:
    """An image as data sets hold it: encoded bytes, ``{"bytes", "path"}``, or a path relative to the file's folder.

    Raises:
        UnusableQuestion: there is none, or its file is missing or leads out of the folder.
    """
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
        value = data if isinstance(data, bytes) and data else path
    if isinstance(value, bytes) and value:
        return ImagePart(value)
    if not isinstance(value, str) or not value:
        raise UnusableQuestion("image missing")
    try:
        name = relative_name(value, "")
    except TaskDataError as error:
        raise UnusableQuestion("image path leads out of the data folder") from error
    for path in (root / name, root / "images" / Path(name).name):
        if path.is_file():
            return ImagePart(path)
    raise UnusableQuestion("image missing")


def read_images(value: object, root: Path) -> tuple[ImagePart, ...]:
    """An image column: one image, a list of them, or nothing."""
    if value is None:
        return ()
    listed = value if isinstance(value, (list, tuple)) else [value]
    return tuple(read_image(item, root) for item in listed)


def file_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet, JSON Lines or JSON file, batch by batch where the kind of file allows it.

    Raises:
        TaskDataError: the file is missing or damaged.
    """
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as lines:
                yield from (_as_row(json.loads(line)) for line in lines if line.strip())
        else:
            yield from _json_rows(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError, pa.ArrowException) as error:
        raise TaskDataError(f"cannot read {path}: {error}") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


def _json_rows(facts: object) -> Iterator[Row]:
    if isinstance(facts, dict):
        yield from ({"pid": key, **_as_row(row)} for key, row in facts.items())
    elif isinstance(facts, list):
        yield from map(_as_row, facts)
    else:
        raise TypeError("neither a list nor an object of records")


def _as_row(value: object) -> Row:
    if not isinstance(value, dict):
        raise TypeError(f"a record is not an object but {type(value).__name__}")
    return value


def data_files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files that a user's path means: itself, or all of a kind in the folder, its ``data`` or its ``train``.

    Raises:
        TaskDataError: there are none.
    """
    if place.is_file():
        return [place]
    for folder in (place, place / "data", place / "train"):
        for suffix in suffixes:
            found = sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else []
            if found:
                return found
    raise TaskDataError(f"no question file at {place}: expected a file or a folder with {' or '.join(suffixes)} files")
