"""lmms-eval's chat messages as our `Chat`: text and images in the order in which the task gives them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from specs_eval.chat import Chat, ImagePart, Message, Part, Role, TextPart
from specs_eval.errors import GenerationError


def chat_from_messages(messages: Sequence[Mapping[str, Any]]) -> Chat:
    """A chat of the same turns and parts.

    Args:
        messages: as a task's ``doc_to_messages`` returns them: ``role`` and ``content``, a string or a list of
            ``{"type": "text", "text": ...}`` and ``{"type": "image", "url": picture, path, data URL or encoded}``.

    Raises:
        GenerationError: a part is a video, sound or of an unknown kind, an image lies on the web, or there is no user
            turn.
    """
    chat = tuple(_message(message) for message in messages)
    if not any(message.role == "user" for message in chat):
        raise GenerationError("the task gave messages without a user turn")
    return chat


def _message(message: Mapping[str, Any]) -> Message:
    role: Role = message["role"]
    if role not in get_args(Role):
        raise GenerationError(f"the task gave a message of role {role!r}; expected {', '.join(get_args(Role))}")
    content = message["content"]
    parts = [TextPart(content)] if isinstance(content, str) else [_part(part) for part in content]
    return Message(role, tuple(parts))


def _part(part: Mapping[str, Any]) -> Part:
    kind = part.get("type")
    if kind == "text":
        return TextPart(str(part["text"]))
    if kind == "image":
        return ImagePart(_image_source(part.get("url", part.get("image"))))
    raise GenerationError(f"the task shows a part of type {kind!r}; only text and images are supported")


def _image_source(value: Any) -> Any:
    """What `ImagePart` takes: a picture, encoded bytes, or a path on this machine."""
    from PIL import Image

    if isinstance(value, Image.Image | bytes | Path):
        return value
    if isinstance(value, Mapping) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, Mapping) and isinstance(value.get("path"), str):
        return Path(value["path"])
    if isinstance(value, str):
        return _image_from_text(value)
    raise GenerationError(f"the task gave an image as {type(value).__name__}; expected a picture, a path or bytes")


def _image_from_text(value: str) -> bytes | Path:
    if value.startswith("data:"):
        header, _, body = value.partition(",")
        try:
            if header.endswith(";base64"):
                return base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise GenerationError(f"a data URL of the task does not decode: {error}") from error
        raise GenerationError("a data URL of the task is not base64")
    if value.startswith(("http://", "https://")):
        raise GenerationError(f"the task's image lies on the web, which is not read: {value[:200]}")
    return Path(value.removeprefix("file://"))
