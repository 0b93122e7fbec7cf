from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmms_toys import write_exact, write_images, write_toys
from PIL import Image, ImageFile

from specs_eval.chat import ImagePart, TextPart, images_of, text_of
from specs_eval.errors import ConfigError, GenerationError, TaskDataError
from specs_eval.task import Task
from specs_eval.tasks.formats.styles import OOD_FORMATS
from specs_eval.tasks.formats.task import FormatTask
from specs_eval.tasks.lmms.adapter import LmmsEvalTask
from specs_eval.tasks.lmms.scoring import GUESSED


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys") / "tasks")


@pytest.fixture(scope="module")
def exact(toys: Path) -> LmmsEvalTask:
    return LmmsEvalTask("toy_exact", [toys])


@pytest.fixture(scope="module")
def image(toys: Path) -> LmmsEvalTask:
    return LmmsEvalTask("toy_image", [toys])


@pytest.fixture(scope="module")
def chat(toys: Path) -> LmmsEvalTask:
    return LmmsEvalTask("toy_chat", [toys])


@pytest.fixture(scope="module")
def guess(toys: Path) -> LmmsEvalTask:
    return LmmsEvalTask("toy_guess", [toys])


def test_it_is_a_task(exact: LmmsEvalTask) -> None:
    assert isinstance(exact, Task)
    assert (exact.name, exact.max_new_tokens, exact.stop, exact.note) == ("toy_exact", 16, ("Q:",), None)


def test_text_samples(exact: LmmsEvalTask) -> None:
    samples = exact.samples()
    assert [sample.sample_id for sample in samples] == [f"{number:06d}" for number in range(6)]
    assert text_of(samples[2].chat) == "What is 2 + 2?\nAnswer with a number."
    assert (samples[2].target, dict(samples[2].category), dict(samples[2].meta)) == (
        "4",
        {"category": "odd"},
        {"doc_id": 2},
    )
    assert samples[-1] is samples[5]
    assert samples[1:3] == [samples[1], samples[2]]
    with pytest.raises(IndexError):
        samples[6]


def test_images_come_before_the_text_and_stay_out_of_memory(image: LmmsEvalTask) -> None:
    sample = image.samples()[1]
    assert sample.sample_id == "q1"
    assert sample.group == "image_0"
    picture, text = sample.chat[0].parts
    assert text == TextPart("Which color?\nAnswer with one word.")
    assert isinstance(picture, ImagePart)
    assert picture.load().getpixel((0, 0)) == (0, 128, 0)
    assert picture.digest == ImagePart(picture.load()).digest
    assert not any(isinstance(value, Image.Image) for value in vars(picture).values())


def test_interleaved_messages_keep_their_order(chat: LmmsEvalTask) -> None:
    sample = chat.samples()[0]
    assert [message.role for message in sample.chat] == ["system", "user"]
    kinds = ["image" if isinstance(part, ImagePart) else part.text for part in sample.chat[1].parts]
    assert kinds == ["First:", "image", "second:", "image", "Which one? (0)"]
    assert [part.load().getpixel((0, 0)) for part in images_of(sample.chat)] == [(255, 0, 0), (0, 128, 0)]


def test_lmms_evals_own_metric(exact: LmmsEvalTask) -> None:
    sample = exact.samples()[5]
    assert exact.score(sample, "4").score == 1.0
    assert exact.score(sample, " 4 Q: What is next? 7").score == 1.0
    assert exact.score(sample, "<think>2 * 2</think>4").score == 1.0
    assert exact.score(sample, "seven").score == 0.0
    assert exact.score(sample, "").score == 0.0
    assert exact.score_answer(sample, "4").score == 1.0


def test_a_scale_of_100_is_learnt_from_gold_answers(image: LmmsEvalTask) -> None:
    sample = image.samples()[0]
    right = image.score(sample, "Red")
    assert (right.score, right.answer, right.rule) == (1.0, "red", "lmms-eval:toy_score")
    assert dict(right.metrics) == {}
    assert image.score(sample, "blue").score == 0.0
    assert image.note is not None and "median_of_scores" in image.note


def test_what_writes_submission_files_is_not_called(image: LmmsEvalTask, toys: Path) -> None:
    image.score(image.samples()[0], "red")
    assert not (toys / "submission.txt").exists()


def test_filters_run_and_all_but_the_first_are_further_metrics(chat: LmmsEvalTask) -> None:
    sample = chat.samples()[0]
    score = chat.score(sample, "I say A")
    assert (score.score, score.answer, dict(score.metrics)) == (1.0, "A", {"acc@whole": 0.0})


def test_each_kind_of_document_is_scored_by_its_own_metric(toys: Path) -> None:
    task = LmmsEvalTask("toy_kinds", [toys])
    for number, sample in enumerate(task.samples()):
        score = task.score(sample, sample.target)
        assert (score.score, score.rule) == (1.0, f"lmms-eval:{'even_acc' if number % 2 else 'odd_acc'}")
        # A mean of single precisions would be no precision; the plain mean stays.
        assert dict(score.metrics) == {"short": 1.0}
        assert task.score(sample, "none").score == 0.0


def test_a_guess_earns_nothing_is_flagged_and_leaves_the_global_state_alone(guess: LmmsEvalTask) -> None:
    samples = guess.samples()
    random.seed(1)
    np.random.seed(1)
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    first = [guess.score(sample, "no idea") for sample in samples]
    random.seed(2)
    assert [guess.score(sample, "no idea") for sample in samples] == first
    assert {score.reason for score in first} == {GUESSED}
    assert {score.score for score in first} == {0.0} and {score.answer for score in first} == {None}
    random.setstate(python)
    guess.score(samples[0], "no idea")
    assert random.getstate() == python and np.array_equal(np.random.get_state()[1], numpy)
    sure = guess.score(samples[0], "A")
    assert (sure.score, sure.reason, sure.answer) == (1.0, None, "A")


def test_a_scorer_that_fails_leaves_the_rollout_unscored(guess: LmmsEvalTask) -> None:
    score = guess.score(guess.samples()[0], "crash")
    assert score.score is None
    assert score.reason is not None and "KeyError" in score.reason


def test_a_value_off_the_scale_is_unscored(image: LmmsEvalTask, monkeypatch: Any) -> None:
    monkeypatch.setattr(image._task.config, "process_results", lambda doc, results: {"toy_score": {"score": 250.0}})
    score = image.score(image.samples()[0], "red")
    assert score.score is None
    assert score.reason is not None and "no share of 100" in score.reason


@pytest.mark.parametrize("value", [None, "1.0", float("nan"), {"other": 1}])
def test_a_value_that_is_no_number_is_unscored(image: LmmsEvalTask, monkeypatch: Any, value: object) -> None:
    monkeypatch.setattr(image._task.config, "process_results", lambda doc, results: {"toy_score": value})
    assert image.score(image.samples()[0], "red").score is None


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("toy_exac", ConfigError, "did you mean 'toy_exact'"),
        ("toy_group", ConfigError, "toy_exact,toy_image"),
        ("toy_choice", ConfigError, "multiple_choice; only generate_until"),
        ("toy_video", ConfigError, "videos"),
        ("toy_no_number", ConfigError, "none of its metrics"),
        ("toy_odd_scale", ConfigError, "scale is unknown"),
        ("toy_no_module", ConfigError, "a_package_that_is_not_installed"),
        ("toy_not_here", TaskDataError, "HF_HUB_OFFLINE=0"),
        ("toy_no_file", TaskDataError, "FileNotFoundError.*not_written.jsonl"),
    ],
)
def test_what_cannot_be_run_says_why(toys: Path, name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        LmmsEvalTask(name, [toys])


def test_the_version_follows_the_data_the_settings_and_the_code(toys: Path, tmp_path: Path) -> None:
    versions = {name: LmmsEvalTask(name, [toys]).version for name in ("toy_exact", "toy_image", "toy_chat")}
    assert all(version.startswith("1-") for version in versions.values())

    def version_after(change: Any, name: str) -> str:
        folder = tmp_path / f"changed_{change.__name__}_{name}"
        shutil.copytree(toys, folder)
        change(folder)
        return LmmsEvalTask(name, [folder]).version

    def nothing(folder: Path) -> None:
        pass

    def data(folder: Path) -> None:
        write_exact(folder, offset=1)
        write_images(folder, [Image.new("RGB", (9, 9), "black")] * 6)
        Image.new("RGB", (9, 9), "black").save(folder / "picture_0.png")

    def code(folder: Path) -> None:
        (folder / "functions.py").write_text((folder / "functions.py").read_text() + "\n# changed\n")

    def settings(folder: Path) -> None:
        path = folder / "toy_exact.yaml"
        path.write_text(path.read_text().replace("with a number", "in words"))

    for name, version in versions.items():
        assert version_after(nothing, name) == version
        assert version_after(data, name) != version
    assert version_after(code, "toy_image") != versions["toy_image"]
    assert version_after(settings, "toy_exact") != versions["toy_exact"]


def test_a_document_that_cannot_be_shown_is_a_failed_sample(toys: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toys"
    shutil.copytree(toys, folder)
    (folder / "picture_1.png").unlink()
    (folder / "picture_4.png").write_bytes(b"not an image")
    samples = LmmsEvalTask("toy_chat", [folder]).samples()
    for number, whole in enumerate([False, False, True, False, False, True]):
        images = images_of(samples[number].chat)
        if whole:
            assert len([image.load() for image in images]) == 2
            continue
        assert len({image.digest for image in images}) == 1
        with pytest.raises(GenerationError, match=f"cannot show document {number}"):
            images[0].load()


def test_format_following_works_over_any_task(image: LmmsEvalTask) -> None:
    task = FormatTask("toy_image_formats_ood", image, OOD_FORMATS)
    samples = task.samples()
    assert len(samples) == 6 * len(OOD_FORMATS)
    for sample, style in zip(samples, OOD_FORMATS, strict=False):
        score = task.score(sample, style.render("It is plain.", "red"))
        assert (score.score, score.metrics["accuracy"]) == (1.0, 1.0)
    assert isinstance(images_of(samples[0].chat)[0].load(), Image.Image)


def test_foreign_ranks_do_not_make_it_wait(toys: Path, monkeypatch: Any) -> None:
    ranks = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    task = LmmsEvalTask("toy_image", [toys])
    assert task.score(task.samples()[0], "red").score == 1.0
    assert {name: os.environ[name] for name in ranks} == ranks


def test_truncated_images_stay_errors_elsewhere(toys: Path) -> None:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        LmmsEvalTask("toy_image", [toys]).samples()[0]
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
