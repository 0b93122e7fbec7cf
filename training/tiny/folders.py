"""Folders that exist complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specs_eval.errors import ConfigError


@contextmanager
def complete_or_absent(folder: Path) -> Iterator[Path]:
    """Give a hidden scratch folder beside `folder` that takes its name when the block ends without an error.

    A process that is killed in between leaves a hidden folder and never a half-written one under the final name.

    Raises:
        ConfigError: `folder` exists already and is not empty, or its parent cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already; remove it or name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"cannot write to {folder.parent}: {error.strerror or error}") from error
    try:
        scratch.chmod(0o755)
        yield scratch
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
