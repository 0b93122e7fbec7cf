"""Plain rows of sample id and score, one rollout a row, as JSON Lines, CSV or TSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specs_eval.checkpoints import CheckpointNames
from specs_eval.errors import ConfigError
from specs_eval.importing.imported import (
    MAX_NAME,
    UNKNOWN_SAMPLING,
    ImportedLog,
    ImportOptions,
    kept_text,
    listed,
    text_hash,
)
from specs_eval.importing.lmms_samples import MAX_ANSWER
from specs_eval.importing.reading import Row, read_json_lines, read_table
from specs_eval.importing.scores import Scale, number
from specs_eval.records import Rollout, SampleRecord
from specs_eval.task_names import canonical_task_name

MAX_ROLLOUTS = 100_000
"""Rollouts of one sample."""

ALIASES = {"benchmark": "task", "model": "checkpoint", "extracted": "answer"}
"""Names that ``specs-eval score`` writes, and ours."""

COLUMNS = frozenset(
    {
        "sample_id", "score", "checkpoint", "series", "step", "task", "rollout", "response", "answer", "target",
        "prompt", "group", "category", "rule", "reason",
    }
)  # fmt: skip
CATEGORY_PREFIX = "category_"
METRIC_PREFIX = "metric_"
IGNORED_SILENTLY = frozenset({"field_scores", "profile"})
GAPS = ("weights", "sampling", "token statistics", "images")


@dataclass(slots=True)
class _Run:
    """The rows of one checkpoint on one task, as they come."""

    checkpoint: CheckpointNames
    task: str
    samples: dict[str, SampleRecord] = field(default_factory=dict)
    rollouts: dict[tuple[str, int], Rollout] = field(default_factory=dict)


def imported_rows(path: Path, options: ImportOptions) -> list[ImportedLog]:
    """The runs in a file of rows, by checkpoint and task.

    Raises:
        ConfigError: a row is broken, lacks what is needed, is there twice, or contradicts another; with file and line.
    """
    rows = read_json_lines(path) if path.suffix == ".jsonl" else read_table(path)
    keys = options.score_keys or ("score",)
    scale = Scale(options.scale, " or ".join(keys), str(path))
    runs: dict[tuple[str, str], _Run] = {}
    unused: dict[str, None] = {}
    for line, row in rows:
        row = {ALIASES.get(name, name): value for name, value in row.items()}
        unused.update(dict.fromkeys(name for name in row if not _is_used(name, keys)))
        _add(runs, (line, row), path, options, (keys, scale))
    if not runs:
        raise ConfigError(f"{path} holds no rows")
    notes = (f"columns left out: {listed(list(unused))}",) if unused else ()
    return [_log(run, path, scale.name, notes) for run in runs.values()]


def _add(
    runs: dict[tuple[str, str], _Run],
    numbered: Row,
    path: Path,
    options: ImportOptions,
    scoring: tuple[Sequence[str], Scale],
) -> None:
    line, row = numbered
    where = f"{path}:{line}"
    sample_id = _text(row, "sample_id", where)
    if not sample_id:
        raise ConfigError(f"{where}: no sample_id; every row needs the columns sample_id and score")
    names, task = _checkpoint(row, options, where), canonical_task_name(options.task or _text(row, "task", where))
    if not task:
        raise ConfigError(f"{where}: no task; add a column task, or name it with --task")
    run = runs.setdefault((names.name, task), _Run(names, task))
    if run.checkpoint != names:
        raise ConfigError(f"{where}: {names.name} has another series or step than in the rows before")
    record, rollout = _record(row, sample_id, where), _rollout(row, sample_id, line, where, scoring)
    known = run.samples.setdefault(sample_id, record)
    if known != record:
        raise ConfigError(
            f"{where}: sample {sample_id!r} has another prompt, target, group or category than in a row before; the "
            "rollouts of a sample must agree"
        )
    if (sample_id, rollout.rollout) in run.rollouts:
        raise ConfigError(
            f"{where}: sample {sample_id!r} has rollout {rollout.rollout} twice; number the rollouts of a sample 0, 1, "
            "... in a column rollout"
        )
    run.rollouts[sample_id, rollout.rollout] = rollout


def _checkpoint(row: Mapping[str, Any], options: ImportOptions, where: str) -> CheckpointNames:
    name = options.checkpoint or _text(row, "checkpoint", where)
    if not name:
        raise ConfigError(f"{where}: no checkpoint; add a column checkpoint, or name it with --checkpoint")
    names = CheckpointNames.of_text(name, options.series or _text(row, "series", where))
    step = options.step if options.step is not None else _integer(row, "step", where)
    return names if step is None else CheckpointNames(names.name, names.series, step)


def _record(row: Mapping[str, Any], sample_id: str, where: str) -> SampleRecord:
    prompt = kept_text(row.get("prompt"))
    return SampleRecord(
        sample_id=sample_id,
        prompt=prompt,
        prompt_hash=text_hash(prompt),
        target=_whole(row.get("target")),
        group=_text(row, "group", where) or None,
        category=_categories(row, where),
    )


def _rollout(
    row: Mapping[str, Any], sample_id: str, line: int, where: str, scoring: tuple[Sequence[str], Scale]
) -> Rollout:
    keys, scale = scoring
    if not any(key in row for key in keys):
        raise ConfigError(f"{where}: no {scale.name}; name the column that holds it with --score-key (null: unscored)")
    value = next((row[key] for key in keys if row.get(key) is not None), None)
    score, reason = scale.share(value, line)
    place = _integer(row, "rollout", where) or 0
    if not 0 <= place < MAX_ROLLOUTS:
        raise ConfigError(f"{where}: rollout must lie between 0 and {MAX_ROLLOUTS - 1}, not {place}")
    answer = row.get("answer")
    return Rollout(
        sample_id=sample_id,
        rollout=place,
        response=kept_text(row.get("response")),
        score=score,
        answer=None if answer is None else _whole(answer)[:MAX_ANSWER],
        rule=_text(row, "rule", where) or "imported",
        reason=_text(row, "reason", where) or reason,
        finish_reason="unknown",
        metrics={} if score is None else _metrics(row, where),
    )


def _metrics(row: Mapping[str, Any], where: str) -> dict[str, float]:
    found = {}
    for column, value in row.items():
        if column.startswith(METRIC_PREFIX) and value is not None:
            name = column.removeprefix(METRIC_PREFIX)
            share, _ = Scale(None, column, where.rpartition(":")[0]).share(value, int(where.rpartition(":")[2]))
            if share is not None:
                found[name[:MAX_NAME]] = share
    return found


def _categories(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """``category_<dimension>`` columns; ``category`` as an object, or as text of the dimension ``category``."""
    whole = row.get("category")
    if isinstance(whole, Mapping):
        found: Iterable[tuple[str, Any]] = whole.items()
    else:
        found = () if whole is None else (("category", whole),)
    columns = (
        (name.removeprefix(CATEGORY_PREFIX), value) for name, value in row.items() if name.startswith("category_")
    )
    return {
        kept_text(name, MAX_NAME): _short(value, where, name) for name, value in (*found, *columns) if value is not None
    }


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    return "" if value is None else _short(value, where, column)


def _short(value: object, where: str, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{where}: {column} must be text or a number, not {type(value).__name__}")
    text = str(value) if not isinstance(value, int) or abs(value) < 10**18 else f"{value:.17e}"
    return kept_text(text.strip(), MAX_NAME)


def _whole(value: object) -> str:
    """A text, or what else JSON holds written as JSON."""
    return kept_text(value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=True))


def _integer(row: Mapping[str, Any], column: str, where: str) -> int | None:
    value = row.get(column)
    if value is None:
        return None
    found = number(value)
    if found is None or not abs(found) < 1e12 or found != int(found):
        raise ConfigError(f"{where}: {column} must be a whole number, not {str(value)[:80]!r}")
    return int(found)


def _is_used(name: str, keys: Sequence[str]) -> bool:
    return (
        name in COLUMNS or name in keys or name in IGNORED_SILENTLY or name.startswith((CATEGORY_PREFIX, METRIC_PREFIX))
    )


def _log(run: _Run, path: Path, score_name: str, notes: tuple[str, ...]) -> ImportedLog:
    return ImportedLog(
        checkpoint=run.checkpoint,
        path="",
        task=run.task,
        writer="rows",
        score_name=score_name,
        samples=tuple(run.samples.values()),
        rollouts=tuple(run.rollouts.values()),
        n_task_samples=len(run.samples),
        sampling=UNKNOWN_SAMPLING,
        source=path.name,
        gaps=GAPS,
        notes=notes,
    )
