"""Media straight from ``data.zip`` as it comes from the hub: unpacked one by one, when a sample asks for them.

A member is found by the name in the record and written under that name, never under one of the archive's choosing, so no
archive can write outside the folder.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath

from specs_eval.errors import TaskDataError
from specs_eval.files import write_atomic

MAX_MEMBER_BYTES = 2**29
"""A larger file is refused."""

MAX_RATIO, RATIO_MATTERS_BYTES = 1_000, 2**24
"""A file of more than so many bytes that was packed to less than a thousandth is a bomb: media hardly shrink."""

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, NotImplementedError)
"""Damaged, truncated, encrypted, or packed in a way that Python does not know."""


def unpacked_member(archive: Path, name: str, sample_id: str) -> Path | None:
    """The member of an archive as a file in the cache of assets; None when there is no such member.

    Args:
        archive: a zip file.
        name: relative, without ``..`` (`specs_eval.tasks.benchmark_data.relative_name`).
        sample_id: for messages.

    Raises:
        TaskDataError: the archive or the member is damaged or a bomb, or the cache cannot be written.
    """
    found = archive.stat()
    members = _members(archive, found.st_size, found.st_mtime_ns)
    wanted = str(PurePosixPath(name))
    places = (wanted, wanted.removeprefix("data/"), f"data/{wanted}", f"megabench_data/{wanted}")
    member = next((members[place] for place in places if place in members), None)
    if member is None:
        return None
    target = _folder(archive, found.st_size, found.st_mtime_ns) / wanted
    if not target.is_file():
        _unpack(archive, member, target, sample_id)
    return target


@lru_cache(maxsize=8)
def _members(archive: Path, _size: int, _modified: int) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(archive) as file:
            return {str(PurePosixPath(info.filename)): info for info in file.infolist() if not info.is_dir()}
    except ZIP_ERRORS as error:
        raise TaskDataError(f"cannot read {archive}: {error}; download it again") from error


@lru_cache(maxsize=8)
def _folder(archive: Path, size: int, modified: int) -> Path:
    from huggingface_hub import cached_assets_path

    key = hashlib.sha256(f"{archive.resolve()}:{size}:{modified}".encode()).hexdigest()[:16]
    try:
        return cached_assets_path("specs-eval", "media", f"{archive.stem}-{key}")
    except OSError as error:
        raise TaskDataError(
            f"no place to unpack {archive}: {error}; set HF_ASSETS_CACHE to a folder, or unpack it beside the records"
        ) from error


def _unpack(archive: Path, member: zipfile.ZipInfo, target: Path, sample_id: str) -> None:
    dense = member.file_size > RATIO_MATTERS_BYTES and member.file_size > MAX_RATIO * member.compress_size
    if member.file_size > MAX_MEMBER_BYTES or dense:
        raise TaskDataError(
            f"{sample_id}: {member.filename} in {archive} would unpack to {member.file_size:,} bytes; refused as a bomb"
        )

    def write(temporary: Path) -> None:
        try:
            with zipfile.ZipFile(archive) as file, file.open(member) as source, temporary.open("wb") as sink:
                shutil.copyfileobj(source, sink, 2**20)
        except ZIP_ERRORS as error:
            raise TaskDataError(
                f"{sample_id}: {member.filename} in {archive} cannot be unpacked: {error}; download the archive again"
            ) from error

    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, write)
