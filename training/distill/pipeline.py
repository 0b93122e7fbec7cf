"""Self-distillation from end to end: questions -> (an ordinary run) -> candidates -> pairs -> a folder.

Sampling is an evaluation of a checkpoint on the questions under the trained instruction, by the ordinary runner into the
ordinary store: killed, it continues; finished, it costs nothing again. What follows is a function of that run and the
settings, takes seconds, and is written as a whole or not at all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.errors import ConfigError, StoreError, TrainingError
from specs_eval.store import StoredRun
from specs_eval.task import Task
from specs_eval.task_names import ID_SUFFIX
from specs_eval.tasks.formats.styles import THINK_ANSWER
from specs_eval.tasks.formats.task import FormatTask
from specs_eval.training.distill.candidates import harvest
from specs_eval.training.distill.contamination import find_contamination
from specs_eval.training.distill.dataset import (
    SUMMARY,
    Origin,
    card,
    content_digest,
    row_of,
    write_split,
)
from specs_eval.training.distill.pairs import SPLITS, Pair, build_pairs, without_duplicates
from specs_eval.training.distill.settings import Counts, DistillSettings
from specs_eval.training.questions.reading import QuestionSet
from specs_eval.training.questions.task import QuestionTask
from specs_eval.training.tiny.folders import complete_or_absent

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

SCHEMA_VERSION = 1
_USABLE, _WITHIN, _SHARING = "usable", "within the limit", "sharing an image with an evaluation (kept)"
_KEPT = (_USABLE, _WITHIN, _SHARING)
"""Counts of questions that are asked."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Questions that may be trained on."""

    questions: QuestionSet
    counts: Counts

    def task(self, judge: Judge | None = None) -> FormatTask:
        """What the source model is asked: the questions under the trained instruction."""
        base = QuestionTask(self.questions, judge)
        return FormatTask(base.name + ID_SUFFIX, base, (THINK_ANSWER,))

    def told(self) -> str:
        """How many questions there are, and how many are not asked for which reason."""
        why = {name: n for name, n in self.counts.questions.items() if n and name not in _KEPT}
        listed = ", ".join(f"{n:,} {name.removeprefix('left out: ')}" for name, n in why.items())
        return f"{len(self.questions.questions):,} questions" + (f"; left out: {listed}" if listed else "")


def prepare(questions: QuestionSet, evaluations: Iterable[Task] = ()) -> Prepared:
    """Drop questions that occur twice and those that are also evaluated.

    Raises:
        TrainingError: nothing is left; the message has the counts.
    """
    counts = Counts()
    counts.questions[_USABLE] = questions.n_usable
    counts.questions.update({f"left out: {reason}": n for reason, n in questions.problems.items()})
    if len(questions.questions) < questions.n_usable:
        counts.questions[_WITHIN] = len(questions.questions)
    kept, counts.questions["asked twice"] = without_duplicates(questions.questions)
    tasks = list(evaluations)
    if tasks:
        found = find_contamination(kept, tasks)
        counts.questions["also evaluated"] = len(found.dropped)
        counts.questions[_SHARING] = found.n_same_image
        kept = [question for question in kept if question.question_id not in found.dropped]
    if not kept:
        raise TrainingError(_nothing("no question is left to train on", counts))
    return Prepared(replace(questions, questions=tuple(kept)), counts)


@dataclass(frozen=True, slots=True)
class Distilled:
    """A folder of pairs and what is in it."""

    folder: Path
    summary: dict[str, Any]
    unchanged: bool
    """The folder was there already, with exactly these pairs."""


def check_before_sampling(settings: DistillSettings, folder: Path, judge: Judge | None) -> None:
    """Refuse at once what would be refused after hours of sampling.

    Raises:
        ConfigError: the folder holds something else than pairs, or the settings want a judge and there is none.
    """
    if settings.consistency == "judge" and judge is None:
        raise ConfigError("consistency by a judge needs one: give --judge URL and --judge-model NAME")
    if folder.exists() and not (folder.is_dir() and ((folder / SUMMARY).is_file() or not any(folder.iterdir()))):
        raise ConfigError(f"{folder} exists already and holds no pairs; remove it or name another folder")


def distill(
    run: StoredRun,
    prepared: Prepared,
    settings: DistillSettings,
    folder: Path,
    *,
    judge: Judge | None = None,
    evaluations: Sequence[str] = (),
) -> Distilled:
    """Pairs from a run, written to a folder.

    Args:
        run: of `Prepared.task`, complete.
        prepared: the questions, with their counts so far.
        settings: how.
        folder: must be absent, empty, or hold exactly the same pairs.
        judge: asked about consistency where the settings say so.
        evaluations: names of the tasks that the questions were compared with, for the record.

    Raises:
        TrainingError: no pair came of it; the message has the counts at each filter.
        ConfigError: the folder holds something else, or the settings want a judge and there is none.
        StoreError: the disk refuses.
    """
    check_before_sampling(settings, folder, judge)
    counts = copy.deepcopy(prepared.counts)
    found = harvest(run, prepared.questions.questions, settings, counts, judge)
    pairs = build_pairs(found, settings, counts)
    if not any(pairs.values()):
        raise TrainingError(_nothing("no usable pair", counts))
    record = run.manifest.checkpoint
    origin = Origin(settings.data, settings.source, record.name, record.fingerprint, run.run_id, settings.seed)
    summary = {**_summary(run, prepared, settings, evaluations), "counts": counts.to_dict()}
    return _write(folder, pairs, prepared, origin, summary)


def _write(
    folder: Path, pairs: dict[str, list[Pair]], prepared: Prepared, origin: Origin, summary: dict[str, Any]
) -> Distilled:
    chats = {sample.meta["question_id"]: sample.chat for sample in prepared.task().samples()}
    splits = [split for split in SPLITS if pairs[split]]
    asked = {split: [chats[pair.question.question_id] for pair in pairs[split]] for split in splits}
    rows = {
        split: [row_of(pair, chat, origin) for pair, chat in zip(pairs[split], asked[split], strict=True)]
        for split in splits
    }
    summary["content"] = {split: content_digest(rows[split], asked[split]) for split in splits}
    old = _old_summary(folder)
    if old is not None:
        if old.get("content") == summary["content"]:
            return Distilled(folder, old, unchanged=True)
        raise ConfigError(f"{folder} holds other pairs (other settings, questions or run); name another folder")
    with complete_or_absent(folder) as scratch:
        for split in splits:
            write_split(scratch / f"{split}-00000.parquet", rows[split], asked[split])
        try:
            about = card("Preference pairs", splits, _lines(summary), summary["content"])
            (scratch / "README.md").write_text(about, encoding="utf-8")
            (scratch / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror}; free space, then run again") from error
    return Distilled(folder, summary, unchanged=False)


def _old_summary(folder: Path) -> dict[str, Any] | None:
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; remove {folder} or name another folder") from error
    return facts if isinstance(facts, dict) else {}


def _summary(
    run: StoredRun, prepared: Prepared, settings: DistillSettings, evaluations: Sequence[str]
) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": asdict(settings),
        "questions": {"name": prepared.questions.name, "content_hash": prepared.questions.content_hash},
        "evaluations": list(evaluations),
        "run": {
            "run_id": run.run_id,
            "checkpoint": manifest.checkpoint.name,
            "fingerprint": manifest.checkpoint.fingerprint,
            "task": manifest.task,
            "task_version": manifest.task_version,
            "sampling": manifest.sampling.model_dump(mode="json"),
            "backend": manifest.backend,
        },
    }


def _lines(summary: dict[str, Any]) -> list[str]:
    run, settings = summary["run"], summary["settings"]
    facts = [f"{name}: {value}" for name, value in {**settings, **summary["questions"]}.items()]
    return [f"checkpoint: {run['checkpoint']} ({run['fingerprint'][:12]}), run {run['run_id']}", *facts]


def _nothing(what: str, counts: Counts) -> str:
    return "\n  ".join([f"{what}. Counts at each filter:", *counts.lines()])
