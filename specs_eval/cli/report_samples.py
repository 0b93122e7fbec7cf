"""Which samples a report carries: the telling ones first, then a random share; texts are read for these alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.analysis.report.embedding import MAX_TEXT, cut
from specs_eval.analysis.report.samples import BrowserRollout, BrowserSample, Candidates
from specs_eval.analysis.report.wording import checkpoint_label, listed
from specs_eval.analysis.stored.reading import read_rows
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.cli.report_answer import Answer
from specs_eval.cli.report_pictures import Pictures, TaskPictures
from specs_eval.cli.report_runs import Runs, ShownRuns
from specs_eval.cli.report_tasks import TaskNumbers
from specs_eval.records import SampleRecord

MAX_SAMPLES = 3_000
"""Samples that a browser's list is still pleasant with."""
_BATCH = 250
"""Samples whose texts are in memory at once."""
MAX_CHECKPOINTS = 24
"""Checkpoints of which rollouts are carried, a task."""
_RANDOM_EVERY = 5
"""Every so many samples, one is drawn at random."""
_COLUMNS = ("rollout", "response", "answer", "score", "rule", "reason", "finish_reason", "n_tokens")

Tag = str
FLIPPED_UP, FLIPPED_DOWN, STUCK, FAILED = "flipped up", "flipped down", "stuck", "failed"


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One sample that the page may carry."""

    task: str
    sample_id: str
    telling: _Telling


@dataclass(frozen=True, slots=True)
class _Telling:
    """Why a sample is worth looking at, and where."""

    tags: tuple[Tag, ...] = ()
    sides: tuple[str, ...] = ()
    """The two checkpoints between which, or the one at which, the first tag shows."""

    def and_also(self, tag: Tag, *sides: str) -> _Telling:
        """With one more tag."""
        return self if tag in self.tags else _Telling((*self.tags, tag), self.sides or sides)


def candidate_samples(answer: Answer, pictures: Pictures, seed: int) -> Candidates:
    """Samples of all tasks in the order in which a page takes them; texts are read in batches, as far as it takes them.

    Args:
        answer: the numbers; they tell which samples flipped, are stuck or failed.
        pictures: where images are found.
        seed: of the order within a kind and of the random share.
    """
    carried = {task: carried_checkpoints(runs, answer) for task, runs in answer.shown.by_task.items()}
    source = TaskPictures(pictures)
    return Candidates(
        checkpoints=tuple(_label(key) for key in answer.shown.keys if any(key in keys for keys in carried.values())),
        samples=_batches(answer, carried, source, seed),
        pictures=source,
        totals=_totals(answer.tasks),
        seed=seed,
        left_out=_left_out(answer.shown, carried),
    )


def _batches(
    answer: Answer, carried: dict[str, list[CheckpointKey]], source: TaskPictures, seed: int
) -> Iterator[BrowserSample]:
    """Samples in order; each batch reads the texts of its own."""
    order = itertools.islice(_in_order(answer.tasks, seed), MAX_SAMPLES)
    while batch := list(itertools.islice(order, _BATCH)):
        samples: dict[tuple[str, str], BrowserSample] = {}
        for task, keys in carried.items():
            runs = {key: answer.shown.by_task[task][key] for key in keys}
            read = _read(task, runs, [one for one in batch if one.task == task])
            source.prepare(task, {one.sample_id: one.images for one in read})
            samples |= {(task, one.sample_id): one for one in read}
        yield from (samples[one.task, one.sample_id] for one in batch if (one.task, one.sample_id) in samples)


def _label(key: CheckpointKey) -> str:
    return checkpoint_label(key.name, key.series, key.step)


def carried_checkpoints(runs: Runs, answer: Answer) -> list[CheckpointKey]:
    """The checkpoints of a task whose rollouts are carried.

    Base, then last, best by GF and first of each series, then the rest, until there are enough.
    """
    base = answer.shown.base
    best = {series.best.checkpoint for pair in answer.content.pairs for series in pair.series}
    by_series: dict[str, list[CheckpointKey]] = {}
    for key in runs:
        if key != base:
            by_series.setdefault(key.series, []).append(key)
    ordered = [
        *([base] if base in runs and base is not None else []),
        *(keys[-1] for keys in by_series.values()),
        *(key for key in runs if key.name in best),
        *(keys[0] for keys in by_series.values()),
        *(key for key in runs),
    ]
    kept = list(dict.fromkeys(ordered))[:MAX_CHECKPOINTS]
    return [key for key in runs if key in kept]


def _in_order(tasks: Sequence[TaskNumbers], seed: int) -> Iterator[_Chosen]:
    """Samples of all tasks in turn; within a task the telling kinds in turn, and a random one now and then."""
    return _in_turn([_task_order(numbers, seed) for numbers in tasks])


def _task_order(numbers: TaskNumbers, seed: int) -> Iterator[_Chosen]:
    tags = _tags(numbers)
    generator = random.Random(f"{seed} {numbers.task}")
    kinds: list[list[str]] = []
    for tag in (FLIPPED_UP, FLIPPED_DOWN, STUCK, FAILED):
        ids = [sample_id for sample_id in numbers.sample_ids if tag in tags.get(sample_id, _Telling()).tags]
        generator.shuffle(ids)
        kinds.append(ids)
    rest = [sample_id for sample_id in numbers.sample_ids if sample_id not in tags]
    generator.shuffle(rest)
    seen: set[str] = set()
    telling, plain = _in_turn([iter(ids) for ids in kinds]), iter(rest)
    for number in itertools.count(1):
        first, second = (plain, telling) if number % _RANDOM_EVERY == 0 else (telling, plain)
        sample_id = next((one for one in itertools.chain(first, second) if one not in seen), None)
        if sample_id is None:
            return
        seen.add(sample_id)
        yield _Chosen(numbers.task, sample_id, tags.get(sample_id, _Telling()))


def _in_turn(sources: Sequence[Iterator[Any]]) -> Iterator[Any]:
    """One of each source in turn until all are empty."""
    left = list(sources)
    while left:
        for source in list(left):
            try:
                yield next(source)
            except StopIteration:
                left.remove(source)


def _tags(numbers: TaskNumbers) -> dict[str, _Telling]:
    """What is telling about each sample, by its id."""
    found: dict[str, _Telling] = {}

    def mark(tag: Tag, sample_id: str, *sides: str) -> None:
        found[sample_id] = found.get(sample_id, _Telling()).and_also(tag, *sides)

    for sample_id, key in numbers.failed.items():
        mark(FAILED, sample_id, _label(key))
    for pair, flips in numbers.flips.items():
        for tag, ones in ((FLIPPED_UP, flips.gained), (FLIPPED_DOWN, flips.lost)):
            for flip in ones:
                mark(tag, flip.sample_id, _label(pair.against), _label(pair.checkpoint))
    for sample_id, key in numbers.stuck.items():
        mark(STUCK, sample_id, _label(key))
    return found


def _totals(tasks: Sequence[TaskNumbers]) -> dict[str, int]:
    totals = dict.fromkeys((FLIPPED_UP, FLIPPED_DOWN, STUCK, FAILED), 0)
    for numbers in tasks:
        for telling in _tags(numbers).values():
            for tag in telling.tags:
                totals[tag] += 1
    return {"all": sum(len(numbers.sample_ids) for numbers in tasks), **totals}


def _read(task: str, runs: Runs, chosen: Sequence[_Chosen]) -> list[BrowserSample]:
    """The texts of some samples of a task, from each carried checkpoint."""
    wanted = {one.sample_id for one in chosen}
    if not wanted:
        return []
    records: dict[str, SampleRecord] = {}
    rollouts: dict[str, dict[str, list[BrowserRollout]]] = {}
    for key, run in runs.items():
        if not wanted <= records.keys():
            records |= {name: record for name, record in run.samples().items() if name in wanted}
        for row in read_rows(run, _COLUMNS, wanted):
            rollouts.setdefault(row["sample_id"], {}).setdefault(_label(key), []).append(_rollout(row))
    return [
        _sample(task, one, records[one.sample_id], rollouts.get(one.sample_id, {}))
        for one in chosen
        if one.sample_id in records
    ]


def _sample(
    task: str, chosen: _Chosen, record: SampleRecord, rollouts: dict[str, list[BrowserRollout]]
) -> BrowserSample:
    return BrowserSample(
        task=task,
        sample_id=chosen.sample_id,
        category=record.category,
        prompt=record.prompt,
        target=record.target,
        tags=chosen.telling.tags,
        sides=chosen.telling.sides,
        rollouts={name: tuple(ones) for name, ones in rollouts.items()},
        images=record.images,
    )


def _rollout(row: dict[str, Any]) -> BrowserRollout:
    return BrowserRollout(
        response=cut(row["response"] or ""),
        answer=row.get("answer"),
        score=row["score"],
        rule=row.get("rule") or "",
        reason=row.get("reason"),
        finish_reason=row.get("finish_reason") or "",
        n_tokens=row.get("n_tokens"),
    )


def _left_out(shown: ShownRuns, carried: dict[str, list[CheckpointKey]]) -> tuple[str, ...]:
    """Checkpoints without rollouts in the page, and that long texts are cut."""
    sentences = [f"Of texts longer than {MAX_TEXT:,} characters the middle is left out."]
    absent = [
        _label(key)
        for key in shown.keys
        if not any(key in carried[task] for task, runs in shown.by_task.items() if key in runs)
    ]
    if absent:
        sentences.insert(0, f"Rollouts of {len(absent)} checkpoints are not carried: {listed(absent)}.")
    return tuple(sentences)
