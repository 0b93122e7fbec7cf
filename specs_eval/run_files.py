"""The small files of a run directory: manifest, totals and samples, read with errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from specs_eval.errors import StoreError
from specs_eval.files import write_text_atomic
from specs_eval.records import SCHEMA_VERSION, RunManifest, RunResults, SampleRecord

Model = TypeVar("Model", RunManifest, RunResults)


def write_manifest(directory: Path, manifest: RunManifest) -> None:
    """Replace the manifest of a run directory, atomically."""
    write_text_atomic(directory / "manifest.json", manifest.model_dump_json(indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        StoreError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"cannot read {path}: not a JSON object")
    return value


def read_model(model: type[Model], path: Path) -> Model:
    """A manifest or totals.

    Raises:
        StoreError: damaged, or of another schema; the message names the file and what to do.
    """
    facts = read_json(path)
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path} has schema version {version}; this version of specs-eval reads {SCHEMA_VERSION}")
    try:
        return model.model_validate(facts)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise StoreError(
            f"{path} is damaged: {where}: {problem['msg']}; delete the folder {path.parent} to evaluate again"
        ) from error


def read_samples(path: Path) -> dict[str, SampleRecord]:
    """What was asked, by sample id; empty when there is no file yet.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        records = [SampleRecord(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"cannot read {path}: {error}; delete the folder {path.parent} to evaluate again") from error
    return {record.sample_id: record for record in records}
