"""The one loop: what is owed -> the backend answers -> the task scores -> the store keeps.

For each checkpoint and task the runner asks the store what is missing, sends exactly that to the backend, and writes
every scored rollout at once. Interrupted, it continues; finished, it has nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Protocol

from specs_eval.backends.base import Backend, Request, Response
from specs_eval.chat import chat_digest, images_of, text_of
from specs_eval.checkpoints import Checkpoint
from specs_eval.environment import describe_environment
from specs_eval.errors import CheckpointError, ConfigError, GenerationError, SpecsEvalError, StoreError
from specs_eval.in_order import in_order
from specs_eval.records import CheckpointRecord, Rollout, RunIdentity, SampleRecord, SamplingRecord, valid_text
from specs_eval.sampling import SamplingSpec, noise_key
from specs_eval.sharding import Shard
from specs_eval.store import OpenRun, RunStore, StoredRun
from specs_eval.task import Sample, Score, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to evaluate."""

    tasks: Sequence[Task]
    n_rollouts: int = 1
    temperature: float | None = None
    """None: 0 (greedy) for one rollout, 1 for several."""
    limit: int | None = None
    """First samples of each task; None: all."""
    chosen: Mapping[str, Sequence[str]] | None = None
    """Task -> ids of the samples to ask now, in this order; the store's run grows by them. None: `limit` says which."""
    seed: int = 0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    """None: what each task asks for."""
    lock_timeout: float = 3600.0
    shard: Shard | None = None
    """Only this share of the checkpoints on tasks."""

    def __post_init__(self) -> None:
        if self.n_rollouts < 1:
            raise ConfigError(f"--rollouts must be >= 1, not {self.n_rollouts}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit must be >= 1, not {self.limit}")
        if self.n_rollouts > 1 and self.temperature == 0:
            raise ConfigError("--temperature 0 makes all rollouts the same; use --rollouts 1 or a temperature above 0")

    def spec(self, task: Task) -> SamplingSpec:
        """The sampling spec for a task."""
        temperature = self.temperature if self.temperature is not None else float(self.n_rollouts > 1)
        tokens = self.max_new_tokens if self.max_new_tokens is not None else task.max_new_tokens
        return SamplingSpec(temperature, tokens, self.seed, self.top_p, tuple(getattr(task, "stop", ())))


def evaluation_units(checkpoints: Sequence[Checkpoint], request: RunRequest) -> list[tuple[Checkpoint, Task]]:
    """Checkpoints on tasks in the order of the evaluation; only the request's share of them."""
    units = [(checkpoint, task) for checkpoint in checkpoints for task in request.tasks]
    return units if request.shard is None else request.shard.of(units)


class Observer(Protocol):
    """Who wants to see progress; all calls come from the thread of `evaluate`."""

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """A run begins: rollouts owed now, rollouts in all."""

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Rollouts were written."""

    def run_finished(self, run: StoredRun) -> None:
        """A run is complete."""

    def problem(self, text: str) -> None:
        """Something a user must see now."""


@dataclass(slots=True)
class Evaluation:
    """What came of it."""

    runs: list[StoredRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Checkpoints that failed, one sentence each."""

    def n_failed(self) -> int:
        """Rollouts without a score over all runs."""
        return sum(results.n_failed for run in self.runs if (results := run.results()) is not None)


def evaluate(
    checkpoints: Sequence[Checkpoint], request: RunRequest, store: RunStore, backend: Backend, observer: Observer
) -> Evaluation:
    """Evaluate checkpoints on tasks into a store. A checkpoint that fails is recorded; the others go on.

    Raises:
        StoreError: results cannot be written; nothing that was written is lost.
    """
    evaluation = Evaluation()
    for checkpoint, units in groupby(evaluation_units(checkpoints, request), key=lambda unit: unit[0]):
        loaded = _LazyEngine(backend, checkpoint, observer)
        try:
            for _, task in units:
                evaluation.runs.append(_evaluate_task(checkpoint, task, request, store, loaded, observer))
        except (CheckpointError, GenerationError) as error:
            _record_problem(evaluation, observer, checkpoint, str(error))
        except SpecsEvalError:
            # The store, the task's data or the request: the next checkpoint would meet the same.
            raise
        except Exception as error:
            logger.info("%s failed", checkpoint.name, exc_info=True)
            backend.close()
            _record_problem(evaluation, observer, checkpoint, f"{type(error).__name__}: {error} (-v shows where)")
    return evaluation


def _record_problem(evaluation: Evaluation, observer: Observer, checkpoint: Checkpoint, reason: str) -> None:
    evaluation.problems.append(f"{checkpoint.name}: {reason}")
    observer.problem(evaluation.problems[-1])


class _LazyEngine:
    """Loads a checkpoint into the backend when something is owed, and only then."""

    def __init__(self, backend: Backend, checkpoint: Checkpoint, observer: Observer) -> None:
        self.backend = backend
        self._checkpoint = checkpoint
        self._observer = observer
        self._ready = False

    def ready(self) -> Backend:
        if not self._ready:
            self._checkpoint.assert_unchanged()
            self.backend.load(self._checkpoint)
            self._checkpoint.assert_unchanged()
            note = getattr(self.backend, "load_note", None)
            if note is not None:
                self._observer.problem(f"{self._checkpoint.name}: {note}")
            self._ready = True
        return self.backend


def _evaluate_task(
    checkpoint: Checkpoint, task: Task, request: RunRequest, store: RunStore, engine: _LazyEngine, observer: Observer
) -> StoredRun:
    spec = request.spec(task)
    identity = run_identity(checkpoint, task, spec, engine.backend.numerics)
    every = task.samples()
    samples = _wanted(task, every, request)
    records = [sample_record(sample) for sample in samples]
    with store.open_run(
        identity,
        records,
        n_task_samples=len(every),
        n_rollouts=request.n_rollouts,
        environment=describe_environment() | getattr(engine.backend, "environment", {}),
        on_wait=observer.problem,
        lock_timeout=request.lock_timeout,
    ) as run:
        asked = {record.sample_id for record in run.samples.values()}
        if request.chosen is None and len(asked) > len(samples):
            samples = [sample for sample in every if sample.sample_id in asked]
        return _answer(run, samples, task, spec, engine, observer, checkpoint)


def _wanted(task: Task, every: Sequence[Sample], request: RunRequest) -> Sequence[Sample]:
    """The samples that a request is about.

    Raises:
        ConfigError: a chosen sample that the task does not have.
    """
    if request.chosen is None:
        return every[: request.limit] if request.limit is not None else every
    by_id = {sample.sample_id: sample for sample in every}
    ids = request.chosen.get(task.name, ())
    unknown = [one for one in ids if one not in by_id]
    if unknown:
        raise ConfigError(
            f"{task.name} has no sample {unknown[0]!r} (and {len(unknown) - 1:,} more); its data has changed"
        )
    return [by_id[one] for one in ids]


def run_identity(checkpoint: Checkpoint, task: Task, spec: SamplingSpec, numerics: str) -> RunIdentity:
    """Which run of the store a checkpoint's answers to a task go to."""
    return RunIdentity(
        checkpoint=_checkpoint_record(checkpoint),
        task=task.name,
        task_version=task.version,
        sampling=SamplingRecord.model_validate(asdict(spec)),
        backend=numerics,
    )


def _answer(
    run: OpenRun,
    samples: Sequence[Sample],
    task: Task,
    spec: SamplingSpec,
    engine: _LazyEngine,
    observer: Observer,
    checkpoint: Checkpoint,
) -> StoredRun:
    total = len(samples) * run.manifest.n_rollouts
    numbers = range(run.manifest.n_rollouts)
    owed = total - sum((sample.sample_id, number) in run.done for sample in samples for number in numbers)
    observer.run_started(checkpoint, task.name, owed, total)
    started = time.monotonic()
    if owed:
        by_id = {sample.sample_id: sample for sample in samples}
        _judge_again(run, by_id, task, observer)
        first = 0
        for unit in run.manifest.rollout_units:
            requests = owed_requests(samples, run, task.name, range(first, unit), engine)
            responses = _responses(requests, by_id, run, spec, engine)
            for rollouts in in_order(responses, lambda pair: _rollout(task, *pair), scoring_threads(task)):
                run.append(rollouts)
                observer.rollouts_done(
                    len(rollouts), sum(r.n_tokens or 0 for r in rollouts), sum(r.failed for r in rollouts)
                )
            first = unit
    if owed or not run.finished:
        stored = run.finish(time.monotonic() - started)
    else:
        stored = StoredRun(run.directory, run.manifest)
    observer.run_finished(stored)
    return stored


def scoring_threads(task: Task) -> int:
    """How many responses of a task are scored at a time: one, unless its scoring waits for others."""
    return int(getattr(task, "scoring_threads", 1))


def _responses(
    requests: Sequence[Request], samples: Mapping[str, Sample], run: OpenRun, spec: SamplingSpec, engine: _LazyEngine
) -> Iterator[list[tuple[Sample, Response]]]:
    """The responses that are owed, sample by sample as the engine gives them."""
    for asked, responses in engine.ready().generate(requests, spec) if requests else ():
        sample = samples[asked.sample_id]
        yield [(sample, r) for r in responses if not run.has_response(sample.sample_id, r.rollout)]


def _judge_again(run: OpenRun, samples: Mapping[str, Sample], task: Task, observer: Observer) -> None:
    """Score stored responses that only a judge failed to score: the model has answered already."""
    waiting = [[rollout] for rollout in run.unjudged.values() if rollout.sample_id in samples]
    again = in_order(waiting, lambda old: scored_again(task, samples[old.sample_id], old), scoring_threads(task))
    for old, new in zip(waiting, again, strict=True):
        if new != old:
            run.append(new)
        observer.rollouts_done(1, 0, int(new[0].failed))


def owed_requests(
    samples: Sequence[Sample], run: OpenRun, task_name: str, unit: range, engine: _LazyEngine
) -> list[Request]:
    """Requests for what is missing of one unit of rollouts, in whole blocks.

    Samples that are computed together share the last digits of their statistics. So a block of which anything is
    missing is computed again as a whole, and only what is missing is kept: a resumed run then equals one that was
    never interrupted, to the last digit.
    """
    size = engine.backend.block_size(len(unit))
    if size == 0:
        return _missing_requests(samples, run, task_name, unit)
    requests = []
    for start in range(0, len(samples), size):
        block = samples[start : start + size]
        if any(not run.has_response(sample.sample_id, number) for sample in block for number in unit):
            for sample in block:
                key = noise_key(task_name, sample.sample_id)
                requests.append(Request(sample.sample_id, key, sample.chat, tuple(unit)))
    return requests


def _missing_requests(samples: Sequence[Sample], run: OpenRun, task_name: str, unit: range) -> list[Request]:
    """Requests for the rollouts that are missing and no others."""
    requests = []
    for sample in samples:
        missing = tuple(number for number in unit if not run.has_response(sample.sample_id, number))
        if missing:
            key = noise_key(task_name, sample.sample_id)
            requests.append(Request(sample.sample_id, key, sample.chat, missing))
    return requests


def sample_record(sample: Sample) -> SampleRecord:
    """What the store keeps of a sample."""
    return SampleRecord(
        sample_id=sample.sample_id,
        prompt=valid_text(text_of(sample.chat)),
        prompt_hash=chat_digest(sample.chat),
        target=valid_text(sample.target),
        group=sample.group,
        category=dict(sample.category),
        images=tuple(image.digest for image in images_of(sample.chat)),
        meta=dict(sample.meta),
    )


def _rollout(task: Task, sample: Sample, response: Response) -> Rollout:
    if response.error is not None:
        score = Score(None, rule="generation failed", reason=response.error)
    else:
        score = score_response(task, sample, response.text)
    rollout = Rollout(
        sample_id=sample.sample_id,
        rollout=response.rollout,
        response=valid_text(response.text),
        score=None,
        finish_reason=response.finish_reason,
        n_tokens=response.n_tokens,
        entropy=response.entropy,
        nucleus=response.nucleus,
        nucleus_sizes=response.nucleus_sizes,
        entropies=response.entropies,
    )
    return _with_score(rollout, score)


def scored_again(task: Task, sample: Sample, rollout: Rollout) -> Rollout:
    """The same rollout with the task's score of its response."""
    return _with_score(rollout, score_response(task, sample, rollout.response))


def _with_score(rollout: Rollout, score: Score) -> Rollout:
    return replace(
        rollout,
        score=score.score,
        answer=None if score.answer is None else valid_text(score.answer),
        rule=score.rule,
        reason=None if score.reason is None else valid_text(score.reason),
        metrics=dict(score.metrics),
    )


def score_response(task: Task, sample: Sample, text: str) -> Score:
    """The task's score; a scorer that raises leaves the rollout unscored: the one boundary around foreign scorers.

    Raises:
        StoreError: a judge's replies cannot be kept.
    """
    try:
        return task.score(sample, text)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - one sample must not end a run
        logger.warning("%s: scorer failed on %s: %r", task.name, sample.sample_id, error)
        return Score(None, rule="scorer failed", reason=f"{type(error).__name__}: {error}"[:500])


def _checkpoint_record(checkpoint: Checkpoint) -> CheckpointRecord:
    return CheckpointRecord(
        name=checkpoint.name,
        series=checkpoint.series,
        step=checkpoint.step,
        fingerprint=checkpoint.fingerprint,
        path=str(checkpoint.path),
        base=None if checkpoint.base is None else str(checkpoint.base),
    )
