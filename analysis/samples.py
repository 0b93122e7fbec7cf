"""From rollouts to samples: the arrays that every analysis starts from. Text stays outside, as integer codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Rollouts:
    """The rollouts of one run, in columns; row order does not matter."""

    sample_ids: tuple[str, ...]
    """The samples that were asked, each once."""
    clusters: tuple[str, ...]
    """The group of each sample (same image, same source question); its own id where it stands alone."""
    samples: IntArray
    """Index into `sample_ids` of each rollout, shape (n_rollouts,)."""
    values: FloatArray
    """The metric, shape (n_rollouts,); NaN: failed or unscored."""
    answers: IntArray | None = None
    """Code of the extracted answer, equal answers having equal codes; -1: none was found."""
    n_tokens: FloatArray | None = None
    """Generated tokens; NaN where the backend cannot tell. So too for the next two."""
    entropy: FloatArray | None = None
    """Mean token entropy of the rollout in nats."""
    nucleus: FloatArray | None = None
    """Mean nucleus size of the rollout, >= 1."""
    answer_texts: tuple[str, ...] = ()
    """The answer that each code stands for; empty when `answers` is None."""
    categories: tuple[Mapping[str, str], ...] = ()
    """Dimension -> value of each sample (see `specs_eval.splits`), in the order of `sample_ids`; empty: not read."""

    @property
    def scored(self) -> BoolArray:
        """Which rollouts have a value, shape (n_rollouts,)."""
        return ~np.isnan(self.values)

    def by_sample(self) -> SampleValues:
        """The metric by sample: the mean over the scored rollouts of each."""
        scored, n = self.scored, len(self.sample_ids)
        counts = np.bincount(self.samples[scored], minlength=n)
        sums = np.bincount(self.samples[scored], weights=self.values[scored], minlength=n)
        means = np.full(n, np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return SampleValues(self.sample_ids, self.clusters, means, len(scored), int(len(scored) - scored.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class SampleValues:
    """One metric of one run by sample. Samples whose rollouts all failed stay in, without a value."""

    sample_ids: tuple[str, ...]
    clusters: tuple[str, ...]
    values: FloatArray
    """Mean over scored rollouts, shape (n_samples,); NaN: none was scored."""
    n_rollouts: int
    n_unscored: int
    """Rollouts without a value."""

    def scored_values(self) -> tuple[FloatArray, IntArray]:
        """Values and cluster codes of the samples that have a value, both of shape (n_scored,)."""
        scored = ~np.isnan(self.values)
        return self.values[scored], label_codes(self.clusters)[scored]

    def with_values(self, values: FloatArray) -> SampleValues:
        """The same samples with another number for each (NaN: left out)."""
        return SampleValues(self.sample_ids, self.clusters, values, self.n_rollouts, self.n_unscored)


def restrict(rollouts: Rollouts, kept: AbstractSet[str]) -> Rollouts:
    """The rollouts of some samples only."""
    keep_sample = np.array([sample_id in kept for sample_id in rollouts.sample_ids], dtype=bool)
    keep = keep_sample[rollouts.samples]
    renumbered = np.cumsum(keep_sample) - 1

    def rows(column: FloatArray | None) -> FloatArray | None:
        return None if column is None else column[keep]

    return Rollouts(
        sample_ids=_compress(rollouts.sample_ids, keep_sample),
        clusters=_compress(rollouts.clusters, keep_sample),
        samples=renumbered[rollouts.samples[keep]],
        values=rollouts.values[keep],
        answers=None if rollouts.answers is None else rollouts.answers[keep],
        n_tokens=rows(rollouts.n_tokens),
        entropy=rows(rollouts.entropy),
        nucleus=rows(rollouts.nucleus),
        answer_texts=rollouts.answer_texts,
        categories=_compress(rollouts.categories, keep_sample) if rollouts.categories else (),
    )


def label_codes(labels: Sequence[str]) -> IntArray:
    """Equal labels to equal integers, numbered in order of first appearance, shape (len(labels),)."""
    return _cached_codes(tuple(labels))


@lru_cache(maxsize=32)
def _cached_codes(labels: tuple[str, ...]) -> IntArray:
    """Every checkpoint and metric has the same samples: they are numbered once. Read-only, as many share it."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.int64, count=len(labels))
    codes.flags.writeable = False
    return codes


def _compress(items: tuple[Item, ...], keep: BoolArray) -> tuple[Item, ...]:
    return tuple(item for item, kept in zip(items, keep, strict=True) if kept)
