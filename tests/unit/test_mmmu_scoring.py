"""MMMU's official rules against hand-made goldens, the published patterns, the public outputs and hostile text."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hostile import CORPUS, HUGE, responses
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.tasks.mmmu.profiles import Question, score_answer, score_official, score_reasoning
from specs_eval.tasks.mmmu.scoring import (
    chance_credit,
    extract_numbers,
    letter_is_right,
    normalise_open,
    open_is_right,
    parse_letter,
    parse_letter_pro,
    parse_open,
)
from specs_eval.tasks.mmmu.subjects import DOMAINS, SUBJECTS, domain_of, subject_of

GOLDEN = json.loads((Path(__file__).parents[1] / "data/golden/mmmu_scoring.json").read_text(encoding="utf-8"))
PUBLIC = Path(__file__).parents[3] / "shared/data/public/mmmu.jsonl"
OPTIONS = ("red blood cells", "white blood cells", "platelets", "plasma")
MC, PRO = Question("B", OPTIONS), Question("B", OPTIONS, "mmmu_pro")
OPEN, OPEN_LIST, LETTER_GOLD = Question("0.6"), Question(["Tampa", "Florida"]), Question("C")
QUESTIONS = (MC, PRO, OPEN, OPEN_LIST, LETTER_GOLD)


@pytest.mark.parametrize("case", GOLDEN["letters"], ids=lambda case: case["response"][:40])
def test_goldens_of_letters(case: dict[str, Any]) -> None:
    assert parse_letter(case["response"], OPTIONS).letter == case["mmmu"]
    assert parse_letter_pro(case["response"], OPTIONS).letter == case["mmmu_pro"]


@pytest.mark.parametrize("case", GOLDEN["open"], ids=lambda case: case["response"][:40])
def test_goldens_of_open_answers(case: dict[str, Any]) -> None:
    assert parse_open(case["response"]) == case["predictions"]
    assert open_is_right(parse_open(case["response"]), case["gold"]) == case["right"]


PUBLISHED_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)


@given(st.text("0123.,-eE+x ٣_", max_size=40))
def test_numbers_match_what_the_published_patterns_match(text: str) -> None:
    assert extract_numbers(text) == [number for pattern in PUBLISHED_NUMBERS for number in re.findall(pattern, text)]


@given(responses, st.sampled_from([("A", "AB", ""), OPTIONS, ("x",) * 10, ("İ", "i", "ß")]))
def test_letters_match_a_naive_reading_of_the_rules(text: str, options: tuple[str, ...]) -> None:
    assert parse_letter(text, options).letter == naive_letter(text, options, pro=False)
    assert parse_letter_pro(text, options).letter == naive_letter(text, options, pro=True)


def naive_letter(response: str, options: tuple[str, ...], *, pro: bool) -> str | None:
    letters = [chr(65 + index) for index in range(len(options))]
    if pro and "Answer:" in response:
        tail = response.rsplit("Answer:", 1)[1]
        inside = [letter for letter in letters if letter in tail]
        if len(inside) == 1:
            return inside[0]
    for character in ",.!?;:'":
        response = response.strip(character)
    text = f" {response} "
    steps = [("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")] if pro else [("({})", "({})"), (" {} ", " {} ")]
    for look, place in steps:
        candidates = [letter for letter in letters if look.format(letter) in text]
        if candidates:
            return last_of(candidates, [text.rfind(place.format(letter)) for letter in candidates])
    if len(text.split()) > 5:
        lowered = text.lower()
        found = [(letter, lowered.rfind(o.lower())) for letter, o in zip(letters, options, strict=True)]
        found = [(letter, at) for letter, at in found if at >= 0]
        if found:
            return last_of([letter for letter, _ in found], [at for _, at in found])
    return None


def last_of(letters: list[str], places: list[int]) -> str:
    return letters[places.index(max(places))]


def test_where_the_official_code_draws_the_score_is_zero_and_the_chance_stands_beside_it() -> None:
    score = score_official("hmm", MC)
    assert score.score == 0.0 and score.answer is None and score.reason and score.reason.startswith("no answer")
    assert score.metrics == {"no_answer": 1.0, "free_credit": 0.0, "chance_credit": 0.25}
    assert chance_credit(["A", "C"], 4) == 0.5 and chance_credit("B", 1) == 0.0 and chance_credit("A", 0) == 0.0
    assert score_official("B", MC).metrics["chance_credit"] == 0.0


def test_the_quirks_that_are_kept() -> None:
    assert parse_letter("C. platelets", OPTIONS).letter is None, "MMMU does not read a letter with a full stop"
    assert parse_letter_pro("C. platelets", OPTIONS).letter == "C"
    assert parse_letter("a", OPTIONS).letter is None
    assert parse_letter_pro("DNA is", OPTIONS).letter == "A", "MMMU-Pro reads the A of DNA"
    assert parse_letter("it could be any of the four", ("", "x")).letter == "A", "an empty option matches long answers"
    assert letter_is_right("A", ["A", "B"]) and not letter_is_right(None, "A")
    assert open_is_right(["the tampa bay"], ["Tampa", "Florida"])
    assert normalise_open("C") == [" c", "c "] and normalise_open("1,234.567") == [1234.57]


def test_no_answer_earns_nothing_under_reasoning_and_the_gold_everything() -> None:
    for text in ("", " ", "I don't know.", "no idea", "N/A", "I'm sorry, I cannot help with that.", "It is unclear."):
        for asked in QUESTIONS:
            assert score_reasoning(text, asked).score == 0.0, (text, asked)
    for asked in QUESTIONS:
        golds = asked.gold if isinstance(asked.gold, list) else [asked.gold]
        for gold in golds:
            assert score_answer(str(gold), asked).score == 1.0
            assert score_reasoning(f"<think>so</think><answer>{gold}</answer>", asked).score == 1.0
    assert score_answer("white blood cells", MC).score == 1.0
    assert score_answer("(B) white blood cells", PRO).score == 1.0
    assert score_answer("platelets", MC).score == 0.0
    assert score_answer("Osteitis deformans", Question("Osteitis deformans")).score == 1.0


def test_a_refusal_that_holds_a_letter_is_counted_as_free_credit() -> None:
    asked = Question("I", tuple("ABCDEFGHI"))
    assert score_official("Sorry I cannot help with that", asked).metrics["free_credit"] == 1.0


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: f"{asked.parser} {asked.gold}")
def test_hostile_answers_get_a_score(text: str, asked: Question) -> None:
    for score in (score_official(text, asked), score_reasoning(text, asked), score_answer(text, asked)):
        assert score.score in (0.0, 1.0) and (score.answer is None or len(score.answer) <= 2_000)


@given(responses, st.sampled_from(QUESTIONS))
def test_no_text_raises(text: str, asked: Question) -> None:
    for score in (score_official(text, asked), score_reasoning(text, asked)):
        assert score.score in (0.0, 1.0) and all(math.isfinite(value) for value in score.metrics.values())


@pytest.mark.parametrize("text", HUGE, ids=lambda text: repr(text[:8]))
def test_ten_megabytes_are_read_in_bounded_work(text: str) -> None:
    for asked in QUESTIONS:
        assert score_official(text, asked).score in (0.0, 1.0)
        assert score_reasoning(text, asked).score in (0.0, 1.0)


def test_subjects() -> None:
    assert len(SUBJECTS) == 30 and len(DOMAINS) == 6
    assert domain_of("Pharmacy") == "Health and Medicine" and domain_of("Alchemy") == "unknown"
    assert subject_of("test_Diagnostics_and_Laboratory_Medicine_12") == "Diagnostics_and_Laboratory_Medicine"
    assert subject_of("ai2d") == ""


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public outputs are not here")
def test_public_outputs_score_as_officially() -> None:
    for line in PUBLIC.open(encoding="utf-8"):
        row = json.loads(line)
        where = (row["model"], row["sample_id"])
        if row["metric"] == "mmmu_open":
            predictions = parse_open(row["response"])
            assert sorted(map(repr, predictions)) == sorted(map(repr, row["official_extraction"])), where
            assert float(open_is_right(predictions, row["gold"])) == row["official_score"], where
            continue
        parse = parse_letter_pro if row["metric"].startswith("mmmu_pro") else parse_letter
        letter = parse(row["response"], row["choices"]).letter
        assert (letter is None) == row["random_fallback"], where
        if letter is not None:
            assert letter == row["official_extraction"], where
            assert float(letter_is_right(letter, row["gold"])) == row["official_score"], where
