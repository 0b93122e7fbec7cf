"""What an lmms-eval task asks and how it scores, as one digest: lmms-eval's own ``doc_hash`` is a constant."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from specs_eval.chat import chat_digest, combined_digest
from specs_eval.task import Sample

_ROWS_AT_ONCE = 256
_PLACE_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs", "class", "task_alias", "tag", "group")
"""Where data lies and how a task is shown: not what it asks."""


def content_digest(task: Any, samples: Sequence[Sample]) -> str:
    """SHA-256 (hex) over documents with their pictures, settings, the task's code files and lmms-eval's version.

    Pictures inside the data set are hashed as stored, without decoding. Where the data set holds none, each sample is
    shown once, so that pictures that the task opens by path count too.
    """
    hasher = Digester()
    for row in _stored_rows(task.eval_docs):
        hasher.add(row)
    parts = [hasher.hexdigest(), _settings(task), *_code_files(task), version("lmms-eval")]
    if not hasher.saw_media:
        parts += [chat_digest(sample.chat) for sample in samples]
    return combined_digest(parts)


class Digester:
    """SHA-256 over rows of plain values; encoded media count with their bytes, not with their paths."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self.saw_media = False

    def add(self, row: Any) -> None:
        """Take in one row."""
        text = json.dumps(self._stable(row), sort_keys=True, ensure_ascii=False, default=str)
        self._hasher.update(text.encode("utf-8", "surrogatepass") + b"\n")

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._hasher.hexdigest()

    def _stable(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        if isinstance(value, Mapping):
            if set(value) == {"bytes", "path"}:
                return self._media(value)
            return {str(key): self._stable(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._stable(item) for item in value]
        return value

    def _media(self, value: Mapping[str, Any]) -> str:
        self.saw_media = True
        data = value["bytes"]
        if data is None and value["path"] is not None and Path(value["path"]).is_file():
            data = Path(value["path"]).read_bytes()
        return hashlib.sha256(data or b"").hexdigest()


def _stored_rows(docs: Any) -> Iterator[Any]:
    """Rows as they are stored, nothing decoded."""
    if not hasattr(docs, "with_format"):
        yield from docs
        return
    stored = docs.with_format("arrow")
    for start in range(0, len(stored), _ROWS_AT_ONCE):
        yield from stored[start : start + _ROWS_AT_ONCE].to_pylist()


def _settings(task: Any) -> str:
    settings = {key: value for key, value in vars(task.config).items() if key not in _PLACE_KEYS}
    return json.dumps(_named(settings), sort_keys=True, ensure_ascii=False, default=str)


def _named(value: Any) -> Any:
    """Functions by their names: their text form holds addresses."""
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    if isinstance(value, Mapping):
        return {str(key): _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list | tuple) else value


def _code_files(task: Any) -> list[str]:
    """Digests of the files that the task's functions are written in."""
    files = {source for function in _functions(vars(task.config)) if (source := _source_file(function)) is not None}
    own = _source_file(type(task))
    return sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files | ({own} if own else set()))


def _functions(value: Any) -> Iterator[Any]:
    if callable(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _functions(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _functions(item)


def _source_file(function: Any) -> str | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None:
        # A module that lmms-eval loaded by path is not in sys.modules, where inspect would look for it.
        return code.co_filename if Path(code.co_filename).is_file() else None
    try:
        return inspect.getsourcefile(function)
    except (TypeError, OSError):
        return None
