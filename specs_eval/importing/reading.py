"""Reading files that others wrote: bounded, strict, and every complaint with file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError

MAX_LINE_BYTES = 64 * 1024**2
MAX_JSON_BYTES = 2 * 1024**3
MAX_CELL_CHARACTERS = 16 * 1024**2

Row = tuple[int, dict[str, Any]]
"""Line number and what stands there."""


def read_json(path: Path) -> Any:
    """A whole JSON file.

    Raises:
        ConfigError: unreadable, too large, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(
                f"{path} is larger than {MAX_JSON_BYTES // 1024**3} GiB; import the samples JSONL instead"
            )
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {_problem(error)}") from error


def read_json_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSON Lines file; blank lines are passed over.

    Raises:
        ConfigError: a line is no JSON object, too long, or cut off.
    """
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield number, _object(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a CSV (or, by its name, TSV) file with a header; an empty cell is None.

    Raises:
        ConfigError: no header, a name twice in it, a row of another length, or text that is not UTF-8: ids must not change.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not header or len(set(header)) != len(header):
                raise ConfigError(f"{path}:1: the first line must name the columns, each once")
            _check_separator(header, path)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ConfigError(f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} columns")
                yield reader.line_num, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, csv.Error, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {_problem(error)}") from error


def _check_separator(header: list[str], path: Path) -> None:
    """Refuse a file whose only column reads like several: spreadsheets write what their language uses."""
    wanted = ("a tab", "\t") if path.suffix == ".tsv" else ("a comma", ",")
    for name, mark in (("a semicolon", ";"), ("a tab", "\t"), ("a comma", ",")):
        if len(header) == 1 and mark != wanted[1] and mark in header[0]:
            raise ConfigError(
                f"{path}:1: the columns stand between {name}, and a {path.suffix} file is read with {wanted[0]} between "
                "them: save it as CSV with commas, or with tabs and a name that ends with .tsv"
            )


def _object(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ConfigError(f"{where}: the line is longer than {MAX_LINE_BYTES // 1024**2} MiB")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not a JSON object: {_problem(error)}; was the file written to its end?") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: not a JSON object but {type(value).__name__}")
    return value


def _problem(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error))[:200]
