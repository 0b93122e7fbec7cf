"""What a sequential gate draws: groups of samples in random order, and what is known of each sample, failures included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from specs_eval.analysis.drawing import draw
from specs_eval.analysis.samples import FloatArray, IntArray, Rollouts
from specs_eval.errors import ConfigError


class Asked(Protocol):
    """A sample as tasks and stores know it."""

    @property
    def sample_id(self) -> str:
        """Unique within its task."""

    @property
    def group(self) -> str | None:
        """Samples of one group (same image, same source) stand or fall together."""

    @property
    def category(self) -> Mapping[str, str]:
        """Dimension -> value."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Units in the order drawn, and the samples of each, by role (one role, or ID and OOD)."""

    ids: tuple[tuple[str, ...], ...]
    """Sample ids of each role, in the order of their units."""
    units: tuple[IntArray, ...]
    """The unit of each of them, ascending, one array a role."""
    looks: IntArray
    """Units drawn at the end of each block."""

    @property
    def n_units(self) -> int:
        """Units in all."""
        return int(self.looks[-1])

    def reach(self, n_units: int) -> int:
        """The last place up to this number of units at which one may look; 0 before the first."""
        within = self.looks[self.looks <= n_units]
        return int(within[-1]) if len(within) else 0

    def samples(self, role: int, n_units: int) -> tuple[str, ...]:
        """The samples of a role in the first units."""
        return self.ids[role][: int(np.searchsorted(self.units[role], n_units))]

    def by_unit(self, role: int, values: FloatArray, n_units: int) -> FloatArray:
        """Sum of a value of the first samples of a role over each of the first units, shape (n_units,)."""
        sums = np.bincount(self.units[role][: len(values)], weights=values, minlength=n_units)[:n_units]
        return sums.astype(np.float64)

    def sizes(self, role: int) -> FloatArray:
        """Samples of a role in each unit, shape (n_units,)."""
        return np.bincount(self.units[role], minlength=self.n_units).astype(np.float64)


def order_units(roles: Sequence[Sequence[Asked]], seed: int) -> Order:
    """Draw groups at random, stratified by category.

    Groups of one name are one unit, over all roles. Strata are all dimensions of category together, the coarse ones first, so
    that where a stratum is smaller than a block its neighbours are those that differ in the finest dimension only.

    Args:
        roles: the samples of each role, in any order.
        seed: of the order.

    Raises:
        ConfigError: no samples.
    """
    members: dict[str, list[list[str]]] = {}
    first: dict[str, Asked] = {}
    for number, samples in enumerate(roles):
        for sample in sorted(samples, key=lambda one: one.sample_id):
            name = sample.group or sample.sample_id
            first.setdefault(name, sample)
            members.setdefault(name, [[] for _ in roles])[number].append(sample.sample_id)
    names = sorted(members)
    drawing = draw(_strata([first[name] for name in names], [members[name] for name in names]), seed, names=names)
    drawn = [members[names[unit]] for unit in drawing.order.tolist()]
    ids = tuple(tuple(one for unit in drawn for one in unit[role]) for role in range(len(roles)))
    units = tuple(
        np.repeat(np.arange(len(drawn)), [len(unit[role]) for unit in drawn]).astype(np.int64)
        for role in range(len(roles))
    )
    return Order(ids, units, drawing.looks)


def _strata(samples: Sequence[Asked], members: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    dimensions: dict[str, set[str]] = {}
    for sample in samples:
        for dimension, value in sample.category.items():
            dimensions.setdefault(dimension, set()).add(value)
    coarse_first = sorted(dimensions, key=lambda name: (len(dimensions[name]), name))
    return [
        "\x1f".join(
            [*("1" if ids else "0" for ids in roles), *(sample.category.get(name, "") for name in coarse_first)]
        )
        for sample, roles in zip(samples, members, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """A metric in [0, 1] by sample, failed rollouts filled with the least and the most that they can be.

    The last row stands for a sample that was never answered.
    """

    positions: Mapping[str, int]
    values: FloatArray
    """Mean over scored rollouts, shape (n_samples + 1,); NaN: none was scored."""
    least: FloatArray
    most: FloatArray
    n_unscored: IntArray
    """Rollouts without a value of each sample."""

    def pick(self, sample_ids: Sequence[str]) -> Shares:
        """These samples only, in this order."""
        rows = np.array([self.positions.get(one, len(self.positions)) for one in sample_ids], dtype=np.int64)
        return Shares({}, self.values[rows], self.least[rows], self.most[rows], self.n_unscored[rows])


def shares_of(rollouts: Rollouts, what: str) -> Shares:
    """Read a run's values for betting.

    Raises:
        ConfigError: a value outside of [0, 1]: nobody can bet on what has no bounds.
    """
    scored = rollouts.values[rollouts.scored]
    if len(scored) and not (scored.min() >= 0 and scored.max() <= 1):
        raise ConfigError(f"{what} leaves 0 to 1")
    positions = {sample_id: row for row, sample_id in enumerate(rollouts.sample_ids)}
    unscored = np.bincount(rollouts.samples[~rollouts.scored], minlength=len(positions))
    return Shares(
        positions,
        np.append(rollouts.by_sample().values, np.nan),
        np.append(_filled(rollouts, 0.0), 0.0),
        np.append(_filled(rollouts, 1.0), 1.0),
        np.append(unscored, 1).astype(np.int64),
    )


def _filled(rollouts: Rollouts, value: float) -> FloatArray:
    return replace(rollouts, values=np.where(rollouts.scored, rollouts.values, value)).by_sample().values
