"""A chat with images: the one form in which every task asks and every backend is asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from specs_eval.errors import GenerationError

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["system", "user", "assistant"]

MAX_IMAGE_PIXELS = 200_000_000
"""Images beyond this many pixels are refused before decoding: a decompression bomb must not take the machine."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An image inside a message: a file, its encoded bytes, or a decoded picture. Decoded only when asked."""

    source: Path | bytes | Image

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the encoded bytes, or of size, mode and pixels when there are none."""
        if isinstance(self.source, Path):
            try:
                return hashlib.sha256(self.source.read_bytes()).hexdigest()
            except OSError as error:
                return hashlib.sha256(f"unreadable image {error.errno}".encode()).hexdigest()
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        header = f"{self.source.mode}:{self.source.size[0]}x{self.source.size[1]}:".encode()
        return hashlib.sha256(header + self.source.tobytes()).hexdigest()

    def load(self, *, on_white: bool = False) -> Image:
        """Decode to RGB; what is transparent keeps its hidden color unless it is to be laid on white.

        Raises:
            GenerationError: the file is missing, not an image, truncated, or larger than MAX_IMAGE_PIXELS.
        """
        from PIL import Image as PILImage

        where = self.source if isinstance(self.source, Path) else "the image in memory"
        try:
            if isinstance(self.source, PILImage.Image):
                return _rgb(self.source, on_white)
            stream = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
            with PILImage.open(stream) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise GenerationError(f"{where} has {image.width} x {image.height} pixels; refused as a bomb")
                return _rgb(image, on_white)
        except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
            raise GenerationError(f"image does not decode: {where}: {error}") from error


class LazyImage(ImagePart):
    """A picture that is known by its digest and decoded again each time it is wanted.

    A benchmark's samples live as long as its run; its decoded pictures would fill the memory.
    """

    def __init__(self, render: Callable[[], ImagePart], digest: str) -> None:
        object.__setattr__(self, "_render", render)
        object.__setattr__(self, "digest", digest)

    @property
    def source(self) -> Any:
        """The picture, decoded now."""
        return self._render().source  # type: ignore[attr-defined]

    def load(self, *, on_white: bool = False) -> Image:
        """The picture in RGB."""
        loaded: Image = self._render().load(on_white=on_white)  # type: ignore[attr-defined]
        return loaded

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.digest[:12]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImagePart) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def _rgb(image: Image, on_white: bool) -> Image:
    if not on_white or not ("A" in image.getbands() or "transparency" in image.info):
        return image.convert("RGB")
    from PIL import Image as PILImage

    layer = image.convert("RGBA")
    return PILImage.alpha_composite(PILImage.new("RGBA", layer.size, "white"), layer).convert("RGB")


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: a role and its parts in reading order, text and images interleaved."""

    role: Role
    parts: tuple[Part, ...]


Chat = tuple[Message, ...]


def user_chat(*parts: str | Part) -> Chat:
    """A chat of one user turn; plain strings become text parts."""
    return (Message("user", tuple(TextPart(p) if isinstance(p, str) else p for p in parts)),)


def images_of(chat: Chat) -> list[ImagePart]:
    """All image parts in reading order."""
    return [part for message in chat for part in message.parts if isinstance(part, ImagePart)]


def text_of(chat: Chat) -> str:
    """The chat as plain text, one ``<image>`` per image: for logs and stored prompts, not for models."""
    turns = []
    for message in chat:
        body = "".join(part.text if isinstance(part, TextPart) else "<image>\n" for part in message.parts)
        turns.append(body if message.role == "user" and len(chat) == 1 else f"[{message.role}]\n{body}")
    return "\n".join(turns)


def append_text(chat: Chat, text: str) -> Chat:
    """The same chat with text added at the end of its last user turn."""
    last = max(index for index, message in enumerate(chat) if message.role == "user")
    message = chat[last]
    extended = Message(message.role, (*message.parts, TextPart(text)))
    return (*chat[:last], extended, *chat[last + 1 :])


def chat_digest(chat: Chat) -> str:
    """SHA-256 (hex) over roles, texts and image contents: equal exactly when a model is asked the same thing."""
    hasher = hashlib.sha256()
    for message in chat:
        _feed(hasher, "role", message.role)
        for part in message.parts:
            if isinstance(part, TextPart):
                _feed(hasher, "text", part.text)
            else:
                _feed(hasher, "image", part.digest)
    return hasher.hexdigest()


def combined_digest(digests: Sequence[str]) -> str:
    """SHA-256 (hex) of a sequence of strings, unambiguous about where one ends."""
    hasher = hashlib.sha256()
    for digest in digests:
        _feed(hasher, "item", digest)
    return hasher.hexdigest()


def _feed(hasher: hashlib._Hash, kind: str, value: str) -> None:
    data = value.encode("utf-8", "surrogatepass")
    hasher.update(f"{kind}:{len(data)}:".encode() + data)
