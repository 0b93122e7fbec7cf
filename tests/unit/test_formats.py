"""Format-following: strict parsers, extraction, and the pairs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.chat import text_of
from specs_eval.tasks.easyvqa.task import ANSWERS, EasyVQA, normalize_word
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.formats.styles import FORMATS, OOD_FORMATS, THINK_ANSWER
from specs_eval.tasks.registry import get_task

REASONING = "the image shows a teal circle."
styles = pytest.mark.parametrize("style", FORMATS.values(), ids=FORMATS.keys())


@styles
def test_the_ideal_response_is_in_its_format_and_in_no_other(style) -> None:  # type: ignore[no-untyped-def]
    response = style.render(REASONING, "teal")
    for other in FORMATS.values():
        assert other.parse(response).ok == (other is style), other.name
    parsed = style.parse(f"  {response}\n")
    assert (parsed.answer, parsed.reasoning) == ("teal", REASONING)


@styles
@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: "Sure! " + r,
        lambda r: r + "\nHope this helps.",
        lambda r: r + "\n" + r,
        lambda r: r[: len(r) // 2],
        lambda r: "",
        lambda r: r.replace("teal", "").replace("teal", ""),
    ],
    ids=["prefix", "suffix", "twice", "half", "empty", "no answer"],
)
def test_spoiled_responses_are_refused(style, spoil) -> None:  # type: ignore[no-untyped-def]
    response = spoil(style.render("a shape.", "teal"))
    free_prefix = style.name in ("final_line", "boxed") and response.startswith("Sure")
    open_end = style.name == "sections" and "Hope" in response
    if free_prefix or open_end:
        return  # reasoning there is free text, and a section's answer ends where the response ends
    parsed = style.parse(response)
    assert not parsed.ok and parsed.answer is None and parsed.problem


@pytest.mark.parametrize(
    ("name", "response", "ok"),
    [
        ("json", '{"reasoning": "r", "answer": 4}', True),
        ("json", '{"reasoning": "r", "answer": null}', False),
        ("json", '{"reasoning": "r", "answer": NaN}', False),
        ("json", '{"reasoning": "r", "answer": "a", "answer": "b"}', False),
        ("json", '{"reasoning": "r", "answer": "a", "more": 1}', False),
        ("json", '```json\n{"reasoning": "r", "answer": "a"}\n```', False),
        ("json", "[" * 100_000, False),
        ("json", '{"reasoning": "r", "answer": ' + "9" * 10_000 + "}", False),
        ("boxed", "so\n\\boxed{\\frac{1}{2}}", True),
        ("boxed", "so $\\boxed{4}$.", True),
        ("boxed", "so\n\\boxed{4", False),
        ("boxed", "so \\boxed{4} or \\boxed{5}", False),
        ("boxed", "\\boxed{" + "{" * 200_000, False),
        ("think_answer", "<think>a</think><answer>b</answer>", True),
        ("think_answer", "<answer>b</answer><think>a</think>", False),
        ("think_answer", "<think>a</think> so <answer>b</answer>", False),
        ("think_answer", "<think><think>a</think><answer>b</answer>", False),
        ("think_answer", "<THINK>a</THINK><answer>b</answer>", False),
        ("sections", "## Reasoning\nr\n## Answer\n", False),
        ("sections", "# Reasoning\nr\n# Answer\na", False),
        ("final_line", "r\nFinal answer: a", True),
        ("final_line", "Final answer: a", False),
        ("final_line", "<think>r</think>\nFinal answer: a", False),
    ],
)
def test_strictness(name: str, response: str, ok: bool) -> None:
    assert FORMATS[name].parse(response).ok is ok


@styles
@pytest.mark.parametrize(
    "bait", ["<think>", "</answer>", "{", '{"reasoning":', "\\boxed{", "\nFinal answer:", "\n## Answer\n"]
)
def test_hostile_megabytes_take_linear_time_and_do_not_raise(style, bait: str) -> None:  # type: ignore[no-untyped-def]
    for text in (bait * (900_000 // len(bait)), bait * (3_000_000 // len(bait)), "\0\ud800" * 1000 + bait):
        assert not style.parse(text).ok
        extract_answer(text, style)


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_parsers_and_extraction_never_raise(text: str) -> None:
    for style in FORMATS.values():
        parsed = style.parse(text)
        assert parsed.ok == (parsed.answer is not None)
    extract_answer(text)


word = st.text("abcdefgh ", min_size=1, max_size=20).filter(lambda text: bool(text.strip()))


@given(reasoning=word, answer=word)
def test_render_then_parse_gives_the_answer_back(reasoning: str, answer: str) -> None:
    for style in FORMATS.values():
        assert style.parse(style.render(reasoning, answer)).answer == answer.strip()
        assert extract_answer(style.render(reasoning, answer)).answer == answer.strip()


@pytest.mark.parametrize(
    ("response", "answer", "rule"),
    [
        ("teal", "teal", "whole response"),
        ("<think>x</think> teal", None, "no answer found"),
        ("<think>x</think><answer>teal", "teal", "loose:answer tag"),
        ("I think\nAnswer: **teal**\nbye", "teal", "loose:answer mark"),
        ("", None, "no answer found"),
        ("x" * 201, None, "no answer found"),
    ],
)
def test_extraction_rules(response: str, answer: str | None, rule: str) -> None:
    found = extract_answer(response)
    assert (found.answer, found.rule) == (answer, rule)


def test_ood_pairs_ask_the_same_questions_under_every_changed_format() -> None:
    base, ood, trained = get_task("easyvqa"), get_task("formats_ood"), get_task("specs_formats_id")
    assert len(ood.samples()) == 6 * len(base.samples()) == 6 * 9673
    assert len(trained.samples()) == 9673
    first = ood.samples()[:6]
    assert [s.category["format"] for s in first] == [style.name for style in OOD_FORMATS]
    question = text_of(base.samples()[0].question or ())
    for sample, style in zip(first, OOD_FORMATS, strict=True):
        assert text_of(sample.chat) == f"{question}\n{style.instruction}"
        assert sample.group == trained.samples()[0].group == base.samples()[0].group
    assert len({base.version, ood.version, trained.version}) == 3
    assert ood.version == get_task("easyvqa_formats_ood").version


def test_gold_scores_one_and_silence_scores_zero_in_every_format() -> None:
    for name in ("formats_id", "formats_ood"):
        task = get_task(name)
        for sample in task.samples()[:60]:
            style = FORMATS[sample.category["format"]]
            gold = task.score(sample, style.render(REASONING, sample.target))
            assert (gold.score, gold.metrics["format"], gold.metrics["accuracy"]) == (1.0, 1.0, 1.0)
            silent = task.score(sample, "")
            assert (silent.score, silent.metrics["accuracy"], silent.answer) == (0.0, 0.0, None) and silent.reason
            wrong = task.score(sample, style.render(REASONING, "mauve"))
            assert (wrong.metrics["format"], wrong.metrics["accuracy"]) == (1.0, 0.0)


def test_lock_in_is_the_trained_format_where_another_was_asked() -> None:
    task = get_task("formats_ood")
    sample = next(s for s in task.samples() if s.category["format"] == "json")
    locked = task.score(sample, THINK_ANSWER.render(REASONING, sample.target))
    assert locked.metrics == {"format": 0.0, "accuracy": 1.0, "lock_in": 1.0} and locked.rule == "format:think_answer"
    free = task.score(sample, json.dumps({"reasoning": "r", "answer": sample.target}))
    assert free.metrics["lock_in"] == 0.0


def test_easyvqa_scores() -> None:
    task = EasyVQA()
    sample = task.samples()[0]
    for response in (sample.target, f" {sample.target.upper()}. ", f"<think>x</think><answer>{sample.target}</answer>"):
        assert task.score(sample, response).score == 1.0
    assert task.score(sample, "mauve").score == 0.0
    assert task.score(sample, "mauve").reason == "not one of the 13 answers"
    assert {s.target for s in task.samples()} == set(ANSWERS)
    assert len({s.sample_id for s in task.samples()}) == 9673


@given(st.text(max_size=300))
def test_normalized_words_are_bounded(text: str) -> None:
    assert len(normalize_word(text)) <= 110 and normalize_word(normalize_word("'Teal.'")) == "teal"
