"""From tests to verdicts: the bound of a gate in numbers, Holm over the gates, and the word that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specs_eval.analysis.bound_tests import Bound, BoundTest, ErrorLevels
from specs_eval.analysis.multiplicity import holm
from specs_eval.policy import WITHOUT_BOUNDS, BoundKind, Gate, Policy
from specs_eval.verdicts import Outcome, Verdict

_WORDS: dict[BoundKind, str] = {
    "max_drop": "may drop by at most {0}",
    "max_rise": "may rise by at most {0}",
    "min_gain": "must gain at least {0}",
    "min": "must be at least {0}",
    "max": "must be at most {0}",
}
SMALLEST_P = 1e-300
"""Holm wants p values above 0; a statistic that is infinitely far out has this one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A gate with what its samples say."""

    gate: Gate
    test: BoundTest
    measures: str
    """What was measured, in words."""
    n_all: int
    """Samples that there are; more than `test` used where some are not evaluated or not scored."""
    runs: tuple[str, ...] = ()
    sequential: bool = False
    reason: str | None = None
    """Why nothing can be told, or what must be known of the estimate."""


def bound_of(gate: Gate) -> Bound:
    """The bound that the gate's number is held against: of a change, or of the candidate itself."""
    if gate.kind == "max_drop":
        return Bound(-gate.bound)
    return Bound(gate.bound, "at most" if gate.kind in ("max_rise", "max") else "at least")


def levels_of(policy: Policy) -> ErrorLevels:
    """The error levels of a policy."""
    return ErrorLevels(policy.alpha, policy.beta)


def rule_in_words(gate: Gate, unit_is_share: bool = True) -> str:
    """The bound as a sentence, in points and percent for shares."""
    if not unit_is_share:
        return _WORDS[gate.kind].format(f"{gate.bound:g}")
    points = f"{100 * gate.bound:g}"
    return _WORDS[gate.kind].format(f"{points} points" if gate.on_change else f"{points} %")


def verdicts(measured: Sequence[Measured], policy: Policy) -> list[Verdict]:
    """The verdict of every gate.

    A gate passes when "the bound is broken" is rejected at alpha, uncorrected: all gates must pass, so a false pass of the
    policy needs every one of them to err (an intersection-union test, Berger 1982). It fails when "the bound is kept" is
    rejected at beta after Holm's correction over the gates, since any failing gate refuses the candidate.
    """
    adjusted = holm([min(max(one.test.p_fail, SMALLEST_P), 1.0) for one in measured])
    return [_verdict(one, p, policy) for one, p in zip(measured, adjusted, strict=True)]


def outcome_of(p_pass: float, p_fail_adjusted: float, policy: Policy) -> Outcome:
    """The word; should both sides be rejected (they contradict each other), the smaller p value decides."""
    passes, fails = p_pass <= policy.alpha, p_fail_adjusted <= policy.beta
    if passes and fails:
        return "pass" if p_pass <= p_fail_adjusted else "fail"
    return "pass" if passes else "fail" if fails else "undecided"


def _verdict(one: Measured, p_fail_adjusted: float, policy: Policy) -> Verdict:
    test, interval = one.test, one.test.estimate.interval
    outcome = outcome_of(test.p_pass, p_fail_adjusted, policy)
    return Verdict(
        gate=one.gate.title,
        outcome=outcome,
        measures=one.measures,
        rule=rule_in_words(one.gate, one.gate.metric not in WITHOUT_BOUNDS),
        bound=bound_of(one.gate).value,
        estimate=test.estimate.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=levels_of(policy).level if interval is None else interval.level,
        p_pass=test.p_pass,
        p_fail=test.p_fail,
        p_fail_adjusted=p_fail_adjusted,
        n_used=test.estimate.n_samples,
        n_all=one.n_all,
        n_needed=test.n_needed,
        n_unscored=test.estimate.n_unscored,
        sequential=one.sequential,
        method=test.method,
        reason=one.reason or (_why_undecided(one) if outcome == "undecided" else test.estimate.reason),
        runs=one.runs,
    )


def _why_undecided(one: Measured) -> str:
    estimate, needed = one.test.estimate, one.test.n_needed
    if estimate.value is None or estimate.interval is None:
        return estimate.reason or "nothing shows how much the number varies"
    if needed is None:
        return "the samples can tell neither that the bound is kept nor that it is broken"
    return (
        f"{estimate.n_samples:,} samples can tell neither that the bound is kept nor that it is broken; a candidate that "
        f"equals the baseline would need about {needed:,}"
    )
