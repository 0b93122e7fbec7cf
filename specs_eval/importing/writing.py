"""Writing imported results into a store: the same results again are the same run, other results never mix with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from specs_eval.importing.imported import ImportedLog, slug
from specs_eval.journal import encode
from specs_eval.locking import OnWait
from specs_eval.records import CheckpointRecord, RunIdentity
from specs_eval.store import RunStore, StoredRun

FINGERPRINT_PREFIX = "imported:"
VERSION_PREFIX = "imported-"
BACKEND_PREFIX = "imported/"


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """What became of a log."""

    run: StoredRun
    log: ImportedLog
    new: bool
    """False: the store had it already."""


def identity_of(log: ImportedLog) -> RunIdentity:
    """What makes a log a run of its own.

    The weights are not known. For their fingerprint stands a hash of the checkpoint's name and of all that is imported,
    so that two logs never mix and the same log is always the same run. The task's version is a hash of ids, prompts and
    targets and names the score: logs of two checkpoints compare when they were asked the same, and only then.
    """
    names = log.checkpoint
    content = _digest(
        [
            json.dumps([names.name, names.series, names.step, log.task, log.score_name]).encode(),
            *(json.dumps(asdict(record), sort_keys=True).encode() for record in log.samples),
            *sorted(encode(rollout) for rollout in log.rollouts),
        ]
    )
    asked = sorted(json.dumps([one.sample_id, one.prompt, one.target]).encode() for one in log.samples)
    return RunIdentity(
        checkpoint=CheckpointRecord(
            name=names.name,
            series=names.series,
            step=names.step,
            fingerprint=FINGERPRINT_PREFIX + content,
            path=log.path,
        ),
        task=log.task,
        task_version=f"{VERSION_PREFIX}{slug(log.score_name)}-{_digest(asked)[:12]}",
        sampling=log.sampling,
        backend=BACKEND_PREFIX + log.writer,
    )


def write_log(store: RunStore, log: ImportedLog, on_wait: OnWait | None = None) -> ImportedRun:
    """Write a log as a complete run. Killed at any instant, the same import finishes it.

    Raises:
        StoreError: the disk refuses, or another process holds the run.
    """
    identity = identity_of(log)
    environment = {
        "imported_from": log.source,
        "score": log.score_name,
        "not_known": ", ".join(log.gaps),
        **{f"note_{place}": note for place, note in enumerate(log.notes, 1)},
        **log.facts,
    }
    with store.open_run(
        identity,
        log.samples,
        n_task_samples=log.n_task_samples,
        n_rollouts=log.n_rollouts,
        environment=environment,
        on_wait=on_wait,
        lock_timeout=60.0,
    ) as run:
        if run.finished:
            return ImportedRun(StoredRun(run.directory, run.manifest), log, new=False)
        run.append([rollout for rollout in log.rollouts if (rollout.sample_id, rollout.rollout) not in run.done])
        return ImportedRun(run.finish(0.0), log, new=True)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
