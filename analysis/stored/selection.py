"""Which runs of a store an analysis is about: tasks, series, a base, and no two that must not be mixed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.records import RunManifest
from specs_eval.store import StoredRun
from specs_eval.task_names import canonical_task_name

UNKNOWN = "unknown"
"""What ``--select`` takes for a value that an imported run does not know."""

FIELDS: dict[str, Callable[[RunManifest], object]] = {
    "task_version": lambda manifest: manifest.task_version,
    "temperature": lambda manifest: _or_unknown(manifest.sampling.temperature),
    "top_p": lambda manifest: _or_unknown(manifest.sampling.top_p),
    "max_new_tokens": lambda manifest: _or_unknown(manifest.sampling.max_new_tokens),
    "stop": lambda manifest: _joined(manifest.sampling.stop),
    "seed": lambda manifest: _or_unknown(manifest.sampling.seed),
    "backend": lambda manifest: manifest.backend,
    "fingerprint": lambda manifest: manifest.checkpoint.fingerprint,
}
"""What can tell two runs of one checkpoint and task apart, by the name that ``--select`` takes."""

_SAME_IN_A_SERIES = ("task_version", "temperature", "top_p", "max_new_tokens", "stop")
"""Fields in which the points of a curve must agree: each changes what a score means."""

_SAME_IN_A_PAIR = ("temperature", "top_p")
"""Fields in which ID and OOD must agree; budgets differ with the task."""

_PREFIXED = ("fingerprint", "task_version")


@dataclass(frozen=True, slots=True, order=True)
class CheckpointKey:
    """A checkpoint as people name it, ordered by series and step."""

    series: str
    order: int
    """The step; -1 without one."""
    name: str

    @classmethod
    def of(cls, manifest: RunManifest) -> CheckpointKey:
        """The key of a run's checkpoint."""
        checkpoint = manifest.checkpoint
        return cls(checkpoint.series, -1 if checkpoint.step is None else checkpoint.step, checkpoint.name)

    @property
    def step(self) -> int | None:
        """The training step, if it has one."""
        return None if self.order < 0 else self.order


def _or_unknown(value: float | None) -> float | str:
    return UNKNOWN if value is None else value


def _joined(stop: tuple[str, ...] | None) -> str:
    return UNKNOWN if stop is None else ",".join(stop)


def tasks_in(runs: Iterable[StoredRun]) -> list[str]:
    """Names of the tasks that were run, sorted."""
    return sorted({run.manifest.task for run in runs})


def runs_of_task(runs: Sequence[StoredRun], task: str, selects: Sequence[str]) -> list[StoredRun]:
    """The runs of a task that pass all ``FIELD=VALUE`` selections.

    A run in which nothing was answered does not count where its checkpoint has another.

    Args:
        runs: of a store.
        task: its name, with or without the prefix ``specs_``.
        selects: as typed after ``--select``.

    Raises:
        ConfigError: the store has no such task, a selection is malformed, or it leaves nothing.
    """
    name = canonical_task_name(task)
    found = [run for run in runs if run.manifest.task == name]
    if not found:
        raise ConfigError(f"the store has no run of task {name!r}{_nearest(name, tasks_in(runs))}")
    kept = [run for run in found if all(_selected(run.manifest, text) for text in selects)]
    if not kept:
        raise ConfigError(
            f"no run of {name} passes {' '.join(f'--select {text}' for text in selects)}; {_choices(found, selects)}"
        )
    answered = {CheckpointKey.of(run.manifest) for run in kept if not run.unanswered}
    return [run for run in kept if not run.unanswered or CheckpointKey.of(run.manifest) not in answered]


def check_complete(runs: Sequence[StoredRun], allow_incomplete: bool) -> None:
    """Refuse runs that are not finished, unless asked for.

    Raises:
        ComparisonError: some are not complete; the message names them.
    """
    started = [run.manifest for run in runs if not run.complete]
    if started and not allow_incomplete:
        names = ", ".join(f"{manifest.checkpoint.name} on {manifest.task}" for manifest in started[:5])
        more = f" and {len(started) - 5} more" if len(started) > 5 else ""
        raise ComparisonError(
            f"not complete: {names}{more}; finish with the same 'specs-eval run' command, or use what there is with "
            "--allow-incomplete"
        )


def one_run_each(runs: Sequence[StoredRun]) -> dict[CheckpointKey, StoredRun]:
    """The run of each checkpoint, in order of series and step.

    Raises:
        ComparisonError: a checkpoint has several; the message names the field and how to choose.
    """
    for sentence in several_runs(runs):
        raise ComparisonError(sentence)
    by_key = {CheckpointKey.of(run.manifest): run for run in runs}
    return {key: by_key[key] for key in sorted(by_key)}


def several_runs(runs: Sequence[StoredRun]) -> list[str]:
    """One sentence for each checkpoint that has several runs of a task: in what they differ, and how to choose."""
    together: dict[tuple[str, CheckpointKey], list[StoredRun]] = {}
    for run in runs:
        together.setdefault((run.manifest.task, CheckpointKey.of(run.manifest)), []).append(run)
    sentences = []
    for (task, key), same in together.items():
        fields = [field for field in FIELDS if len(_values(same, field)) > 1]
        if len(same) > 1:
            sentences.append(
                f"{key.name} has {len(same)} runs of {task} that differ in {_described(same, fields)}; {_how(same, fields)}"
            )
    return sentences


def check_comparable(id_runs: Sequence[StoredRun], ood_runs: Sequence[StoredRun]) -> None:
    """Refuse a curve over runs whose scores do not mean the same.

    Raises:
        ComparisonError: the points of one task, or ID and OOD, differ in a field that matters.
    """
    for runs, fields in (
        (id_runs, _SAME_IN_A_SERIES),
        (ood_runs, _SAME_IN_A_SERIES),
        ([*id_runs, *ood_runs], _SAME_IN_A_PAIR),
    ):
        different = [field for field in fields if len(_values(runs, field)) > 1]
        if different:
            tasks = " and ".join(tasks_in(runs))
            raise ComparisonError(
                f"the runs of {tasks} differ in {_described(runs, different)}, so their scores do not compare; "
                f"{_how(runs, different)}"
            )


def find_base(keys: Iterable[CheckpointKey], runs: Sequence[StoredRun], text: str) -> CheckpointKey:
    """The checkpoint that ``--base`` names (see `find_checkpoint`).

    Raises:
        ConfigError: it matches none or several.
    """
    return find_checkpoint(keys, runs, text, option="--base ", place="in the store for both tasks")


def find_checkpoint(
    keys: Iterable[CheckpointKey],
    runs: Sequence[StoredRun],
    text: str,
    *,
    option: str = "",
    place: str = "in the store",
) -> CheckpointKey:
    """The checkpoint that is meant: by name, path, series and step (``dpo/20``), or series.

    Args:
        keys: those that it may be.
        runs: of these checkpoints at least.
        text: as typed.
        option: what it was typed after.
        place: where it was looked for.

    Raises:
        ConfigError: it matches none or several; the message lists them.
    """
    known = sorted(set(keys))
    paths = {CheckpointKey.of(run.manifest): run.manifest.checkpoint.path for run in runs}
    for matches in (
        [key for key in known if key.name == text],
        [key for key in known if _same_path(paths[key], text)],
        [key for key in known if key.step is not None and f"{key.series}/{key.step}" == text],
        [key for key in known if key.series == text],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(key.name for key in matches)
            raise ConfigError(f"{option}{text!r} matches several checkpoints: {names}; name one of them")
    raise ConfigError(f"{option}{text!r} is not {place}; it has: {', '.join(key.name for key in known)}")


def check_series(wanted: Sequence[str], known: Iterable[str]) -> None:
    """Refuse series that the store does not have.

    Raises:
        ConfigError: the message lists those it has.
    """
    names = sorted(set(known))
    for name in wanted:
        if name not in names:
            raise ConfigError(f"the store has no series {name!r} for these tasks{_nearest(name, names)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {near[0]}? It" if near else "; it") + f" has: {', '.join(known)}"


def _same_path(path: str, text: str) -> bool:
    return path == text or Path(path).resolve() == Path(text).expanduser().resolve()


def _selected(manifest: RunManifest, text: str) -> bool:
    field, equals, wanted = text.partition("=")
    if not equals or field not in FIELDS:
        raise ConfigError(f"--select takes FIELD=VALUE with FIELD one of {', '.join(FIELDS)}, not {text!r}")
    value = FIELDS[field](manifest)
    if isinstance(value, int | float) and wanted != UNKNOWN:
        try:
            return float(wanted) == value
        except ValueError as error:
            raise ConfigError(f"--select {text}: {field} is a number") from error
    return bool(wanted) and str(value).startswith(wanted) if field in _PREFIXED else str(value) == wanted


def _values(runs: Sequence[StoredRun], field: str) -> list[str]:
    """The different values of a field; long hashes are cut, but never so that two look the same."""
    values = sorted({str(FIELDS[field](run.manifest)) for run in runs})
    short = [value[:12] for value in values]
    return short if field == "fingerprint" and len(set(short)) == len(values) else values


def _described(runs: Sequence[StoredRun], fields: Sequence[str]) -> str:
    return ", ".join(f"{field} ({' or '.join(_values(runs, field))})" for field in fields)


def _how(runs: Sequence[StoredRun], fields: Sequence[str]) -> str:
    return "choose with " + " ".join(f"--select {field}={_values(runs, field)[0]}" for field in fields)


def _choices(runs: Sequence[StoredRun], selects: Sequence[str]) -> str:
    asked = dict.fromkeys(text.partition("=")[0] for text in selects)
    return f"the runs there have {_described(runs, list(asked))}"
