"""``specs-eval check --run``: evaluate what the gates need and the store lacks, as the baseline was evaluated; then judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from specs_eval.analysis.checks.answer import Answer, Question, answer_sides, find_pinned, pin_notes
from specs_eval.analysis.checks.measures import Sides
from specs_eval.analysis.stored.sides import Side
from specs_eval.backends.base import BackendOptions
from specs_eval.baselines import load_pins
from specs_eval.checkpoints import Checkpoint, Resolution
from specs_eval.cli.check_contenders import Contender, checkpoint_of, find_contender, of_weights, runs_in
from specs_eval.cli.check_likeness import load_task, request_for, token_budget
from specs_eval.cli.check_missing import Defaults, Owed, Terms, best_run, missing, needed_tasks, terms_of
from specs_eval.cli.check_run_options import Running
from specs_eval.errors import ComparisonError, GenerationError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.policy import Policy
from specs_eval.runner import RunRequest
from specs_eval.store import MARKER, RunStore, StoredRun
from specs_eval.task import Task


@dataclass(frozen=True, slots=True)
class Plan:
    """Who must have answered what, on which terms, and what of it is missing."""

    contenders: tuple[Contender, ...]
    terms: Mapping[str, Terms]
    owed: tuple[Owed, ...]
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether baseline and candidate are the same weights."""
        return self.contenders[0].side.fingerprint == self.contenders[1].side.fingerprint


def answer_with_runs(question: Question, running: Running) -> Answer:
    """Evaluate what is missing, then judge on exactly the runs that compare.

    Interrupted, the same question continues.

    Raises:
        ConfigError: a checkpoint, task, metric or option that cannot be.
        ComparisonError: runs that do not compare, such as on data that has changed since the baseline was evaluated.
        GenerationError: a checkpoint could not be evaluated; what was is stored.
    """
    plan = make_plan(question, running)
    if plan.same:
        sides = Sides(plan.contenders[0].side, plan.contenders[1].side, ())
        return answer_sides(question, sides, plan.notes)
    if plan.owed:
        evaluate_owed(plan.owed, question.store, running)
        _check_done(plan, runs_in(question.store))
    stored = runs_in(question.store)
    contenders = [_with_runs(one, stored) for one in plan.contenders]
    # What nobody had answered before has a reference now.
    known = {task: terms for task, terms in plan.terms.items() if terms.reference is not None}
    terms = terms_of(contenders, question.selects, Defaults()) | known
    chosen = {one.role: _chosen(one, terms) for one in contenders}
    bases = {role: side for role, side in chosen.items() if role.startswith("base ")}
    runs = tuple(run for side in chosen.values() for run in side.runs)
    sides = Sides(chosen["baseline"], chosen["candidate"], runs, (), question.overlap, question.allow_incomplete)
    answer = answer_sides(replace(question, policy=_with_bases(question.policy, bases)), sides, plan.notes)
    return replace(answer, policy=question.policy)


def _check_done(plan: Plan, stored: Sequence[StoredRun]) -> None:
    """Make sure that what was evaluated is what was missing: an engine may answer in another way than it once did."""
    contenders = [_with_runs(one, stored) for one in plan.contenders]
    known = {task: terms for task, terms in plan.terms.items() if terms.reference is not None}
    left = missing([replace(one, tasks=tuple(t for t in one.tasks if t in known)) for one in contenders], known)
    for one in left:
        if one.terms.reference is not None:
            raise ComparisonError(
                f"{one.contender.side.key.name} was evaluated on {one.terms.task}, but not as "
                f"{one.terms.reference.manifest.checkpoint.name} was (backend {one.terms.reference.manifest.backend!r}): this "
                "engine answers in another way now; evaluate both again with 'specs-eval run'"
            )


def make_plan(question: Question, running: Running) -> Plan:
    """Find the checkpoints, in the store or on disk, and what is missing of them.

    Raises:
        ConfigError: a checkpoint that is neither, or options that contradict what is stored.
        ComparisonError: a checkpoint has several runs of a task, or its files cannot be used.
    """
    runs = runs_in(question.store)
    has_store = (question.store / MARKER).exists()
    fingerprinter = Fingerprinter(question.store / "fingerprints.json" if has_store else None)
    pin = load_pins(question.pin_file).get(question.baseline)
    notes: tuple[str, ...] = ()
    contenders = []
    for role, tasks in needed_tasks(question.policy).items():
        if role == "baseline" and pin is not None:
            side = find_pinned(runs, question, pin)
            notes = pin_notes(question.baseline, pin, side)
            contenders.append(Contender(role, side, None, tasks))
            continue
        text = {"baseline": question.baseline, "candidate": question.candidate}.get(role, role.removeprefix("base "))
        contenders.append(find_contender(text, role, tasks, runs, fingerprinter))
    plan = Plan(tuple(contenders), {}, (), notes)
    if plan.same:
        return plan
    defaults = Defaults(running.rollouts, running.limit, running.temperature)
    terms = terms_of(contenders, question.selects, defaults)
    return replace(plan, terms=terms, owed=tuple(missing(contenders, terms)))


def evaluate_owed(owed: Sequence[Owed], store_path: Path, running: Running) -> None:
    """Evaluate through the ordinary runner: checkpoints that owe the same go through one engine.

    Raises:
        ConfigError: no such task or backend.
        ComparisonError: a task is not what the reference was evaluated on.
        GenerationError: a checkpoint failed; the message says why.
    """
    from specs_eval.cli.run import run_resolved

    store = RunStore.create(store_path)
    problems: list[str] = []
    for one in evaluations_of(owed, Fingerprinter(store.root / "fingerprints.json"), running):
        resolution = Resolution(one.checkpoints, ())
        problems += run_resolved(resolution, one.request, store, one.backend, one.options).problems
    if problems:
        raise GenerationError("not evaluated, so nothing is judged: " + "; ".join(problems))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One call of the runner."""

    checkpoints: tuple[Checkpoint, ...]
    request: RunRequest
    backend: str
    options: BackendOptions


def evaluations_of(owed: Sequence[Owed], fingerprinter: Fingerprinter, running: Running) -> list[Evaluation]:
    """What is owed as calls of the runner: checkpoints that owe the same go through one engine.

    Raises:
        ConfigError: no such task or backend.
        ComparisonError: a task is not what the reference was evaluated on, or a checkpoint's files are gone.
    """
    checkpoints = {one.contender.role: checkpoint_of(one.contender, fingerprinter) for one in owed}
    tasks = {one.terms.task: load_task(one.terms, running) for one in owed}
    together: dict[tuple[Terms, ...], dict[str, Checkpoint]] = {}
    for role, checkpoint in checkpoints.items():
        mine = [one.terms for one in owed if one.contender.role == role]
        for same in _on_same_terms(mine, tasks):
            together.setdefault(same, {})[checkpoint.fingerprint] = checkpoint
    return [
        Evaluation(tuple(who.values()), *request_for(same, tasks, running, who.values()))
        for same, who in together.items()
    ]


def _on_same_terms(terms: Sequence[Terms], tasks: Mapping[str, Task]) -> list[tuple[Terms, ...]]:
    """Tasks that one request of the runner can ask together, however many samples each has: the model is loaded once."""
    groups: dict[object, list[Terms]] = {}
    for one in terms:
        how: object = (one.n_samples, one.temperature)
        if one.reference is not None:
            manifest = one.reference.manifest
            drawn = manifest.sampling.model_dump_json(exclude={"stop", "max_new_tokens"})
            how = (drawn, manifest.backend, token_budget(one, tasks[one.task]))
        groups.setdefault((one.n_rollouts, how), []).append(one)
    return [tuple(group) for group in groups.values()]


def _with_runs(contender: Contender, runs: Sequence[StoredRun]) -> Contender:
    return replace(contender, side=of_weights(contender.side, runs))


def _chosen(contender: Contender, terms: Mapping[str, Terms]) -> Side:
    """The side with the one run of each task that counts."""
    found = [run for task in contender.tasks if (run := best_run(contender, terms[task])) is not None]
    return Side(contender.side.key, contender.side.fingerprint, tuple(found))


def _with_bases(policy: Policy, bases: Mapping[str, Side]) -> Policy:
    """The policy with bases named by fingerprint: by any other name the store need not know them."""
    gates = tuple(
        gate.model_copy(update={"base": bases[f"base {gate.base}"].fingerprint}) if gate.base else gate
        for gate in policy.gates
    )
    return policy.model_copy(update={"gates": gates})
