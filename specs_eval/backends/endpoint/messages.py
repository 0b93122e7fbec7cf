"""A chat as the messages of a chat completion: text and images in reading order, images as data URLs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.chat import MAX_IMAGE_PIXELS, Chat, ImagePart, Message, TextPart
from specs_eval.errors import GenerationError
from specs_eval.records import valid_text

if TYPE_CHECKING:
    from PIL.Image import Image

_SENT_AS_THEY_ARE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_SAME_FOR_ALL = ("RGB", "L")
"""Modes that every server turns into the same RGB pixels. Transparency is laid on white by some, dropped by others."""
_ORIENTATION = 0x0112
"""The EXIF field by which some servers turn an image and others do not."""


def messages_of(chat: Chat) -> list[dict[str, Any]]:
    """The messages of a chat.

    Raises:
        GenerationError: an image is missing, does not decode, or is too large.
    """
    return [{"role": message.role, "content": _content(message)} for message in chat]


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Plain text where there is nothing else: not every chat template takes parts for every role."""
    if all(isinstance(part, TextPart) for part in message.parts):
        return valid_text("".join(part.text for part in message.parts if isinstance(part, TextPart)))
    return [
        {"type": "text", "text": valid_text(part.text)}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in message.parts
    ]


def data_url(part: ImagePart) -> str:
    """An image as a data URL: its own bytes, or PNG where servers would read those bytes differently.

    The pixels are those that `ImagePart.load` gives to every other backend.

    Raises:
        GenerationError: the image is missing, does not decode, or is too large.
    """
    found = _own_bytes(part)
    if found is None:
        stream = io.BytesIO()
        part.load().save(stream, "PNG", compress_level=1)
        found = "image/png", stream.getvalue()
    kind, data = found
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _own_bytes(part: ImagePart) -> tuple[str, bytes] | None:
    """Media type and bytes of a whole image that every server reads alike; None: `ImagePart.load` must decide.

    The image is decoded, so that a broken one fails here as it does with every other backend.
    """
    from PIL import Image as PILImage

    if not isinstance(part.source, Path | bytes):
        return None
    try:
        data = part.source if isinstance(part.source, bytes) else part.source.read_bytes()
        with PILImage.open(io.BytesIO(data)) as image:
            kind = _SENT_AS_THEY_ARE.get(image.format or "")
            if kind is None or image.width * image.height > MAX_IMAGE_PIXELS:
                return None
            image.load()
            return (kind, data) if _is_plain(image) else None
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        where = part.source if isinstance(part.source, Path) else "the image in memory"
        raise GenerationError(f"image does not decode: {where}: {error}") from error


def _is_plain(image: Image) -> bool:
    return (
        image.mode in _SAME_FOR_ALL
        and "transparency" not in image.info
        and getattr(image, "n_frames", 1) == 1
        and image.getexif().get(_ORIENTATION, 1) == 1
    )
