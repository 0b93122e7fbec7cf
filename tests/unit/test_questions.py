"""Question sets: every known layout, bad rows, judging, and what a limit may not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import CORPUS
from hypothesis import given
from hypothesis import strategies as st
from question_sets import png, question, question_set, write_jsonl

from specs_eval.chat import ImagePart, images_of, text_of
from specs_eval.errors import ConfigError, TaskDataError
from specs_eval.tasks.easyvqa.task import ANSWERS, EasyVQA
from specs_eval.training.questions.judging import judge_answer, value_of
from specs_eval.training.questions.question import Question, UnusableQuestion
from specs_eval.training.questions.sources import load_questions
from specs_eval.training.questions.task import QuestionTask

CHOICES = ("3 cm", "5 cm", "7 cm")
GOLDS = [
    question(1, kind="choice", choices=CHOICES, answer="5 cm"),
    question(2, kind="letter", answer="B", text="Which? A. one B. two"),
    question(3),
    question(4, kind="number", answer="3.14"),
    question(5, kind="number", answer="\\frac{1}{2}"),
    question(6, kind="text", answer="Teal circle"),
    question(7, kind="text", answer="\\sqrt{x+1}"),
]


def scored(asked: Question, answer: str) -> float | None:
    return judge_answer(asked, answer).score


@pytest.mark.parametrize("asked", GOLDS, ids=lambda one: one.answer)
def test_the_gold_answer_is_right_in_every_spelling(asked: Question) -> None:
    for said in (asked.answer, f" {asked.answer}.", f"\\boxed{{{asked.answer}}}", f"**{asked.answer}**"):
        assert scored(asked, said) == 1.0, said


@pytest.mark.parametrize(
    ("asked", "right", "wrong"),
    [
        (GOLDS[0], ["B", "(b)", "5cm", "5", "The answer is (B)."], ["A", "C", "3 cm", "4", "D", "B or C", "none"]),
        (GOLDS[1], ["b", "(B)", "B.", "The answer is B"], ["A", "two", "AB", "", "A or B"]),
        (
            GOLDS[2],
            ["4", "4.0", "+4", "4 cm", "8/2", "$4$", "2^2", "\\sqrt{16}", "The answer is 4."],
            ["5", "4.4", "x"],
        ),
        (GOLDS[3], ["3.14", "3.141593", "3.1400"], ["3.15", "3.1", "3", "-3.14"]),
        (GOLDS[4], ["0.5", "1/2", "\\dfrac{1}{2}", "50/100"], ["1", "2", "1/3", "50%"]),
        (GOLDS[5], ["teal circle", "TEAL  CIRCLE!"], ["teal", "circle", "a red circle", " ", "circle teal"]),
        (question(7, kind="text", answer="x+1"), ["1+x", "$1 + x$", "\\boxed{x+1}"], ["x-1", "x", "1", "x+1.01"]),
        (question(12, answer="2", decimals=0), ["2.3", "1.9"], ["2.6", "3"]),
        (question(8, kind="text", answer="2x"), ["x*2", "2 x"], ["2", "2y", "x^2"]),
        (question(9, kind="number", answer="2"), ["2", "x=2", "x = 2", "2cm", "2 apples"], ["2x", "2ab", "x", "2/x"]),
        (question(10, kind="text", answer="\\{1,2\\}"), ["{1, 2}"], ["{2,1}", "1"]),
        (question(11, kind="text", answer="a5 sheet"), ["A5 sheet"], ["sheet a5", "5a sheet"]),
    ],
)
def test_answers_by_kind(asked: Question, right: list[str], wrong: list[str]) -> None:
    assert {said: scored(asked, said) for said in right} == dict.fromkeys(right, 1.0)
    assert {said: scored(asked, said) for said in wrong} == dict.fromkeys(wrong, 0.0)


def test_values_of_numbers() -> None:
    cases = {
        "1,200": 1200,
        "17^\\circ": 17,
        "2\\pi": 6.283185307179586,
        "-3.5": -3.5,
        "1e5": 1e5,
        "12\\text{ cm}^2": 12,
    }
    for text, value in cases.items():
        assert value_of(text) == pytest.approx(value), text
    for text in ("", "no", "x=y", "2x", "1e999", "9" * 5000, "10^{10^{10}}", "½", "5/0", "1,2,3"):
        assert value_of(text) is None, text


@pytest.mark.parametrize("asked", GOLDS, ids=lambda one: one.answer)
def test_hostile_answers_score_zero_or_one(asked: Question) -> None:
    for text in CORPUS:
        assert scored(asked, text) in (0.0, 1.0)


@given(st.text(max_size=80), st.sampled_from(GOLDS))
def test_any_text_scores_zero_or_one(text: str, asked: Question) -> None:
    assert scored(asked, text) in (0.0, 1.0)


def test_easyvqa_questions_score_as_the_task_does() -> None:
    task = EasyVQA("train")
    ours = QuestionTask(load_questions("easyvqa", 60))
    theirs = {sample.sample_id: sample for sample in task.samples()}
    for sample in ours.samples():
        for said in (*ANSWERS, "Teal.", " YES ", "a circle", "", "no shape"):
            expected = task.score_answer(theirs[sample.sample_id], said).score
            assert ours.score_answer(sample, said).score == expected, (sample.target, said)
        asked = theirs[sample.sample_id].question
        assert asked is not None and sample.chat == asked


def test_a_question_without_text_gold_or_fitting_marks_is_refused() -> None:
    for changes in (
        {"text": " <image> "},
        {"answer": "  "},
        {"text": "<image> and <image>?"},
        {"kind": "choice", "choices": ("a", "b"), "answer": "c"},
    ):
        with pytest.raises(UnusableQuestion):
            question(1, **changes)


def test_images_stand_where_the_text_marks_them() -> None:
    one, two = ImagePart(png(1)), ImagePart(png(2))
    asked = question(
        1, text="Is <image> like <image>?", images=(one, two), choices=("x", "y"), kind="choice", answer="x"
    )
    assert text_of(asked.chat()) == "Is<image>\nlike<image>\n?\n(A) x\n(B) y"
    assert images_of(asked.chat()) == [one, two]
    assert asked.stem == "Is like ?"


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def orsta_row(gold: str, text: str, verifier: str = "mathverify", images: Any = None) -> dict[str, Any]:
    return {
        "data_source": "mm_math",
        "images": [{"bytes": png(1), "path": None}] if images is None else images,
        "prompt": [{"content": text, "role": "user"}],
        "ability": "math",
        "reward_model": {"answer": gold, "ground_truth": gold, "verifier": verifier, "accuracy_ratio": 1.0},
        "extra_info": {"id": None, "image_path": "images/1.png"},
    }


def test_orsta_layout(tmp_path: Path) -> None:
    rows = [
        orsta_row("\\boxed{4}", "<image>How long is AB?"),
        orsta_row("<answer>B</answer>", "<image>Which? A. one B. two"),
        orsta_row("<answer>[{'bbox_2d': [1, 2, 3, 4]}]</answer>", "<image>Locate the dog.", "detection"),
        orsta_row("", "<image>No gold?"),
        orsta_row("1", "<image>Broken?", images=[{"bytes": b"no image", "path": None}]),
        orsta_row("1", "<image><image>Two?"),
    ]
    write_parquet(tmp_path / "train" / "train_math_6.parquet", rows)
    found = load_questions(f"orsta:{tmp_path}")
    kinds = {one.text: (one.kind, one.answer) for one in found.questions}
    assert kinds == {
        "<image>How long is AB?": ("number", "4"),
        "<image>Which? A. one B. two": ("letter", "B"),
    }
    assert dict(found.problems) == {
        "boxes to detect: not judged by rule": 1,
        "no gold answer": 1,
        "image unreadable": 1,
        "the text has other image marks than the row has images": 1,
    }
    assert found.n_usable == 2


def test_virl_layout(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a-0.png").write_bytes(png(1))
    base = {"category": "math", "source": "s", "PassRate_32BTrained": 0.5, "PassRate_7BBase": -1.0}
    rows = [
        {
            "question": "<image>Angle?",
            "answer": "\\boxed{17^\\circ}",
            "image": ["images/a-0.png"],
            "qid": "v-0",
            **base,
        },
        {"question": "<image>Gone?", "answer": "\\boxed{1}", "image": ["images/b-0.png"], "qid": "v-1", **base},
        {"question": "<image>Out?", "answer": "\\boxed{1}", "image": ["../../etc/passwd"], "qid": "v-2", **base},
    ]
    write_parquet(tmp_path / "39Krelease.parquet", rows)
    found = load_questions(f"virl:{tmp_path / '39Krelease.parquet'}")
    (one,) = found.questions
    assert (one.question_id, one.kind, one.answer) == ("v-0", "number", "17^\\circ")
    assert scored(one, "17") == 1.0
    assert dict(found.problems) == {"image missing": 1, "image path leads out of the data folder": 1}


def test_mathvista_layout(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(png(1))
    base = {"image": "images/1.png", "unit": None, "precision": None}
    records = {
        "1": {
            "question": "Which?",
            "choices": ["red", "blue"],
            "answer": "blue",
            "question_type": "multi_choice",
            **base,
        },
        "2": {"question": "How much?", "answer": "1.2", "answer_type": "float", **base, "precision": 1.0, "unit": "m"},
        "3": {"question": "How many?", "answer": "many", "answer_type": "integer", **base},
        "4": {"question": "Hidden?", "answer": None, "answer_type": "integer", **base},
    }
    (tmp_path / "testmini.json").write_text(json.dumps(records))
    found = load_questions(f"mathvista:{tmp_path}")
    by_id = {one.question_id: one for one in found.questions}
    assert set(by_id) == {"1", "2"}
    assert by_id["1"].kind == "choice" and scored(by_id["1"], "B") == 1.0
    assert text_of(by_id["2"].chat()) == "<image>\nHow much? (Unit: m)"
    assert (scored(by_id["2"], "1.23"), scored(by_id["2"], "1.3")) == (1.0, 0.0)
    assert found.problems["the gold answer is not the number that it should be"] == 2


def test_jsonl_layout_and_its_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    rows = [
        {
            "id": "x",
            "question": "Shape?",
            "answer": "circle",
            "images": ["a.png"],
            "alternatives": ["circle", "square"],
        },
        {"id": "x", "question": "Again?", "answer": "circle"},
        {"question": "Which?", "answer": "B", "choices": ["1", "2"], "group": "g"},
        {"question": "Which?", "answer": "C", "choices": ["1", "2"]},
        {"question": "", "answer": "1"},
        {"question": "Gold?"},
        {"question": "Image?", "answer": "1", "images": ["gone.png"]},
        {"question": "Precise?", "answer": 2.5, "decimals": 0},
    ]
    found = load_questions(str(write_jsonl(tmp_path / "q.jsonl", rows)))
    assert found.name == "jsonl_q"
    by_text = {one.text: one for one in found.questions}
    assert set(by_text) == {"Shape?", "Which?", "Precise?"}
    assert by_text["Which?"].answer == "2" and by_text["Which?"].group == "g"
    assert by_text["Shape?"].alternatives == ("circle", "square")
    assert by_text["Precise?"].decimals == 0
    assert dict(found.problems) == {
        "the id was used before": 1,
        "the gold answer is none of the choices": 1,
        "no question text": 1,
        "no gold answer": 1,
        "image missing": 1,
    }


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "q.jsonl", [{"question": "Gold?"}, {"question": "No?"}, {"answer": "1"}])
    with pytest.raises(TaskDataError, match=r"2 x no gold answer; 1 x no question text"):
        load_questions(str(path))


@pytest.mark.parametrize("content", ['{"a": ', "[1, 2]", "3\n"])
def test_damaged_files_are_errors(tmp_path: Path, content: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(TaskDataError, match="cannot read"):
        load_questions(str(path))


def test_a_source_that_is_not_known_or_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="easyvqa, orsta:PATH"):
        load_questions("coco:/data")
    with pytest.raises(TaskDataError, match="no question file"):
        load_questions(f"virl:{tmp_path}")
    with pytest.raises(ConfigError, match="--limit"):
        load_questions("easyvqa", 0)


def test_a_limit_is_a_prefix_and_leaves_the_version_alone() -> None:
    whole, few = question_set(40), question_set(40, limit=7)
    assert few.questions == whole.questions[:7]
    assert (few.content_hash, few.n_usable) == (whole.content_hash, 40)
    assert QuestionTask(few).version == QuestionTask(whole).version
    assert question_set(41).content_hash != whole.content_hash
