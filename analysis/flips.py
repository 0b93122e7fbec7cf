"""Samples that changed sides between two checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.pairs import PairedValues
from specs_eval.analysis.samples import FloatArray
from specs_eval.errors import ConfigError

DEFAULT_FLIP = 0.5
"""Half the way from always wrong to always right."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample whose metric moved by at least the threshold."""

    sample_id: str
    baseline: float
    """Mean over its scored rollouts."""
    candidate: float
    """The same of the other checkpoint."""

    @property
    def change(self) -> float:
        """Candidate minus baseline."""
        return self.candidate - self.baseline

    def to_dict(self) -> dict[str, Any]:
        """The flip as plain JSON types."""
        return {**asdict(self), "change": self.change}


@dataclass(frozen=True, slots=True)
class Flips:
    """The samples that flipped each way, the largest changes first, then by id."""

    threshold: float
    gained: tuple[Flip, ...]
    """The candidate is better."""
    lost: tuple[Flip, ...]
    """The baseline is better."""

    def to_dict(self) -> dict[str, Any]:
        """The flips as plain JSON types."""
        return asdict(self) | {
            "gained": [flip.to_dict() for flip in self.gained],
            "lost": [flip.to_dict() for flip in self.lost],
        }


def find_flips(pairs: PairedValues, threshold: float = DEFAULT_FLIP) -> Flips:
    """Samples that changed by at least a threshold: right to wrong and back for yes/no scores of one rollout.

    Args:
        pairs: of two checkpoints; samples without a value on either side are left out.
        threshold: of the change in the mean over rollouts, > 0.

    Raises:
        ConfigError: a threshold that is not above 0.
    """
    if not threshold > 0:
        raise ConfigError(f"the threshold of a flip must be above 0, not {threshold}")
    change = np.where(pairs.scored, pairs.candidate - pairs.baseline, 0.0)

    def flips(size: FloatArray) -> tuple[Flip, ...]:
        found = np.flatnonzero(size >= threshold - _ROUNDING).tolist()
        found.sort(key=lambda index: (-round(float(size[index]), 9), pairs.sample_ids[index]))
        return tuple(
            Flip(pairs.sample_ids[index], float(pairs.baseline[index]), float(pairs.candidate[index]))
            for index in found
        )

    return Flips(threshold, flips(change), flips(-change))
