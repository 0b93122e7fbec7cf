"""Is one checkpoint better than another? Paired differences with interval, test, outcome and what could have been seen.

`compare_pairs` judges one set of pairs, `compare_family` several with Holm's correction. What is a family is for the
caller to say: tasks are one, the categories of a task are another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from specs_eval.analysis.multiplicity import holm
from specs_eval.analysis.paired_tests import PairedTest, paired_test
from specs_eval.analysis.pairs import PairedValues, mean_difference, spread_of
from specs_eval.analysis.power import PowerFigures, PowerSpec, power_figures
from specs_eval.analysis.statistics import Estimate, check_level

Outcome = Literal["improved", "regressed", "undecided"]


@dataclass(frozen=True, slots=True)
class ComparisonSpec:
    """How differences are judged."""

    level: float = 0.95
    """Coverage of intervals; a difference counts from an adjusted p below 1 - level on."""
    n_draws: int = 10_000
    """Sign flips of the permutation test, where there are too many to count."""
    seed: int = 0
    """Of those."""
    power: float = 0.8
    """With which the minimum detectable effect is found."""
    effect: float | None = None
    """Mean difference that the number of samples needed is for; None: the observed one."""

    def __post_init__(self) -> None:
        check_level(self.level)
        self.power_spec  # noqa: B018 - refuses a power that is none

    @property
    def alpha(self) -> float:
        """Level of the tests, two-sided."""
        return round(1 - self.level, 12)

    @property
    def power_spec(self) -> PowerSpec:
        """What counts as detectable."""
        return PowerSpec(self.alpha, self.power)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Candidate against baseline on one set of samples."""

    baseline: Estimate
    """Mean over the scored pairs."""
    candidate: Estimate
    """Mean over the same pairs."""
    difference: Estimate
    """Candidate minus baseline; positive: the candidate is better. n_samples counts pairs."""
    n_left_out: int
    """Samples without a value on one side or both."""
    test: PairedTest | None
    """Of no difference; None: no pair was scored."""
    p_adjusted: float | None
    """Holm's, over the family; None where there is no test."""
    n_family: int
    """Tests in the family."""
    outcome: Outcome
    """The verdict in a word: `improved` or `regressed` where adjusted p and interval both say so, else `undecided`."""
    power: PowerFigures

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON types."""
        return {
            "baseline": self.baseline.to_dict(),
            "candidate": self.candidate.to_dict(),
            "difference": self.difference.to_dict(),
            "n_left_out": self.n_left_out,
            "test": None if self.test is None else self.test.to_dict(),
            "p_adjusted": self.p_adjusted,
            "n_family": self.n_family,
            "outcome": self.outcome,
            "power": self.power.to_dict(),
        }


def compare_pairs(pairs: PairedValues, spec: ComparisonSpec = ComparisonSpec()) -> PairedComparison:
    """Judge one set of pairs by itself.

    Args:
        pairs: of two checkpoints (`specs_eval.analysis.pairs.pair_samples`).
        spec: level, draws, seed, power and effect.

    Returns:
        The comparison; undefined, with the reason in `difference`, when no pair is scored.
    """
    return compare_family([pairs], spec)[0]


def compare_family(family: Sequence[PairedValues], spec: ComparisonSpec = ComparisonSpec()) -> list[PairedComparison]:
    """Judge several sets of pairs together: Holm's correction over those that have a test.

    Args:
        family: sets of pairs, in any order; they may share samples.
        spec: as for `compare_pairs`.
    """
    alone = [_uncorrected(pairs, spec) for pairs in family]
    tested = [index for index, one in enumerate(alone) if one.test is not None]
    adjusted = holm([one.test.p for one in alone if one.test is not None])
    for index, p in zip(tested, adjusted, strict=True):
        one = alone[index]
        alone[index] = replace(
            one, p_adjusted=p, n_family=len(tested), outcome=outcome_of(one.difference, p, spec.alpha)
        )
    return alone


def outcome_of(difference: Estimate, p_adjusted: float, alpha: float) -> Outcome:
    """What a difference, its interval and its adjusted p say together."""
    interval = difference.interval
    if p_adjusted >= alpha or interval is None:
        return "undecided"
    if interval.low > 0:
        return "improved"
    return "regressed" if interval.high < 0 else "undecided"


def _uncorrected(pairs: PairedValues, spec: ComparisonSpec) -> PairedComparison:
    differences, clusters = pairs.differences()
    baseline, candidate = pairs.means(spec.level)
    test = paired_test(differences, clusters, n_draws=spec.n_draws, seed=spec.seed) if len(differences) else None
    return PairedComparison(
        baseline=baseline,
        candidate=candidate,
        difference=mean_difference(pairs, spec.level),
        n_left_out=pairs.n_left_out,
        test=test,
        p_adjusted=None,
        n_family=0,
        outcome="undecided",
        power=power_figures(spread_of(pairs), spec.power_spec, spec.effect),
    )
