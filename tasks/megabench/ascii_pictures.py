"""ASCII art as the picture that the official judge sees: monospaced, black on white, 224 pixels on each side."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from specs_eval.chat import ImagePart

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

SIDE = 224
FONT_SIZE = 20
CELL_WIDTH = 12
"""Of a character: 0.6 of the font's size, as in the official code."""
PADDING = 10
MAX_LINES = MAX_COLUMNS = 200
"""Art beyond this is cut off: a page of dots must not become a picture of a gigapixel."""

FONTS = ("DejaVuSansMono.ttf", "Courier New.ttf", "cour.ttf", "Consola.ttf", "SFNSMono.ttf")
"""Tried in this order; without any of them, the font that comes with Pillow is set on a grid."""


def picture(text: str) -> ImagePart:
    """The picture of a text; for any text."""
    lines = [line[:MAX_COLUMNS] for line in text.splitlines()[:MAX_LINES]] or [""]
    width = max(map(len, lines)) * CELL_WIDTH + 2 * PADDING
    image = Image.new("RGB", (width, len(lines) * FONT_SIZE + 2 * PADDING), "white")
    draw = ImageDraw.Draw(image)
    font, monospaced = _font()
    for row, line in enumerate(lines):
        top = PADDING + row * FONT_SIZE
        pieces = [(PADDING, line)] if monospaced else [(PADDING + i * CELL_WIDTH, c) for i, c in enumerate(line)]
        for left, piece in pieces:
            draw.text((left, top), _drawable(piece), font=font, fill="black")
    return ImagePart(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _drawable(text: str) -> str:
    """Without what a font engine refuses or moves lines by: surrogates and control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


@cache
def _font() -> tuple[FreeTypeFont | BitmapFont, bool]:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, FONT_SIZE, layout_engine=ImageFont.Layout.BASIC), True
        except OSError:
            continue
    return ImageFont.load_default(FONT_SIZE), False
