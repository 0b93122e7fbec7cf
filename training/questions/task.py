"""Questions as a task: what the runner evaluates, what rewards score with, what distillation samples from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from specs_eval.errors import ConfigError
from specs_eval.task import JUDGE_FAILED, Sample, Score
from specs_eval.task_names import QUESTIONS_PREFIX
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.judge_questions import Question as JudgeQuestion
from specs_eval.tasks.profiles import judge_mark
from specs_eval.training.questions.judging import judge_answer
from specs_eval.training.questions.question import Question
from specs_eval.training.questions.reading import QuestionSet

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

SCORING_VERSION = 1

_PROMPT = """Does the answer say the same as the reference answer? Only the meaning counts, not the wording.

Question: {question}
Reference answer: {gold}
Answer: {answer}

Reply with one word: Yes or No."""


class QuestionTask:
    """A set of questions as a task; ``score_answer`` goes by the rules of `judge_answer`.

    With a judge, short free answers that the rules do not find equal are asked about; a judge that fails leaves the
    response unscored.
    """

    def __init__(self, questions: QuestionSet, judge: Judge | None = None) -> None:
        self.questions = questions
        self.name = f"{QUESTIONS_PREFIX}{questions.name}"
        self.judge = judge
        self.scoring_threads = 1 if judge is None else judge.options.concurrency
        self.max_new_tokens = questions.budget.answer_tokens
        self.reasoning_tokens = questions.budget.reasoning_tokens

    @property
    def version(self) -> str:
        """``<scoring version>-<hash of all questions, images and gold answers>``, whatever the limit."""
        return f"{SCORING_VERSION}{judge_mark(self.judge)}-{self.questions.content_hash}"

    def samples(self) -> Sequence[Sample]:
        """The questions in their fixed random order."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        return [_sample(question) for question in self.questions.questions]

    @cached_property
    def _by_id(self) -> dict[str, Question]:
        return {question.question_id: question for question in self.questions.questions}

    def question(self, sample: Sample) -> Question:
        """The question behind a sample of this task, or of a format-following view of it.

        Raises:
            ConfigError: the sample is of another task.
        """
        question_id = str(sample.meta.get("question_id", sample.sample_id))
        if question_id not in self._by_id:
            raise ConfigError(f"{self.name} has no question {question_id!r}; is the sample of another data set?")
        return self._by_id[question_id]

    def score(self, sample: Sample, response: str) -> Score:
        """Judge the answer found in a response; no answer is 0."""
        found = extract_answer(response)
        if found.answer is None:
            return Score(0.0, rule=found.rule, reason="no answer found")
        return self.score_answer(sample, found.answer)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """1 when the answer is right by the rules, or by the judge where there is one, else 0."""
        question = self.question(sample)
        decided = judge_answer(question, answer)
        if self.judge is None or question.kind != "text" or decided.score or not answer.strip():
            return decided
        prompt = _PROMPT.format(question=question.stem, gold=question.answer, answer=answer[:2_000])
        reply = self.judge.ask(JudgeQuestion(prompt, max_tokens=16, problem=neither_yes_nor_no))
        if reply.text is None:
            return Score(None, decided.answer, JUDGE_FAILED, reply.error or "the judge gave no reply")
        return Score(float(says_yes(reply.text)), decided.answer, f"judge {self.judge.options.model}")


def neither_yes_nor_no(reply: str) -> str | None:
    """Why a judge's reply is of no use, if so."""
    return None if reply.strip(" \t\r\n*\"'").lower().startswith(("yes", "no")) else "neither yes nor no"


def says_yes(reply: str) -> bool:
    """Whether a usable reply is a yes."""
    return reply.strip(" \t\r\n*\"'").lower().startswith("yes")


def _sample(question: Question) -> Sample:
    chat = question.chat()
    return Sample(
        sample_id=question.question_id,
        chat=chat,
        question=chat,
        target=question.answer,
        category={"kind": question.kind},
        group=question.group,
        meta={"question_id": question.question_id, "choices": list(question.choices)},
    )
