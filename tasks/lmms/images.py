"""Whether Pillow completes truncated images: lmms-eval switches that on for the whole process when it is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def strict_images() -> Iterator[None]:
    """A truncated image fails to decode, as it does in ``specs-eval run``, instead of being filled with grey."""
    with _truncated_images(False):
        yield


@contextmanager
def lenient_images() -> Iterator[None]:
    """A truncated image is completed, as lmms-eval does it for its own tasks."""
    with _truncated_images(True):
        yield


@contextmanager
def _truncated_images(allowed: bool) -> Iterator[None]:
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = allowed
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
