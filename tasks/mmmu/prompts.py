"""What MMMU and MMMU-Pro ask: the official texts, with the images where the text puts them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from specs_eval.chat import Chat, ImagePart, Part, user_chat
from specs_eval.errors import TaskDataError

logger = logging.getLogger(__name__)

ProMode = Literal["direct", "cot"]

_IMAGE = re.compile(r"<image (\d)>")
_MMMU_LETTER = "Answer with the option's letter from the given choices directly."
_MMMU_OPEN = "Answer the question using a single word or phrase."
_COT_FORMAT = (
    "The last line of your response should be of the following format: 'Answer: $LETTER' (without quotes) where LETTER "
    "is one of options."
)
PRO_STANDARD: dict[ProMode, str] = {
    "direct": "Answer with the option letter from the given choices directly.",
    "cot": f"Answer the preceding multiple choice question. {_COT_FORMAT} Think step by step before answering.",
}
PRO_VISION: dict[ProMode, str] = {
    "direct": f"Answer with the option letter from the given choices directly. {_COT_FORMAT}",
    "cot": f"Write out the multiple-choice question in the image and then solve it. {_COT_FORMAT} Think step by step "
    "before answering.",
}
LETTER_NOTE = "The answer is the letter of an option."
OPEN_NOTE = "The answer is a word, a short phrase or a number."
VISION_QUESTION = "The image shows a multiple-choice question."


def mmmu_prompt(question: str, options: Sequence[str]) -> str:
    """MMMU's text: the question, lettered options and how to answer."""
    if not options:
        return f"{question}\n\n{_MMMU_OPEN}"
    return f"{question}\n\n{mmmu_options(options)}\n\n\n{_MMMU_LETTER}"


def mmmu_options(options: Sequence[str]) -> str:
    """``(A) ...`` a line."""
    return "\n".join(f"({chr(ord('A') + index)}) {option}" for index, option in enumerate(options))


def pro_prompt(question: str, options: Sequence[str], mode: ProMode) -> str:
    """MMMU-Pro's text for the standard settings."""
    return f"{pro_question(question, options)}\n{PRO_STANDARD[mode]}"


def pro_question(question: str, options: Sequence[str]) -> str:
    """The question and ``A. ...`` a line."""
    lines = [f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options)]
    return "\n".join((question, *lines))


def interleaved_chat(text: str, images: Mapping[int, ImagePart], sample_id: str) -> Chat:
    """A chat with each ``<image N>`` of the text replaced by image N: in any order, as often as it is named.

    Images that the text does not name come first, in the order of their numbers. A tag without an image stays text,
    as in the official code.

    Raises:
        TaskDataError: the text names images and the record has none at all.
    """
    named = {int(number) for number in _IMAGE.findall(text)}
    if named and not images:
        raise TaskDataError(f"{sample_id}: the text names <image {min(named)}>, but the record has no image")
    if named - images.keys():
        logger.warning("%s: the text names images that the record does not have: %s", sample_id, named - images.keys())
    parts: list[str | Part] = [images[number] for number in sorted(images.keys() - named)]
    start = 0
    for tag in _IMAGE.finditer(text):
        number = int(tag.group(1))
        if number in images:
            parts += [text[start : tag.start()], images[number]]
            start = tag.end()
    parts.append(text[start:])
    return user_chat(*(part for part in parts if part != ""))
