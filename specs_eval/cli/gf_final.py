"""GF against final performance, from a store: which checkpoint stands for a series, and what it scores in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs_eval.analysis.final_performance import (
    FinalAt,
    FinalPerformance,
    final_performance,
    final_point,
    representative,
)
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.series import GeneralizationPoint, GeneralizationSeries
from specs_eval.analysis.stored.selection import (
    CheckpointKey,
    check_comparable,
    check_complete,
    one_run_each,
    runs_of_task,
)
from specs_eval.cli.chosen_runs import common_samples
from specs_eval.cli.gf_scores import Asked
from specs_eval.cli.split_reading import Part, read_parts
from specs_eval.errors import ConfigError
from specs_eval.splits import Split, parse_splits
from specs_eval.store import StoredRun

Runs = dict[CheckpointKey, StoredRun]


@dataclass(frozen=True, slots=True)
class FinalQuestion:
    """What GF is set against."""

    tasks: str
    """Tasks or parts of them, comma-separated; their macro mean is final performance."""
    metric: str = "score"
    at: FinalAt = "last"
    """The checkpoint whose GF stands for a series: its last, or its best by GF."""
    ends: tuple[str, ...] = ()
    """``SERIES=SERIES``: where training of the first went on, so that its final performance is that of the second's last
    checkpoint. A series without one is its own end: GF and performance are of the same checkpoint."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A series, the point that stands for it, and the checkpoint that its performance is read from."""

    series: str
    point: GeneralizationPoint
    end: CheckpointKey


def answer_final(
    runs: Sequence[StoredRun],
    series: Sequence[GeneralizationSeries],
    question: FinalQuestion,
    asked: Asked,
    resampling: Resampling,
) -> tuple[FinalPerformance, list[str]]:
    """Read final performance and fit the line; with notes on series that have none.

    Raises:
        ConfigError: a task, category, metric or series that does not exist.
        ComparisonError: runs that are incomplete, do not compare, or answered other samples.
    """
    splits = parse_splits(question.tasks)
    found = {split: runs_of_task(runs, split.task, asked.selects) for split in splits}
    candidates, notes = _candidates(series, question, found)
    parts, chosen, more_notes = _read(found, {one.end for one in candidates}, question.metric, asked.allow_incomplete)
    points = [
        final_point(
            one.series,
            one.point,
            {str(part.split): part.rollouts[one.end].by_sample() for part in parts},
            resampling,
            end=one.end.name,
            runs=[each[one.end].run_id for each in chosen],
        )
        for one in candidates
    ]
    tasks = [str(part.split) for part in parts] or [str(split) for split in splits]
    return final_performance(points, tasks, question.metric, question.at, resampling.level), notes + more_notes


def _candidates(
    series: Sequence[GeneralizationSeries], question: FinalQuestion, found: Mapping[Split, Sequence[StoredRun]]
) -> tuple[list[_Candidate], list[str]]:
    """The series that have a GF and a final performance, and notes on the others."""
    ends = _ends(question.ends, [one.series for one in series])
    with_all = set.intersection(*({CheckpointKey.of(run.manifest) for run in runs} for runs in found.values()))
    candidates, notes = [], []
    for one in series:
        point = representative(one, question.at)
        if point is None:
            notes.append(f"{one.series} is not set against final performance: it has no GF")
            continue
        wanted = ends.get(one.series)
        there = [key for key in with_all if (key.series == wanted if wanted else _is(key, one.series, point))]
        if there:
            candidates.append(_Candidate(one.series, point, max(there)))
        else:
            who = f"no checkpoint of {wanted} has runs" if wanted else f"{point.checkpoint} has no runs"
            tasks = " and ".join(dict.fromkeys(split.task for split in found))
            notes.append(f"{one.series} is not set against final performance: {who} of {tasks}")
    return candidates, notes


def _is(key: CheckpointKey, series: str, point: GeneralizationPoint) -> bool:
    return (key.series, key.name, key.step) == (series, point.checkpoint, point.step)


def _ends(texts: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    ends = {}
    for text in texts:
        name, equals, end = text.partition("=")
        if not (equals and name in known and end):
            raise ConfigError(
                f"--final-of takes SERIES=SERIES, the first with a GF ({', '.join(known)}), not {text!r}; such as dpo=dpo_grpo"
            )
        ends[name] = end
    return ends


def _read(
    found: Mapping[Split, Sequence[StoredRun]], keys: set[CheckpointKey], metric: str, allow_incomplete: bool
) -> tuple[list[Part], list[Runs], list[str]]:
    """Each part of final performance over the same samples for all, the runs that it is from, and notes."""
    parts: list[Part] = []
    chosen: list[Runs] = []
    notes: list[str] = []
    if not keys:
        return parts, chosen, notes
    for split, runs in found.items():
        picked = one_run_each([run for run in runs if CheckpointKey.of(run.manifest) in keys])
        check_complete([*picked.values()], allow_incomplete)
        check_comparable([*picked.values()], [])
        (part,) = read_parts(picked, metric, [split])
        rollouts = {key: {metric: one} for key, one in part.rollouts.items()}
        names = {key: key.name for key in rollouts}
        cut, left_out = common_samples(rollouts, names, str(part.split), allow_incomplete)
        parts.append(Part(part.split, {key: one[metric] for key, one in cut.items()}))
        chosen.append(picked)
        notes += left_out
    return parts, chosen, notes
