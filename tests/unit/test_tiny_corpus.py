"""The tiny VLM's training data: asked as the tasks ask, right, grounded, imperfect only in form, free of test data."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest

from specs_eval.chat import images_of, user_chat
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample
from specs_eval.tasks.easyvqa.task import COLORS, SHAPES, EasyVQA
from specs_eval.tasks.formats.styles import FORMATS, OOD_FORMATS, THINK_ANSWER
from specs_eval.tasks.formats.task import FormatTask
from specs_eval.training.tiny.corpus import (
    BREAKS,
    Corpus,
    Example,
    Mix,
    all_texts,
    prompt_text,
    recover_facts,
)
from specs_eval.training.tiny.practice import PRACTICE_FORMATS

DRAWS = 6000


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(EasyVQA("train").samples())


@pytest.fixture(scope="module")
def corpus(samples: list[Sample]) -> Corpus:
    return Corpus(samples)


@pytest.fixture(scope="module")
def examples(corpus: Corpus) -> list[Example]:
    rng = random.Random(3)
    return [corpus.draw(rng) for _ in range(DRAWS)]


def question(text: str, target: str, group: str = "g") -> Sample:
    return Sample("s", user_chat(text), target, group=group)


@pytest.mark.parametrize(
    ("questions", "shape", "color"),
    [
        ([("Is there a circle?", "yes")], "circle", None),
        ([("Is there not a circle?", "no")], "circle", None),
        ([("Is no circle present?", "yes"), ("Is a triangle present?", "no")], "rectangle", None),
        ([("What color is the triangle?", "teal")], "triangle", "teal"),
        ([("What is the red shape?", "rectangle")], "rectangle", "red"),
        ([("Is there a blue shape?", "no")], None, None),
        ([(f"Is there a {color} shape?", "no") for color in COLORS[1:]], None, COLORS[0]),
    ],
)
def test_facts_follow_from_questions(questions: list[tuple[str, str]], shape: str | None, color: str | None) -> None:
    facts = recover_facts([question(*pair) for pair in questions])["g"]
    assert (facts.shape, facts.color) == (shape, color)


def test_contradicting_questions_are_an_error() -> None:
    with pytest.raises(TaskDataError, match="contradict"):
        recover_facts([question("Is there a circle?", "yes"), question("Is there not a circle?", "yes")])


def test_most_train_images_are_known_and_every_claim_agrees_with_them(corpus: Corpus) -> None:
    known = [facts for facts in corpus.facts.values() if facts.shape and facts.color]
    assert len(corpus.facts) == 4000
    assert len(known) >= 3542


def _truth(text: str, shape: str, color: str) -> str:
    """The answer to an easy-VQA question, worked out from what is in the image: an oracle of its own."""
    line = text.lower().split("\n")[0]
    if line.startswith("what"):
        return color if "color" in line else shape
    asked = re.findall("|".join((*SHAPES, *COLORS)), line)
    present = asked[0] in (shape, color)
    negated = re.search(r"\bno\b|\bnot\b", line) is not None
    return "yes" if present != negated else "no"


def test_reasoning_never_contradicts_the_answer(examples: list[Example]) -> None:
    sentence = re.compile(rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\.")
    seen = 0
    for example in examples:
        found = sentence.findall(example.response)
        assert len(found) <= 1
        if found:
            color, shape = found[0]
            assert _truth(example.prompt, shape, color) == example.sample.target
            seen += 1
    assert seen > DRAWS / 3


def test_every_response_holds_the_gold_answer(examples: list[Example]) -> None:
    assert all(re.search(rf"\b{example.sample.target}\b", example.response) for example in examples)


class FewQuestions(EasyVQA):
    """Some train questions as a task."""

    def __init__(self, samples: list[Sample]) -> None:
        super().__init__("train")
        self.few = samples

    def samples(self) -> list[Sample]:
        return self.few


def test_prompts_are_what_the_tasks_ask(examples: list[Example]) -> None:
    few = [example for example in examples if not example.asked.startswith("practice")][:500]
    task = FormatTask("pair", FewQuestions([example.sample for example in few]), tuple(FORMATS.values()))
    asked = {(sample.group, prompt_text(sample.chat), sample.category["format"]) for sample in task.samples()}
    for example in few:
        if example.asked == "direct":
            assert example.prompt == prompt_text(example.sample.chat)
        else:
            assert (example.sample.group, example.prompt, example.asked) in asked


def test_the_tokenizer_sees_every_prompt(samples: list[Sample], examples: list[Example]) -> None:
    assert {example.prompt for example in examples} <= all_texts(samples)


def _within(share: float, expected: float, n: int) -> bool:
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_shares_are_those_of_the_mix(examples: list[Example]) -> None:
    mix, counts = Mix(), Counter(example.asked for example in examples)
    assert _within(counts["direct"] / DRAWS, mix.direct, DRAWS)
    assert _within(counts["think_answer"] / DRAWS, mix.trained, DRAWS)
    for style in OOD_FORMATS:
        assert _within(counts[style.name] / DRAWS, mix.changed / len(OOD_FORMATS), DRAWS)
    for styles, share in (((THINK_ANSWER,), mix.adherence_trained), (OOD_FORMATS, mix.adherence_changed)):
        names = {style.name for style in styles}
        rows = [example for example in examples if example.asked in names]
        followed = [FORMATS[example.asked].parse(example.response).ok for example in rows]
        assert _within(sum(followed) / len(rows), share, len(rows)), "stray responses must not follow by accident"


def test_full_adherence_means_always_the_asked_format(corpus: Corpus) -> None:
    rng = random.Random(0)
    for style in FORMATS.values():
        assert all(style.parse(corpus.answer(style, rng).response).ok for _ in range(50))


def test_no_evaluated_parser_accepts_a_practice_response_and_no_task_asks_for_one() -> None:
    evaluated = {style.instruction for style in FORMATS.values()}
    for practice in PRACTICE_FORMATS:
        response = practice.render("the image shows a teal circle.", "circle")
        assert not any(style.parse(response).ok for style in FORMATS.values()), practice.name
        assert practice.instruction not in evaluated


def test_every_evaluated_format_has_a_way_to_break_that_its_parser_notices() -> None:
    assert set(BREAKS) == set(FORMATS)
    for name, (old, new) in BREAKS.items():
        response = FORMATS[name].render("the image shows a teal circle.", "circle")
        assert response.count(old) == 1
        assert not FORMATS[name].parse(response.replace(old, new)).ok


def test_the_stream_follows_its_seed(corpus: Corpus) -> None:
    def draw(seed: int) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        return [(example.prompt, example.response) for example in (corpus.draw(rng) for _ in range(20))]

    assert draw(1) == draw(1) != draw(2)


def test_no_test_image_is_ever_trained_on(examples: list[Example]) -> None:
    held_out = {images_of(sample.chat)[0].digest for sample in EasyVQA("test").samples()}
    used = {images_of(example.sample.chat)[0].digest for example in examples}
    assert len(held_out) == 1000
    assert not used & held_out
