"""A MathVista response judged under a profile: extraction, normalisation and equality put together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specs_eval.task import JUDGE_FAILED, Score
from specs_eval.tasks.answers.canonical import canonical
from specs_eval.tasks.answers.numbers import NUMBER_WORDS
from specs_eval.tasks.answers.reading import FIRM_RULES, match_choice
from specs_eval.tasks.answers.refusals import is_no_answer
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.formats.styles import AnswerFormat
from specs_eval.tasks.mathvista.extraction import extract, own_part
from specs_eval.tasks.mathvista.scoring import Problem, decide, normalise, plain_text, quick_extraction
from specs_eval.tasks.profiles import NO_ANSWER

if TYPE_CHECKING:
    from specs_eval.tasks.judging import JudgeReply

FREE_CREDIT = "no answer; the official code counts the choice nearest to nothing"
NAMES_NO_CHOICE = "the answer is none of the choices"
NOT_OF_TYPE = "the answer is not of the asked type"
MAX_ANSWER_CHARS = 2_000
"""An answer is stored up to this length."""

_FRACTION = re.compile(
    r"\s{0,9}(?:\$|\\\()?\s{0,9}(-?)(?:\\d?frac\{(\d{1,15})\}\{(\d{1,15})\}|(\d{1,15})\s?/\s?(\d{1,15}))[$\s\\).]{0,9}"
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a response was taken to say."""

    text: object
    rule: str
    answered: bool = True


def official_extraction(text: str, problem: Problem) -> Extraction:
    """The official extraction where it is a rule, else `extract` in place of GPT-4."""
    quick = quick_extraction(text, problem)
    if quick is not None:
        return Extraction(quick.text, quick.rule, answered=bool(quick.text.strip()))
    found = extract(text, problem)
    return Extraction(found.text, f"rules: {found.rule}", found.answered)


def score_official(extraction: Extraction, problem: Problem) -> Score:
    """The official decision on an extraction; credit for no answer is counted and flagged."""
    decision = decide(extraction.text, problem)
    typed = (plain_text(extraction.text) or "")[:MAX_ANSWER_CHARS] if decision.unread else ""
    answered = extraction.answered and not (decision.unread and is_no_answer(typed))
    free = decision.correct and not answered
    metrics = {"no_answer": float(not answered), "free_credit": float(free)}
    reason = None if answered else FREE_CREDIT if free else NO_ANSWER
    rule = f"official: {extraction.rule}, {decision.rule}"
    if reason is None and decision.prediction is None:
        reason = NOT_OF_TYPE
    return Score(float(decision.correct), _stored(decision.prediction), rule, reason, metrics)


def score_judged(reply: JudgeReply, model: str, problem: Problem) -> Score:
    """The official decision on what a judge typed as the answer; None when it typed nothing."""
    if reply.text is None:
        return Score(None, rule=JUDGE_FAILED, reason=reply.error or "the judge gave no reply")
    return score_official(Extraction(reply.text, f"judge {model}"), problem)


def score_reasoning(text: str, problem: Problem, asked: AnswerFormat | None = None) -> Score:
    """The answer in the asked format, in any known one, or by the plain rules; no answer earns nothing."""
    found = extract_answer(text, asked)
    if found.answer is not None and found.rule != "whole response":
        score = score_answer(found.answer, problem)
        return Score(score.score, score.answer, f"reasoning: {found.rule}, {score.rule}", score.reason, score.metrics)
    score = score_answer(text, problem)
    return Score(score.score, score.answer, f"reasoning: {score.rule}", score.reason, score.metrics)


def score_answer(answer: str, problem: Problem) -> Score:
    """Judge an answer that was found already, without any official quirk that pays for no answer."""
    prediction, rule = _answer_of(answer, problem)
    if prediction is None:
        reason = NO_ANSWER if rule == NO_ANSWER else NAMES_NO_CHOICE if problem.multiple_choice else NOT_OF_TYPE
        return Score(0.0, None, rule, reason, {"no_answer": 1.0})
    return Score(float(prediction == _comparable_gold(problem)), _stored(prediction), rule, None, {"no_answer": 0.0})


def _answer_of(answer: str, problem: Problem) -> tuple[str | None, str]:
    if not answer.strip():
        return None, NO_ANSWER
    if problem.multiple_choice:
        return _choice_of(answer, problem)
    if problem.answer_type == "list":
        return _list_of(answer, problem)
    if problem.answer_type not in ("integer", "float"):
        return canonical(answer[:MAX_ANSWER_CHARS]), "text"
    return _number_of(answer, problem)


def _choice_of(answer: str, problem: Problem) -> tuple[str | None, str]:
    own = own_part(answer)
    match = match_choice(answer if own is None else own, problem.choices)
    if own is not None and (not match.answered or match.rule not in FIRM_RULES):
        match = match_choice(answer, problem.choices)
    if not match.answered:
        return None, NO_ANSWER
    return None if match.index is None else problem.choices[match.index], match.rule


def _number_of(answer: str, problem: Problem) -> tuple[str | None, str]:
    word = answer.strip(" \t\r\n.").lower()
    if word in NUMBER_WORDS and word != "no":
        return normalise(NUMBER_WORDS[word], problem)[0], "number word"
    fraction = _FRACTION.fullmatch(answer) if len(answer) <= 100 else None
    if fraction is not None:
        return normalise(_quotient(fraction), problem)[0], "fraction"
    plain, rule = normalise(answer, problem)
    if plain is not None:
        return plain, rule
    own = own_part(answer)
    found = extract(answer if own is None else own, problem)
    if own is not None and found.rule not in FIRM_RULES:
        found = extract(answer, problem)
    if not found.answered or found.guessed:
        return None, NO_ANSWER
    part = _FRACTION.fullmatch(found.text) if len(found.text) <= 100 else None
    return normalise(found.text if part is None else _quotient(part), problem)[0], found.rule


def _quotient(fraction: re.Match[str]) -> str | None:
    """The value of a matched fraction as Python prints it; None: it has none."""
    numerator, denominator = (int(part) for part in fraction.groups()[1:] if part)
    return f"{fraction.group(1)}{numerator / denominator!r}" if denominator else None


def _list_of(answer: str, problem: Problem) -> tuple[str | None, str]:
    found = extract(answer, problem)
    return (canonical(found.text), found.rule) if found.answered and not found.guessed else (None, NO_ANSWER)


def _comparable_gold(problem: Problem) -> str | None:
    """The gold in the form in which predictions are compared: ``0.20`` and ``0.2`` are one float."""
    gold = problem.gold
    if problem.multiple_choice or not isinstance(gold, str):
        return gold if isinstance(gold, str) else str(gold)
    if problem.answer_type in ("integer", "float"):
        return normalise(gold, problem)[0]
    return canonical(gold)


def _stored(prediction: str | None) -> str | None:
    return None if prediction is None else prediction[:MAX_ANSWER_CHARS]
