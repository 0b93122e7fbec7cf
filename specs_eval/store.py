"""The run store: plain files that survive being killed at any instant.

A run directory holds, in the order in which they come to be::

    manifest.json     what runs: weights, task, sampling; status ``started``, then ``complete``
    samples.jsonl     what is asked and the right answers
    journal.jsonl     one rollout a line, appended as results arrive
    rollouts.parquet  the same as a table                        (last, atomically)
    results.json      totals                                     (last, atomically)

The journal is the record; table and totals are functions of it. A lock file keeps a second process out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from specs_eval.errors import ConfigError, StoreError
from specs_eval.files import write_atomic, write_text_atomic
from specs_eval.journal import Journal
from specs_eval.locking import OnWait, RunLock
from specs_eval.records import SCHEMA_VERSION, Rollout, RunIdentity, RunManifest, RunResults, SampleRecord
from specs_eval.run_files import read_json, read_model, read_samples, write_manifest
from specs_eval.task import JUDGE_FAILED

if TYPE_CHECKING:
    import pyarrow as pa

MARKER = "specs-eval-store.json"


class StoredRun:
    """A run as it lies on disk; reading needs no lock."""

    def __init__(self, directory: Path, manifest: RunManifest) -> None:
        self.directory = directory
        self.manifest = manifest

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.manifest.run_id

    @property
    def complete(self) -> bool:
        """Whether everything asked for was written."""
        return self.manifest.status == "complete"

    @property
    def unanswered(self) -> bool:
        """Whether it was begun and nothing was answered, as where the engine did not come up."""
        journal = self.directory / "journal.jsonl"
        return not self.complete and not (journal.exists() and journal.stat().st_size)

    def samples(self) -> dict[str, SampleRecord]:
        """What was asked, by sample id, in the order of the task."""
        return read_samples(self.directory / "samples.jsonl")

    def rollouts(self) -> Iterable[Rollout]:
        """The journal's whole records, in the order written."""
        return Journal(self.directory / "journal.jsonl").read()

    def results(self) -> RunResults | None:
        """Totals; None while the run is not complete."""
        if not self.complete:
            return None
        return read_model(RunResults, self.directory / "results.json")

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a rollout (columns: see `specs_eval.tables`); from the journal while the run is not complete.

        Columns that the run does not have (a metric of another task) are left out.
        """
        if self.complete:
            import pyarrow.parquet as pq

            path = self.directory / "rollouts.parquet"
            try:
                with pq.ParquetFile(path) as file:
                    names = file.schema_arrow.names
                    return file.read(columns=None if columns is None else [c for c in columns if c in names])
            except (OSError, ValueError) as error:
                raise StoreError(f"cannot read {path}: {error}; delete it and run again to rebuild it") from error
        from specs_eval.tables import rollout_table

        table = rollout_table(self.samples(), self.rollouts())
        return table if columns is None else table.select([c for c in columns if c in table.column_names])

    def batches(self, columns: Sequence[str], n_rows: int = 4096) -> Iterator[pa.Table]:
        """The table piece by piece, in its order: for texts, of which a whole column may not fit into memory."""
        if not self.complete:
            yield self.table(columns)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.directory / "rollouts.parquet"
        try:
            with pq.ParquetFile(path) as file:
                known = [name for name in columns if name in file.schema_arrow.names]
                for batch in file.iter_batches(n_rows, columns=known):
                    yield pa.Table.from_batches([batch])
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}: {error}; delete it and run again to rebuild it") from error


class RunStore:
    """A folder of runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: str | Path) -> RunStore:
        """Open a store for writing; made when it does not exist.

        Raises:
            ConfigError: the folder cannot be written, or holds something else.
            StoreError: the store is of another schema.
        """
        path = Path(root)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / MARKER).exists():
                cls.refuse_foreign(path)
                write_text_atomic(path / MARKER, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise ConfigError(f"cannot write the run store {path}: {error.strerror}; choose another --store") from error
        return cls.open(path)

    @classmethod
    def open(cls, root: str | Path) -> RunStore:
        """Open an existing store.

        Raises:
            ConfigError: there is no store at this place.
            StoreError: its marker is unreadable or of another schema.
        """
        path = Path(root)
        marker = path / MARKER
        if not marker.is_file():
            raise ConfigError(f"no run store at {path}; 'specs-eval run' makes one, --store names another")
        version = read_json(marker).get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(f"{path} has store schema {version}; this version of specs-eval reads {SCHEMA_VERSION}")
        return cls(path)

    @staticmethod
    def refuse_foreign(path: Path) -> None:
        """Make sure that a folder, if it exists, may become a store.

        Raises:
            ConfigError: it holds something else.
        """
        if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise ConfigError(f"{path} is not empty and not a run store; name another folder with --store")
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file, not a run store; name a folder with --store")

    def runs(self) -> list[StoredRun]:
        """All runs, by name.

        Raises:
            StoreError: a manifest is unreadable; the message names the file.
        """
        manifests = sorted(self.root.glob("*/manifest.json"))
        return [StoredRun(path.parent, read_model(RunManifest, path)) for path in manifests]

    def find(self, identity: RunIdentity) -> StoredRun | None:
        """The stored run with this identity, if any."""
        path = self.root / identity.run_id / "manifest.json"
        return StoredRun(path.parent, read_model(RunManifest, path)) if path.exists() else None

    def open_run(
        self,
        identity: RunIdentity,
        samples: Sequence[SampleRecord],
        *,
        n_task_samples: int,
        n_rollouts: int,
        environment: Mapping[str, str],
        on_wait: OnWait | None = None,
        lock_timeout: float = 3600.0,
    ) -> OpenRun:
        """Take a run's lock and bring its manifest up to what is asked for now.

        A run grows: more samples or more rollouts than before extend it, fewer leave it as it is.

        Raises:
            StoreError: another process holds the run for longer than `lock_timeout` seconds, or the disk refuses.
        """
        directory = self.root / identity.run_id
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {directory}: {error.strerror}") from error
        lock = RunLock(directory / "lock", on_wait, lock_timeout)
        lock.acquire()
        try:
            manifest, records = _plan(directory, identity, samples, n_task_samples, n_rollouts, dict(environment))
            return OpenRun(directory, lock, manifest, records)
        except BaseException:
            lock.release()
            raise


class OpenRun:
    """A run that this process may write to. Use as a context manager."""

    def __init__(self, directory: Path, lock: RunLock, manifest: RunManifest, samples: dict[str, SampleRecord]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.samples = samples
        self.done: set[tuple[str, int]] = set()
        """(sample id, rollout) with a score; failed ones are owed again."""
        self.unjudged: dict[tuple[str, int], Rollout] = {}
        """Rollouts with a response that only a judge failed to score: it is owed the judge, not the model."""
        self._lock = lock
        self._journal = Journal(directory / "journal.jsonl")
        self._failed: set[tuple[str, int]] = set()

    def __enter__(self) -> Self:
        try:
            self._journal.open()
            self._scan()
            if not self.done:
                self._take_over()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._journal.close()
        finally:
            self._lock.release()

    def append(self, rollouts: Sequence[Rollout]) -> None:
        """Write rollouts to the journal (see `Journal.append`)."""
        self._journal.append(rollouts)
        for rollout in rollouts:
            self._count(rollout)

    def finish(self, seconds: float) -> StoredRun:
        """Write table and totals, then the manifest with status ``complete``: each atomically, in this order."""
        import pyarrow.parquet as pq

        from specs_eval.tables import results_of, rollout_table

        table = rollout_table(self.samples, self._journal.read())
        write_atomic(self.directory / "rollouts.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
        results = results_of(self.manifest.run_id, table)
        write_text_atomic(self.directory / "results.json", results.model_dump_json(indent=2) + "\n")
        update = {"status": "complete", "finished": _now(), "seconds": round(self.manifest.seconds + seconds, 3)}
        self.manifest = self.manifest.model_copy(update=update)
        write_manifest(self.directory, self.manifest)
        return StoredRun(self.directory, self.manifest)

    @property
    def finished(self) -> bool:
        """Whether manifest, table and totals all say so (a user may have deleted a damaged table)."""
        outputs = (self.directory / name for name in ("rollouts.parquet", "results.json"))
        return self.manifest.status == "complete" and all(path.exists() for path in outputs)

    def has_response(self, sample_id: str, rollout: int) -> bool:
        """Whether the model need not be asked (again)."""
        return (sample_id, rollout) in self.done or (sample_id, rollout) in self.unjudged

    @property
    def n_failed(self) -> int:
        """Rollouts that were tried and have no score."""
        return len(self._failed - self.done)

    def _take_over(self) -> None:
        """Start from what the same weights answered under another name: a renamed checkpoint costs nothing."""
        digest = self.manifest.run_id.rpartition("--")[2]
        for path in sorted(self.directory.parent.glob(f"*--{digest}/journal.jsonl")):
            if path.parent == self.directory or not (path.parent / "manifest.json").exists():
                continue
            wanted = range(self.manifest.n_rollouts)
            found = {}
            for rollout in Journal(path).read():
                if rollout.sample_id in self.samples and rollout.rollout in wanted and not rollout.failed:
                    found[rollout.sample_id, rollout.rollout] = rollout
            self.append([rollout for key, rollout in found.items() if key not in self.done])

    def _scan(self) -> None:
        """Learn from the journal what is done. Of a scored rollout no more is needed than which one it is."""
        for facts in self._journal.facts():
            if facts["score"] is None:
                self._count(Rollout(**facts))
                continue
            key = (facts["sample_id"], facts["rollout"])
            self.done.add(key)
            if self.unjudged:
                self.unjudged.pop(key, None)

    def _count(self, rollout: Rollout) -> None:
        key = (rollout.sample_id, rollout.rollout)
        if not rollout.failed:
            self.done.add(key)
            if self.unjudged:
                self.unjudged.pop(key, None)
            return
        self._failed.add(key)
        if rollout.rule == JUDGE_FAILED and key not in self.done:
            self.unjudged[key] = rollout
        else:
            self.unjudged.pop(key, None)


def _plan(
    directory: Path,
    identity: RunIdentity,
    samples: Sequence[SampleRecord],
    n_task_samples: int,
    n_rollouts: int,
    environment: dict[str, str],
) -> tuple[RunManifest, dict[str, SampleRecord]]:
    """Manifest and samples for what is asked for now; both on disk when this returns."""
    path, samples_path = directory / "manifest.json", directory / "samples.jsonl"
    old = read_model(RunManifest, path) if path.exists() else None
    records = read_samples(samples_path) if old is not None and samples_path.exists() else {}
    grown = {record.sample_id: record for record in samples}
    grows = not grown.keys() <= records.keys()
    if old is not None and not grows and n_rollouts <= old.n_rollouts:
        return old, records
    merged = grown | {key: record for key, record in records.items() if key not in grown}
    units = old.rollout_units if old else ()
    if not units or n_rollouts > units[-1]:
        units = (*units, n_rollouts)
    manifest = RunManifest(
        schema_version=SCHEMA_VERSION,
        run_id=identity.run_id,
        status="started",
        checkpoint=identity.checkpoint,
        task=identity.task,
        task_version=identity.task_version,
        sampling=identity.sampling,
        backend=identity.backend,
        n_samples=len(merged),
        n_task_samples=n_task_samples,
        rollout_units=units,
        environment=environment,
        started=old.started if old else _now(),
        seconds=old.seconds if old else 0.0,
    )
    # The manifest comes first: whatever else is on disk after a kill, a reader can tell that it is not complete.
    write_manifest(directory, manifest)
    lines = [json.dumps(asdict(record), separators=(",", ":")) + "\n" for record in merged.values()]
    write_text_atomic(samples_path, "".join(lines))
    return manifest, merged


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
