"""easy-VQA as a task: 9,673 official test questions on 1,000 images, one word each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from specs_eval.chat import ImagePart, user_chat
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample, Score
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.sample_sets import content_hash, fixed_random_order

Split = Literal["train", "test"]

SCORING_VERSION = 1
INSTRUCTION = "Answer with one word."
SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
ANSWERS = frozenset((*SHAPES, *COLORS, "yes", "no"))

_EDGE_PUNCTUATION = " \t\r\n.,;:!?\"'`*()[]{}"


class EasyVQA:
    """easy-VQA questions on 64 x 64 images of one coloured shape (github.com/vzhou842/easy-VQA)."""

    max_new_tokens = 8
    reasoning_tokens = 56
    """What a format-following pair may add for reasoning: one short sentence about one shape."""

    def __init__(self, split: Split = "test") -> None:
        self.name = "easyvqa" if split == "test" else f"easyvqa_{split}"
        self.split = split

    @cached_property
    def version(self) -> str:
        """``<scoring version>-<hash of prompts, images and gold answers>``."""
        return f"{SCORING_VERSION}-{content_hash(self.samples())}"

    def samples(self) -> Sequence[Sample]:
        """All questions in a fixed shuffled order, so that every prefix is a random sample of the split."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        questions, answers, image_ids, paths = _load_split(self.split)
        images = {image_id: ImagePart(Path(path)) for image_id, path in paths.items()}
        samples = [
            _sample(f"{self.split}_{index:05d}", question, answer, image_id, images)
            for index, (question, answer, image_id) in enumerate(zip(questions, answers, image_ids, strict=True))
        ]
        return fixed_random_order(samples, f"easy-VQA {self.split}")

    def score(self, sample: Sample, response: str) -> Score:
        """1 when the answer found in the response is the gold word, else 0; never None."""
        found = extract_answer(response)
        if found.answer is None:
            return Score(0.0, rule=found.rule, reason="no answer found")
        decided = self.score_answer(sample, found.answer)
        return Score(decided.score, decided.answer, found.rule, decided.reason)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """1 when the answer, without case and edge punctuation, is the gold word."""
        word = normalize_word(answer)
        reason = None if word in ANSWERS else "not one of the 13 answers"
        return Score(float(word == sample.target), word, "word equality", reason)


def normalize_word(answer: str) -> str:
    """Lower case, without white space and punctuation at the edges; cut to 100 characters."""
    return answer.strip(_EDGE_PUNCTUATION).lower()[:100]


def question_kind(question: str, answer: str) -> str:
    """``shape``, ``color`` or ``yes/no``: what the question asks about."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "shape" if answer in SHAPES else "color"


def _sample(sample_id: str, question: str, answer: str, image_id: int, images: dict[int, ImagePart]) -> Sample:
    if image_id not in images:
        raise TaskDataError(f"easy-VQA {sample_id}: image {image_id} is not in the package; reinstall easy-vqa")
    text = re.sub(r"\s{1,9}", " ", question.strip())
    text = text[:1].upper() + text[1:]
    return Sample(
        sample_id=sample_id,
        chat=user_chat(images[image_id], f"{text}\n{INSTRUCTION}"),
        question=user_chat(images[image_id], text),
        target=answer,
        category={"kind": question_kind(question, answer)},
        group=f"image_{image_id}",
    )


def _load_split(split: Split) -> tuple[list[str], list[str], list[int], dict[int, str]]:
    try:
        import easy_vqa
    except ImportError as error:
        raise TaskDataError("the easy-vqa package is missing: pip install easy-vqa") from error
    if split == "test":
        return (*easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths())
    return (*easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths())
