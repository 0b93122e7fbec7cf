"""From the samples of an lmms-eval log to records and rollouts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.checkpoints import CheckpointNames
from specs_eval.errors import ConfigError
from specs_eval.importing.imported import MAX_NAME, ImportedLog, ImportOptions, kept_text, listed, text_hash
from specs_eval.importing.lmms_logs import LmmsLog
from specs_eval.importing.lmms_rows import STRUCTURE, LogJudge, judged_rows, rows_of_filter
from specs_eval.importing.reading import Row
from specs_eval.importing.scores import (
    Scale,
    choose_score,
    further_metrics,
    number,
    numeric_keys,
    rollout_values,
    value_at,
)
from specs_eval.records import Rollout, SampleRecord, SamplingRecord
from specs_eval.splits import VALUE_SEPARATOR
from specs_eval.task_names import canonical_task_name

CATEGORY_FIELDS = (
    "category", "subcategory", "sub_category", "l2_category", "task_type", "question_type", "answer_type", "subject",
    "subdomain", "subfield", "domain", "task", "topic", "difficulty", "topic_difficulty", "grade", "context", "skills", "source",
    "language",
)  # fmt: skip
"""Fields of a metric's mapping, of the document and of the ``metadata`` of either that become categories."""

ANSWER_FIELDS = ("parsed_pred", "pred_answer", "prediction", "pred", "extraction", "answer_pred", "extracted_answer")
"""Fields of a metric's mapping that hold the answer that was extracted."""

FAILED = "[LMMS_EVAL_REQUEST_FAILED"
"""How lmms-eval writes a request that failed: as the text of a response, which it then scores."""

GAPS = ("weights", "seed", "token statistics", "images")
MAX_ANSWER = 1000
_TOGETHER = "of {} responses together"


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the rows of a log are read."""

    keys: tuple[str, ...]
    further: tuple[str, ...]
    """Other metrics that are kept."""
    categories: tuple[str, ...]
    scale: Scale

    def score_of(self, row: Mapping[str, Any]) -> tuple[str, Any]:
        """The key that counts for a row, and its value."""
        found = ((key, value_at(row, key)) for key in self.keys)
        return next(((key, value) for key, value in found if value is not None), (self.keys[0], None))


@dataclass(frozen=True, slots=True)
class _Said:
    """One response as it is kept."""

    rollout: int
    n: int
    """Rollouts of the sample."""
    response: str
    answer: str | None
    rule: str


def imported_log(log: LmmsLog, options: ImportOptions, judges: Sequence[LogJudge] = ()) -> ImportedLog:
    """One task of one checkpoint as a run.

    Args:
        log: as read.
        options: what the user says.
        judges: for benchmarks of which lmms-eval logs answers and no score.

    Raises:
        ConfigError: it is not clear which number is the score or whose rows count; a value is no share; the log does not
            name the model and the user did not either.
    """
    keys, wanted_filter = _asked(options, log)
    rows, filter_notes = rows_of_filter(log, wanted_filter)
    rows, judge_notes = judged_rows(rows, judges)
    metrics = [row for _, row in rows]
    chosen = choose_score(metrics, keys, log.higher_is_better, STRUCTURE, str(log.path))
    name = " or ".join(chosen)
    others = [key for key in numeric_keys(metrics, STRUCTURE) if key not in chosen]
    further = tuple(key for key in others if _is_share(metrics, key))
    reading = _Reading(
        chosen, further, (*CATEGORY_FIELDS, *options.categories), Scale(options.scale, name, str(log.path))
    )
    rollouts = [rollout for row in rows for rollout in _rollouts(row, reading)]
    samples = tuple(_sample(row, reading) for _, row in rows)
    if len({sample.sample_id for sample in samples}) < len(samples):
        raise ConfigError(
            f"{log.path}: several documents have one doc_id, or ids that are the same in {MAX_NAME} characters"
        )
    model = options.checkpoint or log.model
    if not model:
        raise ConfigError(f"{log.path}: no results file beside it says which model this was; name it with --checkpoint")
    names = CheckpointNames.of_text(model, options.series or "")
    return ImportedLog(
        checkpoint=names if options.step is None else CheckpointNames(names.name, names.series, options.step),
        path=log.model,
        task=canonical_task_name(options.task or log.task),
        writer=f"lmms-eval-{log.version}",
        score_name=name,
        samples=samples,
        rollouts=tuple(rollouts),
        n_task_samples=max(log.n_original or 0, len(samples)),
        sampling=_sampling(log.config),
        source=log.path.name,
        gaps=GAPS,
        notes=(
            *filter_notes,
            *judge_notes,
            *_left_out(others, further),
            *_count_notes(log, len(samples)),
            *_total_notes(log, chosen, rollouts, options.scale),
            *_merged_notes(rollouts),
        ),
    )


def _asked(options: ImportOptions, log: LmmsLog) -> tuple[tuple[str, ...], str | None]:
    """Score keys and filter; a key may be typed as lmms-eval's tables have it, ``acc,none``."""
    keys = []
    chosen = options.filter
    for text in options.score_keys:
        key, comma, filter_name = text.rpartition(",")
        if comma and filter_name in log.filters:
            keys.append(key)
            chosen = chosen or filter_name
        else:
            keys.append(text)
    return tuple(keys), chosen


def _sample_id(doc_id: int | str) -> str:
    return f"{doc_id:06d}" if isinstance(doc_id, int) and abs(doc_id) < 10**12 else kept_text(str(doc_id)[:MAX_NAME])


def _sample(row: Mapping[str, Any], reading: _Reading) -> SampleRecord:
    prompt = kept_text(_prompt(row))
    cluster = _inner(reading.score_of(row)[1], "cluster")
    return SampleRecord(
        sample_id=_sample_id(row["doc_id"]),
        prompt=prompt,
        prompt_hash=text_hash(prompt),
        target=kept_text(row.get("target")),
        group=None if cluster is None else kept_text(cluster, MAX_NAME),
        category=_categories(row, reading),
    )


def _prompt(row: Mapping[str, Any]) -> object:
    if "input" in row:
        return row["input"]
    arguments = row.get("arguments")
    while isinstance(arguments, list) and arguments:  # before 0.3: [[context, generation options, ...]]
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else None


def _categories(row: Mapping[str, Any], reading: _Reading) -> dict[str, str]:
    metrics = [value for key, value in row.items() if key not in STRUCTURE]
    document = row.get("doc")
    places = [reading.score_of(row)[1], *metrics, document]
    places += [_inner(place, "metadata") for place in places]
    found: dict[str, str] = {}
    for name in reading.categories:
        texts = (_category_text(_inner(place, name)) for place in places)
        text = next((text for text in texts if text), None)
        if text is not None:
            found[name] = text
    return found


def _category_text(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return VALUE_SEPARATOR.join(kept_text(item, 100) for item in value[:20]) or None
    if isinstance(value, str | int) and not isinstance(value, bool):
        text = kept_text(value if isinstance(value, str) else f"{value}"[:100], MAX_NAME).strip()
        return text if 0 < len(text) <= 100 else None
    return None


def _rollouts(numbered: Row, reading: _Reading) -> list[Rollout]:
    """The rollouts of a sample: those that have a score of their own, else one."""
    row = numbered[1]
    key, value = reading.score_of(row)
    responses, filtered = _texts(row, "resps"), _texts(row, "filtered_resps")
    responses = responses or filtered
    each = rollout_values(value)
    if each is None:
        text = responses[0] if len(responses) == 1 else _joined(responses)
        rule = key if len(responses) <= 1 else f"{key} {_TOGETHER.format(len(responses))}"
        return [_rollout(numbered, _Said(0, 1, text, _answer(value, filtered), rule), value, reading)]
    n = len(each)
    texts = responses if len(responses) == n else [""] * n
    answers = filtered if len(filtered) == n else [None] * n
    said = [_Said(place, n, texts[place], answers[place], key) for place in range(n)]
    return [_rollout(numbered, one, value, reading) for one, value in zip(said, each, strict=True)]


def _rollout(numbered: Row, said: _Said, value: Any, reading: _Reading) -> Rollout:
    line, row = numbered
    score, reason = reading.scale.share(value, line)
    if said.response.startswith(FAILED):
        score, reason = None, f"the request failed: {said.response[:300]}"
    return Rollout(
        sample_id=_sample_id(row["doc_id"]),
        rollout=said.rollout,
        response=said.response,
        score=score,
        answer=None if said.answer is None or score is None else said.answer.strip()[:MAX_ANSWER] or None,
        rule=f"imported {said.rule}"[:MAX_NAME],
        reason=reason,
        finish_reason="unknown",
        metrics={} if score is None else further_metrics(row, reading.further, said.rollout, said.n),
    )


def _texts(row: Mapping[str, Any], field: str) -> list[str]:
    """All responses of a sample in one list, however deep they lie."""
    found: list[str] = []
    queue = [row.get(field)]
    while queue and len(found) < 100_000:
        item = queue.pop()
        if isinstance(item, list):
            queue.extend(reversed(item))
        elif item is not None:
            found.append(kept_text(item))
    return found


def _joined(responses: Sequence[str]) -> str:
    n = len(responses)
    return kept_text("\n".join(f"[response {place} of {n}]\n{text}" for place, text in enumerate(responses, 1)))


def _answer(value: Any, filtered: Sequence[str]) -> str | None:
    for name in ANSWER_FIELDS:
        found = _inner(value, name)
        if isinstance(found, str | int | float):
            return kept_text(str(found))
    return filtered[0] if len(filtered) == 1 else None


def _inner(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _is_share(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = (number(row.get(key)) for row in rows)
    return all(value is None or math.isnan(value) or 0 <= value <= 1 for value in values)


def _sampling(config: Mapping[str, Any]) -> SamplingRecord:
    """What the task's generation options ask for; what they leave to the model is not known."""
    asked = config.get("generation_kwargs")
    options = asked if isinstance(asked, Mapping) else {}
    temperature, top_p, tokens = (options.get(name) for name in ("temperature", "top_p", "max_new_tokens"))
    if temperature is None and options.get("do_sample") is False:
        temperature = 0.0
    until = options.get("until")
    stop = [until] if isinstance(until, str) else until
    return SamplingRecord(
        temperature=_plain_number(temperature),
        max_new_tokens=tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None,
        seed=None,
        top_p=_plain_number(top_p),
        stop=tuple(kept_text(text, MAX_NAME) for text in stop if isinstance(text, str))
        if isinstance(stop, list)
        else None,
    )


def _plain_number(value: object) -> float | None:
    found = number(value) if isinstance(value, int | float) else None
    return found if found is not None and math.isfinite(found) else None


def _left_out(others: Sequence[str], further: Sequence[str]) -> tuple[str, ...]:
    left = [key for key in others if key not in further]
    return (f"left out, not shares in [0, 1]: {listed(left)}",) if left else ()


def _count_notes(log: LmmsLog, n: int) -> tuple[str, ...]:
    if log.n_effective is not None and log.n_effective != n:
        return (f"lmms-eval evaluated {log.n_effective} documents, and the log holds {n}",)
    return ()


def _merged_notes(rollouts: Sequence[Rollout]) -> tuple[str, ...]:
    merged = sum(rollout.rule.endswith(_TOGETHER.partition("}")[2]) for rollout in rollouts)
    if not merged:
        return ()
    return (f"{merged} samples have several responses and one score: kept as one rollout each, so pass@k is not known",)


def _total_notes(
    log: LmmsLog, keys: Sequence[str], rollouts: Sequence[Rollout], scale: float | None
) -> tuple[str, ...]:
    """Where lmms-eval's total of the score is not the mean over samples, both are said."""
    by_sample: dict[str, list[float]] = {}
    for rollout in rollouts:
        if rollout.score is not None:
            by_sample.setdefault(rollout.sample_id, []).append(rollout.score)
    if len(keys) != 1 or not by_sample:
        return ()
    mean = sum(sum(scores) / len(scores) for scores in by_sample.values()) / len(by_sample)
    totals = [value for key, value in log.totals.items() if key.rpartition(",")[0] == keys[0] and math.isfinite(value)]
    if not totals or any(abs(total / (scale or 1.0) - mean) < 5e-4 for total in totals):
        return ()
    return (f"lmms-eval's total of {keys[0]} is {totals[0]:g}; the mean over samples is {100 * mean:.2f} %",)
