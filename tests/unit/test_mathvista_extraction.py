"""The rules in place of the GPT-4 step: written cases, the measured agreement, and the parts they are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specs_eval.tasks.answers.canonical import canonical
from specs_eval.tasks.answers.choices import by_words, mentions, named_letter
from specs_eval.tasks.answers.numbers import given_number, numbers_in
from specs_eval.tasks.answers.reading import match_choice
from specs_eval.tasks.answers.refusals import is_no_answer, refuses, says_none, typed_for_refusal
from specs_eval.tasks.mathvista.extraction import extract
from specs_eval.tasks.mathvista.profiles import score_reasoning
from specs_eval.tasks.mathvista.scoring import Problem, decide, parse_problem

PUBLIC = Path(__file__).parents[3] / "shared/data/public/mathvista.jsonl"

ANGLES = Problem("multi_choice", "text", "40°", ("30°", "40°", "60°", "20√{3}"))
YES_NO = Problem("multi_choice", "text", "no", ("yes", "no"))
ANIMALS = Problem("multi_choice", "text", "bear", ("lion", "brown bear", "bear", "cannot be determined"))
INTEGER = Problem("free_form", "integer", "4")
YEAR = Problem("free_form", "integer", "2011", question="Which year had the highest share?")
LONG = "The problem cannot be solved with these."
LIST = Problem("free_form", "list", "[1, 2]")


@pytest.mark.parametrize(
    ("response", "asked", "typed"),
    [
        ("The correct answer is (B) 40°.", ANGLES, "B"),
        ("**B**", ANGLES, "B"),
        ("B) 40°", ANGLES, "40°"),
        ("A) 40°", ANGLES, "40°"),
        ("So the angle is 180 - 140 = 40 degrees.", ANGLES, "40°"),
        ("The answer is (B). Option (A) is incorrect because it is too small.", ANGLES, "B"),
        ("Thus x = $20\\sqrt{3}$.", ANGLES, "20√{3}"),
        ("The result is 75.", ANGLES, "75"),
        ("Yes, it is larger.", YES_NO, "yes"),
        ("Dark Blue is not the maximum. The maximum is Red.", YES_NO, "no"),
        ("The answer is (B) no.\n\nQuestion: is it?\nChoices:\n(A) yes\n(B) no", YES_NO, "no"),
        ("It is a brown bear.", ANIMALS, "brown bear"),
        ("The largest is the bear.", ANIMALS, "bear"),
        ("There are 4 bars with values larger than 7.", INTEGER, "4"),
        ("I count **4** cars; 10 - 6 = 4. That is 12 % of all.", INTEGER, "4"),
        ("There are four of them.", INTEGER, "4"),
        ("The total is $1,204.", INTEGER, "1204"),
        ("It is 1.2 x 10^3 m.", INTEGER, "1.2e3"),
        ("Here: [3, 4] and then [1, 2].", LIST, "[1, 2]"),
        ("Between 2007 and 2008.", LIST, "[2007, 2008]"),
        ("The answer is: Cannot be determined.", YES_NO, "Cannot be determined"),
        ("The text does not provide information needed to answer the question.", YES_NO, None),
        ("Choices:\nA. 10°\n\nSolution: C.", ANGLES, "C"),
        ("It could be (A) or (C).\n\nAltogether it must be **(B) 40°**, as said.", ANGLES, "40°"),
        ("The options are A, B, C, D. The angle is 60°.", ANGLES, "60°"),
        ("Solution: C.", ANGLES, "C"),
        ("The correct option is N/A.", ANGLES, "N/A"),
        ("With 30° twice, we get more. Therefore, the angle is 75 degrees.", ANGLES, "75"),
        ("If x is big it is (A). If x is small it is (B). We cannot determine x.", YES_NO, "Cannot determine"),
        ("It is (A), hmm, or not available; no: the answer is (B).", ANGLES, "B"),
        ("Nobody could say, it is not possible to tell.", ANIMALS, "cannot be determined"),
        ("The question is incomplete as there is no drawing. Please add it.", YES_NO, "Incomplete question."),
        ("The question seems to be incomplete. Please add it.", YES_NO, "The question is incomplete."),
        ("The question does not provide enough facts. Hence, the problem cannot be solved with these.", YES_NO, LONG),
        ("The text does not say it. Therefore, nobody can answer, it is impossible.", YES_NO, "N/A"),
        ("(A) yes\n\nQuestion: What share is red?\nSolution: 3 of 4.\nTherefore, the share is 3/4.", YES_NO, "3/4"),
        ("yes\n\nQuestion: Which is the tallest?\nSolution: Of 3 trees, the answer is Oak.", YES_NO, "Oak"),
        ("(A) 30°\n\nHint: go on\nChoices:\n(A) 1\n\nAnswer: (C) 3\n\nHint: go on", ANGLES, "C"),
        ("(B) 40°\n\nQuestion: Which?\nA. red\nB. blue\nC. green\n\nPlease choose.", ANGLES, "40°"),
        ("The picture is at images/77.jpg. There are 4.", INTEGER, "4"),
        ("f(3) = (2)3 ≈ 8", INTEGER, "8"),
        ("The field at $r=2.00R$ is 0.5 N.", INTEGER, "0.5"),
        ("Three boxes hold at least one ball.", INTEGER, "3"),
        ("A non-zero share, four in all.", INTEGER, "4"),
        ("It took from 13-18 days.", INTEGER, "13-18"),
        ("It fell most between 2000 and 2005.", YEAR, "2000 and 2005"),
        ("It was highest in 2011, with 94 % of all.", YEAR, "2011"),
        ("It was highest in 2011, with 94 % of all.", INTEGER, "94"),
        ("Tom pays S23.", INTEGER, "23"),
        ("Say there are 10 and 5 go. Without more facts we cannot provide an answer.", INTEGER, "N/A"),
    ],
)
def test_what_is_typed_for_a_response(response: str, asked: Problem, typed: str | None) -> None:
    assert extract(response, asked).text == (typed or response)


def test_refusals_are_not_answers() -> None:
    for text in ("", "\u200b", "I'm sorry, but I cannot answer this.", "The image is missing.", "无法确定,没有图"):
        for asked in (ANGLES, YES_NO, INTEGER, LIST):
            assert not extract(text, asked).answered, (text, asked)
    assert refuses("None of the options match.") and says_none("N/A.") and not says_none("no")
    assert is_no_answer("Insufficient information") and typed_for_refusal("") == "N/A"


def test_a_list_of_options_is_no_answer_but_one_of_them_may_be_named() -> None:
    listed = "(A) 30°\n(B) 40°\n(C) 60°\n(D) 70°"
    assert not extract(listed, ANGLES).answered and match_choice(listed, ANGLES.choices).index is None
    assert not extract("80°\n(E) 90°\n(F) 100°\n(A) 30°\n(B) 40°\n(C", ANGLES).answered
    for chosen in ("Answer: B", "I take the second: **B**"):
        assert match_choice(f"{listed}\n{chosen}", ANGLES.choices).index == 1, chosen
    assert match_choice("(A) 30° is too small\n(C) 60°", ANGLES.choices).index == 2


def test_bold_options_of_a_list_are_not_stated() -> None:
    letter = named_letter("**A.** 30°\n**B.** 40°\n**C.** 60°\nI think that option B fits.", 3)
    assert letter is not None and (letter.letter, letter.rule) == ("B", "letter: mentioned")
    boxed = named_letter("Options A and C are close, so \\boxed{\\text{(B) } 40°}", 3)
    assert boxed is not None and (boxed.letter, boxed.rule) == ("B", "letter: bold")
    assert named_letter("Pour solution A, then wait.", 3) is None


def test_a_choice_is_found_by_all_of_its_words() -> None:
    choices = ("Crickets will grow", "Mice will grow", "None of it")
    assert by_words("The crickets population will probably grow. Mice are not concerned.", choices) == 0


def test_fractions_and_ranges_are_no_integers_and_never_half_of_one() -> None:
    half = Problem("free_form", "float", "0.8", precision=1)
    assert score_reasoning("So the share is 3/4.", half).score == 1
    assert score_reasoning("So the share is 3/0.", half).score == 0
    for gold in ("3", "4"):
        assert score_reasoning("So the share is 3/4.", Problem("free_form", "integer", gold)).score == float(
            gold == "0"
        )
    assert score_reasoning("It took 13-18 days.", Problem("free_form", "integer", "18")).score == 0


def test_what_a_model_goes_on_to_ask_itself_is_not_its_answer_under_reasoning() -> None:
    further = "\n\nQuestion: And the other angle?\nThe answer is (A)."
    assert score_reasoning(f"The answer is (B).{further}", ANGLES).score == 1
    assert score_reasoning("The answer is 4.\n\nQuestion: And cars?\nThe answer is 9.", INTEGER).score == 1
    restated = "There are 9 things.\n\nQuestion: How many cars?\nThe answer is 4."
    assert score_reasoning(restated, INTEGER).score == 1


def test_a_refusal_earns_nothing_under_reasoning_even_where_a_choice_says_the_same() -> None:
    asked = Problem("multi_choice", "text", "can't tell", ("decrease", "can't tell", "increase"))
    assert extract("I'm unable to view images.", asked).text == "can't tell"
    assert score_reasoning("I'm unable to view images.", asked).score == 0
    assert score_reasoning("can't tell", asked).score == 1


def test_a_choice_that_is_a_refusal_can_be_chosen() -> None:
    asked = Problem("multi_choice", "text", "can't tell", ("decrease", "can't tell", "increase"))
    assert extract("From the diagram we can't tell.", asked).text == "can't tell"


def test_numbers_stand_alone() -> None:
    assert [n.text for n in numbers_in("x2 = -3, f(0), 1,200.5 and .5; 3e-4")] == ["-3", "1200.5", ".5", "3e-4"]
    given = given_number("The answer is 12, which is more than 4.")
    assert given is not None and given.text == "12"
    assert given_number("no digits here and nothing else") is not None, "'no' is a number word"
    assert given_number("nothing") is None
    stated = given_number("The answer is four, not 3.")
    assert stated is not None and (stated.text, stated.rule) == ("4", "number: stated")


def test_spellings() -> None:
    assert canonical("$10\\sqrt{3}$ cm") == canonical("10 √(3) cm") == "10√3cm"
    assert canonical("\\frac { 5 } { 12 }") == "5/12" and canonical("40.0 degrees") == "40°"


def test_mentions_are_whole_words_and_numbers() -> None:
    assert [m.index for m in mentions("the brown bear", ANIMALS.choices)] == [1]
    assert mentions("I do not know", ("a", "b", "d")) == []
    assert mentions("it is 140° or 4.5", ("40°", "5", "4")) == []
    assert [m.index for m in mentions("it increased", ("increase", "decrease"))] == [0]


def test_letters_called_wrong_do_not_count() -> None:
    letter = named_letter("Option (A) is wrong. The answer is (C).", 4)
    assert letter is not None and letter.letter == "C"
    assert named_letter("A triangle has three sides", 4) is None
    assert named_letter("I'm sorry", 9) is None


def test_matching_a_choice_never_guesses() -> None:
    assert match_choice("maybe", ("yes", "no")).index is None
    assert match_choice("True", ("yes", "no")).index is None
    assert match_choice("E", ("x", "y")).index is None
    assert match_choice("Y.", ("x", "y")).index == 1
    assert match_choice("no idea", ("Yes.", "No.", "Not sure.")).index is None
    assert match_choice("No, it is not.", ("Yes.", "No.", "Not sure.")).index == 1


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public outputs are not here")
def test_agreement_with_the_recorded_extractions_does_not_fall() -> None:
    agreed: dict[str, list[bool]] = {"all": []}
    for line in PUBLIC.open(encoding="utf-8"):
        row = json.loads(line)
        if row["extraction_path"] == "llm":
            asked = parse_problem(row)
            found = extract(row[row["response_label"]], asked)
            same = decide(found.text, asked).correct == bool(row["official_score"])
            agreed["all"].append(same)
            agreed.setdefault(row["answer_type"], []).append(same)
    shares = {kind: sum(values) / len(values) for kind, values in agreed.items()}
    assert len(agreed["all"]) == 7626
    assert shares["all"] >= 0.9675 and shares["text"] >= 0.948 and shares["integer"] >= 0.994
