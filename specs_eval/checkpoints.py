"""Finding, ordering and identifying checkpoints."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import Fingerprinter, check_safetensors, combine, stat_signature

_STEP_FOLDER = re.compile(r"(?:checkpoint|global_step|step|iter|epoch)[-_](\d{1,12})")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_MAX_NAME = 512
SERVED = "served:"
"""Begins the name of a model that only an endpoint knows, in ``--ckpt`` and in fingerprints."""
_HUB_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint, checked to be whole."""

    path: Path
    """Folder with configuration and weights (of the adapter, if it is one)."""
    name: str
    series: str
    step: int | None
    fingerprint: str
    base: Path | None = None
    """Folder of the base model when `path` holds a LoRA adapter."""
    signature: tuple[object, ...] = ()
    """Sizes and times of the files when the fingerprint was taken."""

    @property
    def served_name(self) -> str | None:
        """The name that an endpoint serves the model by, where that is all that is known of it; else None."""
        return str(self.path).removeprefix(SERVED) if self.fingerprint.startswith(SERVED) else None

    def assert_unchanged(self) -> None:
        """Make sure that the files are still those of the fingerprint.

        Raises:
            CheckpointError: the folder was written to since.
        """
        if self.signature and _signature(self.path, self.base) != self.signature:
            raise CheckpointError(
                f"{self.path} changed while it was being loaded; run again when training is done with it"
            )


@dataclass(frozen=True, slots=True)
class CheckpointNames:
    """What a checkpoint is called and where it stands in its series."""

    name: str
    series: str
    step: int | None

    @classmethod
    def of_folder(cls, folder: PurePath, series: str = "") -> CheckpointNames:
        """By the folder's name: ``out/dpo/checkpoint-5`` is step 5 of series ``dpo``, unless `series` says another."""
        step = step_of(folder)
        if step is None:
            return cls(series or folder.name, series or folder.name, None)
        name = series or folder.parent.name
        return cls(f"{name}/{folder.name}" if name else folder.name, name or folder.name, step)

    @classmethod
    def of_text(cls, text: str, series: str = "") -> CheckpointNames:
        """By a path that need not exist here, or a hub id."""
        folder = PurePath(text)
        if step_of(folder) is None and _HUB_ID.fullmatch(text):
            return cls(text, series or folder.name, None)
        return cls.of_folder(folder, series)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the ``--ckpt`` arguments came to."""

    checkpoints: tuple[Checkpoint, ...]
    problems: tuple[str, ...]
    """Checkpoints of a series or glob that cannot be used, one sentence each."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: Path
    """Of a served model ``served:NAME``."""
    series: str
    step: int | None
    name: str


def resolve_checkpoints(
    arguments: list[str] | tuple[str, ...], fingerprinter: Fingerprinter, *, may_be_served: bool = False
) -> Resolution:
    """Turn ``--ckpt`` arguments into checkpoints: series in step order, everything checked before a model is loaded.

    Args:
        arguments: each a checkpoint folder, a training output folder (expands into its ``checkpoint-N`` series), a
            glob, or a hub id; ``NAME=...`` names the series; ``served:NAME`` is a model of an endpoint, known by its
            name alone: its fingerprint is of the name, and nobody here notices when other weights are served under it.
        fingerprinter: computes and remembers fingerprints.
        may_be_served: whether what the checkpoints are for can do with models of an endpoint.

    Raises:
        ConfigError: an argument matches nothing.
        CheckpointError: no usable checkpoint is left.
    """
    candidates: list[_Candidate] = []
    notes: list[str] = []
    for argument in arguments:
        served = _served(argument, notes, may_be_served=may_be_served)
        candidates += [served] if served is not None else _expand(argument, notes)
    checkpoints: list[Checkpoint] = []
    problems: list[str] = []
    seen: set[Path] = set()
    for candidate in candidates:
        if candidate.path.resolve() in seen:
            continue
        seen.add(candidate.path.resolve())
        try:
            checkpoints.append(_checkpoint(candidate, fingerprinter))
        except CheckpointError as error:
            problems.append(str(error))
    fingerprinter.save()
    if not checkpoints:
        raise CheckpointError("\n".join(problems) or "no checkpoint given; name one with --ckpt")
    return Resolution(tuple(checkpoints), tuple(problems), tuple(notes))


def step_of(folder: PurePath) -> int | None:
    """The training step in a folder's name (``checkpoint-500``, ``global_step_500``), else None."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def _served(argument: str, notes: list[str], *, may_be_served: bool) -> _Candidate | None:
    """The model of an endpoint that an argument names; None: it names something else."""
    series, _, text = argument.rpartition("=")
    if may_be_served and _HUB_ID.fullmatch(text) and not Path(text).parent.is_dir():
        text = SERVED + text
        notes.append(f"{text}: no folder here, so it is known by its name alone, whatever weights are served under it")
    if not text.startswith(SERVED):
        return None
    name = text.removeprefix(SERVED)
    if not name or not name.isprintable() or len(name) > _MAX_NAME or str(Path(text)) != text:
        raise ConfigError(f"--ckpt {argument[:80]!r}: after {SERVED} comes the name that an endpoint lists for a model")
    if not may_be_served:
        raise ConfigError(f"--ckpt {argument!r} is a model of an endpoint; it needs --backend openai --base-url URL")
    names = CheckpointNames.of_text(name, series)
    return _Candidate(Path(text), names.series, names.step, names.name)


def _expand(argument: str, notes: list[str]) -> list[_Candidate]:
    series, _, pattern = argument.rpartition("=")
    if not series or Path(argument).exists():
        series, pattern = "", argument
    if not pattern:
        raise ConfigError(f"--ckpt {argument!r} names no checkpoint")
    path = Path(pattern).expanduser()
    if path.is_dir():
        return _from_folder(path, series, notes, only_itself=pattern.endswith("/."))
    if glob.has_magic(pattern):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns
        folders = sorted((match for match in matches if match.is_dir()), key=_order)
        if not folders:
            raise ConfigError(f"--ckpt {pattern!r} matches no folder (seen from {Path.cwd().name}/)")
        return [found for folder in folders for found in _from_folder(folder, series, notes, only_itself=False)]
    if path.exists():
        raise ConfigError(f"--ckpt {pattern!r} is a file; name the folder that holds config.json and *.safetensors")
    if path.parent != Path() and path.parent.is_dir():
        raise ConfigError(f"--ckpt {pattern!r}: no such folder; {path.parent} has {_children(path.parent)}")
    if _HUB_ID.fullmatch(pattern):
        return [_Candidate(_download(pattern), series or pattern.split("/")[1], None, pattern)]
    raise ConfigError(f"--ckpt {pattern!r}: no such folder, and not a hub id (org/name)")


def _children(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir() if child.is_dir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "no folders"


def _from_folder(folder: Path, series: str, notes: list[str], *, only_itself: bool) -> list[_Candidate]:
    steps = sorted((child for child in folder.iterdir() if child.is_dir() and step_of(child) is not None), key=_order)
    if steps and not only_itself:
        if (folder / "config.json").exists():
            notes.append(f"{folder} also holds a model itself; add --ckpt '{folder}/.' to evaluate it too")
        return [
            found
            for child in steps
            for found in _from_folder(child, series or _series(folder), notes, only_itself=True)
        ]
    names = CheckpointNames.of_folder(folder.resolve(), series)
    return [_Candidate(folder, names.series, names.step, names.name)]


def _series(folder: Path) -> str:
    return folder.resolve().name


def _order(folder: Path) -> tuple[str, int, str]:
    step = step_of(folder)
    return (str(folder.parent), -1 if step is None else step, folder.name)


def _checkpoint(candidate: _Candidate, fingerprinter: Fingerprinter) -> Checkpoint:
    path = candidate.path
    base = None
    if str(path).startswith(SERVED):
        digest = hashlib.sha256(str(path).removeprefix(SERVED).encode()).hexdigest()
        return Checkpoint(path, candidate.name, candidate.series, candidate.step, SERVED + digest)
    if (path / "adapter_config.json").exists():
        base = _check_adapter(path)
        _check_model(base)
        fingerprint = combine([fingerprinter.digest(path), fingerprinter.digest(base)])
    else:
        _check_model(path)
        fingerprint = fingerprinter.digest(path)
    signature = _signature(path, base)
    return Checkpoint(path, candidate.name, candidate.series, candidate.step, fingerprint, base, signature)


def _signature(path: Path, base: Path | None) -> tuple[object, ...]:
    return (stat_signature(path), stat_signature(base) if base is not None else ())


def _check_model(folder: Path) -> None:
    config = _json(folder / "config.json", "is it a checkpoint folder, and was the save finished?")
    if not isinstance(config, dict) or "model_type" not in config:
        raise CheckpointError(f"{folder / 'config.json'} names no model_type; it is not a transformers model")
    for path in _weight_files(folder, "model"):
        check_safetensors(path)
    for kind, names in (("processor", _PROCESSOR_FILES), ("tokenizer", _TOKENIZER_FILES)):
        if not any((folder / name).exists() for name in names):
            raise CheckpointError(
                f"{folder} has weights but no {kind} ({' or '.join(names)}); save it with the checkpoint "
                "(processing_class=processor in a Trainer) or copy it from the base model"
            )


def _check_adapter(folder: Path) -> Path:
    config = _json(folder / "adapter_config.json", "was the save finished?")
    for path in _weight_files(folder, "adapter_model"):
        check_safetensors(path)
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{folder / 'adapter_config.json'} names no base_model_name_or_path")
    for base in (Path(name).expanduser(), folder / name):
        if base.is_dir():
            return base
    if _HUB_ID.fullmatch(name):
        return _download(name)
    raise CheckpointError(f"{folder} is an adapter of {name!r}, which is neither a folder nor a hub id")


def _weight_files(folder: Path, stem: str) -> list[Path]:
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        table = _json(index, "was the save finished?")
        names = sorted(set(table.get("weight_map", {}).values())) if isinstance(table, dict) else []
        if any(Path(str(name)).name != name for name in names):
            raise CheckpointError(f"{index} points outside its folder; refused")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of {len(names)} weight files: {', '.join(missing[:3])}"
            )
        return [folder / name for name in names]
    if (folder / f"{stem}.safetensors").is_file():
        return [folder / f"{stem}.safetensors"]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder} holds weights only as pickle ({pickles[0]}), which can run code and is refused; "
            "save it again with safe_serialization=True"
        )
    raise CheckpointError(f"{folder} holds no {stem}.safetensors: is it a checkpoint, and was the save finished?")


def _json(path: Path, hint: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}: {hint}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{hub_id!r} is not a folder here, and the hub did not give it: {reason}. "
            "Check the name and the network, or download it and name the folder"
        ) from error
