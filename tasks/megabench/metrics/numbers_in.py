"""Numbers: relative difference, counts and root mean square errors."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np

from specs_eval.tasks.megabench.literals import literal, to_container

NOT_COUNTED = -1.0
"""Score of a field that the official aggregation leaves out."""

MAX_ERROR = 0.1
MAX_ANGLE_ERROR = 10.0


def relative_closeness(response: Any, gold: Any) -> float:
    """max(0, 1 - |answer - gold| / |gold|)."""
    answer = response if isinstance(response, Number) else literal(response)
    if not isinstance(answer, Number):
        return 0.0
    wanted = literal(gold)
    return float(max(0, 1 - math.fabs((answer - wanted) / wanted)))


def positive_count(response: Any, gold: Any) -> float:
    """Equality of two counts; -1 (not counted) where neither is positive."""
    answer = literal(response)
    if not gold:
        return 0.0
    wanted = literal(gold)
    if not isinstance(wanted, int) or not isinstance(answer, int):
        return 0.0
    if wanted <= 0 and answer <= 0:
        return NOT_COUNTED
    return float(answer == wanted)


def closeness_of_numbers(response: Any, gold: Any) -> float:
    """1 - |answer - gold| / 0.1, within [0, 1]."""
    squared = (literal(response) - literal(gold)) ** 2
    if not isinstance(squared, (int, float)) or (isinstance(squared, int) and squared >= 2**64):
        return 0.0  # numpy has no square root for them
    error = min(max(math.sqrt(squared), 0.0), MAX_ERROR)
    return float(1 - error / MAX_ERROR)


def closeness_of_angles(response: Any, gold: Any) -> float:
    """1 - mean absolute error / 10 of two sequences of numbers, within [0, 1]; 0 for another length."""
    answered, wanted = to_container(list, response), to_container(list, gold)
    if len(answered) != len(wanted) or not wanted:
        return 0.0
    with np.errstate(all="ignore"):
        errors = np.sqrt((np.array(answered) - np.array(wanted)) ** 2)
        error = np.clip(errors.sum() / len(wanted), 0.0, MAX_ANGLE_ERROR)
        score = 1 - error / MAX_ANGLE_ERROR
    return 0.0 if np.iscomplexobj(score) or math.isnan(score) else float(score)
