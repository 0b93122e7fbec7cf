"""Chats: digests tell what is asked, images decode or fail clearly."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from specs_eval.chat import ImagePart, append_text, chat_digest, images_of, text_of, user_chat
from specs_eval.errors import GenerationError


def png(path: Path, color: str) -> Path:
    Image.new("RGB", (4, 4), color).save(path)
    return path


def test_the_digest_depends_on_text_order_and_image_contents(tmp_path: Path) -> None:
    red, blue = ImagePart(png(tmp_path / "r.png", "red")), ImagePart(png(tmp_path / "b.png", "blue"))
    chats = [
        user_chat("a", red, "b"),
        user_chat("ab", red),
        user_chat("a", blue, "b"),
        user_chat(red, "a", "b"),
        user_chat("a", red, red, "b"),
    ]
    assert len({chat_digest(chat) for chat in chats}) == len(chats)
    copied = ImagePart(png(tmp_path / "copy.png", "red"))
    assert chat_digest(user_chat("a", copied, "b")) == chat_digest(chats[0])
    assert ImagePart(red.load()).digest != ImagePart(blue.load()).digest


def test_text_and_append() -> None:
    chat = user_chat(ImagePart(b"x"), "What?")
    assert text_of(append_text(chat, "\nIn JSON.")) == "<image>\nWhat?\nIn JSON."
    assert len(images_of(append_text(chat, "more"))) == 1 and text_of(chat) == "<image>\nWhat?"


def test_images_that_do_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = png(tmp_path / "whole.png", "red")
    (tmp_path / "torn.png").write_bytes(whole.read_bytes()[:40])
    (tmp_path / "text.png").write_text("not an image")
    for name in ("torn.png", "text.png", "missing.png"):
        part = ImagePart(tmp_path / name)
        assert len(part.digest) == 64
        with pytest.raises(GenerationError, match=name):
            part.load()
    monkeypatch.setattr("specs_eval.chat.MAX_IMAGE_PIXELS", 8)
    with pytest.raises(GenerationError, match="bomb"):
        ImagePart(whole).load()
