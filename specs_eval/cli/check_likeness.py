"""How a missing evaluation is made like the reference: the task with its rules, and what the runner is asked of which engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from specs_eval.analysis.stored.sides import IMPORTED, REMEDIES
from specs_eval.backends.base import BackendOptions
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli.check_missing import Terms
from specs_eval.cli.check_run_options import Running
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.runner import RunRequest
from specs_eval.task import Task

DTYPES = ("float32", "bfloat16", "float16")
"""Number formats that an engine can be asked for; what else stands after its name is decided elsewhere."""


def load_task(terms: Terms, running: Running) -> Task:
    """The task as the reference was scored: same rules, same questions.

    Raises:
        ConfigError: no such task, or a judge is needed and not given.
        ComparisonError: today's data or rules are not those of the reference.
    """
    from specs_eval.tasks.profiles import PROFILES, judged_by, profile_of
    from specs_eval.tasks.registry import get_task

    if terms.reference is None:
        return get_task(terms.task, running.data_dir, running.include_paths, judge=running.judge)
    manifest = terms.reference.manifest
    if manifest.checkpoint.fingerprint.startswith(IMPORTED):
        raise ConfigError(
            f"{manifest.checkpoint.name} on {terms.task} was imported: how it was evaluated is not known, so --run cannot "
            "evaluate another checkpoint in the same way; evaluate both with 'specs-eval run'"
        )
    judge_name = judged_by(manifest.task_version)
    if judge_name is not None and running.judge is None:
        raise ConfigError(
            f"{manifest.checkpoint.name} on {terms.task} was scored with the judge {judge_name}; give --judge URL "
            f"--judge-model {judge_name}"
        )
    judge = None if judge_name is None else running.judge
    first = profile_of(manifest.task_version)
    versions = []
    # A format-following view does not name the profile of its base task: then the one whose version fits is meant.
    for profile in (first, *(name for name in PROFILES if name != first)):
        task = get_task(terms.task, running.data_dir, running.include_paths, profile, judge)
        if task.version == manifest.task_version:
            _check_stop(task, terms)
            return task
        versions.append(task.version)
    raise ComparisonError(
        f"{terms.task} cannot be evaluated as {manifest.checkpoint.name} was; they would differ in task_version (baseline "
        f"{manifest.task_version!r}, candidate {versions[0]!r}): {REMEDIES['task_version']}"
    )


def _check_stop(task: Task, terms: Terms) -> None:
    stop = tuple(getattr(task, "stop", ()))
    if terms.reference is not None and terms.reference.manifest.sampling.stop not in (None, stop):
        raise ComparisonError(f"{terms.task} is stopped at other strings now ({stop!r}): {REMEDIES['stop']}")


def request_for(
    same: Sequence[Terms], tasks: Mapping[str, Task], running: Running, checkpoints: Iterable[Checkpoint] = ()
) -> tuple[RunRequest, str, BackendOptions]:
    """What the runner is asked, and of which engine.

    Args:
        same: tasks that are asked in the same way.
        tasks: by name.
        running: where.
        checkpoints: who is asked.

    Raises:
        ConfigError: a model of an endpoint is to answer like one that was loaded here.
    """
    terms = same[0]
    members = [tasks[one.task] for one in same]
    options = BackendOptions(running.batch_size, running.device, extra=running.backend_settings())
    if terms.reference is None:
        request = RunRequest(members, terms.n_rollouts, terms.temperature, terms.n_samples)
        return request, _engine_for(checkpoints, None), options
    manifest = terms.reference.manifest
    sampling = manifest.sampling
    backend, _, number_format = manifest.backend.partition("/")
    limit, chosen = _samples(same, tasks)
    request = RunRequest(
        members,
        terms.n_rollouts,
        sampling.temperature,
        limit,
        chosen,
        seed=sampling.seed or 0,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        max_new_tokens=token_budget(terms, tasks[terms.task]),
    )
    dtype = number_format if number_format in DTYPES else None
    return request, _engine_for(checkpoints, backend), replace(options, dtype=dtype)


def token_budget(terms: Terms, task: Task) -> int | None:
    """Tokens that the reference had; None where that is what the task asks for, so that tasks with their own go together."""
    tokens = None if terms.reference is None else terms.reference.manifest.sampling.max_new_tokens
    return None if tokens == task.max_new_tokens else tokens


def _samples(same: Sequence[Terms], tasks: Mapping[str, Task]) -> tuple[int | None, dict[str, Sequence[str]] | None]:
    """All of each task, the first so many, or which ones."""
    if all(one.asked is None for one in same):
        return None, None
    every = {one.task: [sample.sample_id for sample in tasks[one.task].samples()] for one in same}
    sizes = {one.n_samples for one in same}
    if len(sizes) == 1 and all(set(one.asked or ()) == set(every[one.task][: one.n_samples]) for one in same):
        return sizes.pop(), None
    return None, {one.task: every[one.task] if one.asked is None else one.asked for one in same}


def _engine_for(checkpoints: Iterable[Checkpoint], backend: str | None) -> str:
    """The engine that must answer; for a task that nobody has answered (None), the one that can."""
    served = [checkpoint for checkpoint in checkpoints if checkpoint.served_name is not None]
    if backend is None:
        return "openai" if served else "hf"
    if served and backend != "openai":
        raise ConfigError(
            f"{served[0].name} is a model of an endpoint, and is compared with what {backend} answered; evaluate both in the "
            "same way with 'specs-eval run'"
        )
    return backend
