"""Videos as frames at equal distances, decoded when a model is asked and not before."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.chat import MAX_IMAGE_PIXELS, ImagePart, LazyImage
from specs_eval.errors import GenerationError, TaskDataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_VIDEO_FRAMES = 64
VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".webm", ".avi", ".mkv", ".mpg", ".mpeg", ".flv", ".wmv"))
"""By name and not by the system's list of types, which differs between machines."""

_VIDEOS_KEPT = 1


def is_video(path: Path) -> bool:
    """Whether a media file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def video_frames(path: Path, sample_id: str) -> list[ImagePart]:
    """Up to `MAX_VIDEO_FRAMES` frames at equal distances, known by the content of the file and their number.

    Raises:
        TaskDataError: the file is no video, or the reader is not installed.
    """
    count = _frame_count(path, sample_id)
    step = max(1, -(-count // MAX_VIDEO_FRAMES))
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    return [
        LazyImage(
            lambda index=index: ImagePart(_frame(path, step, index)),  # type: ignore[misc]
            hashlib.sha256(f"frame {index * step} of {content}".encode()).hexdigest(),
        )
        for index in range(-(-count // step))
    ]


def _frame_count(path: Path, sample_id: str) -> int:
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise TaskDataError(f"{sample_id}: videos need the av package: pip install av") from error
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_IMAGE_PIXELS:
                raise TaskDataError(f"{sample_id}: video {path} has {stream.width} x {stream.height} pixels; refused")
            count = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise TaskDataError(f"{sample_id}: video {path} does not open: {error}; download it again") from error
    if count < 1:
        raise TaskDataError(f"{sample_id}: video {path} has no frames")
    return count


def _frame(path: Path, step: int, index: int) -> Image:
    """A frame; the last one where the file promises more frames than it has."""
    frames = _decoded(path, step, path.stat().st_mtime_ns)
    return frames[min(index, len(frames) - 1)]


@lru_cache(maxsize=_VIDEOS_KEPT)
def _decoded(path: Path, step: int, _modified: int) -> list[Image]:
    """Every `step`-th frame. Kept for the last video: a chat asks for its frames one after the other."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            decoded: Any = enumerate(container.decode(video=0))
            frames = [frame.to_image() for index, frame in decoded if index % step == 0][:MAX_VIDEO_FRAMES]
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise GenerationError(f"video {path} does not decode: {error}") from error
    if not frames:
        raise GenerationError(f"video {path} has no frame that decodes")
    return frames
