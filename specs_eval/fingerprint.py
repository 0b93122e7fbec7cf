"""What weights these are: a digest of every file of a checkpoint that changes what the model says."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from specs_eval.errors import CheckpointError, StoreError
from specs_eval.files import write_text_atomic

_CHUNK = 1 << 22

_BEHAVIOUR_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)


def behaviour_files(folder: Path) -> list[Path]:
    """Weights, model configuration, tokenizer and processor of a checkpoint folder, by name.

    Left out: optimizer and trainer state, logs, licences, anything that does not reach the model's output.
    """
    weights = folder.glob("*.safetensors")
    small = (folder / name for name in _BEHAVIOUR_FILES)
    return sorted([*weights, *(path for path in small if path.is_file())])


def stat_signature(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Names, sizes and times of the behaviour files: differs when a file was touched since."""
    signature = []
    for path in behaviour_files(folder):
        info = path.stat()
        signature.append((path.name, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
    return tuple(signature)


class Fingerprinter:
    """Digests of checkpoint folders, remembered by file identity (path, size, times, inode) in a cache file."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache_path = cache
        self._cache: dict[str, str] = _load_cache(cache)
        self._changed = False

    def digest(self, folder: Path) -> str:
        """SHA-256 (hex) over names and contents of the behaviour files.

        Raises:
            CheckpointError: a file cannot be read.
        """
        files = behaviour_files(folder)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = list(pool.map(self._file_digest, files))
        hasher = hashlib.sha256()
        for path, digest in zip(files, digests, strict=True):
            hasher.update(f"{path.name}\0{digest}\n".encode())
        return hasher.hexdigest()

    def save(self) -> None:
        """Write the cache; a store that cannot take it costs time only."""
        if self._cache_path is not None and self._changed:
            write_text_atomic(self._cache_path, json.dumps(self._cache, indent=0))
            self._changed = False

    def _file_digest(self, path: Path) -> str:
        try:
            info = path.stat()
            facts = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
            key = f"{path.resolve()}|{'|'.join(map(str, facts))}"
            if key not in self._cache:
                self._cache[key] = _sha256(path)
                self._changed = True
            return self._cache[key]
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def combine(fingerprints: Iterable[str]) -> str:
    """One fingerprint of several parts (an adapter and its base)."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def check_safetensors(path: Path) -> None:
    """Make sure that a weights file is whole: its header parses and its length is what the header says.

    Raises:
        CheckpointError: the file is empty, cut off, or not safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if 8 + length > size:
                raise CheckpointError(f"{path} is cut off ({size:,} bytes): the copy or the save was interrupted")
            header = json.loads(stream.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} has {size:,} bytes, its header says {8 + length + end:,}: the copy or the save was interrupted"
        )


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _load_cache(path: Path | None) -> dict[str, str]:
    if path is None or not path.exists():
        return {}
    try:
        cache = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}; delete it, it is only a cache") from error
    return {str(key): str(value) for key, value in cache.items()} if isinstance(cache, dict) else {}
