"""Is a training question also an evaluation question? Compared by question text and image.

A question is dropped when an evaluation sample has one of its images (the same file) and the same question text, or a
text that holds the question's; or the same text and an image with the same pixels (stored in another way). Questions
without images are dropped for the same text alone. Questions that only share an image are counted and stay: whether
that leaks depends on what is asked.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from specs_eval.chat import ImagePart, images_of, text_of
from specs_eval.errors import GenerationError
from specs_eval.task import Sample, Task
from specs_eval.training.questions.question import Question

MIN_HELD_WORDS = 4
"""A question of fewer words must be the whole evaluation question: it would be part of many."""

_WORDS = re.compile(r"\w+")


@dataclass(slots=True)
class Contamination:
    """What the check found."""

    dropped: dict[str, str] = field(default_factory=dict)
    """Question id -> evaluation task that has it."""
    n_same_image: int = 0
    """Questions that stay and share an image with an evaluation sample."""
    n_evaluation: dict[str, int] = field(default_factory=dict)
    """Evaluation task -> its samples that were compared."""


def normalized(text: str) -> str:
    """The words of a text: one spelling of characters, lower case, without punctuation and image marks."""
    plain = unicodedata.normalize("NFKC", text.replace("<image>", " ")).casefold()
    return " ".join(_WORDS.findall(plain))


def find_contamination(questions: Sequence[Question], tasks: Iterable[Task]) -> Contamination:
    """Which questions occur in evaluation tasks."""
    found = Contamination()
    sharing: set[str] = set()
    for task in tasks:
        samples = task.samples()
        known = _Known(samples)
        found.n_evaluation[task.name] = len(samples)
        for question in questions:
            if question.question_id in found.dropped:
                continue
            if known.has(question):
                found.dropped[question.question_id] = task.name
            elif any(image.digest in known.by_image for image in question.images):
                sharing.add(question.question_id)
    found.n_same_image = len(sharing - found.dropped.keys())
    return found


class _Known:
    """The questions of one evaluation task."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.by_image: dict[str, set[str]] = {}
        self.by_text: dict[str, list[ImagePart]] = {}
        self._pixels: dict[str, str | None] = {}
        for sample in samples:
            images = images_of(sample.chat)
            for text in {normalized(text_of(chat)) for chat in (sample.question or sample.chat, sample.chat)}:
                self.by_text.setdefault(text, []).extend(images)
                for image in images:
                    self.by_image.setdefault(image.digest, set()).add(text)

    def has(self, question: Question) -> bool:
        """Whether the question is one of these."""
        text, asked = normalized(question.stem), normalized(text_of(question.chat()))
        for image in question.images:
            if any(_same(text, asked, other) for other in self.by_image.get(image.digest, ())):
                return True
        matching = [self.by_text[one] for one in {text, asked} if one in self.by_text]
        if not question.images:
            return bool(matching)
        pixels = {self._pixels_of(image) for image in question.images} - {None} if matching else set()
        return any(self._pixels_of(image) in pixels for images in matching for image in images)

    def _pixels_of(self, image: ImagePart) -> str | None:
        """Digest of the decoded picture; None: it does not decode."""
        if image.digest not in self._pixels:
            try:
                picture = image.load()
                facts = f"{picture.size}".encode() + picture.tobytes()
                self._pixels[image.digest] = hashlib.sha256(facts).hexdigest()
            except GenerationError:
                self._pixels[image.digest] = None
        return self._pixels[image.digest]


def _same(text: str, asked: str, other: str) -> bool:
    if other in (text, asked):
        return True
    return text.count(" ") + 1 >= MIN_HELD_WORDS and f" {text} " in f" {other} "
