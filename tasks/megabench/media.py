"""Images and videos of the data set, where ``data.zip`` was unpacked."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from specs_eval.chat import ImagePart, Part, TextPart
from specs_eval.errors import TaskDataError

MAX_VIDEO_FRAMES = 64
FOLDERS = ("megabench", "MEGA-Bench", "TIGER-Lab/MEGA-Bench", "megabench_data")
"""Where the data set may lie inside the folder of benchmark data."""


def media_parts(name: str, sample_id: str, root: Path) -> list[Part]:
    """An image, or a video as its frames between two marks.

    Raises:
        TaskDataError: the file is missing, or the video does not decode.
    """
    path = media_path(root, name, sample_id)
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("video"):
        return [ImagePart(path)]
    return [TextPart("[video start]"), *map(ImagePart, _frames(path, sample_id)), TextPart("[video end]")]


def media_path(root: Path, name: str, sample_id: str) -> Path:
    """A media file of the data set; names that lead out of its folder are refused.

    Raises:
        TaskDataError: there is no such file.
    """
    for folder in (root, root.parent, root / "megabench_data"):
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    raise TaskDataError(f"{sample_id}: no media file {name} under {root}; unpack data.zip of the data set there")


def _frames(path: Path, sample_id: str) -> list[Any]:
    """Up to `MAX_VIDEO_FRAMES` frames at equal distances.

    Raises:
        TaskDataError: the video does not decode, or the reader is not installed.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise TaskDataError(f"{sample_id}: videos need the av package: pip install av") from error
    try:
        with av.open(str(path)) as container:
            count = container.streams.video[0].frames or sum(1 for _ in container.decode(video=0))
            container.seek(0)
            step = max(1, -(-count // MAX_VIDEO_FRAMES))
            decoded: Any = enumerate(container.decode(video=0))
            frames = [frame.to_image() for index, frame in decoded if index % step == 0]
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise TaskDataError(f"{sample_id}: video {path} does not decode: {error}") from error
    if not frames:
        raise TaskDataError(f"{sample_id}: video {path} has no frames")
    return frames[:MAX_VIDEO_FRAMES]


def media_images(name: str, sample_id: str, data_dir: Path) -> list[ImagePart]:
    """The image of this name, or a video's frames, from one of `FOLDERS` in a folder or from the folder itself.

    Raises:
        TaskDataError: it is in none of them.
    """
    for root in (*(data_dir / folder for folder in FOLDERS), data_dir):
        try:
            return [part for part in media_parts(name, sample_id, root) if isinstance(part, ImagePart)]
        except TaskDataError:
            continue
    raise TaskDataError(f"{sample_id}: no media file {name} under {data_dir}; unpack data.zip of the data set there")
