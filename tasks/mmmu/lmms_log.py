"""What lmms-eval logs of an MMMU question: the parsed answers and the gold one, and no score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs_eval.tasks.mmmu.scoring import open_is_right
from specs_eval.tasks.mmmu.subjects import SUBJECTS, domain_of

NOTE = "scored from the answers that lmms-eval parsed; where it cannot parse one it draws a letter at random"


def logged_scores(value: Mapping[str, Any]) -> list[float] | None:
    """1 or 0 for each parsed answer, by the official rule; None where the mapping is not of MMMU.

    Args:
        value: with ``question_type``, ``answer`` and ``parsed_pred``. One response (before 0.6): a letter, or the list of
            candidates for an open question. Several: a list of these.
    """
    gold, predictions = value.get("answer"), value.get("parsed_pred")
    kind = value.get("question_type")
    if not isinstance(kind, str) or not isinstance(gold, str | list) or not isinstance(predictions, str | list):
        return None
    if kind == "multiple-choice":
        letters = [predictions] if isinstance(predictions, str) else predictions
        return [float(letter in gold if isinstance(gold, list) else letter == gold) for letter in letters]
    if isinstance(predictions, str):
        return None
    each = predictions if all(isinstance(one, list) for one in predictions) else [predictions]
    return [float(open_is_right(one, gold)) for one in each]


def logged_categories(value: Mapping[str, Any]) -> dict[str, str]:
    """Subject and domain as our own MMMU has them; empty where the mapping names no subject of MMMU."""
    subject = value.get("subdomain")
    return {"subject": subject, "domain": domain_of(subject)} if subject in SUBJECTS else {}
