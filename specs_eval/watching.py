"""New checkpoints of a training that is still running: which are there, which are whole, which is next.

A checkpoint is taken when it passes every check that ``specs-eval run`` makes (configuration, every weight file of the
index at the length that its header says, tokenizer, processor), every JSON file of it parses, which one that is cut off
does not, and none of these files has changed for some seconds.
Folders are looked at again and again: that works on every file system, network ones included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from specs_eval.checkpoints import Checkpoint, resolve_checkpoints, step_of
from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import Fingerprinter, behaviour_files, stat_signature

Clock = Callable[[], float]
"""Seconds that never go back."""


@dataclass(slots=True)
class _Seen:
    """What is known of a checkpoint folder."""

    signature: tuple[object, ...]
    since: float
    """When its files were first seen as they are."""
    problem: str | None = None
    """Why it is not whole, as its files are."""
    taken: bool = False


@dataclass(slots=True)
class Watch:
    """A training's output folder."""

    folder: Path
    fingerprinter: Fingerprinter
    series: str = ""
    """What to call the series; empty: as the folder."""
    settle: float = 10.0
    """Seconds for which nothing may have changed."""
    clock: Clock = time.monotonic
    _seen: dict[Path, _Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.settle < 0:
            raise ConfigError(f"--settle must be >= 0 seconds, not {self.settle}")

    def next(self) -> Checkpoint | None:
        """The newest whole checkpoint that was not taken yet; it is taken with that. None: there is none now."""
        for path in self._look():
            seen = self._seen[path]
            if seen.taken or seen.problem is not None or self.clock() - seen.since < self.settle:
                continue
            try:
                _check_json(path)
                (checkpoint,) = resolve_checkpoints([self._argument(path)], self.fingerprinter).checkpoints
            except (CheckpointError, ConfigError, OSError) as error:
                # ConfigError and OSError: it was deleted under our hands.
                seen.problem = str(error)
                continue
            seen.taken = True
            return checkpoint
        return None

    def give_back(self, checkpoint: Checkpoint) -> bool:
        """Let a checkpoint that could not be evaluated be taken again, once it is another one than it was.

        Returns:
            Whether its folder is still there; if not, the training has deleted it, and that is all.
        """
        if not checkpoint.path.is_dir():
            self._seen.pop(checkpoint.path, None)
            return False
        changed = (stat_signature(checkpoint.path),) != checkpoint.signature[:1]
        seen = self._seen.get(checkpoint.path)
        if seen is not None:
            seen.taken = not changed
        return True

    def unfinished(self) -> dict[Path, str]:
        """Checkpoints that were not taken, oldest first, and why."""
        ordered = sorted(self._seen.items(), key=lambda item: step_of(item[0]) or 0)
        return {path: self._why_not_taken(seen) for path, seen in ordered if not seen.taken}

    def _why_not_taken(self, seen: _Seen) -> str:
        if seen.problem is not None:
            return seen.problem
        if self.clock() - seen.since < self.settle:
            return f"its files changed less than {self.settle:g} seconds ago"
        return "the watch ended before its turn"

    def is_settled(self) -> bool:
        """Whether nothing can be taken before some file changes: all is taken or known not to be whole."""
        return all(seen.taken or seen.problem is not None for seen in self._seen.values())

    def _look(self) -> list[Path]:
        """All checkpoint folders, newest step first, with what is known of each up to date."""
        try:
            found = [path for path in self.folder.iterdir() if step_of(path) is not None and path.is_dir()]
        except OSError:
            found = []
        for path in set(self._seen) - set(found):
            del self._seen[path]
        for path in found:
            try:
                signature = stat_signature(path)
            except OSError:
                signature = ()
            # One that was written again after it was taken, by a training that was started over, is another checkpoint.
            if path not in self._seen or self._seen[path].signature != signature:
                self._seen[path] = _Seen(signature, self.clock())
        return sorted(found, key=lambda path: -(step_of(path) or 0))

    def _argument(self, path: Path) -> str:
        return f"{self.series}={path}/." if self.series else f"{path}/."


def _check_json(folder: Path) -> None:
    """Refuse a folder with a JSON file that is cut off: its writer may only be slow.

    Raises:
        CheckpointError: one does not parse.
    """
    for path in behaviour_files(folder):
        if path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                raise CheckpointError(f"{path} is not whole: {error}") from error
