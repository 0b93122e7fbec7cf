"""Which rollouts of a run can be the chosen or the rejected side of a pair, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specs_eval.in_order import in_order
from specs_eval.records import Rollout
from specs_eval.store import StoredRun
from specs_eval.tasks.formats.styles import THINK_ANSWER
from specs_eval.training.distill.consistency import Agreement, agreement, asked_agreement
from specs_eval.training.distill.settings import Counts, DistillSettings
from specs_eval.training.questions.question import Question

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response in the right format."""

    question: Question
    rollout: int
    text: str
    """As the model wrote it, without white space around it."""
    reasoning: str
    answer: str


@dataclass(slots=True)
class Harvest:
    """What a run gives, question by question."""

    chosen: dict[str, list[Candidate]] = field(default_factory=dict)
    """Question id -> right, well-formed, consistent responses, each text once."""
    wrong: dict[str, list[Candidate]] = field(default_factory=dict)
    """Question id -> wrong, well-formed responses, each text once."""


def sample_id_of(question: Question) -> str:
    """The id under which a run under the trained instruction asks a question."""
    return f"{question.question_id}/{THINK_ANSWER.name}"


def harvest(
    run: StoredRun, questions: Sequence[Question], settings: DistillSettings, counts: Counts, judge: Judge | None = None
) -> Harvest:
    """Sort the rollouts of a run; every question and rollout is counted once, under the first filter that stops it."""
    stored = _rollouts(run, settings.n_rollouts)
    counts.questions["sampled"] = len(questions)
    for name in ("all rollouts wrong", "no usable rollout", "with a chosen response"):
        counts.questions[name] = 0
    for name in ("sampled", "not answered or judged", "wrong answer", "wrong format", "contradicts itself"):
        counts.rollouts[name] = 0
    found = Harvest()
    groups = ([(question, stored.get(sample_id_of(question), {}), settings, judge)] for question in questions)
    threads = judge.options.concurrency if judge is not None and settings.consistency == "judge" else 1
    for question, sorted_rollouts in zip(questions, in_order(groups, lambda job: _sort(*job), threads), strict=True):
        _take(question, sorted_rollouts[0], found, counts, settings)
    return found


@dataclass(frozen=True, slots=True)
class _Sorted:
    fate: str
    candidate: Candidate | None = None


def _rollouts(run: StoredRun, n_rollouts: int) -> dict[str, dict[int, Rollout]]:
    """Sample id -> number -> rollout; of several tries the last one with a score."""
    found: dict[str, dict[int, Rollout]] = {}
    for rollout in run.rollouts():
        if rollout.rollout < n_rollouts:
            known = found.setdefault(rollout.sample_id, {})
            if rollout.rollout not in known or not rollout.failed:
                known[rollout.rollout] = rollout
    return found


def _sort(
    question: Question, rollouts: dict[int, Rollout], settings: DistillSettings, judge: Judge | None
) -> list[_Sorted]:
    return [_sorted(question, rollouts[number], settings, judge) for number in sorted(rollouts)]


def _sorted(question: Question, rollout: Rollout, settings: DistillSettings, judge: Judge | None) -> _Sorted:
    if rollout.score is None or "accuracy" not in rollout.metrics:
        return _Sorted("not answered or judged")
    parsed = THINK_ANSWER.parse(rollout.response)
    candidate = (
        Candidate(question, rollout.rollout, rollout.response.strip(), parsed.reasoning or "", parsed.answer)
        if parsed.answer is not None
        else None
    )
    if rollout.metrics["accuracy"] < 1.0:
        return _Sorted("wrong answer", candidate)
    if candidate is None:
        return _Sorted("wrong format")
    verdict = _agreement(candidate, settings, judge)
    if verdict == "contradicts":
        return _Sorted("contradicts itself")
    if verdict is None:
        return _Sorted("consistency not judged")
    return _Sorted("silent" if verdict == "silent" else "kept", candidate)


def _agreement(candidate: Candidate, settings: DistillSettings, judge: Judge | None) -> Agreement | None:
    if settings.consistency == "off":
        return "agrees"
    if settings.consistency == "judge" and judge is not None:
        return asked_agreement(candidate.question, candidate.reasoning, candidate.answer, judge)
    return agreement(candidate.question, candidate.reasoning)


def _take(
    question: Question, rollouts: list[_Sorted], found: Harvest, counts: Counts, settings: DistillSettings
) -> None:
    chosen: dict[str, Candidate] = {}
    wrong: dict[str, Candidate] = {}
    for one in rollouts:
        counts.rollouts["sampled"] += 1
        if one.fate == "wrong answer" and one.candidate is not None:
            wrong.setdefault(one.candidate.text, one.candidate)
        usable = one.fate == "kept" or (one.fate == "silent" and not settings.require_conclusion)
        if usable and one.candidate is not None:
            if one.candidate.text in chosen:
                counts.rollouts["same text as another"] += 1
                continue
            chosen[one.candidate.text] = one.candidate
        counts.rollouts[one.fate if one.fate != "silent" else _silent(settings)] += 1
    fates = {one.fate for one in rollouts}
    if chosen:
        counts.questions["with a chosen response"] += 1
        found.chosen[question.question_id] = list(chosen.values())
        found.wrong[question.question_id] = list(wrong.values())
    elif fates == {"wrong answer"}:
        counts.questions["all rollouts wrong"] += 1
    else:
        counts.questions["no usable rollout"] += 1


def _silent(settings: DistillSettings) -> str:
    return "silent" if settings.require_conclusion else "kept, reasoning states no conclusion"
