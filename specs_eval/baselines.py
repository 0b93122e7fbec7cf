"""Pinned baselines: names for checkpoints in a small text file that goes into git, next to the policy."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from specs_eval.errors import ConfigError
from specs_eval.files import write_text_atomic

BASELINE_FILE = "specs-eval-baselines.toml"

_HEADER = "# Baselines of 'specs-eval check'. Written by 'specs-eval baseline save'; meant to be committed.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Pin(BaseModel):
    """One pinned checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str
    """Its name in the store."""
    fingerprint: str
    """Of its weights: a folder that was overwritten since is not this baseline."""
    saved: str
    """Date, for people."""
    tasks: Mapping[str, str]
    """Task -> version that it was evaluated with."""
    scores: Mapping[str, float]
    """Task -> mean score, for people; checks read the store."""


def load_pins(path: Path) -> dict[str, Pin]:
    """All pins of a file; none when there is no file.

    Raises:
        ConfigError: the file is damaged; the message names it.
    """
    if not path.exists():
        return {}
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Pin.model_validate(pin) for name, pin in facts.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"cannot read the baselines in {path}: {error}") from error


def save_pin(path: Path, name: str, pin: Pin) -> None:
    """Add or replace one pin, atomically.

    Raises:
        ConfigError: a name that cannot be one, or a file that is damaged.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a baseline's name is of letters, digits, '.', '_' and '-', not {name!r}")
    pins = load_pins(path) | {name: pin}
    write_text_atomic(path, _HEADER + "".join(_section(one, pins[one]) for one in sorted(pins)))


def find_pin_file(start: Path) -> Path:
    """The nearest baseline file at or above a folder; where it would be made, when there is none."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / BASELINE_FILE).is_file():
            return folder / BASELINE_FILE
    return start / BASELINE_FILE


def today() -> str:
    """The date in UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def _section(name: str, pin: Pin) -> str:
    lines = [f"\n[{_quoted(name)}]"]
    lines += [f"{key} = {_quoted(str(getattr(pin, key)))}" for key in ("checkpoint", "fingerprint", "saved")]
    lines.append(f"\n[{_quoted(name)}.tasks]")
    lines += [f"{_quoted(task)} = {_quoted(version)}" for task, version in sorted(pin.tasks.items())]
    lines.append(f"\n[{_quoted(name)}.scores]")
    lines += [f"{_quoted(task)} = {score!r}" for task, score in sorted(pin.scores.items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: the escapes of JSON are among TOML's, but for DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")
