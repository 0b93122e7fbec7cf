"""The checkpoints of a check that may still have to be evaluated: found by their files, in the store, or on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.analysis.stored.sides import IMPORTED, Side, find_side
from specs_eval.checkpoints import SERVED, Checkpoint, resolve_checkpoints, step_of
from specs_eval.errors import CheckpointError, ComparisonError, ConfigError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.store import MARKER, RunStore, StoredRun


@dataclass(frozen=True, slots=True)
class Contender:
    """A checkpoint whose answers some gate needs."""

    role: str
    """``baseline``, ``candidate`` or ``base``."""
    side: Side
    """How it is called, and all runs of its weights; none when they were never evaluated."""
    checkpoint: Checkpoint | None
    """Its files, where it was named by them."""
    tasks: tuple[str, ...]


def find_contender(
    text: str, role: str, tasks: tuple[str, ...], runs: Sequence[StoredRun], fingerprinter: Fingerprinter
) -> Contender:
    """A checkpoint by its files, where it names some, else in the store, else on the hub."""
    if _names_files(text):
        return _from_files(text, role, tasks, runs, fingerprinter)
    try:
        return Contender(role, of_weights(find_side(runs, text), runs), None, tasks)
    except ConfigError as error:
        if text.partition("/")[0] in {run.manifest.checkpoint.series for run in runs}:
            # A slip in the step of a series that is stored, which has the form of a hub id.
            raise
        try:
            return _from_files(text, role, tasks, runs, fingerprinter)
        except ConfigError as no_files:
            known = f", and {error}" if runs else "; the store is empty"
            raise ConfigError(f"{role}: {no_files}{known}") from error


def _names_files(text: str) -> bool:
    """Whether the text (``PATH`` or ``NAME=PATH``) is a folder with checkpoints; any folder may bear a model's name."""
    folder = Path(text if Path(text).exists() else text.rpartition("=")[2]).expanduser()
    if not folder.is_dir():
        return False
    has_model = any((folder / name).exists() for name in ("config.json", "adapter_config.json"))
    return has_model or step_of(folder) is not None or any(step_of(child) is not None for child in folder.iterdir())


def _from_files(
    text: str, role: str, tasks: tuple[str, ...], runs: Sequence[StoredRun], fingerprinter: Fingerprinter
) -> Contender:
    try:
        # Served models are named as such: a hub id means the weights.
        resolution = resolve_checkpoints([text], fingerprinter, may_be_served=SERVED in text)
    except CheckpointError as error:
        # Not the user's typing but the state of the files (a save that was not finished): incomplete, not usage.
        raise ComparisonError(f"the {role} cannot be evaluated: {error}") from error
    if len(resolution.checkpoints) != 1:
        names = ", ".join(checkpoint.name for checkpoint in resolution.checkpoints[:10])
        raise ConfigError(f"{role} {text!r} stands for {len(resolution.checkpoints)} checkpoints: {names}; name one")
    (checkpoint,) = resolution.checkpoints
    mine = [run for run in runs if run.manifest.checkpoint.fingerprint == checkpoint.fingerprint]
    keys = [CheckpointKey.of(run.manifest) for run in mine]
    key = CheckpointKey(checkpoint.series, -1 if checkpoint.step is None else checkpoint.step, checkpoint.name)
    if keys and key not in keys and "=" not in text:
        key = keys[0]
    named = replace(checkpoint, name=key.name, series=key.series, step=key.step)
    return Contender(role, Side(key, checkpoint.fingerprint, tuple(mine)), named, tasks)


def checkpoint_of(contender: Contender, fingerprinter: Fingerprinter) -> Checkpoint:
    """The files of a contender, for one that was found in the store where it was evaluated from."""
    if contender.checkpoint is not None:
        return contender.checkpoint
    side = contender.side
    record = side.runs[0].manifest.checkpoint
    missing_files = (
        f"{side.key.name} must be evaluated, and {record.path} does not hold it any more; name the folder that does"
    )
    if side.fingerprint.startswith(IMPORTED):
        raise ConfigError(f"{side.key.name} was imported: its weights are not known; name its folder to evaluate it")
    is_served = record.path.startswith(SERVED)
    if not is_served and not Path(record.path).is_dir():
        raise ComparisonError(missing_files)
    named = record.path if is_served else f"{record.path}/."
    try:
        (found,) = resolve_checkpoints([named], fingerprinter, may_be_served=is_served).checkpoints
    except CheckpointError as error:
        raise ComparisonError(f"{missing_files} ({error})") from error
    if found.fingerprint != side.fingerprint:
        raise ComparisonError(f"{missing_files} (it holds {found.fingerprint[:16]}, not {side.fingerprint[:16]})")
    return replace(found, name=side.key.name, series=side.key.series, step=side.key.step)


def of_weights(side: Side, runs: Sequence[StoredRun]) -> Side:
    """The side with the runs of its weights under whatever name."""
    mine = tuple(run for run in runs if run.manifest.checkpoint.fingerprint == side.fingerprint)
    return Side(side.key, side.fingerprint, mine)


def runs_in(store: Path) -> list[StoredRun]:
    """All runs of a store; none where there is no store yet."""
    return RunStore.open(store).runs() if (store / MARKER).exists() else []
