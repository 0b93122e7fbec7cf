"""Verdicts: what a gate says about a checkpoint, and how sure it is. Training and CI both act on these."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from specs_eval.errors import EXIT_INCOMPLETE, EXIT_PASS, EXIT_REGRESSION

Outcome = Literal["pass", "fail", "undecided"]
OnUndecided = Literal["fail", "warn", "pass"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of one gate."""

    gate: str
    """Name of the gate in its policy."""
    outcome: Outcome
    """``pass``: the bound is kept, at error level alpha. ``fail``: it is broken, at error level beta. ``undecided``: the
    evidence is not enough for either, or the metric is undefined (see `reason`)."""
    measures: str
    """What was measured, such as ``score of mmmu``."""
    rule: str
    """The bound in words, such as ``may drop by at most 1.0 points``."""
    bound: float
    """What the estimate is held against, in the unit of the estimate."""
    estimate: float | None
    """Candidate minus baseline for a rule on change, else the candidate's own number; None: undefined."""
    low: float | None
    """Interval of the estimate at `level`."""
    high: float | None
    level: float
    p_pass: float
    """p value against "the bound is broken"; small = kept. Holds at any time for a sequential gate, where 1/p is the e value."""
    p_fail: float
    """p value against "the bound is kept"; small = broken. As it is, before Holm's correction over the gates."""
    p_fail_adjusted: float
    """`p_fail` after Holm's correction over the gates of the policy."""
    n_used: int
    """Samples that entered."""
    n_all: int
    """Samples that there are."""
    n_needed: int | None
    """Samples that would likely decide (power 1 - beta at no change); None: cannot be told."""
    n_unscored: int
    """Rollouts left out because they have no value, over both checkpoints."""
    sequential: bool
    method: str
    """The test, in words."""
    reason: str | None = None
    """Why it is undecided, or what a reader must know of the estimate."""
    runs: tuple[str, ...] = ()
    """Run ids that the numbers come from."""

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain JSON types."""
        return asdict(self)


def exit_code(verdicts: list[Verdict], on_undecided: OnUndecided) -> int:
    """0: every gate passed (or is undecided and that may pass); 1: a gate failed; 3: undecided, where that fails.

    A warning about an undecided gate is for the caller to print.
    """
    outcomes = {verdict.outcome for verdict in verdicts}
    if "fail" in outcomes:
        return EXIT_REGRESSION
    return EXIT_INCOMPLETE if "undecided" in outcomes and on_undecided == "fail" else EXIT_PASS
