"""Gates in training: refused when they could never be measured, and judged after each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from specs_eval.analysis.checks.answer import Question, answer_sides
from specs_eval.analysis.checks.measures import COMPUTED
from specs_eval.analysis.checks.series import SeriesQuestion, answer_series
from specs_eval.analysis.stuckness import MIN_ROLLOUTS
from specs_eval.errors import ConfigError
from specs_eval.policy import AT_K, WITHOUT_BOUNDS, Gate, Policy
from specs_eval.runner import score_response
from specs_eval.splits import parse_split
from specs_eval.task import Task
from specs_eval.training.arguments import evaluated_steps
from specs_eval.training.config import EvaluationSettings, Recipe, StageGate, TrainedStage
from specs_eval.training.measuring import Harness, limit_of, task_names
from specs_eval.verdicts import Outcome

_PROBED = 8
"""Samples that are scored to learn which metrics a task has."""

Action = Literal["go on", "stop", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate said."""

    gate: str
    outcome: Outcome
    action: Action
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What all gates said about a checkpoint."""

    findings: tuple[Finding, ...] = ()

    @property
    def action(self) -> Action:
        """The gravest action."""
        actions = {finding.action for finding in self.findings}
        return "fail" if "fail" in actions else "stop" if "stop" in actions else "go on"

    @property
    def reasons(self) -> str:
        """The gates that call for it, in words."""
        return "; ".join(finding.text for finding in self.findings if finding.action == self.action != "go on")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint before the gates."""

    stage: TrainedStage
    series: str
    fingerprint: str
    start: str
    """Fingerprint of the checkpoint that the stage started from."""
    base: str
    last: bool
    """Whether this is the end of its series."""


def judge(recipe: Recipe, harness: Harness, candidate: Candidate) -> Decision:
    """Hold a checkpoint against the gates of its stage.

    A bound is tested at each evaluation of a series. So that looking often closes no gate by chance, each look has the
    recipe's beta divided by the number of looks (Bonferroni).

    Raises:
        ConfigError: a metric or category that does not exist.
        ComparisonError: runs that do not compare.
    """
    findings: list[Finding] = []
    for against in ("base", "start", "series"):
        gates = [
            gate
            for gate in recipe.gates
            if gate.against == against and candidate.stage in gate.stages and (gate.inside or candidate.last)
        ]
        if gates:
            findings += _judged(recipe, harness, candidate, gates)
    return Decision(tuple(findings))


def _judged(recipe: Recipe, harness: Harness, candidate: Candidate, gates: Sequence[StageGate]) -> list[Finding]:
    policy = _policy(recipe, gates, len(evaluated_steps(recipe, candidate.stage)))
    if gates[0].against == "series":
        runs = [run for run in harness.store.runs() if run.manifest.checkpoint.series == candidate.series]
        if len({run.manifest.checkpoint.step for run in runs}) < 2:
            return []
        course = answer_series(SeriesQuestion(tuple(runs), candidate.series, policy, harness.selects()))
        return [
            _finding(recipe, gate, one.outcome, one.text, False)
            for gate, one in zip(gates, course.verdicts, strict=True)
        ]
    baseline = candidate.base if gates[0].against == "base" else candidate.start
    question = Question(harness.store.root, policy, Path("recipe"), baseline, candidate.fingerprint, Path("none"))
    answer = answer_sides(question, harness.sides(baseline, candidate.fingerprint))
    return [
        _finding(recipe, gate, one.outcome, _words(one.measures, one.rule, one.estimate), candidate.last)
        for gate, one in zip(gates, answer.verdicts, strict=False)
    ]


def _policy(recipe: Recipe, gates: Sequence[StageGate], looks: int) -> Policy:
    plain = tuple(Gate.model_validate(gate.model_dump(include=set(Gate.model_fields))) for gate in gates)
    return Policy(alpha=recipe.alpha, beta=recipe.beta / max(1, looks), undecided=recipe.undecided, gates=plain)


def _words(measures: str, rule: str, estimate: float | None) -> str:
    value = "undefined" if estimate is None else f"{estimate:+.3f}"
    return f"{measures} {rule}, and is at {value}"


def _finding(recipe: Recipe, gate: StageGate, outcome: Outcome, text: str, last: bool) -> Finding:
    """An undecided gate acts at the end of a series only, and only where the recipe says so."""
    closed = outcome == "fail" or (outcome == "undecided" and last and recipe.undecided == "fail")
    return Finding(gate.title, outcome, gate.then if closed else "go on", f"{gate.title} ({outcome}): {text}")


def check_gates(recipe: Recipe, tasks: Sequence[Task]) -> None:
    """Refuse gates whose metric no evaluation of the recipe can give, before anything is trained.

    Raises:
        ConfigError: the message says what can be measured, or what to change.
    """
    settings = recipe.evaluation
    if settings is None:
        return
    by_name = {task.name: task for task in tasks}
    for gate in recipe.gates:
        for text in (gate.id, gate.ood) if gate.metric == "gf" else (gate.task,):
            split = parse_split(text or "")
            if split.task not in by_name:
                raise ConfigError(
                    f"gate {gate.title!r}: {split.task} is not evaluated; evaluation has {', '.join(task_names(settings))}"
                )
            task = by_name[split.task]
            if split.conditions:
                samples = task.samples()[: limit_of(settings, task.name)]
                split.resolved([sample.category for sample in samples])
            _check_metric(gate, task)
        _check_rollouts(gate, settings)


def _check_metric(gate: StageGate, task: Task) -> None:
    computed = gate.metric == "gf" or "@" in gate.metric or gate.metric in COMPUTED
    metric = gate.of if computed else gate.metric
    known = known_metrics(task)
    if known is not None and metric not in known:
        raise ConfigError(
            f"gate {gate.title!r}: {task.name} has no metric {metric!r}; gates can use: "
            f"{', '.join([*sorted(known), *COMPUTED, 'gf'])}"
        )


def known_metrics(task: Task) -> set[str] | None:
    """The metrics that a task's scorer gives; None: a judge would have to be asked."""
    if getattr(task, "judge", None) is not None:
        return None
    known = {"score"}
    for sample in task.samples()[:_PROBED]:
        for response in ("", sample.target):
            known |= set(score_response(task, sample, response).metrics)
    return known


def _check_rollouts(gate: StageGate, settings: EvaluationSettings) -> None:
    name, _, k = gate.metric.partition("@")
    needed = int(k) if name in AT_K else 2 if name in ("distinct", "effective") else 1
    needed = MIN_ROLLOUTS if name == "wrong_mode" else needed
    if settings.rollouts < needed:
        raise ConfigError(
            f"gate {gate.title!r}: {gate.metric} needs {needed} rollouts a sample, and evaluation.rollouts is {settings.rollouts}"
        )
    if gate.metric in WITHOUT_BOUNDS and name in ("rbf", "entropy") and settings.backend not in ("hf", "vllm"):
        raise ConfigError(
            f"gate {gate.title!r}: the backend {settings.backend} gives no token statistics; use evaluation.backend: hf"
        )
