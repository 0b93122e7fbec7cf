r"""Does the reasoning of a right response arrive at its answer?

By rules: the conclusion that the reasoning states is read as a reader would read it, and judged as an answer.

``agrees``       it is the answer
``contradicts``  it is firmly another one: another choice, another number, another of the answers that make sense
``silent``       none is stated, or it cannot be told

A right answer after reasoning that concludes otherwise teaches that reasoning does not matter. Silence is no such
lesson, and rules cannot read everything: by default silent responses stay, and are counted.

SPECS asks an external model instead (its judge, its prompt are not published); so can we.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from specs_eval.tasks.answers.canonical import canonical
from specs_eval.tasks.answers.choices import is_yes_no, mentions, named_letter, stated_yes_no
from specs_eval.tasks.answers.numbers import numbers_in, sentences
from specs_eval.tasks.answers.reading import FIRM_RULES, match_choice, read_choice, read_number, readable
from specs_eval.tasks.judge_questions import Question as JudgeQuestion
from specs_eval.training.questions.judging import equals_gold, judge_answer, plain, value_of
from specs_eval.training.questions.question import Question
from specs_eval.training.questions.task import neither_yes_nor_no, says_yes

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Agreement = Literal["agrees", "contradicts", "silent"]

_MENTIONED = "text: mentioned"
_STATED = re.compile(r"\banswer(?: to [^.\n]{0,80}?)?(?: is|:)\s{0,3}([^.\n]{1,80})", re.IGNORECASE)
_FIRM_LETTERS = ("letter: stated", "letter: bold")

_PROMPT = """Below are a question, a line of reasoning and an answer. Does the reasoning arrive at this answer?

Question: {question}
Reasoning: {reasoning}
Answer: {answer}

Reply with one word: Yes or No."""


def agreement(question: Question, reasoning: str) -> Agreement:
    """Whether the conclusion of the reasoning is the gold answer; for responses whose answer is right."""
    text = readable(reasoning)
    if question.kind == "choice":
        return _choice(question, text)
    if question.kind == "letter":
        return _letter(question, text)
    if question.kind == "number":
        return _number(question, text)
    return _word(question, text)


def asked_agreement(question: Question, reasoning: str, answer: str, judge: Judge) -> Agreement | None:
    """The judge's word; None: it gave none."""
    prompt = _PROMPT.format(question=question.stem, reasoning=reasoning[:20_000], answer=answer[:2_000])
    reply = judge.ask(JudgeQuestion(prompt, max_tokens=16, problem=neither_yes_nor_no))
    if reply.text is None:
        return None
    return "agrees" if says_yes(reply.text) else "contradicts"


def _choice(question: Question, text: str) -> Agreement:
    found = read_choice(text, question.choices)
    if not found.answered:
        return "silent"
    meant = match_choice(found.text, question.choices)
    if meant.index is not None and question.choices[meant.index] == question.answer:
        return "agrees"
    firm = not found.guessed and (found.rule in FIRM_RULES or found.rule == _MENTIONED)
    return "contradicts" if firm and meant.index is not None else "silent"


def _letter(question: Question, text: str) -> Agreement:
    named = named_letter(text, 26)
    if named is None:
        return "silent"
    if judge_answer(question, named.letter).score:
        return "agrees"
    return "contradicts" if named.rule in _FIRM_LETTERS and not named.several else "silent"


def _number(question: Question, text: str) -> Agreement:
    found = read_number(text)
    value = value_of(found.text) if found.answered else None
    if value is not None and equals_gold(question, value):
        return "agrees"
    values = [value_of(number.text) for number in numbers_in(text)]
    if any(known is not None and equals_gold(question, known) for known in values):
        # The number is there; whether it is the conclusion cannot be told unless another one is stated as the answer.
        return "contradicts" if found.rule in ("number: stated", "number: bold") else "agrees"
    plainly = value is not None and not found.guessed and "\\" not in question.answer
    return "contradicts" if plainly else "silent"


def _word(question: Question, text: str) -> Agreement:
    if is_yes_no(question.alternatives) or plain(question.answer) in ("yes", "no"):
        said = stated_yes_no(text)
        if said is None or not said.firm:
            return "silent"
        return "agrees" if said.word == plain(question.answer) else "contradicts"
    gold = plain(question.answer)
    for sentence in reversed(sentences(text)):
        named = {plain(question.alternatives[one.index]) for one in mentions(sentence, question.alternatives)}
        if named:
            return "agrees" if gold in named else "contradicts"
    stated = _STATED.findall(text)
    if stated and gold not in canonical(stated[-1]):
        return "contradicts"
    return "agrees" if gold and gold in canonical(text) else "silent"
