"""Answers for a sequential check, generated as they are needed: chosen samples through the ordinary runner and store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import click

from specs_eval.analysis.checks.measures import Sides
from specs_eval.analysis.checks.units import Asked
from specs_eval.analysis.stored.sides import Side, check_questions, check_settings
from specs_eval.backends.base import Backend, BackendOptions, Request, Response, Timing
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli.check_contenders import Contender, checkpoint_of, of_weights, runs_in
from specs_eval.cli.check_likeness import load_task, request_for
from specs_eval.cli.check_missing import Terms, best_run
from specs_eval.cli.check_run import Plan
from specs_eval.cli.check_run_options import Running
from specs_eval.errors import ComparisonError, GenerationError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.runner import RunRequest, evaluate
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore, StoredRun
from specs_eval.task import Sample, Task


class AskedSource:
    """A `Source` that asks what the store lacks. Use as a context manager: it holds an engine."""

    def __init__(self, plan: Plan, store: Path, running: Running) -> None:
        self._terms = dict(plan.terms)
        self._contenders = {one.role: one for one in plan.contenders}
        self._store_path, self._running = store, running
        self._tasks: dict[str, _Loaded] = {}
        self._runs: dict[tuple[str, str], StoredRun] = {}
        self._covered: dict[tuple[str, str], set[str]] = {}
        self._answered: dict[tuple[str, str], set[str]] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._engines: dict[tuple[str, str | None], _Engine] = {}
        self._compared: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines.values():
            engine.backend.close()

    def asked(self, task: str, sides: Sequence[str]) -> Sequence[Asked]:
        """The samples of a task: those of ``--limit``, or the first ones where the baseline answered just these; else all."""
        samples = self._task(task).samples()
        if self._running.limit is not None:
            return list(samples[: self._running.limit])
        for side in sides:
            run = self._stored(side, task) if side != "candidate" else None
            if run is not None:
                ids = set(run.samples())
                first = samples[: len(ids)]
                return first if {sample.sample_id for sample in first} == ids else samples
        return samples

    def fetch(
        self, wanted: Mapping[str, Mapping[str, Sequence[str]]], ahead: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        """Ask what is missing; a baseline or base for some rounds ahead, so that checkpoints take turns seldom.

        Raises:
            ConfigError, ComparisonError: a task or checkpoint cannot be had as the reference was, or does not compare.
            GenerationError: a checkpoint failed; what was answered is stored.
        """
        for side, tasks in sorted(wanted.items(), key=lambda item: item[0] == "candidate"):
            for task, ids in tasks.items():
                more = () if side == "candidate" else ahead.get(side, {}).get(task, ())
                self._fetch(side, task, ids, more)
        for task in {task for tasks in wanted.values() for task in tasks} - self._compared:
            self._compare(task, [side for side, tasks in wanted.items() if task in tasks])

    def fetch_rest(self, task: str, sides: Sequence[str]) -> None:
        """Answers for a gate that cannot stop early: the samples that the candidate was asked already, else all."""
        run = self._stored("candidate", task)
        ids = [*run.samples()] if run is not None else [sample.sample_id for sample in self.asked(task, sides)]
        self.fetch({side: {task: ids} for side in sides}, {})

    def run(self, side: str, task: str) -> StoredRun:
        """What a side has answered of a task.

        Raises:
            ComparisonError: nothing yet.
        """
        found = self._stored(side, task)
        if found is None:
            raise ComparisonError(f"the {side} has answered nothing of {task} yet")
        return found

    def sides(self) -> Sides:
        """Both checkpoints with the runs that count."""
        stored = runs_in(self._store_path)
        found = {role: self._side(one, stored) for role, one in self._contenders.items()}
        runs = tuple(run for side in found.values() for run in side.runs)
        return Sides(found["baseline"], found["candidate"], runs, (), True, True)

    def base_names(self) -> dict[str, str]:
        """Base as the policy names it -> fingerprint, by which the store knows it whatever it is called there."""
        return {
            role.removeprefix("base "): one.side.fingerprint
            for role, one in self._contenders.items()
            if role.startswith("base ")
        }

    def _side(self, contender: Contender, stored: Sequence[StoredRun]) -> Side:
        mine = of_weights(contender.side, stored)
        runs = [run for task in contender.tasks if (run := self._stored(contender.role, task)) is not None]
        return Side(mine.key, mine.fingerprint, tuple(runs))

    def _stored(self, side: str, task: str) -> StoredRun | None:
        if (side, task) not in self._runs:
            found = best_run(self._contenders[side], self._terms[task])
            if found is not None:
                self._runs[side, task] = found
        return self._runs.get((side, task))

    def _fetch(self, side: str, task: str, ids: Sequence[str], more: Sequence[str]) -> None:
        """Ask what is new since the last round, as a whole: so a round that was killed is formed again as it was."""
        covered = self._covered.setdefault((side, task), set())
        if covered.issuperset(ids):
            return
        new = [one for one in dict.fromkeys([*ids, *more]) if one not in covered]
        covered.update(new)
        if self._lacks(side, task, new):
            self._ask(side, task, new)

    def _lacks(self, side: str, task: str, ids: Sequence[str]) -> bool:
        """Whether a sample lacks rollouts. What failed was asked; 'specs-eval run' tries it again."""
        if (side, task) not in self._answered:
            run = self._stored(side, task)
            self._answered[side, task] = set() if run is None else _answered(run, self._terms[task].n_rollouts)
        answered = self._answered[side, task]
        return not answered.issuperset(ids)

    def _ask(self, side: str, task: str, ids: Sequence[str]) -> None:
        loaded, terms = self._task(task), self._terms[task]
        store = RunStore.create(self._store_path)
        checkpoint = self._checkpoint(side, store)
        request, name, options = request_for([terms], {task: loaded}, self._running, [checkpoint])
        request = replace(request, limit=None, chosen={task: ids})
        click.echo(f"asking {checkpoint.name} {len(ids):,} samples of {task}", err=True)
        run = self._evaluate(checkpoint, request, store, self._engine(name, options))
        self._runs[side, task] = run
        self._answered[side, task] |= set(ids)
        if terms.reference is None:
            # The others are asked like the first one that was.
            self._terms[task] = Terms(task, run, terms.n_rollouts, None)

    def _evaluate(self, checkpoint: Checkpoint, request: RunRequest, store: RunStore, engine: _Engine) -> StoredRun:
        evaluation = evaluate([checkpoint], request, store, engine, _Quiet())
        if evaluation.problems:
            raise GenerationError("not evaluated, so nothing is judged: " + "; ".join(evaluation.problems))
        return evaluation.runs[0]

    def _compare(self, task: str, sides: Sequence[str]) -> None:
        """Refuse answers that do not mean the same, as soon as there are some."""
        runs = [run for side in sides if (run := self._stored(side, task)) is not None]
        for run in runs[1:]:
            check_settings(runs[0], run)
            check_questions(runs[0], run)
        self._compared.add(task)

    def _task(self, name: str) -> _Loaded:
        if name not in self._tasks:
            self._tasks[name] = _Loaded(load_task(self._terms[name], self._running))
        return self._tasks[name]

    def _checkpoint(self, side: str, store: RunStore) -> Checkpoint:
        if side not in self._checkpoints:
            fingerprinter = Fingerprinter(store.root / "fingerprints.json")
            self._checkpoints[side] = checkpoint_of(self._contenders[side], fingerprinter)
        return self._checkpoints[side]

    def _engine(self, name: str, options: BackendOptions) -> _Engine:
        key = (name, options.dtype)
        if key not in self._engines:
            from specs_eval.backends.registry import create_backend

            self._engines[key] = _Engine(create_backend(name, options))
        return self._engines[key]


def _answered(run: StoredRun, n_rollouts: int) -> set[str]:
    counts: dict[str, set[int]] = {}
    table = run.table(["sample_id", "rollout"])
    for sample_id, rollout in zip(table["sample_id"].to_pylist(), table["rollout"].to_pylist(), strict=True):
        counts.setdefault(sample_id, set()).add(rollout)
    wanted = set(range(n_rollouts))
    return {sample_id for sample_id, rollouts in counts.items() if wanted <= rollouts}


class _Loaded:
    """A task whose samples are read once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._samples = list(task.samples())

    def samples(self) -> list[Sample]:
        """All of them."""
        return self._samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


class _Engine:
    """A backend that keeps the checkpoint that it has loaded from one round to the next."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name
        self.timing: Timing = backend.timing
        self._loaded = ""

    @property
    def numerics(self) -> str:
        """Of the backend."""
        return self.backend.numerics

    def block_size(self, n_rollouts: int) -> int:
        """Of the backend."""
        return self.backend.block_size(n_rollouts)

    def load(self, checkpoint: Checkpoint) -> None:
        """Load, unless this is what answers already."""
        if self._loaded != checkpoint.fingerprint:
            self._loaded = ""
            self.backend.load(checkpoint)
            self._loaded = checkpoint.fingerprint

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[tuple[Request, list[Response]]]:
        """Of the backend."""
        return self.backend.generate(requests, spec)

    def close(self) -> None:
        """Close the backend."""
        self._loaded = ""
        self.backend.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


class _Quiet:
    """Rounds are short and many: only problems are told."""

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """Nothing."""

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Nothing."""

    def run_finished(self, run: StoredRun) -> None:
        """Nothing."""

    def problem(self, text: str) -> None:
        """Tell."""
        click.echo(text, err=True)
