r"""The column layouts of known question sets, each as a function from a row to a question.

orsta      Orsta-47K (hub: One-RL-to-See-Them-All/Orsta-Data-47k, arXiv 2505.18129), Parquet. Columns as the hub's
           schema is quoted in public training code: ``images`` (list of images), ``prompt`` (list of {content, role},
           ``<image>`` marks), ``reward_model`` {answer, ground_truth, verifier, ...}, ``data_source``, ``ability``,
           ``extra_info`` {id, image_path}. Rows with the verifier ``detection`` are left out: boxes are not judged.
virl       ViRL-39K (hub: TIGER-Lab/ViRL39K, arXiv 2504.08837), Parquet. Columns as its card and public training code
           name them: ``question`` (with ``<image>`` marks), ``answer`` (in ``\boxed{}``), ``image`` (list of paths under
           the folder of the file), ``qid``, ``category``, ``source``, ``PassRate_32BTrained``, ``PassRate_7BBase``.
mathvista  records of MathVista: ``question``, ``answer``, ``choices``, ``question_type``, ``answer_type``, ``precision``,
           ``unit``, ``image`` or ``decoded_image``, ``pid``. JSON or Parquet.
jsonl      ours, plain: ``question``, ``answer``; optional ``images`` (paths beside the file), ``choices``, ``id``,
           ``group``, ``alternatives``, ``decimals``.

Neither of the first two data sets was at hand: their layouts are tested on files that we made by these descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specs_eval.tasks.answers.choices import lone_letter
from specs_eval.training.questions.judging import unboxed, value_of
from specs_eval.training.questions.question import AnswerKind, Question, UnusableQuestion
from specs_eval.training.questions.reading import Row, read_images

_ANSWER_TAGS = re.compile(r"\s{0,9}<answer>([^<]{0,2000})</answer>\s{0,9}")
_MAX_DECIMALS = 15
"""Decimal places that a record may ask for at most."""


def orsta(row: Row, root: Path, number: str) -> Question:
    """A row of Orsta-47K."""
    reward = _mapping(row.get("reward_model"))
    if reward.get("verifier") == "detection":
        raise UnusableQuestion("boxes to detect: not judged by rule")
    turns = row.get("prompt")
    texts = [str(_mapping(turn).get("content") or "") for turn in turns or () if _mapping(turn).get("role") == "user"]
    extra = _mapping(row.get("extra_info"))
    gold = _text(reward.get("ground_truth")) or _text(reward.get("answer"))
    tagged = _ANSWER_TAGS.fullmatch(gold)
    return _with_plain_gold(
        f"{_text(row.get('data_source')) or 'orsta'}_{_text(extra.get('id')) or number}",
        texts[-1] if texts else "",
        tagged.group(1) if tagged else gold,
        row.get("images"),
        root,
    )


def virl(row: Row, root: Path, number: str) -> Question:
    """A row of ViRL-39K."""
    images = row.get("image") if row.get("image") is not None else row.get("images")
    question_id = _text(row.get("qid")) or _text(row.get("id")) or number
    return _with_plain_gold(question_id, _text(row.get("question")), _text(row.get("answer")), images, root)


def mathvista(row: Row, root: Path, number: str) -> Question:
    """A record in MathVista's form."""
    decoded = row.get("decoded_image")
    images = read_images(decoded if decoded is not None else row.get("image"), root)
    choices = _texts(row.get("choices")) if row.get("question_type") == "multi_choice" else ()
    gold, answer_type = _text(row.get("answer")), row.get("answer_type")
    kind: AnswerKind = "choice" if choices else "number" if answer_type in ("integer", "float") else "text"
    if choices and gold not in choices and lone_letter(gold) and ord(gold.strip("()").upper()) - 65 < len(choices):
        gold = choices[ord(gold.strip("()").upper()) - 65]
    if kind == "number" and value_of(gold) is None:
        raise UnusableQuestion("the gold answer is not the number that it should be")
    return Question(
        question_id=_text(row.get("pid")) or number,
        text=_text(row.get("question")) + (f" (Unit: {row['unit']})" if row.get("unit") else ""),
        images=images,
        answer=gold,
        kind=kind,
        choices=choices,
        decimals=_decimals(row.get("precision")) if answer_type == "float" else None,
    )


def jsonl(row: Row, root: Path, number: str) -> Question:
    """A line of the plain format."""
    choices, gold = _texts(row.get("choices")), _text(row.get("answer"))
    images = read_images(row.get("images") if row.get("images") is not None else row.get("image"), root)
    if choices and gold not in choices:
        letter = lone_letter(gold)
        if letter is None or ord(letter) - 65 >= len(choices):
            raise UnusableQuestion("the gold answer is none of the choices")
        gold = choices[ord(letter) - 65]
    return Question(
        question_id=_text(row.get("id")) or number,
        text=_text(row.get("question")),
        images=images,
        answer=gold,
        kind="choice" if choices else "number" if value_of(gold) is not None else "text",
        choices=choices,
        alternatives=_texts(row.get("alternatives")),
        decimals=_decimals(row.get("decimals")),
        group=_text(row.get("group")) or None,
    )


def _with_plain_gold(question_id: str, text: str, gold: str, images: object, root: Path) -> Question:
    """A question whose gold is a text that may be an option letter, a number or anything short."""
    answer = unboxed(gold).strip()
    letter = lone_letter(answer) if len(answer) <= 4 else None
    kind: AnswerKind = "text"
    if letter is not None and _lists_options(text):
        kind, answer = "letter", letter
    elif value_of(answer) is not None:
        kind = "number"
    return Question(question_id, text, read_images(images, root), answer, kind)


def _lists_options(text: str) -> bool:
    """Whether a question lists at least the options A and B."""
    return all(re.search(rf"(?:^|[\s(]){letter}[.):：、]", text) is not None for letter in "AB")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None or isinstance(value, (dict, list)) else str(value).strip()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _decimals(value: object) -> int | None:
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer()
    return min(int(value), _MAX_DECIMALS) if whole and value >= 0 else None  # type: ignore[operator, call-overload]
