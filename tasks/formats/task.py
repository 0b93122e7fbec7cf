"""Format-following pairs over any task: the same questions, asked for under the trained or a changed instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import overload

from specs_eval.chat import append_text, combined_digest
from specs_eval.task import JUDGE_FAILED, Sample, Score, Task
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.formats.styles import FORMATS, THINK_ANSWER, AnswerFormat
from specs_eval.tasks.profiles import judge_mark

SCORING_VERSION = 1
REASONING_TOKENS = 1024
"""Response budget that is added for reasoning, unless the base task says otherwise (`reasoning_tokens`)."""


class FormatTask:
    """A base task asked under one or several answer formats; one sample a question and format.

    The score is format following: 1 when the strict parser of the asked format accepts the response. Further metrics:
    ``format`` (the same), ``accuracy`` (the base task's scorer on the answer found in the response, in whatever form)
    and, under a changed instruction, ``lock_in`` (1 when the response is in the *trained* format instead).
    """

    def __init__(self, name: str, base: Task, styles: Sequence[AnswerFormat]) -> None:
        self.name = name
        self.base = base
        self.styles = tuple(styles)
        self.judge = getattr(base, "judge", None)
        self.scoring_threads = int(getattr(base, "scoring_threads", 1))
        self.max_new_tokens = base.max_new_tokens + int(getattr(base, "reasoning_tokens", REASONING_TOKENS))

    @cached_property
    def version(self) -> str:
        """Changes with the base task, the instructions and the parsers."""
        styles = [f"{style.name}\n{style.instruction}" for style in self.styles]
        return f"{SCORING_VERSION}{judge_mark(self.judge)}-{combined_digest([self.base.version, *styles])[:12]}"

    def samples(self) -> Sequence[Sample]:
        """Question by question, each under all formats: a prefix holds whole questions and all formats."""
        return _Asked(self.base.samples(), self.styles)

    def score(self, sample: Sample, response: str) -> Score:
        """Format following as the score, accuracy and lock-in beside it."""
        asked = FORMATS[sample.category["format"]]
        parsed = asked.parse(response)
        found = extract_answer(response, asked)
        judged = None if found.answer is None else self.base.score_answer(sample, found.answer)
        if judged is not None and judged.score is None:
            return judged if judged.rule == JUDGE_FAILED else replace(judged, rule=found.rule)
        metrics = {"format": float(parsed.ok), "accuracy": (judged.score or 0.0) if judged else 0.0}
        if asked is not THINK_ANSWER:
            metrics["lock_in"] = float(THINK_ANSWER.parse(response).ok)
        answer = judged.answer if judged else None
        return Score(metrics["format"], answer, found.rule, parsed.problem, metrics)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """The base task's judgement of an answer that was extracted already."""
        return self.base.score_answer(sample, answer)


class _Asked(Sequence[Sample]):
    """Every question under every format, made when looked at: a limit must not decode the whole benchmark."""

    def __init__(self, questions: Sequence[Sample], styles: tuple[AnswerFormat, ...]) -> None:
        self._questions, self._styles = questions, styles

    def __len__(self) -> int:
        return len(self._questions) * len(self._styles)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        question, style = divmod(index % len(self), len(self._styles))
        return _ask(self._questions[question], self._styles[style])


def _ask(sample: Sample, style: AnswerFormat) -> Sample:
    chat = append_text(sample.question or sample.chat, f"\n{style.instruction}")
    return replace(
        sample,
        sample_id=f"{sample.sample_id}/{style.name}",
        chat=chat,
        category={**sample.category, "format": style.name},
        group=sample.group or sample.sample_id,
    )
