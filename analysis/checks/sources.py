"""Where a sequential check has its samples and answers from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from specs_eval.analysis.checks.measures import Sides, find_run
from specs_eval.analysis.checks.units import Asked
from specs_eval.analysis.stored.sides import check_questions, check_settings, find_side
from specs_eval.errors import ComparisonError
from specs_eval.store import StoredRun


class Source(Protocol):
    """Where a sequential check has its samples and answers from."""

    def asked(self, task: str, sides: Sequence[str]) -> Sequence[Asked]:
        """All samples of a task that the check may draw from."""

    def fetch(
        self, wanted: Mapping[str, Mapping[str, Sequence[str]]], ahead: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        """Make sure that sides (``candidate``, ``baseline``, ``base NAME``) have answered samples, by task.

        Args:
            wanted: now.
            ahead: what will be wanted if nothing is decided soon; may be fetched along.
        """

    def fetch_rest(self, task: str, sides: Sequence[str]) -> None:
        """Make sure that a gate that cannot stop early has answers: of the samples asked already, else of all."""

    def run(self, side: str, task: str) -> StoredRun:
        """What a side has answered of a task."""

    def sides(self) -> Sides:
        """Both checkpoints with all that is stored of them now."""


class StoredSource:
    """Answers that are in the store: a replay, in the order in which they would have been asked."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._runs: dict[tuple[str, str], StoredRun] = {}

    def asked(self, task: str, sides: Sequence[str]) -> Sequence[Asked]:
        """The samples that all these sides have.

        Raises:
            ComparisonError: they have others (unless an overlap will do), or do not compare.
        """
        runs = [self.run(side, task) for side in sides]
        for run in runs[1:]:
            check_settings(run, runs[0], overlap=self._sides.overlap)
            check_questions(run, runs[0])
        samples = [run.samples() for run in runs]
        common = [one for one in samples[0] if all(one in other for other in samples[1:])]
        sizes = {len(one) for one in samples}
        if not common or (sizes != {len(common)} and not self._sides.overlap):
            counts = ", ".join(f"{side} {len(one):,}" for side, one in zip(sides, samples, strict=True))
            raise ComparisonError(
                f"the runs of {task} answered different samples ({counts}; {len(common):,} in common); evaluate both on the "
                "same samples, or use the common ones with --overlap"
            )
        groups = [one for one in common if any(other[one].group != samples[0][one].group for other in samples[1:])]
        if groups:
            raise ComparisonError(
                f"the runs of {task} differ in the group of {len(groups):,} samples, such as {groups[0]}: not the same data"
            )
        return [samples[0][one] for one in common]

    def fetch(
        self, wanted: Mapping[str, Mapping[str, Sequence[str]]], ahead: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        """Everything is there."""

    def fetch_rest(self, task: str, sides: Sequence[str]) -> None:
        """Everything is there."""

    def run(self, side: str, task: str) -> StoredRun:
        """The one run of a side and task."""
        if (side, task) not in self._runs:
            named = {"candidate": self._sides.candidate, "baseline": self._sides.baseline}
            found = named.get(side) or find_side(list(self._sides.stored), side.removeprefix("base "))
            self._runs[side, task] = find_run(found, task, self._sides)
        return self._runs[side, task]

    def sides(self) -> Sides:
        """As they were found."""
        return self._sides
