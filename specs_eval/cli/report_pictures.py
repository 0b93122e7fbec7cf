"""Thumbnails for the sample browser: the store knows images by digest alone, so the task is asked for them again."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from specs_eval.analysis.report.samples import BrowserSample
from specs_eval.chat import ImagePart, images_of
from specs_eval.errors import SpecsEvalError
from specs_eval.task_names import ID_SUFFIX, OOD_SUFFIX

MAX_SIDE = 240
"""Pixels."""
_QUALITY = 55


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where images are found."""

    data_dir: Path | None = None
    """Benchmark data; None: each task's default place."""
    wanted: bool = True


class TaskPictures:
    """Thumbnails of images of tasks that can be loaded from here, and still have the same images."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._images: dict[str, dict[str, ImagePart]] = {}
        self._problems: list[str] = [] if pictures.wanted else ["The report was made with --no-images."]

    @property
    def problem(self) -> str:
        """Why some images are not shown."""
        return " ".join(self._problems)

    def prepare(self, task: str, wanted: Mapping[str, Collection[str]]) -> None:
        """Find the images of some samples.

        Args:
            task: its name.
            wanted: sample id -> digests of its images.
        """
        if not self._pictures.wanted or not any(wanted.values()):
            return
        images = self._images.setdefault(task, {})
        if not _is_ours(task):
            self._add(f"{task} is a task of lmms-eval, whose images a report does not fetch.")
            return
        hint = "" if self._pictures.data_dir is not None else " Name the benchmark's data with --data-dir."
        from specs_eval.tasks.registry import get_task

        try:
            for sample in get_task(task, self._pictures.data_dir).samples():
                digests = wanted.get(sample.sample_id, ())
                for image in images_of(sample.chat) if digests else ():
                    if image.digest in digests:
                        images[image.digest] = image
        except (SpecsEvalError, OSError) as error:
            self._add(f"{task} cannot be loaded: {error}.{hint}")
            return
        if any(digest not in images for digests in wanted.values() for digest in digests):
            self._add(f"The data of {task} here has no image with the digest that the run stored.{hint}")

    def find(self, sample: BrowserSample) -> dict[str, str]:
        """See `specs_eval.analysis.report.samples.PictureSource`."""
        images = self._images.get(sample.task, {})
        drawn = {digest: _thumbnail(images[digest]) for digest in sample.images if digest in images}
        return {digest: data for digest, data in drawn.items() if data is not None}

    def _add(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)


def _is_ours(task: str) -> bool:
    """Whether a task comes with this package: one of lmms-eval would be fetched from the hub, and a report asks no network."""
    from specs_eval.tasks.registry import TASKS

    return task.removesuffix(ID_SUFFIX).removesuffix(OOD_SUFFIX) in TASKS


def _thumbnail(image: ImagePart) -> str | None:
    """A small WebP as a data URI; None where the image does not decode."""
    try:
        picture = image.load()
    except SpecsEvalError:
        return None
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
