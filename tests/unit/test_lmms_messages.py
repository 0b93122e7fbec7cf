from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from specs_eval.chat import ImagePart, TextPart, images_of
from specs_eval.errors import GenerationError
from specs_eval.lmms_models.messages import chat_from_messages


def encoded() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(stream, "PNG")
    return stream.getvalue()


def test_turns_and_parts_keep_their_order() -> None:
    picture = Image.new("RGB", (2, 2))
    chat = chat_from_messages(
        [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "url": picture},
                    {"type": "text", "text": "b"},
                ],
            },
        ]
    )
    assert [message.role for message in chat] == ["system", "user"]
    assert chat[1].parts == (TextPart("a"), ImagePart(picture), TextPart("b"))


@pytest.mark.parametrize("form", ["picture", "bytes", "path", "path text", "file url", "data url", "stored", "by path"])
def test_every_form_of_an_image_is_the_same_picture(form: str, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(encoded())
    url = {
        "picture": Image.open(path),
        "bytes": encoded(),
        "path": path,
        "path text": str(path),
        "file url": f"file://{path}",
        "data url": "data:image/png;base64," + base64.b64encode(encoded()).decode(),
        "stored": {"bytes": encoded(), "path": None},
        "by path": {"bytes": None, "path": str(path)},
    }[form]
    chat = chat_from_messages([{"role": "user", "content": [{"type": "image", "url": url}]}])
    image = images_of(chat)[0].load()
    assert (image.size, image.getpixel((0, 0))) == ((3, 2), (255, 0, 0))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "url": "film.mp4"},
        {"type": "audio", "url": "song.wav"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "url": "data:image/png;base64,%%%"},
        {"type": "image", "url": "data:text/plain,hello"},
        {"type": "image", "url": 3},
        {"type": "image"},
    ],
)
def test_what_cannot_be_shown_is_said(part: dict[str, object]) -> None:
    with pytest.raises(GenerationError):
        chat_from_messages([{"role": "user", "content": [part]}])


def test_roles_are_checked() -> None:
    with pytest.raises(GenerationError, match="role 'tool'"):
        chat_from_messages([{"role": "tool", "content": "x"}])
    with pytest.raises(GenerationError, match="user turn"):
        chat_from_messages([{"role": "system", "content": "x"}])
