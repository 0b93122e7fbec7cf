"""A checkpoint of the store by whatever name it goes, and the refusal of runs whose scores do not mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs_eval.analysis.stored.reading import read_sample_facts
from specs_eval.analysis.stored.selection import FIELDS, UNKNOWN, CheckpointKey, find_checkpoint
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.importing.writing import FINGERPRINT_PREFIX, VERSION_PREFIX
from specs_eval.store import StoredRun

IMPORTED = FINGERPRINT_PREFIX
"""How the fingerprint of a run begins whose weights and engine are not known."""

REMEDIES: Mapping[str, str] = {
    "task_version": "the questions or the scoring rules changed: bring the older one up to date with 'specs-eval rescore' "
    "or evaluate it again",
    "temperature": "rollouts drawn otherwise: run both with the same --temperature",
    "top_p": "rollouts drawn otherwise: run both with the same --top-p",
    "max_new_tokens": "answers cut off elsewhere: run both with the same --max-new-tokens",
    "stop": "answers cut off elsewhere: run both with the same stop strings",
    "backend": "engine and number format change what the same weights answer: run both with the same --backend and --dtype",
    "n_rollouts": "means over another number of rollouts: raise the smaller with --rollouts, a run grows",
}
"""Fields in which two runs must agree, why, and what to do. Seeds may differ."""

_IMPORTED_VERSION = (
    "an import is of other samples, targets or another score: import logs of the same samples with the same --score-key, "
    "or evaluate both here"
)
_IMPORTED_SAMPLES = (
    "the imports are of other samples, prompts or targets: import logs of the same samples, or use those that both have "
    "with --overlap"
)

_FINGERPRINT = re.compile(r"(?:imported:|served:)?[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two checkpoints."""

    key: CheckpointKey
    fingerprint: str
    runs: tuple[StoredRun, ...]
    """Its runs, of any task."""

    def to_dict(self) -> dict[str, object]:
        """The checkpoint as plain JSON types."""
        return {
            "checkpoint": self.key.name,
            "series": self.key.series,
            "step": self.key.step,
            "fingerprint": self.fingerprint,
        }


def find_side(runs: Sequence[StoredRun], text: str) -> Side:
    """The checkpoint that is meant, by name, path, series and step, series, or the start of its fingerprint.

    Raises:
        ConfigError: it matches none or several, or one whose folder was overwritten: several weights under one name.
    """
    by_weights = [run for run in runs if run.manifest.checkpoint.fingerprint.startswith(text)]
    names = {run.manifest.checkpoint.name for run in runs}
    if text not in names and by_weights and _FINGERPRINT.fullmatch(text):
        found = by_weights
        key = CheckpointKey.of(found[0].manifest)
    else:
        key = find_checkpoint({CheckpointKey.of(run.manifest) for run in runs}, runs, text)
        found = [run for run in runs if CheckpointKey.of(run.manifest) == key]
    fingerprints = sorted({run.manifest.checkpoint.fingerprint for run in found})
    weights = [one for one in fingerprints if not one.startswith(IMPORTED)]
    if len(weights) > 1:
        raise ConfigError(
            f"{text!r} stands for {len(weights)} checkpoints with different weights; name one by its fingerprint: "
            f"{', '.join(one[:16] for one in weights)}"
        )
    return Side(key, (weights or fingerprints)[0], tuple(found))


def check_settings(baseline: StoredRun, candidate: StoredRun, *, overlap: bool = False) -> None:
    """Refuse two runs of a task whose scores do not mean the same.

    What an imported run does not know is not held against it.

    Args:
        baseline: one run.
        candidate: the other.
        overlap: see `different_settings`.

    Raises:
        ComparisonError: the message names each field that differs and what to do.
    """
    different = different_settings(baseline, candidate, overlap=overlap)
    if different:
        one, other = settings_of(baseline), settings_of(candidate)
        what = "; ".join(
            f"{field} (baseline {one[field]!r}, candidate {other[field]!r}): {_remedy(field, (baseline, candidate))}"
            for field in REMEDIES
            if field in different
        )
        raise ComparisonError(f"the runs of {baseline.manifest.task} do not compare; they differ in {what}")


def _remedy(field: str, runs: Sequence[StoredRun]) -> str:
    """Why a field matters and what to do; an imported run cannot be scored again."""
    imported = any(run.manifest.checkpoint.fingerprint.startswith(IMPORTED) for run in runs)
    if field != "task_version" or not imported:
        return REMEDIES[field]
    return _IMPORTED_SAMPLES if _same_imported_score(*runs) else _IMPORTED_VERSION


def different_settings(one: StoredRun, other: StoredRun, *, overlap: bool = False) -> set[str]:
    """Fields of `REMEDIES` in which two runs differ; what an imported run does not know is not held against it.

    Args:
        one: a run.
        other: another of the same task.
        overlap: whether only samples that both have will be used. The version of an imported task names its score and
            hashes its questions; then the score alone counts, and `check_questions` goes through the common samples.
    """
    mine, others = settings_of(one), settings_of(other)
    free = {"task_version"} if overlap and _same_imported_score(one, other) else set()
    fields = REMEDIES.keys() - free
    return {field for field in fields if mine[field] != others[field] and UNKNOWN not in (mine[field], others[field])}


def _same_imported_score(one: StoredRun, other: StoredRun) -> bool:
    versions = [run.manifest.task_version for run in (one, other)]
    return all(text.startswith(VERSION_PREFIX) for text in versions) and (
        len({text.rpartition("-")[0] for text in versions}) == 1
    )


def check_questions(baseline: StoredRun, candidate: StoredRun) -> str | None:
    """Refuse runs that were not asked the same: the prompt (with its images) and the target of each common sample.

    Returns:
        A note where a run does not know its prompts, else None.

    Raises:
        ComparisonError: they differ; the message names a sample.
    """
    if baseline.run_id == candidate.run_id:
        return None
    columns = ("prompt_hash", "target")
    one, other = (read_sample_facts(run, columns) for run in (baseline, candidate))
    common = [sample_id for sample_id in one if sample_id in other]
    for position, what in enumerate(("prompt", "target")):
        both = [(key, one[key][position], other[key][position]) for key in common]
        different = [key for key, a, b in both if a and b and a != b]
        if different:
            raise ComparisonError(
                f"the runs of {baseline.manifest.task} differ in the {what} of {len(different):,} of {len(common):,} "
                f"samples, such as {different[0]}: not the same questions; evaluate both on the same data"
            )
    if common and not all(one[key][0] and other[key][0] for key in common):
        return f"{baseline.manifest.task}: a run does not know its prompts, so that they were not compared"
    return None


def settings_of(run: StoredRun) -> dict[str, object]:
    """The fields that must agree; `UNKNOWN` for what an imported run does not know."""
    manifest = run.manifest
    values = {field: FIELDS[field](manifest) for field in REMEDIES if field in FIELDS}
    if manifest.checkpoint.fingerprint.startswith(IMPORTED):
        values["backend"] = UNKNOWN
    return values | {"n_rollouts": manifest.n_rollouts}
