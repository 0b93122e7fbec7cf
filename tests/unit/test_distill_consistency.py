"""Reasoning against answer, by rules and by a judge."""

from __future__ import annotations

import pytest
from hostile import CORPUS
from judge_server import running
from question_sets import question

from specs_eval.tasks.judging import Judge, JudgeOptions
from specs_eval.training.distill.consistency import agreement, asked_agreement

COLORS = ("red", "teal", "blue")
CHOICE = question(1, kind="choice", choices=COLORS, answer="teal")
LETTER = question(2, kind="letter", answer="B", text="Which? A. one B. two")
NUMBER = question(3, answer="4")
FRACTION = question(3, answer="\\frac{1}{2}")
WORD = question(4, kind="text", answer="teal", alternatives=COLORS)
YES = question(5, kind="text", answer="no", alternatives=("yes", "no"))
FREE = question(6, kind="text", answer="Stop here")


@pytest.mark.parametrize(
    ("asked", "reasoning", "expected"),
    [
        (CHOICE, "The bar is tall. So the answer is (B).", "agrees"),
        (CHOICE, "The bar is tall, so it is teal.", "agrees"),
        (CHOICE, "The answer is (A).", "contradicts"),
        (CHOICE, "It is clearly the red one.", "contradicts"),
        (CHOICE, "Let us look at the bars.", "silent"),
        (LETTER, "Two is more. The answer is B.", "agrees"),
        (LETTER, "One is more. The answer is A.", "contradicts"),
        (LETTER, "Two is more.", "silent"),
        (NUMBER, "3 + 1 = 4", "agrees"),
        (NUMBER, "3 + 1 = 5", "contradicts"),
        (NUMBER, "The answer is 5, not 4.", "contradicts"),
        (NUMBER, "That makes 4 of the 7 apples.", "agrees"),
        (NUMBER, "Counting them carefully.", "silent"),
        (FRACTION, "So the ratio is \\frac{1}{2}, as the figure shows 3.", "silent"),
        (WORD, "The image shows a teal circle.", "agrees"),
        (WORD, "The image shows a red circle.", "contradicts"),
        (WORD, "First it seems red. No, it is teal.", "agrees"),
        (WORD, "The image shows a circle.", "silent"),
        (YES, "There is a red circle. So the answer is no.", "agrees"),
        (YES, "It is red. Yes, it is.", "contradicts"),
        (YES, "There is a red circle.", "silent"),
        (FREE, "The sign reads stop here.", "agrees"),
        (FREE, "The answer is go on.", "contradicts"),
        (FREE, "There is a sign.", "silent"),
    ],
)
def test_conclusions(asked: object, reasoning: str, expected: str) -> None:
    assert agreement(asked, reasoning) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [CHOICE, LETTER, NUMBER, FRACTION, WORD, YES, FREE], ids=lambda one: one.kind)
def test_hostile_reasoning_is_survived(asked: object) -> None:
    for text in CORPUS:
        assert agreement(asked, text) in ("agrees", "contradicts", "silent")  # type: ignore[arg-type]


@pytest.mark.parametrize(("reply", "expected"), [("Yes.", "agrees"), ("no", "contradicts"), ("Perhaps", None)])
def test_a_judge_decides_or_nobody(reply: str, expected: str | None) -> None:
    with running() as server:
        server.answer = lambda prompt: reply
        judge = Judge(JudgeOptions(server.url, "m", attempts=1), sleep=lambda seconds: None)
        assert asked_agreement(NUMBER, "3 + 1 = 4", "4", judge) == expected
        assert "3 + 1 = 4" in server.prompts[0]
