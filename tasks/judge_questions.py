"""What a judge is asked: one user message of images and text, as an OpenAI-compatible endpoint takes it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.chat import ImagePart

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT_CHARS = 100_000
"""Of a longer prompt the beginning and the end are sent."""
MAX_IMAGE_SIDE = 1000
"""Longer images are made smaller, as the official MEGA-Bench judge does."""


def no_problem(_reply: str) -> str | None:
    """Every reply can be used."""
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One question to a judge."""

    text: str
    images: tuple[ImagePart, ...] = ()
    """Stand before the text."""
    max_tokens: int = 256
    """Length of the reply at most."""
    problem: Callable[[str], str | None] = no_problem
    """Why a reply does not answer the question, if so: it is a failure then, and is not kept."""

    def key(self, model: str) -> str:
        """SHA-256 (hex): equal exactly when the same model is asked the same thing. Images are not encoded for it."""
        request = self._request(model, [f"sha256:{image.digest}" for image in self.images])
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def body(self, model: str) -> bytes:
        """The request as JSON.

        Raises:
            GenerationError: an image does not decode.
        """
        return json.dumps(self._request(model, [data_url(image) for image in self.images]), sort_keys=True).encode()

    def _request(self, model: str, urls: list[str]) -> dict[str, Any]:
        text = shortened(self.text, MAX_PROMPT_CHARS).encode("utf-8", "replace").decode()
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {
            "model": model,
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": text}] if parts else text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a text of more than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit // 2]}\n...\n{text[-(limit // 2) :]}"


def data_url(image: ImagePart) -> str:
    """An image as the official MEGA-Bench judge gets it: on white, no side over 1,000 pixels.

    JPEG stays JPEG and what was drawn or decoded from a video becomes it; all else is sent as PNG.

    Raises:
        GenerationError: the image does not decode.
    """
    picture = _made_smaller(image.load(on_white=True))
    kind = "jpeg" if _is_jpeg(image.source) else "png"
    stream = io.BytesIO()
    picture.save(stream, kind)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _made_smaller(picture: Image) -> Image:
    scale = MAX_IMAGE_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = picture.size
    return picture.resize((max(1, int(width * scale)), max(1, int(height * scale))))


def _is_jpeg(source: Path | bytes | Image) -> bool:
    if isinstance(source, Path):
        return source.suffix.lower() in (".jpg", ".jpeg")
    return source.startswith(b"\xff\xd8") if isinstance(source, bytes) else True
