"""What the samples that flipped were asked and what both checkpoints answered, in excerpts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from specs_eval.analysis.flips import Flip, Flips
from specs_eval.analysis.stored.reading import read_rows
from specs_eval.store import StoredRun

PROMPT_CHARACTERS = 240
ANSWER_CHARACTERS = 120

_COLUMNS = ("answer", "rule", "score", "reason")


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """An answer, how it was scored, and how many rollouts of the sample gave it."""

    answer: str | None
    """Excerpt; None: none was found in the response."""
    rule: str
    """What scored it."""
    score: float | None
    """None: failed or unscored, see `reason`."""
    reason: str | None
    count: int


@dataclass(frozen=True, slots=True)
class FlipDetail:
    """One sample that flipped, to look at."""

    flip: Flip
    prompt: str | None
    """Excerpt; None: the run does not know it."""
    target: str | None
    baseline: tuple[AnswerCount, ...]
    """Its answers, the most frequent first."""
    candidate: tuple[AnswerCount, ...]

    def to_dict(self) -> dict[str, Any]:
        """The sample as plain JSON types."""
        return {
            **self.flip.to_dict(),
            "prompt": self.prompt,
            "target": self.target,
            "baseline_answers": [asdict(one) for one in self.baseline],
            "candidate_answers": [asdict(one) for one in self.candidate],
        }


@dataclass(frozen=True, slots=True)
class FlipDetails:
    """The first few flips each way."""

    gained: tuple[FlipDetail, ...] = ()
    lost: tuple[FlipDetail, ...] = ()


def read_flips(baseline: StoredRun, candidate: StoredRun, flips: Flips, limit: int | None) -> FlipDetails:
    """Read what belongs to the first flips each way.

    Args:
        baseline: one run.
        candidate: the other.
        flips: between them.
        limit: how many each way; None: all.
    """
    gained, lost = flips.gained[:limit], flips.lost[:limit]
    wanted = {flip.sample_id for flip in (*gained, *lost)}
    if not wanted:
        return FlipDetails()
    samples = baseline.samples()
    answers = [_answers(run, wanted) for run in (baseline, candidate)]

    def details(some: Sequence[Flip]) -> tuple[FlipDetail, ...]:
        found = []
        for flip in some:
            sample = samples.get(flip.sample_id)
            prompt = None if sample is None else excerpt(sample.prompt, PROMPT_CHARACTERS)
            target = None if sample is None else excerpt(sample.target, ANSWER_CHARACTERS)
            before, after = (one.get(flip.sample_id, ()) for one in answers)
            found.append(FlipDetail(flip, prompt, target, before, after))
        return tuple(found)

    return FlipDetails(details(gained), details(lost))


def excerpt(text: str, limit: int) -> str:
    """The text on one line, cut to so many characters."""
    # Four times as much is enough to fill the line, however much white space there is between the first words.
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 3] + "..."


def _answers(run: StoredRun, sample_ids: set[str]) -> dict[str, tuple[AnswerCount, ...]]:
    """The different answers to each sample, the most frequent first."""
    counts: dict[str, Counter[tuple[str | None, str, float | None, str | None]]] = {}
    for row in read_rows(run, _COLUMNS, sample_ids):
        answer, score = row.get("answer"), row.get("score")
        reason = row.get("reason") if score is None else None
        key = (
            None if answer is None else excerpt(answer, ANSWER_CHARACTERS),
            row.get("rule") or "",
            score,
            None if reason is None else excerpt(reason, ANSWER_CHARACTERS),
        )
        counts.setdefault(row["sample_id"], Counter())[key] += 1
    return {
        sample_id: tuple(AnswerCount(*key, count) for key, count in found.most_common())
        for sample_id, found in counts.items()
    }
