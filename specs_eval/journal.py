"""The append-only journal of a run: one rollout a line, whole or owed.

Only the process that holds the run's lock writes. A line torn by a kill or a full disk is cut off at the next start
and its rollout is owed again; because responses are reproducible, nothing is lost by that.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from specs_eval.errors import StoreError
from specs_eval.records import Rollout

logger = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""A kill loses nothing that was written; a power cut loses at most what came in this time."""

_FIELDS = tuple(field.name for field in fields(Rollout))
_KNOWN = frozenset(_FIELDS)
_REQUIRED = frozenset({"sample_id", "rollout", "response", "score"})

# Not json.loads and json.dumps: over a million short lines, what they do around the parser takes as long as the parser.
_parse: Callable[[str], tuple[Any, int]] = json.JSONDecoder().raw_decode
_dump: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(rollout: Rollout) -> bytes:
    """One line, ASCII only; fields at None are left out."""
    # Not dataclasses.asdict: its deep copies cost more than everything else that the store does with a rollout.
    facts = {name: value for name in _FIELDS if (value := getattr(rollout, name)) is not None and value != {}}
    facts["score"] = rollout.score
    return _dump(facts).encode() + b"\n"


def decode(line: bytes) -> Rollout:
    """The rollout of one line.

    Raises:
        ValueError: the line is not one whole record.
    """
    return Rollout(**_facts(line))


def _facts(line: bytes) -> dict[str, Any]:
    """The fields of one line; a `Rollout` can be made of them.

    Raises:
        ValueError, TypeError: the line is not one whole record.
    """
    text = line.decode()
    facts, end = _parse(text)
    if not isinstance(facts, dict) or text[end:].strip():
        raise ValueError("not one JSON object")
    if not _REQUIRED <= facts.keys() <= _KNOWN:
        raise ValueError("not a rollout record")
    for name in ("nucleus_sizes", "entropies"):
        if facts.get(name) is not None:
            facts[name] = tuple(facts[name])
    return facts


@lru_cache(maxsize=4096)
def _tell_damage(path: Path, n_lines: int) -> None:
    """Log damage; once a process, however often the file is read."""
    logger.warning("%s: %d damaged line(s); their rollouts are owed again", path, n_lines)


class Journal:
    """The journal file of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._synced = 0.0

    def read(self) -> Iterator[Rollout]:
        """All whole records in the order written. Damaged lines are skipped; their number is logged."""
        return (Rollout(**facts) for facts in self.facts())

    def facts(self) -> Iterator[dict[str, Any]]:
        """The fields of all whole records, as `read`: for who wants few of them of very many."""
        damaged = 0
        try:
            with self.path.open("rb") as stream:
                for line in stream:
                    try:
                        if not line.endswith(b"\n"):
                            raise ValueError("torn line")
                        facts = _facts(line)
                    except (ValueError, TypeError):
                        damaged += 1
                        continue
                    yield facts
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}") from error
        if damaged:
            _tell_damage(self.path, damaged)

    def open(self) -> None:
        """Open for appending; a torn last line is cut off first.

        Raises:
            StoreError: the file cannot be opened for writing.
        """
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._descriptor, _whole_length(self._descriptor))
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error

    def append(self, rollouts: Iterable[Rollout]) -> None:
        """Write records; they survive a kill of this process once the call returns.

        Raises:
            StoreError: the disk is full or gone. What was written whole stays; the rest is owed.
        """
        assert self._descriptor is not None, "journal is not open"
        data = memoryview(b"".join(encode(rollout) for rollout in rollouts))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()
        except OSError as error:
            raise StoreError(
                f"cannot append to {self.path}: {error.strerror}. What is written stays; free space and run the same "
                "command again to continue"
            ) from error

    def close(self) -> None:
        """Flush to disk and close."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _whole_length(descriptor: int) -> int:
    """Length of the file up to and including its last newline."""
    end = os.fstat(descriptor).st_size
    step = 1 << 16
    while end > 0:
        start = max(0, end - step)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
