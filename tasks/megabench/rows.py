"""Scoring rows of outputs that exist already."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from specs_eval.errors import ScoringError
from specs_eval.task import JUDGE_FAILED
from specs_eval.tasks.formats.extraction import extract_answer
from specs_eval.tasks.megabench.fields import FieldScore, Query, aggregate, says_something, score_fields
from specs_eval.tasks.megabench.literals import LITERAL_ERRORS, stable_text
from specs_eval.tasks.megabench.metrics.registry import ASCII_ART_METRIC
from specs_eval.tasks.megabench.parsing import SINGLE_FIELD_PARSERS, Parsed, parse_response

if TYPE_CHECKING:
    from specs_eval.tasks.profiles import Profile
    from specs_eval.tasks.rows import RowJudge, ScoredRow, Source

MAX_WRITTEN_CHARS = 2_000
NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class QueryScore:
    """The score of one query and how it came about."""

    score: float | None
    """Share in [0, 1]; -1: the official code does not count the query (0 in its task's sum); None: unscored."""
    fields: Mapping[str, FieldScore]
    parsed: Parsed
    reason: str | None = None

    @property
    def judge_failed(self) -> bool:
        """Whether only a judge stood between the answer and its score."""
        return any(field.judge_failed for field in self.fields.values())

    @property
    def coverage(self) -> float:
        """Share of the fields that could be scored, in [0, 1]."""
        scored = sum(field.score is not None for field in self.fields.values())
        return scored / len(self.fields) if self.fields else 0.0


def score_row(
    row: Mapping[str, Any],
    *,
    source: Source = "auto",
    profile: Profile = "official",
    allow_code: bool = False,
    judge: RowJudge | None = None,
) -> ScoredRow:
    """Score a row with the columns response (or official_extraction), gold, metric_config, eval_context, judge_scores.

    Args:
        row: the row; columns that hold dictionaries may also hold their text.
        source: what to score: the response, or the extraction that was recorded; ``auto`` is the response (every
            MEGA-Bench parser is a rule) or, where there is none, the extraction.
        profile: ``reasoning`` takes the answer from the asked format first and gives nothing for no answer.
        allow_code: whether programs in answers may run, in a sandbox.
        judge: asked about the fields of judge metrics without a recorded score, or about all of them when the response
            is to be scored (``source="response"``).

    Returns:
        The score, or None with a reason; never raises for a bad row. ``-1`` where the official code does not count it.
    """
    from specs_eval.tasks.rows import ScoredRow, unscored

    try:
        query, config = _query(row, allow_code)
        if judge is not None:
            query = _with_judge(query, row, config, judge, source, profile)
        parsed, rule = _parsed(row, source, profile, query, config)
        result = score_parsed(parsed, query, config)
        if profile == "reasoning":
            result = silenced(result, query)
    except (ScoringError, *LITERAL_ERRORS) as error:
        return unscored(row, str(error))
    return ScoredRow(
        benchmark="megabench",
        model=str(row.get("model", "")),
        sample_id=str(row.get("sample_id", "")),
        score=result.score,
        field_scores={field: score.score for field, score in result.fields.items()},
        extracted=written(result.parsed.value),
        rule=JUDGE_FAILED if result.judge_failed else f"{profile}:{rule}",
        reason=result.reason,
        metrics=answer_metrics(result, query, profile),
    )


def score_parsed(parsed: Parsed, query: Query, config: Mapping[str, Any]) -> QueryScore:
    """Score what a parser found.

    Raises:
        ScoringError: the task's configuration cannot be used.
    """
    fields = score_fields(parsed, query)
    scored = {field: score.score for field, score in fields.items() if score.score is not None}
    if not scored or any(score.judge_failed for score in fields.values()):
        reasons = dict.fromkeys(score.reason or "unscored" for score in fields.values() if score.score is None)
        return QueryScore(None, fields, parsed, "; ".join(reasons) or "the task has no metric")
    aggregation = config.get("aggregation") or {}
    score = aggregate(aggregation.get("function"), scored, aggregation.get("field_weights") or {})
    return QueryScore(score, fields, parsed, _reason(parsed, fields))


def _reason(parsed: Parsed, fields: Mapping[str, FieldScore]) -> str | None:
    reasons = [f"{field}: {score.reason}" for field, score in fields.items() if score.reason is not None]
    unscored = sum(score.score is None for score in fields.values())
    if unscored:
        reasons.insert(0, f"{len(fields) - unscored} of {len(fields)} fields scored")
    if not parsed.ok:
        reasons.insert(0, "no JSON object found; every field holds the whole response")
    return "; ".join(reasons)[:MAX_WRITTEN_CHARS] or None


def _query(row: Mapping[str, Any], allow_code: bool) -> tuple[Query, Mapping[str, Any]]:
    config, gold = mapping_of(row, "metric_config"), mapping_of(row, "gold")
    query = Query(
        gold=gold,
        metrics=config.get("field_score_function") or {},
        auxiliary=config.get("global_aux_metrics") or {},
        context=mapping_of(row, "eval_context", optional=True),
        judge_scores=mapping_of(row, "judge_scores", optional=True),
        allow_code=allow_code,
    )
    return query, config


def _with_judge(
    query: Query, row: Mapping[str, Any], config: Mapping[str, Any], judge: RowJudge, source: Source, profile: Profile
) -> Query:
    from specs_eval.tasks.megabench.row_judge import judge_of_row

    asked = judge_of_row(row, query, config, judge, strict=profile == "reasoning")
    return replace(query, judge=asked, judge_scores={} if source == "response" else query.judge_scores)


def mapping_of(row: Mapping[str, Any], column: str, optional: bool = False) -> Mapping[str, Any]:
    """A column that holds a dictionary, or its text as on the hub.

    Raises:
        ScoringError: it holds neither.
    """
    value = row.get(column)
    if optional and (value is None or value == ""):
        return {}
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except LITERAL_ERRORS as error:
            raise ScoringError(f"column {column} does not read as a dictionary: {error}") from error
    if not isinstance(value, Mapping):
        raise ScoringError(f"column {column} must hold a dictionary, found {type(value).__name__}")
    return value


def _parsed(
    row: Mapping[str, Any], source: str, profile: str, query: Query, config: Mapping[str, Any]
) -> tuple[Parsed, str]:
    response, parser = row.get("response"), str(config.get("response_parse_function", "unsupported"))
    if source == "extraction" or (source == "auto" and not isinstance(response, str)):
        if "official_extraction" not in row:
            raise ScoringError("the row has neither a response that is text nor an official_extraction")
        return _recorded(row["official_extraction"], row.get("official_parse_ok") is not False), "recorded extraction"
    if not isinstance(response, str):
        raise ScoringError(f"column response must hold text, found {type(response).__name__}")
    if profile == "reasoning":
        return parse_reasoning(parser, response, query.gold)
    return parse_response(parser, response, query.gold), parser


def _recorded(value: Any, ok: bool) -> Parsed:
    if isinstance(value, (str, Mapping)):
        return Parsed(value if isinstance(value, str) else dict(value), ok)
    raise ScoringError(f"official_extraction must be text or a dictionary, found {type(value).__name__}")


def parse_reasoning(parser: str, response: str, gold: Mapping[str, Any]) -> tuple[Parsed, str]:
    """Parse the answer of a response in an answer format (tags, JSON, boxed, last line); else the official way.

    Returns:
        What was parsed and the name of the rule. A response without an answer gives no values.

    Raises:
        ScoringError: see `parse_response`.
    """
    found = extract_answer(response)
    if found.answer is None or found.rule == "loose:answer mark":
        if not _states_answer(parser, response):
            return Parsed({}, ok=False), NO_ANSWER
        return parse_response(parser, response, gold), parser
    answer = found.answer
    if parser in SINGLE_FIELD_PARSERS and "answer:" not in answer.lower():
        answer = f"Answer: {answer}"
    return parse_response(parser, answer, gold), f"{found.rule}, {parser}"


def _states_answer(parser: str, response: str) -> bool:
    """Whether a response without any format still gives an answer: text for free-text tasks, a mark for others."""
    text = response.rpartition("</think>")[2].strip()
    if parser == "json":
        return "{" in text
    return bool(text) if parser == "dummy" else "answer:" in text.lower() or "```" in text


def silenced(result: QueryScore, query: Query) -> QueryScore:
    """Nothing for an empty answer, which the official rules reward here and there (precision of no items is 1)."""
    if result.score is None or not _is_silent(result.parsed, query):
        return result
    fields = {field: FieldScore(0.0, NO_ANSWER) for field in result.fields}
    return QueryScore(0.0, fields, result.parsed, NO_ANSWER)


def answer_metrics(result: QueryScore, query: Query, profile: Profile) -> dict[str, float]:
    """What is counted of an answer beside its score; nothing where there is no score.

    Returns:
        ``no_answer``, 1 where the parser found none (nothing in any field, or no JSON object); and, of the official profile,
        ``free_credit``: what its rules give for nothing in any field.
    """
    if result.score is None:
        return {}
    silent = _is_silent(result.parsed, query)
    metrics = {"no_answer": float(silent or not result.parsed.ok)}
    if profile == "official":
        metrics["free_credit"] = max(result.score, 0.0) if silent else 0.0
    return metrics


def _is_silent(parsed: Parsed, query: Query) -> bool:
    """Whether no field of an answer says anything."""
    values = parsed.value.values() if isinstance(parsed.value, dict) else (parsed.value,)
    drawing = ASCII_ART_METRIC in query.metrics.values()
    return not any(says_something(item, any_mark=drawing) for item in values)


def written(value: Any, nested: bool = False) -> Any:
    """The value as it can be stored as JSON: short texts, no NaN, no sets."""
    if isinstance(value, dict) and not nested:
        return {str(key)[:200]: written(item, nested=True) for key, item in list(value.items())[:100]}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return (
            value if value.bit_length() < 64 else str(value)[:100] if value.bit_length() < 10_000 else "large integer"
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    try:
        return stable_text(value)[:MAX_WRITTEN_CHARS]
    except RecursionError:
        return "nested too deeply"
