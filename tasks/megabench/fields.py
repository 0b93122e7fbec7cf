"""From parsed values to field scores and one score a query."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.limits import MAX_FIELD_CHARS
from specs_eval.tasks.megabench.literals import unquoted
from specs_eval.tasks.megabench.metrics.registry import (
    ANSWER_METRICS,
    CONTEXT_METRICS,
    JUDGE_METRICS,
    METRIC_ERRORS,
    PROGRAM_METRIC,
    UNSCORED_METRICS,
)
from specs_eval.tasks.megabench.parsing import Parsed

NOT_COUNTED = -1.0
"""Official score of a field or query that does not count; it adds 0 to the sum of its task and stays in its number."""


@dataclass(frozen=True, slots=True)
class FieldScore:
    """A metric's decision on one field."""

    score: float | None
    """Share in [0, 1]; `NOT_COUNTED`; None: could not be judged."""
    reason: str | None = None
    judge_failed: bool = False
    """Whether a judge was to decide and did not: then the whole query is unscored, and worth asking again."""


class FieldJudge(Protocol):
    """Who decides on a field of a judge metric."""

    def score(self, metric: str, value: Any, gold: Any) -> FieldScore:
        """The score of one field of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """What the metrics of one query need beside the answer."""

    gold: Mapping[str, Any]
    metrics: Mapping[str, str]
    """Field -> official metric name."""
    auxiliary: Mapping[str, str]
    """Names of metrics over the whole answer -> official metric name."""
    context: Mapping[str, Any]
    judge_scores: Mapping[str, Any]
    """Field -> recorded score of a judge; such a field is not judged again."""
    allow_code: bool = False
    judge: FieldJudge | None = None
    """None: the fields of judge metrics have only their recorded scores."""


def score_fields(parsed: Parsed, query: Query) -> dict[str, FieldScore]:
    """Score every gold field that has a metric, and then the auxiliary metrics on the whole answer."""
    scores: dict[str, FieldScore] = {}
    for field, gold in query.gold.items():
        metric = query.metrics.get(field)
        if metric is not None:
            scores[field] = _score_field(field, metric, _value_of(parsed, field, metric), gold, query)
    for field, metric in query.auxiliary.items():
        scores[field] = _score_field(field, metric, parsed.value, query.gold, query)
    return scores


def _value_of(parsed: Parsed, field: str, metric: str) -> Any:
    """The field of an answer; the whole of it where there are no fields or the metric judges all of them."""
    if metric == "constrained_generation" or isinstance(parsed.value, str):
        return parsed.value
    return parsed.value.get(field)


def _score_field(field: str, metric: str, value: Any, gold: Any, query: Query) -> FieldScore:
    if metric in JUDGE_METRICS:
        replayed = _replayed(field, query.judge_scores)
        if replayed.score is not None or query.judge is None:
            return replayed
        return query.judge.score(metric, value, unquoted(gold))
    if metric in UNSCORED_METRICS:
        return _network_metric(metric, value, gold)
    if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
        return FieldScore(0.0, f"answer too long ({len(value)} characters)")
    if metric == PROGRAM_METRIC:
        return _program(value, query)
    if metric in CONTEXT_METRICS:
        return _guarded(CONTEXT_METRICS[metric], value, query.context)
    if metric in ANSWER_METRICS:
        return _guarded(ANSWER_METRICS[metric], value, unquoted(gold))
    return FieldScore(None, f"unknown metric {metric!r:.60}")


def _guarded(metric: Callable[[Any, Any], float], value: Any, reference: Any) -> FieldScore:
    try:
        score = metric(value, reference)
    except ScoringError as error:
        return FieldScore(None, str(error))
    except METRIC_ERRORS as error:
        return FieldScore(0.0, f"answer of another form than the metric expects ({type(error).__name__})")
    if math.isnan(score):
        return FieldScore(NOT_COUNTED, "no number comes of the answer")
    return FieldScore(float(score))


def _replayed(field: str, judge_scores: Mapping[str, Any]) -> FieldScore:
    score = judge_scores.get(field)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        return FieldScore(None, "needs a judge")
    return FieldScore(float(score))


def says_something(value: Any, *, any_mark: bool = False) -> bool:
    """Whether a value holds any letter or digit, or is of another kind than text and not empty.

    Args:
        value: what was parsed for a field.
        any_mark: whether any visible character counts, as in a drawing.
    """
    if isinstance(value, str):
        return bool(value.strip()) if any_mark else any(map(str.isalnum, value))
    return value is not None and value not in ({}, [], ())


def _network_metric(metric: str, value: Any, gold: Any) -> FieldScore:
    """Metrics that ask a model or a map service, where not even those could give credit."""
    if metric == "nli_entailment" and (not isinstance(value, str) or isinstance(gold, str)):
        return FieldScore(0.0)  # quirk: the official code judges only gold answers that are not text
    if metric == "geo_proximity_location_dict" and not isinstance(value, Mapping):
        return FieldScore(0.0)
    return FieldScore(None, f"{metric} needs {UNSCORED_METRICS[metric]}")


def _program(value: Any, query: Query) -> FieldScore:
    if not query.allow_code:
        return FieldScore(None, "runs a program from the answer; allow it with --allow-code-execution")
    from specs_eval.tasks.megabench.metrics.programs import share_of_tests_passed

    return _guarded(share_of_tests_passed, value, query.context)


def aggregate(function: str | None, scores: Mapping[str, float], weights: Mapping[str, Any]) -> float:
    """One score from the scored fields, as officially: fields below 0 are left out.

    Args:
        function: ``mean`` (weighted) or ``min``.
        scores: field -> score.
        weights: field -> weight.

    Returns:
        Share in [0, 1]; `NOT_COUNTED` when no field counts.

    Raises:
        ScoringError: unknown function, or a field without a usable weight.
    """
    counted = {field: score for field, score in scores.items() if score >= 0}
    if function not in ("mean", "min"):
        raise ScoringError(f"unknown aggregation {function!r:.60}")
    if not counted:
        return NOT_COUNTED
    if function == "min":
        return min(counted.values())
    try:
        total = math.fsum(float(weights[field]) for field in counted)
        return math.fsum(score * float(weights[field]) for field, score in counted.items()) / total
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ScoringError(f"no usable weight of a field: {error}") from error
