"""One training question: what is shown and asked, and what is right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from specs_eval.chat import Chat, ImagePart, Part, TextPart, user_chat

AnswerKind = Literal["choice", "letter", "number", "text"]
"""``choice``: one of `Question.choices`; ``letter``: an option letter, the options stand in the text; ``number``;
``text``: anything else, equal but for case, spacing and mathematical spelling."""

IMAGE_MARK = "<image>"
"""Where an image stands in a question's text; without marks images come first."""


class UnusableQuestion(ValueError):
    """A row that gives no question; its text is the reason under which such rows are counted."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with a verifiable answer. Builds the chat that is asked; holds all that judging needs.

    Raises:
        UnusableQuestion: it has no text or no gold answer, or its image marks do not fit its images.
    """

    question_id: str
    """Unique within its source."""
    text: str
    images: tuple[ImagePart, ...]
    answer: str
    """The gold answer: for ``choice`` the text of the right choice."""
    kind: AnswerKind = "text"
    choices: tuple[str, ...] = ()
    """Shown lettered from A under the question."""
    alternatives: tuple[str, ...] = ()
    """All answers that make sense, where they are known; not shown. Reasoning that concludes with another one of them
    contradicts the answer."""
    decimals: int | None = None
    """Decimal places at which a number is compared; None: those of the gold answer, exactly where it has none."""
    group: str | None = None
    """What belongs together beyond the images: such questions stay on one side of a split."""

    def __post_init__(self) -> None:
        if not self.text.replace(IMAGE_MARK, "").strip():
            raise UnusableQuestion("no question text")
        if not self.answer.strip():
            raise UnusableQuestion("no gold answer")
        if self.kind == "choice" and self.answer not in self.choices:
            raise UnusableQuestion("the gold answer is none of the choices")
        marks = self.text.count(IMAGE_MARK)
        if marks not in (0, len(self.images)):
            raise UnusableQuestion("the text has other image marks than the row has images")

    def chat(self) -> Chat:
        """The question as a chat of one user turn, without any instruction on the form of the answer."""
        options = "".join(f"\n({chr(65 + index)}) {choice}" for index, choice in enumerate(self.choices))
        pieces = self.text.split(IMAGE_MARK)
        if len(pieces) == 1:
            return user_chat(*self.images, self.text.strip() + options)
        parts: list[Part] = []
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            text = piece.strip() + (options if last else "")
            parts += [TextPart(text)] if text else []
            parts += [] if last else [self.images[index]]
        return user_chat(*parts)

    @property
    def stem(self) -> str:
        """The question's words alone: no image marks, no options."""
        return re.sub(r"\s{1,50}", " ", self.text.replace(IMAGE_MARK, " ")).strip()
