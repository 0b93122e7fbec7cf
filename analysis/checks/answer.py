"""From a policy and a store to the verdicts of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specs_eval.analysis.checks.measures import Sides, measure
from specs_eval.analysis.gates import verdicts
from specs_eval.analysis.stored.reading import stored_runs
from specs_eval.analysis.stored.sides import IMPORTED, Side, find_side
from specs_eval.baselines import Pin, find_pin_file, load_pins
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.policy import Policy, load_policy
from specs_eval.store import StoredRun
from specs_eval.verdicts import Outcome, Verdict, exit_code


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    policy: Policy
    policy_file: Path
    baseline: str
    """A pinned name, or a checkpoint of the store."""
    candidate: str
    pin_file: Path
    selects: tuple[str, ...] = ()
    allow_incomplete: bool = False
    overlap: bool = False
    n_draws: int = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdicts, and all that a report needs."""

    baseline: str
    candidate: str
    baseline_fingerprint: str
    candidate_fingerprint: str
    policy_file: str
    policy: Policy
    verdicts: tuple[Verdict, ...]
    """Empty when both are the same weights."""
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether candidate and baseline are the same weights: there is nothing to decide."""
        return self.baseline_fingerprint == self.candidate_fingerprint

    @property
    def exit_code(self) -> int:
        """As in the design: 0 pass, 1 regression, 3 undecided."""
        return 0 if self.same else exit_code(list(self.verdicts), self.policy.undecided)

    @property
    def passed(self) -> bool:
        """Whether the candidate may take the baseline's place (undecided gates count as the policy says)."""
        return self.exit_code == 0

    def of_outcome(self, outcome: Outcome) -> list[Verdict]:
        """The verdicts with an outcome."""
        return [one for one in self.verdicts if one.outcome == outcome]

    def summary(self) -> str:
        """The whole check in one sentence."""
        if self.same:
            return f"{self.candidate} is the baseline itself (fingerprint {self.candidate_fingerprint[:16]}): nothing to check"
        counts = {word: len(self.of_outcome(word)) for word in ("pass", "fail", "undecided")}
        told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
        verb = "may not replace" if counts["fail"] else "may replace" if not counts["undecided"] else self._undecided()
        return f"{self.candidate} {verb} {self.baseline}: {told} of {len(self.verdicts)} gates"

    def _undecided(self) -> str:
        return {
            "fail": "is not shown to be fit to replace",
            "warn": "may replace (undecided gates only warn)",
            "pass": "may replace (undecided gates pass)",
        }[self.policy.undecided]

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        return {
            "command": "check",
            "summary": self.summary(),
            "exit_code": self.exit_code,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "baseline_fingerprint": self.baseline_fingerprint,
            "candidate_fingerprint": self.candidate_fingerprint,
            "policy_file": self.policy_file,
            "policy": self.policy.model_dump(mode="json"),
            "verdicts": [one.to_dict() for one in self.verdicts],
            "notes": list(self.notes),
        }


def check(
    store: str | Path,
    baseline: str,
    candidate: str,
    policy: Policy | str | Path | None = None,
    baselines: str | Path | None = None,
) -> Answer:
    """Hold a candidate against a baseline, on what is stored: ``specs-eval check`` as a function.

    Args:
        store: the run store's folder.
        baseline: a pinned name, or a checkpoint of the store (name, path, ``series/step`` or fingerprint).
        candidate: a checkpoint of the store.
        policy: the gates, or their file; None: the nearest ``specs-eval.toml`` or table in pyproject.toml.
        baselines: the file of pinned baselines; None: the nearest one.

    Returns:
        The verdicts. ``passed`` and ``exit_code`` say what the policy makes of them, `Answer.summary` says it in a sentence.

    Raises:
        ConfigError: a checkpoint, metric, category or policy that does not exist or has no meaning.
        ComparisonError: runs that are missing, incomplete, or do not compare.
    """
    if isinstance(policy, Policy):
        found, file = policy, Path("(given)")
    else:
        found, file = load_policy(None if policy is None else Path(policy))
    pins = find_pin_file(Path.cwd()) if baselines is None else Path(baselines)
    return answer_check(Question(Path(store), found, file, baseline, candidate, pins))


def answer_check(question: Question) -> Answer:
    """Read the store and judge.

    Raises:
        ConfigError: a checkpoint, metric or category that does not exist.
        ComparisonError: runs that are missing, incomplete, or do not compare.
    """
    sides, notes = find_sides(question)
    return answer_sides(question, sides, notes)


def answer_sides(question: Question, sides: Sides, notes: tuple[str, ...] = ()) -> Answer:
    """The verdicts on two checkpoints that were found already.

    Raises:
        ConfigError: a metric or category that does not exist.
        ComparisonError: runs that are missing, incomplete, or do not compare.
    """
    if sides.baseline.fingerprint == sides.candidate.fingerprint:
        return answer_of(question, sides, (), notes)
    measured = [measure(gate, sides, question.policy, question.n_draws) for gate in question.policy.gates]
    return answer_of(question, sides, tuple(verdicts(measured, question.policy)), notes)


def answer_of(question: Question, sides: Sides, found: tuple[Verdict, ...], notes: tuple[str, ...]) -> Answer:
    """The answer around verdicts that were reached somehow."""
    return Answer(
        baseline=sides.baseline.key.name,
        candidate=sides.candidate.key.name,
        baseline_fingerprint=sides.baseline.fingerprint,
        candidate_fingerprint=sides.candidate.fingerprint,
        policy_file=str(question.policy_file),
        policy=question.policy,
        verdicts=found,
        notes=notes,
    )


def find_sides(question: Question) -> tuple[Sides, tuple[str, ...]]:
    """Both checkpoints in the store, the baseline by its pin where it has one."""
    runs = stored_runs(question.store)
    pin = load_pins(question.pin_file).get(question.baseline)
    baseline = find_side(runs, question.baseline) if pin is None else find_pinned(runs, question, pin)
    candidate = find_side(runs, question.candidate)
    sides = Sides(baseline, candidate, tuple(runs), question.selects, question.overlap, question.allow_incomplete)
    return sides, () if pin is None else pin_notes(question.baseline, pin, baseline)


def find_pinned(runs: Sequence[StoredRun], question: Question, pin: Pin) -> Side:
    """The runs of a pinned baseline.

    Raises:
        ConfigError: it is pinned by an imported run, which stands for no weights.
        ComparisonError: the store does not have these weights.
    """
    mine = [run for run in runs if run.manifest.checkpoint.fingerprint == pin.fingerprint]
    if not mine:
        raise ComparisonError(
            f"the store {question.store} has no run of baseline {question.baseline} ({pin.checkpoint}, fingerprint "
            f"{pin.fingerprint[:16]}, pinned in {question.pin_file}); evaluate it with 'specs-eval run', or pin another"
        )
    if pin.fingerprint.startswith(IMPORTED):
        raise ConfigError(f"baseline {question.baseline} is an imported run; name its checkpoint instead of the pin")
    return find_side(mine, pin.fingerprint)


def pin_notes(name: str, pin: Pin, side: Side) -> tuple[str, ...]:
    """Tasks that are of another version now than when the baseline was pinned."""
    now = {run.manifest.task: run.manifest.task_version for run in side.runs}
    moved = [task for task, version in pin.tasks.items() if task in now and now[task] != version]
    return tuple(
        f"baseline {name} was pinned with another version of {task} ({pin.tasks[task]}, now {now[task]})"
        for task in moved
    )
