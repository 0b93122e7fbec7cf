"""Foreign text inside a page: escaped, cut, and with what is invisible made visible. Model output is hostile.

Three places, three rules. In HTML: `html_text`. In a script element: `json_for_script`. In plotly's labels, which read
a little HTML: `figure_text`. The sample browser gets its data as JSON and writes it with ``textContent`` alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from typing import Any

MAX_TEXT = 4_000
"""Characters of one text that a page shows; longer ones lose their middle."""
_TAIL = 1_200
"""Characters kept at the end of a long text: that is where answers stand."""
MAX_LABEL = 200

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
"""Control and format characters: they reorder, hide or break text. Newline, carriage return and tab stay."""

_SCRIPT_ESCAPES = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def visible(text: str) -> str:
    """The text with invisible and direction-changing characters written out, such as ``⟨U+202E⟩``."""
    return _INVISIBLE.sub(lambda found: f"\u27e8U+{ord(found.group()):04X}\u27e9", text)


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """The text, or its beginning and end with a note between them on what was left out."""
    if len(text) <= limit:
        return text
    tail = min(_TAIL, limit // 4)
    left_out = len(text) - limit
    return f"{text[: limit - tail]}\n[... {left_out:,} of {len(text):,} characters left out ...]\n{text[-tail:]}"


def label(text: str) -> str:
    """A name from outside, on one line and no longer than a name should be."""
    line = visible(" ".join(text[: MAX_LABEL + 1].split()))
    return line if len(line) <= MAX_LABEL else f"{line[:MAX_LABEL]}..."


def html_text(text: str) -> str:
    """The text for HTML, in elements and in quoted attributes."""
    return html.escape(visible(text), quote=True)


def figure_text(text: str) -> str:
    """A label for plotly, which would read tags and entities in it, and ``%{}`` in templates."""
    return html.escape(label(text), quote=False).replace("%{", "% {")


def json_for_script(value: Any) -> str:
    """JSON that cannot end its script element, and is JavaScript too; ASCII only.

    Raises:
        ValueError: the value holds NaN or infinity, which are no JSON.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # ASCII output: U+2028 and U+2029 are escaped already; kept in the table for whoever changes that.
    return text.translate(_SCRIPT_ESCAPES)


def script_hash(code: str) -> str:
    """The source expression that allows one inline script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None
