"""Scoring rows of model outputs that exist already: no model, no lmms-eval, one row at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from specs_eval.errors import TaskDataError
from specs_eval.task import Score
from specs_eval.tasks.mathvista import profiles as mathvista
from specs_eval.tasks.mathvista.scoring import Problem, parse_problem, quick_extraction
from specs_eval.tasks.mmmu import profiles as mmmu
from specs_eval.tasks.profiles import Profile, UnusableRecordError

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Source = Literal["response", "extraction", "auto"]
"""What is scored: the response; the extraction that was recorded; or ``auto``, the response where the official path
is a rule and what was recorded where it asked a model."""

SOURCES: tuple[Source, ...] = ("response", "extraction", "auto")
BENCHMARKS = ("mathvista", "mmmu", "mmmu_pro", "megabench")
MAX_FIELD_CHARS = 2_000

_KEYS = ("benchmark", "model", "sample_id")


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One scored row, as written by ``specs-eval score``."""

    benchmark: str
    model: str
    sample_id: str
    score: float | None
    """Share in [0, 1]; None: could not be scored, see reason."""
    field_scores: Mapping[str, float | None] | None = None
    """MEGA-Bench: field -> score."""
    extracted: Any = None
    """The answer that was judged; JSON-able."""
    rule: str = ""
    """Profile and rule that decided."""
    reason: str | None = None
    """Why the score is 0 without a wrong answer, or why it is None."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further shares: ``no_answer``, ``chance_credit``, ``free_credit``."""


@dataclass(frozen=True, slots=True)
class RowJudge:
    """A judge for rows that need one."""

    judge: Judge
    data_dir: Path | None = None
    """Where the benchmarks' images lie, for judges that see them; None: they are not at hand."""


def score_row(
    row: Mapping[str, Any],
    *,
    source: Source = "auto",
    profile: Profile = "official",
    allow_code: bool = False,
    judge: RowJudge | None = None,
) -> ScoredRow:
    """Score one row by its own columns.

    Args:
        row: the columns benchmark, model, sample_id, gold and what the benchmark's rules need (choices,
            question_type, answer_type, precision, metric_config, ...), with ``response`` or ``official_extraction``.
        source: see `Source`.
        profile: by whose rules.
        allow_code: whether metrics that run programs from the response may run them, sandboxed (MEGA-Bench).
        judge: asked where the official code asks a model, unless `source` takes what was recorded of that.

    Returns:
        The score. A row that cannot be scored has ``score=None`` and a reason; nothing is raised for bad rows.
    """
    benchmark = row.get("benchmark")
    if benchmark == "megabench":
        from specs_eval.tasks.megabench.rows import score_row as score_megabench

        return score_megabench(row, source=source, profile=profile, allow_code=allow_code, judge=judge)
    try:
        if benchmark == "mathvista":
            score = _mathvista(row, source, profile, judge)
        elif benchmark in ("mmmu", "mmmu_pro"):
            score = _mmmu(row, source, profile)
        else:
            raise UnusableRecordError(f"unknown benchmark {benchmark!r:.80}; known: {', '.join(BENCHMARKS)}")
    except (ValueError, TaskDataError) as error:
        return unscored(row, str(error))
    return ScoredRow(
        benchmark=str(benchmark),
        model=str(row.get("model", "")),
        sample_id=str(row.get("sample_id", "")),
        score=score.score,
        extracted=score.answer,
        rule=score.rule,
        reason=score.reason,
        metrics=score.metrics,
    )


def may_need_judge(row: Mapping[str, Any]) -> bool:
    """Whether scoring a row may have to wait for a judge; cheap, and true a little too often."""
    if row.get("benchmark") != "megabench":
        return row.get("benchmark") == "mathvista"
    from specs_eval.tasks.megabench.metrics.registry import JUDGE_METRICS

    configuration = row.get("metric_config")
    text = configuration if isinstance(configuration, str) else repr(configuration)
    return any(metric in text for metric in JUDGE_METRICS)


def unscored(row: Mapping[str, Any], reason: str) -> ScoredRow:
    """The row without a score, with the reason."""
    benchmark, model, sample_id = (str(row.get(name, ""))[:MAX_FIELD_CHARS] for name in _KEYS)
    return ScoredRow(benchmark, model, sample_id, score=None, rule="unscored", reason=reason[:MAX_FIELD_CHARS])


def _mathvista(row: Mapping[str, Any], source: Source, profile: Profile, judge: RowJudge | None) -> Score:
    problem = parse_problem(row)
    if profile == "reasoning":
        if source == "extraction":
            return mathvista.score_answer(str(recorded_extraction(row)), problem)
        return mathvista.score_reasoning(response_of(row), problem)
    if source == "extraction" or (source == "auto" and not has_response(row)):
        return mathvista.score_official(mathvista.Extraction(recorded_extraction(row), "recorded extraction"), problem)
    text, recorded = response_of(row), row.get("official_extraction")
    if source == "auto" and isinstance(recorded, str):
        quick = quick_extraction(text, problem)
        if quick is None or quick.text != recorded:
            # Some recorded runs asked GPT-4 where today's code has a rule; what was recorded is then the official path.
            return mathvista.score_official(mathvista.Extraction(recorded, "recorded extraction"), problem)
    if judge is not None and quick_extraction(text, problem) is None:
        return _mathvista_judged(row, text, problem, judge.judge)
    return mathvista.score_official(mathvista.official_extraction(text, problem), problem)


def _mathvista_judged(row: Mapping[str, Any], text: str, problem: Problem, judge: Judge) -> Score:
    from specs_eval.tasks.mathvista.judge_prompt import extraction_prompt
    from specs_eval.tasks.mathvista.prompts import build_prompt

    recorded = row.get("prompt")
    query = recorded if isinstance(recorded, str) and recorded else build_prompt(row)
    return mathvista.score_judged(judge.ask(extraction_prompt(query, text)), judge.options.model, problem)


def _mmmu(row: Mapping[str, Any], source: Source, profile: Profile) -> Score:
    marks = (row.get("benchmark"), row.get("metric"), row.get("parser"))
    pro = any(isinstance(mark, str) and mark.startswith(("mmmu_pro", "mmmu-pro")) for mark in marks)
    parser: mmmu.Parser = "mmmu_pro" if pro else "mmmu"
    question = mmmu.parse_question(row, parser)
    if source == "extraction" or (source == "auto" and not has_response(row)):
        recorded = recorded_extraction(row)
        return (
            mmmu.score_recorded(recorded, question)
            if profile == "official"
            else mmmu.score_answer(str(recorded), question)
        )
    text = response_of(row)
    return mmmu.score_official(text, question) if profile == "official" else mmmu.score_reasoning(text, question)


def recorded_extraction(row: Mapping[str, Any]) -> Any:
    """The extraction that was recorded with the row.

    Raises:
        UnusableRecordError: there is none.
    """
    if "official_extraction" not in row:
        raise UnusableRecordError("the row has neither a response nor an official_extraction that could be scored")
    return row["official_extraction"]


def has_response(row: Mapping[str, Any]) -> bool:
    """Whether the row holds the text that was judged."""
    return any(isinstance(row.get(name), (str, dict)) for name in ("response", "execution"))


def response_of(row: Mapping[str, Any]) -> str:
    """The text that was judged: ``response``, or the column that ``response_label`` names.

    Raises:
        UnusableRecordError: there is none, or it is not text.
    """
    label = row.get("response_label") or "response"
    name = label if isinstance(label, str) and label in row else "response"
    text = row.get(name)
    if isinstance(text, dict) and "error" in text:
        return ""  # MMMU-Pro stores a failed request as an object; the official code scores it as an empty response.
    if not isinstance(text, str):
        raise UnusableRecordError(f"the row has no text under {name!r}")
    return text


def encode_scored(scored: ScoredRow) -> str:
    """One line of JSON, ASCII only."""
    facts = {
        "benchmark": scored.benchmark,
        "model": scored.model,
        "sample_id": scored.sample_id,
        "score": scored.score,
        "field_scores": None if scored.field_scores is None else dict(scored.field_scores),
        "extracted": scored.extracted,
        "rule": scored.rule,
        "reason": scored.reason,
    }
    if scored.metrics:
        facts["metrics"] = dict(scored.metrics)
    return json.dumps(facts, separators=(",", ":"), allow_nan=False)
