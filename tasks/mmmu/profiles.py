"""An MMMU or MMMU-Pro response judged under a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specs_eval.task import Score
from specs_eval.tasks.answers.reading import match_choice
from specs_eval.tasks.answers.refusals import is_no_answer
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.formats.styles import AnswerFormat
from specs_eval.tasks.mmmu.scoring import (
    chance_credit,
    letter_is_right,
    normalise_open,
    open_is_right,
    option_letters,
    parse_letter,
    parse_letter_pro,
    parse_open,
)
from specs_eval.tasks.profiles import NO_ANSWER, UnusableRecordError

Parser = Literal["mmmu", "mmmu_pro"]

RANDOM_DRAW = f"{NO_ANSWER}; the official code draws a letter at random"
FREE_CREDIT = "no answer; the official code reads an option into it"
NAMES_NO_OPTION = "the answer is none of the options"
MAX_REFUSAL_CHARS = 200
"""A longer response is not looked at for being a refusal."""
MAX_ANSWER_CHARS = 2_000
"""An answer is stored up to this length."""


_ANSWERED = {"no_answer": 0.0, "free_credit": 0.0, "chance_credit": 0.0}


@dataclass(frozen=True, slots=True)
class Question:
    """What scoring needs to know of a question."""

    gold: object
    """A letter for a multiple-choice question, else text; or a list of them, any of which is right."""
    options: tuple[str, ...] = ()
    """Empty for an open question."""
    parser: Parser = "mmmu"
    """Whose rules the official profile goes by."""

    @property
    def multiple_choice(self) -> bool:
        """Whether one of `options` is the answer."""
        return bool(self.options)


def score_official(response: str, question: Question) -> Score:
    """The official parse and comparison; a response that nothing was parsed from is 0, with the chance beside it.

    Metrics: ``no_answer``; ``free_credit``, what a quirk gives to a short refusal; and ``chance_credit``: what a random draw earns on average where the official code makes
    one. The mean score plus the mean chance credit is the official expected accuracy.
    """
    if not question.multiple_choice:
        predictions = parse_open(response)
        right = open_is_right(predictions, question.gold)
        answer = "; ".join(str(item) for item in predictions)[:MAX_ANSWER_CHARS]
        return _official(right, answer, "official: open", response)
    parse = parse_letter_pro if question.parser == "mmmu_pro" else parse_letter
    parsed = parse(response, question.options)
    rule = f"official: {parsed.rule}"
    if parsed.letter is None:
        chance = chance_credit(question.gold, len(question.options))
        return Score(0.0, None, rule, RANDOM_DRAW, {"no_answer": 1.0, "free_credit": 0.0, "chance_credit": chance})
    return _official(letter_is_right(parsed.letter, question.gold), parsed.letter, rule, response)


def _official(right: bool, answer: str, rule: str, response: str) -> Score:
    """A parsed response; one that only says that it cannot answer is counted as such, whatever letter was read."""
    silent = not response.strip() or (len(response) <= MAX_REFUSAL_CHARS and is_no_answer(response))
    metrics = {"no_answer": float(silent), "free_credit": float(silent and right), "chance_credit": 0.0}
    return Score(float(right), answer, rule, (FREE_CREDIT if right else NO_ANSWER) if silent else None, metrics)


def score_recorded(extraction: object, question: Question) -> Score:
    """The official comparison of an extraction that was recorded: a letter, or a list of candidates."""
    if question.multiple_choice:
        right = letter_is_right(extraction if isinstance(extraction, str) else None, question.gold)
    else:
        right = open_is_right(extraction if isinstance(extraction, list) else [extraction], question.gold)
    answer = None if extraction is None else str(extraction)[:MAX_ANSWER_CHARS]
    return Score(float(right), answer, "official: recorded extraction", None, dict(_ANSWERED))


def score_reasoning(response: str, question: Question, asked: AnswerFormat | None = None) -> Score:
    """The answer in the asked format, in any known one, or by the plain rules; no answer earns nothing."""
    found = extract_answer(response, asked)
    marked = found.answer is not None and found.rule != "whole response"
    score = score_answer(found.answer if marked and found.answer is not None else response, question)
    rule = f"reasoning: {found.rule}, {score.rule}" if marked else f"reasoning: {score.rule}"
    return Score(score.score, score.answer, rule, score.reason, score.metrics)


def score_answer(answer: str, question: Question) -> Score:
    """Judge an answer that was found already."""
    if not answer.strip():
        return Score(0.0, None, NO_ANSWER, NO_ANSWER, {"no_answer": 1.0})
    if not question.multiple_choice:
        return _score_open_answer(answer, question)
    if letter_is_right(answer.strip(), question.gold):
        return Score(1.0, answer.strip(), "letter", None, {"no_answer": 0.0})
    match = match_choice(answer, question.options)
    if match.index is None:
        reason = NAMES_NO_OPTION if match.answered else NO_ANSWER
        return Score(0.0, None, match.rule, reason, {"no_answer": 1.0})
    letter = option_letters(len(question.options))[match.index]
    return Score(float(letter_is_right(letter, question.gold)), letter, match.rule, None, {"no_answer": 0.0})


def _score_open_answer(answer: str, question: Question) -> Score:
    """The official comparison, where a refusal that happens to hold the gold's letters is no answer."""
    text = answer[-MAX_ANSWER_CHARS:].strip()
    golds = question.gold if isinstance(question.gold, (list, tuple)) else [question.gold]
    same = normalise_open(text) in [normalise_open(str(gold)) for gold in golds]
    if not same and is_no_answer(text):
        return Score(0.0, None, NO_ANSWER, NO_ANSWER, {"no_answer": 1.0})
    right = same or open_is_right([*normalise_open(text), *parse_open(answer)], question.gold)
    return Score(float(right), text, "open", None, {"no_answer": 0.0})


def parse_question(facts: Mapping[str, object], parser: Parser) -> Question:
    """A question from the fields of a stored row.

    Raises:
        UnusableRecordError: a field is missing or of the wrong kind; the text says which.
    """
    gold = facts.get("gold")
    if gold is None or not isinstance(gold, (str, list)):
        raise UnusableRecordError(f"gold must be a string or a list of strings, not {gold!r:.80}")
    listed, kind = facts.get("choices"), facts.get("question_type")
    if kind in ("multiple-choice", "multi_choice", None) and isinstance(listed, (list, tuple)) and listed:
        return Question(gold, tuple(map(str, listed)), parser)
    if kind in ("short-answer", "open"):
        return Question(gold, (), parser)
    raise UnusableRecordError("a multiple-choice question needs choices; question_type must be multiple-choice or open")
