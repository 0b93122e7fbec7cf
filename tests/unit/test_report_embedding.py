"""Hostile text on its way into a page: escaped, cut, and nothing in it stays invisible."""

from __future__ import annotations

import html
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.analysis.report.embedding import (
    MAX_LABEL,
    MAX_TEXT,
    cut,
    figure_text,
    finite,
    html_text,
    json_for_script,
    label,
    script_hash,
    visible,
)
from specs_eval.analysis.report.markdown import markdown_text

ANY_TEXT = st.text(st.characters(), max_size=300)
"""Lone surrogates included."""


class Tags(HTMLParser):
    """Collects what a browser would take for tags and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(ANY_TEXT)
def test_html_text_is_text_and_nothing_else(text: str) -> None:
    parser = Tags()
    parser.feed(f"<p>{html_text(text)}</p>")
    parser.close()
    assert parser.tags == ["p"]
    assert parser.text.replace("\r", "\n") == visible(text).replace("\r", "\n")
    html_text(text).encode()


@given(ANY_TEXT)
def test_html_text_cannot_leave_an_attribute(text: str) -> None:
    assert not set("\"'<>") & set(html_text(text))


@given(
    st.recursive(ANY_TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner))
)
def test_json_in_a_script_reads_back_and_cannot_end_it(value: object) -> None:
    text = json_for_script(value)
    assert json.loads(text) == value
    assert text.isascii() and not set("<>&\u2028\u2029") & set(text)


def test_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError):
        json_for_script({"value": math.nan})
    assert finite(math.inf) is None and finite(None) is None and finite(0.5) == 0.5


@given(ANY_TEXT)
def test_nothing_invisible_stays(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x7f\ud800-\udfff]", shown)
    shown.encode()


def test_what_was_invisible_is_named_and_layout_stays() -> None:
    assert visible("a\u202eb\x00\tc\n\ud800") == "a⟨U+202E⟩b⟨U+0000⟩\tc\n⟨U+D800⟩"
    assert visible("é 漢字 \U0001f600 ا") == "é 漢字 \U0001f600 ا", "ordinary text of any language is left alone"


@given(st.integers(1, 3 * MAX_TEXT), st.integers(40, MAX_TEXT))
def test_cut_keeps_both_ends_and_says_what_it_left_out(length: int, limit: int) -> None:
    text = "".join(chr(97 + i % 26) for i in range(length))
    shown = cut(text, limit)
    if length <= limit:
        assert shown == text
        return
    head, note, tail = re.split(r"\n(\[\.\.\. .* \.\.\.\])\n", shown)
    assert text.startswith(head) and text.endswith(tail) and len(head) + len(tail) == limit
    assert note == f"[... {length - limit:,} of {length:,} characters left out ...]"


def test_a_megabyte_is_cut_before_anything_looks_at_it() -> None:
    assert len(cut("<" * 1_000_000)) < MAX_TEXT + 80
    assert len(label("x\n" * 1_000_000)) <= MAX_LABEL + 3


@given(ANY_TEXT)
def test_a_figure_label_has_no_markup_that_plotly_would_read(text: str) -> None:
    shown = figure_text(text)
    assert "<" not in shown and "%{" not in shown and "\n" not in shown
    assert html.unescape(shown).replace("% {", "%{") == label(text).replace("% {", "%{")


@given(ANY_TEXT)
def test_markdown_text_is_one_line_without_markup(text: str) -> None:
    shown = markdown_text(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)[<>|*`\[\]#]", shown)


def test_markdown_notifies_nobody() -> None:
    assert "@someone" not in markdown_text("thanks @someone <img src=x onerror=alert(1)>")


def test_script_hash_is_that_of_the_policy() -> None:
    # The example of the CSP specification, section 2.3.1: alert('Hello, world.');
    assert script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
