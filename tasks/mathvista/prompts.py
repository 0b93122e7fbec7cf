"""What MathVista asks: the official query text, and the question without its hint on the form of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from specs_eval.errors import TaskDataError

PromptStyle = Literal["query", "solution"]
"""``query``: the ``query`` column of the data set, hint first. ``solution``: what build_query.py makes, hint and
``Solution:`` last. The published outputs of vision-language models were made with the first."""

_HINTS = {
    ("text", None): "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    ("integer", None): "Please answer the question requiring an integer answer and provide the final value, e.g., 1, "
    "2, 3, at the end.",
    ("float", 1): "Please answer the question requiring a floating-point number with one decimal place and provide the "
    "final value, e.g., 1.2, 1.3, 1.4, at the end.",
    ("float", 2): "Please answer the question requiring a floating-point number with two decimal places and provide "
    "the final value, e.g., 1.23, 1.34, 1.45, at the end.",
    ("list", None): "Please answer the question requiring a Python list as an answer and provide the final list, e.g., "
    "[1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
_KINDS = {
    ("text", None): "The answer is the letter of an option.",
    ("integer", None): "The answer is an integer.",
    ("float", 1): "The answer is a number with one decimal place.",
    ("float", 2): "The answer is a number with two decimal places.",
    ("list", None): "The answer is a Python list.",
}


def build_prompt(record: Mapping[str, Any], style: PromptStyle = "query") -> str:
    """The official text of a question.

    Raises:
        TaskDataError: there is no hint for this kind of answer.
    """
    hint, body = f"Hint: {_of_kind(_HINTS, record)}", question_text(record)
    return f"{hint}\n{body}" if style == "query" else f"{body}\n{hint}\nSolution:"


def build_question(record: Mapping[str, Any]) -> str:
    """The question with what kind of answer it has, and nothing on how to write it."""
    return f"{question_text(record)}\n{_of_kind(_KINDS, record)}"


def question_text(record: Mapping[str, Any]) -> str:
    """Question, unit and choices: out of the ``query`` column where there is one.

    The two columns differ: some questions have placeholders (``N_0``) where the query has the numbers.
    """
    hint, _, body = str(record.get("query") or "").partition("\n")
    if hint.startswith("Hint: ") and body.startswith("Question: "):
        return body
    text = f"Question: {record['question']}"
    if record.get("unit"):
        text += f" (Unit: {record['unit']})"
    choices = record.get("choices")
    if choices:
        options = "\n".join(f"({chr(ord('A') + index)}) {choice}" for index, choice in enumerate(choices))
        text += f"\nChoices:\n{options}"
    return text


def _of_kind(texts: Mapping[tuple[str, int | None], str], record: Mapping[str, Any]) -> str:
    kind = "text" if record.get("question_type") == "multi_choice" else str(record.get("answer_type"))
    precision = record.get("precision")
    key = (kind, int(precision) if kind == "float" and precision is not None else None)
    if key not in texts:
        raise TaskDataError(f"MathVista {record.get('pid')}: no official hint for {kind} with precision {precision}")
    return texts[key]
