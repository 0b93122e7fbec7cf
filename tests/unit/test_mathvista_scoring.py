"""MathVista's official rules against hand-made goldens, naive definitions, the public outputs and hostile text."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile import CORPUS, HUGE, responses
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.tasks.mathvista.nearest import _fewest_losses, distance, nearest_index
from specs_eval.tasks.mathvista.profiles import (
    Extraction,
    official_extraction,
    score_answer,
    score_official,
    score_reasoning,
)
from specs_eval.tasks.mathvista.scoring import Problem, decide, normalise, parse_problem, quick_extraction

GOLDEN = json.loads((Path(__file__).parents[1] / "data/golden/mathvista_scoring.json").read_text(encoding="utf-8"))
PUBLIC = Path(__file__).parents[3] / "shared/data/public/mathvista.jsonl"

MC = Problem("multi_choice", "text", "quarter", ("half", "quarter", "o'clock", "quarter to"))
YES_NO = Problem("multi_choice", "text", "No", ("Yes", "No"))
INTEGER = Problem("free_form", "integer", "14")
FLOAT = Problem("free_form", "float", "1.2", precision=1.0)
LIST = Problem("free_form", "list", "[2007, 2008]")
PROBLEMS = (MC, YES_NO, INTEGER, FLOAT, LIST)


def problem(facts: dict[str, Any]) -> Problem:
    return parse_problem({"question_type": "free_form", "answer_type": "text", "choices": None, **facts})


def naive_distance(text: str, choice: str) -> int:
    row = list(range(len(choice) + 1))
    for i, a in enumerate(text, 1):
        below = [i]
        for j, b in enumerate(choice, 1):
            below.append(min(row[j] + 1, below[-1] + 1, row[j - 1] + (a != b)))
        row = below
    return row[-1]


@pytest.mark.parametrize("case", GOLDEN["normalise"], ids=lambda case: repr(case["extraction"])[:40])
def test_goldens_of_normalisation(case: dict[str, Any]) -> None:
    decision = decide(case["extraction"], problem(case["problem"]))
    assert decision.prediction == case["prediction"]
    assert decision.correct == case["correct"]


@pytest.mark.parametrize("case", GOLDEN["quick"], ids=lambda case: repr(case["response"])[:40])
def test_goldens_of_extraction_by_rule(case: dict[str, Any]) -> None:
    found = quick_extraction(case["response"], problem(case["problem"]))
    assert (None if found is None else [found.text, found.rule]) == case["extraction"]


small = st.text("abcd", max_size=12)


@given(small, small)
def test_distance_is_levenshtein(text: str, choice: str) -> None:
    expected = naive_distance(text, choice)
    assert distance(text, choice) == expected
    if text and choice:
        assert len(text) - len(choice) + _fewest_losses(text, choice) == expected


@given(st.text("ab \ud800é", max_size=3000), st.lists(st.text("abc é", max_size=9), min_size=1, max_size=5))
def test_nearest_is_the_first_of_the_nearest(text: str, choices: list[str]) -> None:
    distances = [naive_distance(text[:200], choice) for choice in choices]
    assert nearest_index(text[:200], choices) == distances.index(min(distances))
    padded = text + "x" * 2_000
    assert distance(padded, choices[0]) == naive_distance_long(padded, choices[0])


def naive_distance_long(text: str, choice: str) -> int:
    return naive_distance(choice, text)


def test_the_quirks_that_are_kept() -> None:
    assert decide("", MC).prediction == "half", "nothing: the choice nearest to it"
    assert decide("(b) is wrong, (c) is right", MC).prediction == "quarter", "the first bracketed letter"
    assert decide("(z)", MC).prediction == "half", "a letter beyond the choices is compared as text"
    assert decide("B", MC).correct and not decide("b", MC).correct, "a bare small letter is compared as text"
    assert normalise("14.9", INTEGER) == ("14", "integer"), "truncated"
    assert normalise("1,400", INTEGER)[0] is None, "thousands commas are no number"
    assert normalise("1_4", INTEGER)[0] == "14" and normalise("inf", INTEGER)[0] is None
    assert normalise("1.25", FLOAT)[0] == "1.2", "rounded half to even on the binary value"
    assert normalise("[2007,2008]", LIST)[0] != LIST.gold, "lists are compared as text"
    assert normalise([2007, 2008], LIST)[0] == LIST.gold
    assert normalise("1.2", Problem("free_form", "float", "1.2"))[0] is None, "no precision, no answer"


def test_credit_for_no_answer_is_counted_under_official_and_not_given_under_reasoning() -> None:
    gold_half = Problem("multi_choice", "text", "half", MC.choices)
    free = score_official(official_extraction("", gold_half), gold_half)
    assert free.score == 1.0 and free.metrics == {"no_answer": 1.0, "free_credit": 1.0} and free.reason
    recorded = score_official(Extraction("N/A", "recorded extraction"), YES_NO)
    assert recorded.score == 1.0 and recorded.metrics["free_credit"] == 1.0
    for text in ("", "N/A", "I don't know.", "no idea", "Sorry, I can't help with images of people yet."):
        for asked in PROBLEMS:
            assert score_reasoning(text, asked).score == 0.0, (text, asked)
            assert score_answer(text, asked).score == 0.0, (text, asked)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("quarter", MC),
        ("B", MC),
        ("(B)", MC),
        ("b", MC),
        ("B.", MC),
        ("(B) quarter", MC),
        ("The answer is B", MC),
        ("Quarter.", MC),
        ("no", YES_NO),
        ("**No**", YES_NO),
        ("14", INTEGER),
        ("14.0", INTEGER),
        ("14 cm", INTEGER),
        ("The answer is $14$.", INTEGER),
        ("fourteen is wrong; the answer is 14", INTEGER),
        ("1.2", FLOAT),
        ("1.20", FLOAT),
        ("6/5", FLOAT),
        ("\\frac{6}{5}", FLOAT),
        ("$1.2$ N", FLOAT),
        ("[2007,2008]", LIST),
        ("[2007, 2008].", LIST),
    ],
)
def test_reasoning_reads_an_answer_in_the_ways_people_write_it(answer: str, asked: Problem) -> None:
    assert score_answer(answer, asked).score == 1.0
    assert score_reasoning(f"<think>hm</think><answer>{answer}</answer>", asked).score == 1.0


@pytest.mark.parametrize("answer", ["A", "half", "D) quarter to", "none of these", "E", "quarterly"])
def test_reasoning_gives_nothing_for_another_answer(answer: str) -> None:
    assert score_answer(answer, MC).score == 0.0


def test_a_choice_that_looks_like_a_letter_is_read_as_text_in_brackets_and_as_a_letter_when_bare() -> None:
    asked = Problem("multi_choice", "text", "(b)", ("(c)", "(a)", "(b)"))
    assert score_answer("(b)", asked).score == 1.0
    assert score_answer("C", asked).score == 1.0
    assert not decide("(b)", asked).correct, "the official code reads option B"


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("asked", PROBLEMS, ids=lambda asked: asked.answer_type)
def test_hostile_answers_get_a_score(text: str, asked: Problem) -> None:
    for score in (
        score_official(official_extraction(text, asked), asked),
        score_official(Extraction(text, "recorded"), asked),
        score_reasoning(text, asked),
        score_answer(text, asked),
    ):
        assert score.score in (0.0, 1.0)
        assert score.answer is None or len(score.answer) <= 2_000


@given(responses, st.sampled_from(PROBLEMS))
def test_no_text_raises(text: str, asked: Problem) -> None:
    official = score_official(official_extraction(text, asked), asked)
    reasoning = score_reasoning(text, asked)
    for score in (official, reasoning, score_answer(text, asked)):
        assert score.score in (0.0, 1.0) and all(math.isfinite(value) for value in score.metrics.values())


@pytest.mark.parametrize("text", HUGE, ids=lambda text: repr(text[:8]))
def test_ten_megabytes_are_read_in_bounded_work(text: str) -> None:
    for asked in PROBLEMS:
        assert score_official(Extraction(text, "recorded"), asked).score in (0.0, 1.0)
        assert score_official(official_extraction(text, asked), asked).score in (0.0, 1.0)
        assert score_reasoning(text, asked).score in (0.0, 1.0)


def test_other_extractions_than_text_are_survived() -> None:
    for value in (None, 3, 3.5, True, [1], {"a": 1}, 10**5000, float("nan"), float("inf"), b"B"):
        for asked in PROBLEMS:
            assert score_official(Extraction(value, "recorded"), asked).score in (0.0, 1.0)


def test_scores_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import json,sys;sys.path.insert(0,'tests/fixtures')\n"
        "from hostile import CORPUS;from specs_eval.tasks.mathvista.profiles import *\n"
        "p=Problem('multi_choice','text','no',('yes','no','increase in fish','40°'))\n"
        "print(json.dumps([repr((score_official(official_extraction(t,p),p),score_reasoning(t,p))) for t in CORPUS]))"
    )
    root = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "77")
    }
    assert len(outputs) == 1


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public outputs are not here")
def test_public_outputs_score_as_officially() -> None:
    for line in PUBLIC.open(encoding="utf-8"):
        row = json.loads(line)
        asked = parse_problem(row)
        decision = decide(row["official_extraction"], asked)
        where = (row["model"], row["sample_id"])
        assert decision.prediction == row["official_prediction"], where
        assert float(decision.correct) == row["official_score"], where
        quick = quick_extraction(row[row["response_label"]], asked)
        assert (quick.rule if quick else "llm") == row["extraction_path"], where
