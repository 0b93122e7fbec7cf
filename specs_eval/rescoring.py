"""Scoring stored rollouts again: no model, no images, only what the run kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specs_eval.chat import user_chat
from specs_eval.errors import StoreError
from specs_eval.files import write_atomic, write_text_atomic
from specs_eval.in_order import in_order
from specs_eval.journal import encode
from specs_eval.locking import OnWait
from specs_eval.records import Rollout, RunIdentity, SampleRecord
from specs_eval.runner import scored_again, scoring_threads
from specs_eval.store import RunStore, StoredRun
from specs_eval.task import JUDGE_FAILED, Sample, Task

NOT_SCORED = ("generation failed",)
"""Rollouts with these rules have no response that could be scored."""


@dataclass(frozen=True, slots=True)
class Change:
    """One rollout whose score is another one now."""

    sample_id: str
    rollout: int
    before: float | None
    after: float | None
    rule_before: str
    rule_after: str
    reason: str | None
    """Why the score is 0 or None now, if a rule says so."""
    answer: str | None

    @property
    def why(self) -> str:
        """The rule that decided before and the one that decides now."""
        return self.rule_after if self.rule_before == self.rule_after else f"{self.rule_before} -> {self.rule_after}"


@dataclass(frozen=True, slots=True)
class Rescored:
    """A run scored again."""

    run: StoredRun
    rollouts: tuple[Rollout, ...]
    """All rollouts of the run with their new scores, in the order of the journal."""
    changes: tuple[Change, ...]
    n_updated: int
    """Rollouts of which anything kept beside the score (answer, rule, metrics) is new; changes included."""

    def mean(self, scores: Mapping[tuple[str, int], float | None]) -> float | None:
        """Mean over samples of the mean over their scored rollouts."""
        by_sample: dict[str, list[float]] = {}
        for (sample_id, _), value in scores.items():
            if value is not None:
                by_sample.setdefault(sample_id, []).append(value)
        means = [sum(values) / len(values) for values in by_sample.values()]
        return sum(means) / len(means) if means else None

    @property
    def n_judge_failed(self) -> int:
        """Rollouts that only a judge failed to score."""
        return sum(rollout.rule == JUDGE_FAILED for rollout in self.rollouts)

    @property
    def before(self) -> float | None:
        """The mean score as stored."""
        after = {(rollout.sample_id, rollout.rollout): rollout.score for rollout in self.rollouts}
        old = {(change.sample_id, change.rollout): change.before for change in self.changes}
        return self.mean(after | old)

    @property
    def after(self) -> float | None:
        """The mean score now."""
        return self.mean({(rollout.sample_id, rollout.rollout): rollout.score for rollout in self.rollouts})


def rescore(run: StoredRun, task: Task, samples: Mapping[str, Sample] | None = None) -> Rescored:
    """Score all responses of a run by a task's scorer; nothing is written.

    Args:
        run: a run of that task, complete or not.
        task: the task; its data is not needed.
        samples: the task's samples by id, for tasks that need more than a run keeps; None: what the run kept.
    """
    stored = run.samples()
    asked = samples or {key: sample_of(record) for key, record in stored.items()}
    best: dict[tuple[str, int], Rollout] = {}
    for rollout in run.rollouts():
        key = (rollout.sample_id, rollout.rollout)
        if rollout.sample_id in stored and (key not in best or best[key].failed):
            best[key] = rollout
    rescored, changes, n_updated = [], [], 0

    def again(old: Rollout) -> Rollout:
        sample = asked.get(old.sample_id)
        return old if old.rule in NOT_SCORED or sample is None else scored_again(task, sample, old)

    groups = ([old] for old in best.values())
    for old, (new,) in zip(best.values(), in_order(groups, again, scoring_threads(task)), strict=True):
        rescored.append(new)
        n_updated += new != old
        if new.score != old.score:
            changes.append(
                Change(old.sample_id, old.rollout, old.score, new.score, old.rule, new.rule, new.reason, new.answer)
            )
    return Rescored(run, tuple(rescored), tuple(changes), n_updated)


def sample_of(record: SampleRecord) -> Sample:
    """A stored sample as a scorer needs it: the prompt as text, no images."""
    return Sample(
        sample_id=record.sample_id,
        chat=user_chat(record.prompt),
        target=record.target,
        category=record.category,
        group=record.group,
        meta=record.meta,
    )


def would_lose_scores(store: RunStore, rescored: Rescored, task_version: str) -> bool:
    """Whether saving would put failures of a judge in the place of scores that it gave before."""
    there = store.find(_identity(rescored.run, task_version))
    if there is None or not rescored.n_judge_failed:
        return False
    scored = {(rollout.sample_id, rollout.rollout) for rollout in there.rollouts() if not rollout.failed}
    failed = (rollout for rollout in rescored.rollouts if rollout.rule == JUDGE_FAILED)
    return any((rollout.sample_id, rollout.rollout) in scored for rollout in failed)


def _identity(run: StoredRun, task_version: str) -> RunIdentity:
    old = run.manifest
    return RunIdentity(old.checkpoint, old.task, task_version, old.sampling, old.backend)


def save(store: RunStore, rescored: Rescored, task_version: str, *, keep_old: bool, on_wait: OnWait) -> StoredRun:
    """Write a rescored run; killed at any instant, the old scores or the new ones are there, and both are whole.

    Args:
        store: where the run lies.
        rescored: the new scores.
        task_version: the version that they belong to. Another version is another run.
        keep_old: whether a run of another version stays beside the new one.
        on_wait: told before waiting for another process.

    Raises:
        StoreError: the disk refuses, or another process holds the run.
    """
    old = rescored.run.manifest
    same = task_version == old.task_version
    if same and not rescored.n_updated:
        return rescored.run
    identity = _identity(rescored.run, task_version)
    records = list(rescored.run.samples().values())
    with store.open_run(
        identity,
        records,
        n_task_samples=old.n_task_samples,
        n_rollouts=old.n_rollouts,
        environment=old.environment,
        on_wait=on_wait,
        lock_timeout=60.0,
    ) as run:
        # A reader takes the table of a complete run: until the new table is there, the run is not complete.
        kept = {"status": "started", "rollout_units": old.rollout_units, "started": old.started, "seconds": old.seconds}
        run.manifest = run.manifest.model_copy(update=kept)
        write_text_atomic(run.directory / "manifest.json", run.manifest.model_dump_json(indent=2) + "\n")
        _write_journal(run.directory / "journal.jsonl", rescored.rollouts)
        stored = run.finish(0.0) if rescored.run.complete else StoredRun(run.directory, run.manifest)
    if stored.directory != rescored.run.directory and not keep_old:
        _remove(rescored.run.directory)
    return stored


def _write_journal(path: Path, rollouts: Sequence[Rollout]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            stream.writelines(encode(rollout) for rollout in rollouts)

    write_atomic(path, write)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except OSError as error:
        raise StoreError(f"cannot remove {directory}: {error.strerror}; the rescored run is beside it") from error


def change_facts(change: Change) -> dict[str, Any]:
    """A change as plain JSON types."""
    return asdict(change)
