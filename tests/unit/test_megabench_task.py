"""The task adapter: layouts, interleaved media, versions, scoring, and messages about missing data."""

import json

import pytest
from PIL import Image

from specs_eval.chat import ImagePart, TextPart, images_of
from specs_eval.errors import TaskDataError
from specs_eval.task import Task
from specs_eval.tasks.megabench.task import MegaBench

CONFIG = {
    "field_score_function": {"answer": "exact_str_match"},
    "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
    "response_parse_function": "answer_string",
}


def record(number, **more):
    return {
        "id": str(number),
        "task_name": "toy",
        "task_description": "Name the letter in <image>.",
        "global_media": "['./data/a.png']",
        "example_text": "",
        "example_media": "[]",
        "query_text": "<image> then <image>",
        "query_media": "['./data/b.png', './data/a.png']",
        "answer": "{'answer': 'B'}",
        "metric_info": str(CONFIG),
        "eval_context": "{}",
        **more,
    }


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "megabench"
    (folder / "data").mkdir(parents=True)
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (4, 4), color).save(folder / "data" / f"{name}.png")
    (folder / "core.json").write_text(json.dumps([record(1), record(2)]))
    return tmp_path


def test_samples_interleave_media_in_the_order_of_the_text(data):
    task = MegaBench(data_dir=data)
    assert isinstance(task, Task)
    samples = {sample.sample_id: sample for sample in task.samples()}
    parts = samples["toy/1"].chat[0].parts
    assert "".join("i" if isinstance(part, ImagePart) else "t" for part in parts) == "tititi"
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    assert texts == ["Name the letter in", ".", "then"]
    assert [image.source.name for image in images_of(samples["toy/1"].chat)] == ["a.png", "b.png", "a.png"]
    assert samples["toy/1"].group == "toy"


def test_scores_by_profile(data):
    task = MegaBench(data_dir=data)
    sample = task.samples()[0]
    assert task.score(sample, "Answer: B").score == 1.0
    assert task.score(sample, "Answer: A").score == 0.0
    assert task.score_answer(sample, "B").score == 1.0
    assert task.score_answer(sample, " ").score == 0.0
    reasoning = MegaBench(data_dir=data, profile="reasoning")
    assert reasoning.score(sample, "<think>A?</think><answer>B</answer>").score == 1.0
    assert reasoning.score(sample, "").score == 0.0


def test_version_follows_the_data(data):
    version = MegaBench(data_dir=data).version
    assert MegaBench(data_dir=data).version == version
    Image.new("RGB", (4, 4), "green").save(data / "megabench" / "data" / "a.png")
    assert MegaBench(data_dir=data).version != version


def test_missing_data_says_where_and_how(tmp_path):
    with pytest.raises(TaskDataError, match=r"megabench.*hf download TIGER-Lab/MEGA-Bench"):
        MegaBench(data_dir=tmp_path).samples()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_media": "['./data/b.png']"}, "2 marks for 1 files"),
        ({"query_media": "['./data/b.png', '../../../etc/passwd']"}, "no media file"),
        ({"metric_info": "no dictionary"}, "metric_info"),
        ({"answer": "[1]"}, "answer"),
        ({"task_name": None}, "task_name"),
    ],
)
def test_malformed_records_name_the_column(data, change, message):
    (data / "megabench" / "core.json").write_text(json.dumps([record(1, **change)]))
    with pytest.raises(TaskDataError, match=message):
        MegaBench(data_dir=data).samples()
