"""Reading a benchmark's records from where a user may have them: a folder in several layouts, or the hub.

Records come as dictionaries; images stay encoded (bytes) or on disk (paths) until a model needs them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from specs_eval.chat import ImagePart
from specs_eval.errors import TaskDataError

MAX_LITERAL_CHARS = 100_000
"""A list that a data set stores as the text of a Python list may be this long."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a benchmark's records can be."""

    title: str
    """The benchmark and split, for messages."""
    repository: str
    """Data set on the hub."""
    folders: tuple[str, ...]
    """Folder names under ``--data-dir``; the folder itself is looked into too."""
    patterns: tuple[str, ...]
    """Globs of Parquet, JSON and JSON Lines files inside the folder: the first that matches anything is read."""
    hub_patterns: tuple[str, ...]
    """What to download from the hub."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records and the folder that relative image paths start from."""

    rows: list[dict[str, Any]]
    root: Path


def load_records(source: Source, data_dir: Path | None) -> Records:
    """The records of a benchmark.

    Args:
        source: where to look.
        data_dir: the user's data folder; None: the hub's cache, then the hub.

    Raises:
        TaskDataError: nothing was found (says where it was looked for and how to get it), or a file is damaged.
    """
    looked = []
    if data_dir is not None:
        for folder in (*(data_dir / name for name in source.folders), data_dir):
            looked.append(folder)
            found = _files(folder, source.patterns)
            if found:
                return Records([row for path in found for row in _rows(path)], folder)
        raise TaskDataError(_missing(source, data_dir, looked))
    folder = _from_hub(source)
    found = _files(folder, source.patterns)
    if not found:
        raise TaskDataError(_missing(source, None, [folder]))
    return Records([row for path in found for row in _rows(path)], folder)


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    if folder.is_dir():
        for pattern in patterns:
            found = sorted(path for path in folder.glob(pattern) if path.is_file())
            if found:
                return found
    return []


def _missing(source: Source, data_dir: Path | None, looked: Sequence[Path]) -> str:
    places = ", ".join(str(place) for place in looked)
    target = data_dir or Path("DATA")
    wanted = " ".join(f"--include '{pattern}'" for pattern in source.hub_patterns)
    return (
        f"{source.title}: no data in {places} (looked for {', '.join(source.patterns)}). Get it with "
        f"'hf download {source.repository} --repo-type dataset {wanted} --local-dir {target / source.folders[0]}' and "
        f"give --data-dir {target}"
    )


def _from_hub(source: Source) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(source.repository, repo_type="dataset", allow_patterns=list(source.hub_patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TaskDataError(
            f"{source.title}: {source.repository} is neither in the hub's cache nor can it be downloaded: {problem}. "
            f"{_missing(source, None, [Path('the hub')])}"
        ) from error
    return Path(folder)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one file.

    Raises:
        TaskDataError: the file is damaged or holds something else.
    """
    read: Callable[[Path], list[Any]] = _parquet_rows if path.suffix == ".parquet" else _json_rows
    try:
        rows = read(path)
    except (OSError, ValueError, RecursionError) as error:
        raise TaskDataError(f"cannot read {path}: {error}; download it again") from error
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TaskDataError(f"{path}: record {position} is not an object but {type(row).__name__}")
        row.setdefault("_file", path.parent.name)
        yield row


def _parquet_rows(path: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows: list[Any] = file.read().to_pylist()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    return rows


def _json_rows(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    facts = json.loads(text)
    if isinstance(facts, dict):
        return [{"pid": key, "id": key, **row} if isinstance(row, dict) else row for key, row in facts.items()]
    if isinstance(facts, list):
        return facts
    raise ValueError("neither a list nor an object of records")


def image_part(value: object, root: Path, sample_id: str) -> ImagePart | None:
    """An image column as a message part; None when the column is empty.

    Raises:
        TaskDataError: the file that it names does not exist, or it is of an unknown kind.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Mapping):
        data, name = value.get("bytes"), value.get("path")
        if isinstance(data, bytes):
            return ImagePart(data)
        value = name
    if isinstance(value, bytes):
        return ImagePart(value)
    if isinstance(value, str):
        value = relative_name(value, sample_id)
        for path in (root / value, root / "images" / Path(value).name):
            if path.is_file():
                return ImagePart(path)
        raise TaskDataError(f"{sample_id}: image {value!r} is not in {root}; put the benchmark's images there")
    raise TaskDataError(f"{sample_id}: an image of kind {type(value).__name__} cannot be read")


def relative_name(name: str, sample_id: str) -> str:
    """The name of a media file, which a record gives relative to its folder; what the user links there is followed.

    Raises:
        TaskDataError: it leads out of the folder: data from elsewhere must not say what is read on this machine.
    """
    path = PurePath(name)
    if path.drive or path.root or ".." in path.parts or "\0" in name or not path.parts:
        raise TaskDataError(f"{sample_id}: no media file {name!r:.200}: the name leads out of the data folder")
    return path.as_posix()


def listed(value: object, sample_id: str) -> list[Any]:
    """A list column, whether stored as a list or as the text of a Python list; never evaluated.

    Raises:
        TaskDataError: it is neither.
    """
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if len(value) <= MAX_LITERAL_CHARS else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
    if isinstance(value, (list, tuple)):
        return list(value)
    raise TaskDataError(f"{sample_id}: expected a list, not {value!r:.80}")
