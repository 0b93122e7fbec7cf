"""Images and videos of the data set, beside its records or in ``data.zip``."""

from __future__ import annotations

from pathlib import Path

from specs_eval.chat import ImagePart, Part, TextPart
from specs_eval.errors import TaskDataError
from specs_eval.tasks.benchmark_data import relative_name
from specs_eval.tasks.megabench.archive import unpacked_member
from specs_eval.tasks.megabench.video import is_video, video_frames

FOLDERS = ("megabench", "MEGA-Bench", "TIGER-Lab/MEGA-Bench", "megabench_data")
"""Where the data set may lie inside the folder of benchmark data."""

ARCHIVE = "data.zip"


def media_parts(name: str, sample_id: str, root: Path) -> list[Part]:
    """An image, or a video as its frames between two marks.

    Raises:
        TaskDataError: the file is missing, or the video does not open.
    """
    path = media_path(root, name, sample_id)
    if not is_video(path):
        return [ImagePart(path)]
    return [TextPart("[video start]"), *video_frames(path, sample_id), TextPart("[video end]")]


def media_path(root: Path, name: str, sample_id: str) -> Path:
    """A media file of the data set; names that lead out of its folder are refused.

    Raises:
        TaskDataError: there is no such file, neither unpacked nor in the archive, or the archive is damaged.
    """
    relative = relative_name(name, sample_id)
    folders = (root, root.parent, root / "megabench_data")
    for folder in folders:
        path = folder / relative
        if path.is_file():
            return path
    for archive in (folder / ARCHIVE for folder in folders):
        if archive.is_file():
            member = unpacked_member(archive, relative, sample_id)
            if member is not None:
                return member
            raise TaskDataError(f"{sample_id}: no media file {name} in {archive}; download it again")
    raise TaskDataError(f"{sample_id}: no media file {name} under {root}; put {ARCHIVE} of the data set there")


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
    raise TaskDataError(f"{sample_id}: no media file {name} under {data_dir}; put {ARCHIVE} of the data set there")
