"""From a store to the Generalization Factor of its series: the question, the answer, and the way between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specs_eval.analysis.curve_draws import Reading
from specs_eval.analysis.final_performance import FinalPerformance
from specs_eval.analysis.generalization import Gain, check_beta, choose_gain
from specs_eval.analysis.methods import all_pairs, compare_methods
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.series import GeneralizationSeries
from specs_eval.analysis.series_difference import SeriesDifference
from specs_eval.analysis.stored.reading import stored_runs
from specs_eval.analysis.stored.selection import check_series
from specs_eval.cli.gf_final import FinalQuestion, answer_final
from specs_eval.cli.gf_scores import Asked, read_scores
from specs_eval.errors import ConfigError
from specs_eval.splits import parse_split
from specs_eval.store import StoredRun

_PHRASES: dict[Gain, str] = {
    "score": "gain = the performance itself",
    "difference": "gain = points over the base model ({base})",
    "normalized": "gain = share of what the base model ({base}) left to gain",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asked."""

    store: Path
    id_task: str
    """A task or a part of one (`specs_eval.splits`)."""
    ood_task: str
    base: str | None
    series: tuple[str, ...]
    metric: str
    gain: Gain | None
    beta: float
    selects: tuple[str, ...]
    allow_incomplete: bool
    resampling: Resampling
    versus: str | None = None
    """Series that each other one is compared with; None: every pair, when there are at most four series."""
    final: FinalQuestion | None = None
    """What GF is set against; None: nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says."""

    id_task: str
    """The split with its names written out."""
    ood_task: str
    metric: str
    gain: Gain
    beta: float
    base: str | None
    resampling: Resampling
    series: tuple[GeneralizationSeries, ...]
    differences: tuple[SeriesDifference, ...]
    """Pairs of series, first minus second."""
    final: FinalPerformance | None
    """GF against final performance; None: not asked for."""
    notes: tuple[str, ...]
    """What is missing or was left out, one sentence each."""

    def explanation(self) -> str:
        """What GF is and which reading was used."""
        phrase = _PHRASES[self.gain].format(base=self.base)
        return (
            f"GF is high only when both ID and OOD are: an F-beta mean in which OOD weighs {self.beta**2:g} times as much "
            f"as ID (beta {self.beta:g}); here {phrase} (--gain {self.gain}), of the metric {self.metric}."
        )

    def provenance(self) -> str:
        """Where the intervals come from."""
        spec = self.resampling
        return (
            f"{100 * spec.level:g} % intervals: ID and OOD by Wilson at the effective sample size; GF by a bootstrap over "
            f"samples, paired between ID, OOD, base and all checkpoints ({spec.n_draws:,} draws, seed {spec.seed})."
        )

    def reading_guide(self) -> list[str]:
        """How areas, best checkpoints and differences are meant, as far as there are any."""
        areas = (
            "Area: trapezoids between checkpoints over the range of steps, which starts at the base where there is one. "
            "Cannot be told apart: the true best is among these and the best found with "
            f"{100 * self.resampling.level:g} % confidence, although it was picked from the same data."
        )
        sentences = [areas]
        if self.differences:
            sentences.append(
                "* the interval of the difference excludes 0; each is judged alone, so among many steps some stars are chance: "
                "the area is the one test for a pair."
            )
        return sentences

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON types."""
        return {
            "command": "gf",
            "id_task": self.id_task,
            "ood_task": self.ood_task,
            "metric": self.metric,
            "gain": self.gain,
            "beta": self.beta,
            "base": self.base,
            "level": self.resampling.level,
            "n_draws": self.resampling.n_draws,
            "seed": self.resampling.seed,
            "explanation": " ".join([self.explanation(), *self.reading_guide()]),
            "series": [one.to_dict() for one in self.series],
            "differences": [one.to_dict() for one in self.differences],
            "final": None if self.final is None else self.final.to_dict(),
            "notes": list(self.notes),
        }


_MOST_PAIRED = 4
"""Series of which every pair is compared unasked."""


def answer_gf(question: Question) -> Answer:
    """Read the store and compute.

    Raises:
        ConfigError: a task, category, series, base, metric or option that does not exist; ID and OOD that share samples.
        ComparisonError: runs that are incomplete or do not compare; checkpoints without both tasks.
    """
    return answer_gf_of(stored_runs(question.store), question)


def answer_gf_of(runs: Sequence[StoredRun], question: Question) -> Answer:
    """The same over runs that were read and chosen already; raises the same."""
    check_beta(question.beta)
    gain = choose_gain(question.gain, question.base is not None)
    asked = Asked(
        parse_split(question.id_task),
        parse_split(question.ood_task),
        question.base,
        question.series,
        question.metric,
        question.selects,
        question.allow_incomplete,
    )
    scores = read_scores(runs, asked)
    pairs, pair_notes = _pairs(list(scores.methods), question.versus)
    reading = Reading(gain, question.beta, question.resampling)
    compared = compare_methods(scores.methods, scores.base, reading, pairs)
    final, final_notes = None, list[str]()
    if question.final is not None:
        final, final_notes = answer_final(runs, compared.series, question.final, asked, question.resampling)
    return Answer(
        id_task=str(scores.id_split),
        ood_task=str(scores.ood_split),
        metric=question.metric,
        gain=gain,
        beta=question.beta,
        base=None if scores.base is None else scores.base.checkpoint,
        resampling=question.resampling,
        series=compared.series,
        differences=compared.differences,
        final=final,
        notes=(*scores.notes, *pair_notes, *final_notes),
    )


def _pairs(names: list[str], versus: str | None) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of series to compare, and a note where there would be too many."""
    if versus is not None:
        check_series([versus], names)
        if len(names) == 1:
            raise ConfigError(f"--versus {versus}: there is no other series to compare it with")
        return all_pairs(names, versus), []
    if len(names) <= _MOST_PAIRED:
        return all_pairs(names), []
    n_pairs = len(all_pairs(names))
    return [], [f"{len(names)} series make {n_pairs} pairs, which are not compared; name one with --versus SERIES"]
