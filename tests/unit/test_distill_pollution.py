"""Polluted responses: the same content in no asked form."""

from __future__ import annotations

import re

import pytest
from hostile import CORPUS
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.formats.styles import FORMATS, THINK_ANSWER
from specs_eval.training.distill.pollution import POLLUTIONS, VARIANTS, pollute

words = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=60).map(str.strip).filter(bool)
parts = words.filter(lambda text: "<" not in text and ">" not in text)


@given(parts, parts, st.integers(0, 10**9), st.sampled_from(POLLUTIONS))
def test_no_evaluated_format_accepts_it_and_the_content_stays(
    reasoning: str, answer: str, draw: int, kind: str
) -> None:
    text = pollute(kind, reasoning, answer, draw)  # type: ignore[arg-type]
    if text is None:
        return
    assert [style.name for style in FORMATS.values() if style.parse(text).ok] == []
    assert reasoning in text and answer in text[text.index(reasoning) :]
    assert text != THINK_ANSWER.render(reasoning, answer)


@pytest.mark.parametrize("kind", POLLUTIONS)
def test_every_variant_of_every_way_is_drawn_for_plain_content(kind: str) -> None:
    drawn = {pollute(kind, "a teal circle.", "teal", draw) for draw in range(30)}  # type: ignore[arg-type]
    assert None not in drawn
    assert len(drawn) == len(VARIANTS[kind])  # type: ignore[index]


def test_what_each_way_does_to_the_tags() -> None:
    tags = {kind: re.findall(r"</?\w+>", pollute(kind, "r", "a", 0) or "") for kind in POLLUTIONS}
    assert tags == {
        "no_tags": [],
        "no_answer_tags": ["<think>", "</think>"],
        "moved_tags": ["<think>", "<answer>", "</answer>", "</think>"],
        "plain_text": [],
        "unclosed_tags": ["<think>", "</think>", "<answer>"],
    }
    assert "Answer: a" in str(pollute("plain_text", "r", "a", 0))
    for draw in range(3):
        unclosed = str(pollute("unclosed_tags", "r", "a", draw))
        assert unclosed.count("</") < unclosed.count("<") - unclosed.count("</") == 2


def test_the_answer_is_found_by_a_lenient_reader_wherever_a_mark_is_left() -> None:
    for kind in ("plain_text", "unclosed_tags"):
        for draw in range(3):
            assert extract_answer(str(pollute(kind, "a teal circle.", "teal", draw))).answer == "teal"


@pytest.mark.parametrize(
    ("kind", "reasoning", "answer"),
    [
        ("no_tags", "so", "Final answer: 5"),
        ("no_tags", "so", "\\boxed{5}"),
        ("no_tags", '{"reasoning": "r",', '"answer": "5"}'),
    ],
)
def test_what_would_be_good_under_another_instruction_is_not_made(kind: str, reasoning: str, answer: str) -> None:
    assert pollute(kind, reasoning, answer, 0) is None  # type: ignore[arg-type]


def test_hostile_content_is_survived() -> None:
    for text in CORPUS:
        for kind in POLLUTIONS:
            polluted = pollute(kind, text, text, 1)
            assert polluted is None or not any(style.parse(polluted).ok for style in FORMATS.values())
