"""What GF is computed from: one metric of one checkpoint, in and out of distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from specs_eval.analysis.samples import SampleValues
from specs_eval.errors import ComparisonError

Role = Literal["id", "ood"]
ROLES: tuple[Role, Role] = ("id", "ood")


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointScores:
    """One checkpoint's metric on the ID and the OOD task."""

    checkpoint: str
    step: int | None
    id: SampleValues
    ood: SampleValues
    id_run: str = ""
    """Label of the run that the values come from; goes to the result as it is."""
    ood_run: str = ""

    def role(self, role: Role) -> SampleValues:
        """The samples of one role."""
        return self.id if role == "id" else self.ood

    @property
    def has_scores(self) -> bool:
        """Whether anything was scored in both roles."""
        return not (np.isnan(self.id.values).all() or np.isnan(self.ood.values).all())


def check_same_samples(checkpoints: Sequence[CheckpointScores]) -> None:
    """Refuse checkpoints that were not asked the same.

    Raises:
        ComparisonError: other samples, or the same in other groups; the message says which checkpoints.
    """
    for one in checkpoints[1:]:
        for role in ROLES:
            difference = samples_differ(one, checkpoints[0], role)
            if difference is not None:
                raise ComparisonError(difference)


def samples_differ(one: CheckpointScores, other: CheckpointScores, role: Role) -> str | None:
    """In what the samples of two checkpoints differ; None: in nothing but their order."""
    ours, theirs = one.role(role), other.role(role)
    if ours.sample_ids == theirs.sample_ids and ours.clusters == theirs.clusters:
        return None
    if set(ours.sample_ids) != set(theirs.sample_ids):
        common = len(set(ours.sample_ids) & set(theirs.sample_ids))
        return (
            f"{one.checkpoint} and {other.checkpoint} answered different {role.upper()} samples "
            f"({len(ours.sample_ids)} and {len(theirs.sample_ids)}, {common} in common); evaluate both with the "
            "same --limit, or use the common ones with --allow-incomplete"
        )
    if _groups(ours) != _groups(theirs):
        return (
            f"{one.checkpoint} and {other.checkpoint} group the same {role.upper()} samples differently; "
            "evaluate both with the same version of the task"
        )
    return None


def _groups(samples: SampleValues) -> dict[str, str]:
    return dict(zip(samples.sample_ids, samples.clusters, strict=True))
