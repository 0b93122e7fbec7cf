"""``specs-eval check --sequential``: stop each gate when it is decided, on what is stored or asking as it goes."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import click

from specs_eval.analysis.checks.answer import Answer, Question, answer_of, answer_sides, find_sides
from specs_eval.analysis.checks.measures import Sides
from specs_eval.analysis.checks.sequential import Decided, Limits, decide
from specs_eval.analysis.checks.sources import Source, StoredSource
from specs_eval.cli.check_run_options import Running
from specs_eval.errors import EXIT_INTERRUPTED


def answer_sequentially(
    question: Question, running: Running | None, max_samples: int | None, max_minutes: float | None
) -> Answer:
    """The verdicts of gates that stop when they are decided.

    Args:
        question: as for a check of a fixed sample.
        running: how to evaluate what is missing; None: only what is stored counts, in the order in which it would be asked.
        max_samples: samples of the candidate, those asked earlier included.
        max_minutes: from now.

    Raises:
        ConfigError: a checkpoint, task, metric or option that cannot be.
        ComparisonError: runs that do not compare.
        GenerationError: a checkpoint could not be evaluated; what was is stored.
    """
    limits = _limits(max_samples, max_minutes)
    if running is None:
        sides, notes = find_sides(question)
        if sides.baseline.fingerprint == sides.candidate.fingerprint:
            return answer_sides(question, sides, notes)
        return _answer(question, StoredSource(sides), limits, notes)
    from specs_eval.cli.check_asking import AskedSource
    from specs_eval.cli.check_run import make_plan

    plan = make_plan(question, replace(running, limit=None))
    if plan.same:
        return answer_sides(question, Sides(plan.contenders[0].side, plan.contenders[1].side, ()), plan.notes)
    with AskedSource(plan, question.store, running) as source:
        try:
            answer = _answer(question, source, limits, plan.notes, source.base_names())
        except KeyboardInterrupt:
            click.echo("Interrupted. Everything finished is stored; the same command continues.", err=True)
            sys.exit(EXIT_INTERRUPTED)
    return answer


def _limits(max_samples: int | None, max_minutes: float | None) -> Limits:
    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    return Limits(max_samples, lambda: end is not None and time.monotonic() >= end, max_minutes)


def _answer(
    question: Question, source: Source, limits: Limits, notes: tuple[str, ...], bases: dict[str, str] | None = None
) -> Answer:
    decided = decide(question.policy, source, limits, question.n_draws, bases or {})
    found = answer_of(question, source.sides(), decided.verdicts, (*notes, _story(decided), *decided.notes))
    return replace(found, policy=question.policy)


def _story(decided: Decided) -> str:
    """How far the check went."""
    if not decided.n_all:
        return "no gate of this policy can stop early"
    were = "were enough" if decided.complete else "were looked at"
    return f"{decided.n_asked:,} of {decided.n_all:,} samples {were}: {decided.stopped}"
