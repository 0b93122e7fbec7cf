"""The documents of an lmms-eval task as samples: built when asked for, pictures kept out of memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, overload

from specs_eval.chat import Chat, ImagePart, LazyImage, Message, Part, TextPart, images_of, user_chat
from specs_eval.errors import GenerationError
from specs_eval.lmms_models.identity import DocNames
from specs_eval.lmms_models.messages import chat_from_messages
from specs_eval.task import Sample
from specs_eval.tasks.lmms.environment import running_lmms_eval
from specs_eval.tasks.lmms.images import lenient_images

logger = logging.getLogger(__name__)

CATEGORY_COLUMNS = (
    "category",
    "subcategory",
    "l2_category",
    "subject",
    "subfield",
    "topic",
    "skill",
    "task",
    "question_type",
    "answer_type",
    "difficulty",
)
"""Columns that are taken as categories where they hold few different short strings."""
MAX_CATEGORY_VALUES = 100
GROUP_COLUMNS = ("image_id", "imageId", "img_id", "image_name", "image_path", "figure_id")
"""Columns that say which questions share an image."""

_RENDERED_DOCS_KEPT = 2


class DocImage(LazyImage):
    """A picture of a document."""


class BrokenImage(DocImage):
    """Stands where a document cannot be shown; the backend records the rollouts as failed with the reason."""

    def __init__(self, reason: str) -> None:
        def render() -> ImagePart:
            raise GenerationError(reason)

        super().__init__(render, hashlib.sha256(b"unreadable document").hexdigest())


class DocSamples(Sequence[Sample]):
    """All samples of a task, in the order of its documents."""

    def __init__(self, task: Any, names: DocNames) -> None:
        self._task = task
        self._names = names
        self.docs = task.eval_docs
        self.plain_docs = getattr(task, "eval_docs_no_media", self.docs)
        """The documents without pictures where the task allows it: cheap to read."""
        self._built: dict[int, Sample] = {}
        self._render = lru_cache(maxsize=_RENDERED_DOCS_KEPT)(self._render_now)
        columns = {name: _texts(self.plain_docs, name) for name in (*CATEGORY_COLUMNS, *GROUP_COLUMNS)}
        self._categories = {
            name: values
            for name in CATEGORY_COLUMNS
            if (values := columns[name]) is not None and len(set(values)) <= MAX_CATEGORY_VALUES
        }
        shared = (columns[name] for name in GROUP_COLUMNS)
        self._groups = next((values for values in shared if values and len(set(values)) < len(values)), None)

    def __len__(self) -> int:
        return len(self._names.sample_ids)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._sample(number) for number in range(*index.indices(len(self)))]
        return self._sample(range(len(self))[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(number) for number in range(len(self)))

    def _sample(self, number: int) -> Sample:
        if number not in self._built:
            self._built[number] = self._build(number)
        return self._built[number]

    def _build(self, number: int) -> Sample:
        return Sample(
            sample_id=self._names.sample_ids[number],
            chat=self._chat(number),
            target=self.target(number),
            category={name: values[number] for name, values in self._categories.items()},
            group=None if self._groups is None else f"image_{self._groups[number]}",
            meta={"doc_id": number},
        )

    def _chat(self, number: int) -> Chat:
        try:
            chat = self._render(number)
        except Exception as error:  # noqa: BLE001 - the task's own code on one sample: a failed sample, not a failed run
            reason = f"the task cannot show document {number}: {type(error).__name__}: {error}"
            logger.warning("%s %s: %s", self._names.task, self._names.sample_ids[number], reason)
            return user_chat(BrokenImage(reason))
        counter = itertools.count()
        return tuple(
            Message(message.role, tuple(self._kept(part, number, counter) for part in message.parts))
            for message in chat
        )

    def _kept(self, part: Part, number: int, counter: Iterator[int]) -> Part:
        if isinstance(part, TextPart):
            return part
        place = next(counter)
        return DocImage(lambda: images_of(self._render(number))[place], part.digest)

    def _render_now(self, number: int) -> Chat:
        """The chat of a document as the task shows it to chat models, pictures decoded."""
        with running_lmms_eval(), lenient_images():
            doc = self.docs[number]
            if hasattr(self._task, "doc_to_messages"):
                return chat_from_messages(self._task.doc_to_messages(doc))
            images = [{"type": "image", "url": visual} for visual in self._task.doc_to_visual(doc) or ()]
            text = {"type": "text", "text": str(self._task.doc_to_text(doc))}
            return chat_from_messages([{"role": "user", "content": [*images, text]}])

    def target(self, number: int) -> str:
        """The gold answer as text, JSON where it is structured, empty where the task gives none."""
        gold = self._gold(number)
        return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False, default=str)

    def gold_response(self, number: int) -> str:
        """What a perfect response may look like: the gold answer, the first of several."""
        gold = self._gold(number)
        return str(gold[0] if isinstance(gold, list | tuple) and gold else gold)

    def _gold(self, number: int) -> Any:
        with running_lmms_eval():
            try:
                doc = self.plain_docs[number]
                gold = self._task.doc_to_target(doc)
                if isinstance(gold, int) and self._task.config.doc_to_choice is not None:
                    return self._task.doc_to_choice(doc)[gold]
            except Exception as error:  # noqa: BLE001 - some tasks have no target at all
                logger.debug("document %d has no target: %r", number, error)
                return ""
        return gold


def _texts(docs: Any, column: str) -> list[str] | None:
    """A column of short strings or whole numbers, as strings; None when it is anything else."""
    if column not in (getattr(docs, "column_names", None) or ()):
        return None
    values = list(docs[column])
    plain = all(isinstance(value, str | int) and not isinstance(value, bool) for value in values)
    return [str(value)[:200] for value in values] if plain else None
