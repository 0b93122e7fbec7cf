"""Which runs of a store a report shows: one a checkpoint and task, comparable with each other; the rest is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specs_eval.analysis.report.content import RunFacts
from specs_eval.analysis.report.wording import counted, listed
from specs_eval.analysis.stored.selection import (
    CheckpointKey,
    check_series,
    find_base,
    runs_of_task,
    several_runs,
    tasks_in,
)
from specs_eval.cli.chosen_runs import Choice
from specs_eval.errors import ConfigError
from specs_eval.records import RunManifest, SamplingRecord
from specs_eval.splits import parse_splits
from specs_eval.store import StoredRun
from specs_eval.task_names import ID_SUFFIX, OOD_SUFFIX

Runs = dict[CheckpointKey, StoredRun]


@dataclass(frozen=True, slots=True)
class ShownRuns:
    """The runs of a report."""

    by_task: dict[str, Runs]
    """Checkpoints by series and step."""
    base: CheckpointKey | None
    notes: tuple[str, ...]
    """What was left out, one sentence each."""

    @property
    def runs(self) -> list[StoredRun]:
        """All of them, by task."""
        return [run for runs in self.by_task.values() for run in runs.values()]

    @property
    def keys(self) -> list[CheckpointKey]:
        """All checkpoints: the base first, then by series and step."""
        keys = sorted({key for runs in self.by_task.values() for key in runs})
        return sorted(keys, key=lambda key: key != self.base)

    @property
    def base_series(self) -> str | None:
        """The series of the base, where it is alone in it."""
        if self.base is None or any(key.series == self.base.series for key in self.keys if key != self.base):
            return None
        return self.base.series

    @property
    def methods(self) -> list[str]:
        """Series, that of the base first."""
        return list(dict.fromkeys(key.series for key in self.keys))


def shown_runs(stored: Sequence[StoredRun], tasks: str | None, base: str | None, choice: Choice) -> ShownRuns:
    """Choose the runs.

    Where a checkpoint has several runs of a task, or runs of a task differ in what scores mean, the settings that most
    checkpoints share are shown, the latest run of them; what that leaves out is said.

    Args:
        stored: all runs.
        tasks: comma-separated, None: all.
        base: as typed, None: guessed (see `guessed_base`).
        choice: series, selections and whether incomplete runs are wanted.

    Raises:
        ConfigError: a task, series, base or selection that the store does not have, or nothing is left to show.
    """
    names = tasks_in(stored) if tasks is None else [split.task for split in parse_splits(tasks)]
    notes: list[str] = []
    by_task = {name: _of_task(runs_of_task(stored, name, choice.selects), choice, notes) for name in names}
    keys = {key for runs in by_task.values() for key in runs}
    found = [run for runs in by_task.values() for run in runs.values()]
    base_key = guessed_base(keys) if base is None else find_base(keys, found, base)
    if choice.series:
        check_series(choice.series, (key.series for key in keys))
        for name, runs in by_task.items():
            by_task[name] = {key: run for key, run in runs.items() if key.series in choice.series or key == base_key}
    by_task = {name: runs for name, runs in by_task.items() if runs}
    if not by_task:
        raise ConfigError(f"nothing to report: {'; '.join(notes) or 'the store has no finished run'}")
    return ShownRuns(by_task, base_key, tuple(dict.fromkeys(notes)))


def guessed_base(keys: Iterable[CheckpointKey]) -> CheckpointKey | None:
    """The base, where it is plain: the one checkpoint without a step beside series with steps, or the one named base."""
    known = list(keys)
    without_step = [key for key in known if key.step is None]
    if len(without_step) == 1 and len(known) > 1:
        return without_step[0]
    named = [key for key in without_step if key.name == "base"]
    return named[0] if len(named) == 1 and len(known) > 1 else None


def format_pairs(tasks: Iterable[str]) -> list[tuple[str, str]]:
    """The ID and OOD tasks that the names tell: ``X_formats_id`` with ``X_formats_ood``."""
    known = list(tasks)
    stems = [name.removesuffix(ID_SUFFIX) for name in known if name.endswith(ID_SUFFIX)]
    return [(stem + ID_SUFFIX, stem + OOD_SUFFIX) for stem in stems if stem + OOD_SUFFIX in known]


def run_facts(run: StoredRun) -> RunFacts:
    """What the page says of a run."""
    manifest, results = run.manifest, run.results()
    if results is None:
        scores = run.table(["score"])["score"]
        n_present, n_unscored = len(scores), scores.null_count
    else:
        n_present, n_unscored = results.n_rollouts, results.n_failed
    return RunFacts(
        run=run.run_id,
        checkpoint=manifest.checkpoint.name,
        series=manifest.checkpoint.series,
        step=manifest.checkpoint.step,
        task=manifest.task,
        task_version=manifest.task_version,
        sampling=_sampling(manifest.sampling),
        backend=manifest.backend,
        n_samples=manifest.n_samples if results is None else results.n_samples,
        n_task_samples=manifest.n_task_samples,
        n_rollouts=manifest.n_rollouts,
        n_present=n_present,
        n_unscored=n_unscored,
        complete=run.complete,
        fingerprint=manifest.checkpoint.fingerprint[:12],
        started=manifest.started[:16].replace("T", " "),
    )


def _of_task(runs: Sequence[StoredRun], choice: Choice, notes: list[str]) -> Runs:
    """One run a checkpoint; what is left out goes into the notes."""
    started = [run for run in runs if not run.complete]
    if started and not choice.allow_incomplete:
        names = listed([f"{run.manifest.checkpoint.name} on {run.manifest.task}" for run in started])
        notes.append(
            f"{counted(len(started), 'run')} not complete and left out: {names}; finish with the same 'specs-eval run' "
            "command, or show what there is with --allow-incomplete"
        )
        runs = [run for run in runs if run.complete]
    kept = _comparable(runs, notes)
    sentences = several_runs(kept)
    if sentences:
        notes.append(f"{sentences[0]}; the latest is shown")
    latest = {CheckpointKey.of(run.manifest): run for run in sorted(kept, key=lambda run: run.manifest.started)}
    return {key: latest[key] for key in sorted(latest)}


def _comparable(runs: Sequence[StoredRun], notes: list[str]) -> list[StoredRun]:
    """The runs under the settings that most checkpoints share; of equals, the latest."""
    groups: dict[tuple[object, ...], list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(_meaning(run.manifest), []).append(run)
    if len(groups) < 2:
        return list(runs)

    def weight(group: list[StoredRun]) -> tuple[int, str]:
        return len({CheckpointKey.of(run.manifest) for run in group}), max(run.manifest.started for run in group)

    best = max(groups.values(), key=weight)
    settings = f"{_sampling(best[0].manifest.sampling)}, task version {best[0].manifest.task_version}"
    notes.append(
        f"{best[0].manifest.task}: {counted(len(runs) - len(best), 'run')} with other sampling or another task version left "
        f"out; shown are those with {settings}; choose with --select"
    )
    return best


def _meaning(manifest: RunManifest) -> tuple[object, ...]:
    """What changes the meaning of a score."""
    return (manifest.task_version, *manifest.sampling.model_dump(exclude={"seed"}).values())


def _sampling(sampling: SamplingRecord) -> str:
    """Sampling in words; what an import did not know is left out."""
    facts = {
        "temperature": sampling.temperature,
        "top-p": sampling.top_p,
        "max tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
    }
    return ", ".join(f"{name} {value:g}" for name, value in facts.items() if value is not None) or "not known"
