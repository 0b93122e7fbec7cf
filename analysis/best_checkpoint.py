"""The best of several checkpoints, with how far the choice can be trusted.

Whoever picks the highest of many noisy numbers picks luck as well. So the choice comes with the share of resamples in
which it is the best, with the checkpoints that it cannot be told apart from, and with an estimate of how much of its
height is luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specs_eval.analysis.samples import BoolArray, FloatArray
from specs_eval.analysis.statistics import Interval, check_level


@dataclass(frozen=True, slots=True)
class Candidate:
    """One checkpoint that may be the best."""

    checkpoint: str
    step: int | None
    gf: float
    share_best: float | None
    """Share of resamples in which it is the best, in [0, 1]; ties are shared. None: no resamples."""
    may_be_best: bool
    """Whether the data leave open that it is the best: it cannot be told apart from the one on top."""


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The checkpoint with the highest GF of a series; the earliest of equals. The base is no candidate."""

    checkpoint: str | None
    """None: undefined, see `reason`."""
    step: int | None
    gf: float | None
    interval: Interval | None
    """Of its GF, as if it had been chosen beforehand."""
    share_best: float | None
    optimism: float | None
    """How much higher its GF is for having been chosen by it, estimated, >= 0; low when many are equally good."""
    level: float
    """With this chance the true best is among the candidates with `may_be_best`."""
    candidates: tuple[Candidate, ...]
    """In step order."""
    reason: str | None
    """Why there is no best, or why it comes without certainty."""

    @property
    def not_told_apart(self) -> tuple[Candidate, ...]:
        """The others that may be the best."""
        return tuple(one for one in self.candidates if one.may_be_best and one.checkpoint != self.checkpoint)

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Contender:
    """A checkpoint with a defined GF, before the choice."""

    checkpoint: str
    step: int | None
    gf: float
    interval: Interval | None


def best_checkpoint(
    contenders: Sequence[Contender], draws: FloatArray, level: float = 0.95, no_draws: str | None = None
) -> BestCheckpoint:
    """Choose the highest GF and say how certain that is.

    Args:
        contenders: in step order.
        draws: resampled GF of each over the same questions, shape (n_contenders, n_draws).
        level: chance with which the checkpoints that may be best hold the true best.
        no_draws: why draws are not to be believed; None: they are.

    Raises:
        ConfigError: level outside (0, 1).
    """
    check_level(level)
    if not contenders:
        return BestCheckpoint(None, None, None, None, None, None, level, (), "no checkpoint has a GF")
    gf = np.array([one.gf for one in contenders])
    top = int(gf.argmax())
    shares: list[float | None] = [None] * len(gf)
    may_be_best, optimism = np.ones(len(gf), dtype=bool), None
    if no_draws is None:
        shares = [float(share) for share in shares_best(draws)]
        may_be_best, optimism = best_set(gf, draws, level), selection_optimism(gf, draws)
    candidates = tuple(
        Candidate(one.checkpoint, one.step, one.gf, share, bool(may))
        for one, share, may in zip(contenders, shares, may_be_best, strict=True)
    )
    chosen = contenders[top]
    return BestCheckpoint(
        chosen.checkpoint,
        chosen.step,
        chosen.gf,
        chosen.interval,
        shares[top],
        optimism,
        level,
        candidates,
        no_draws,
    )


def shares_best(draws: FloatArray) -> FloatArray:
    """Share of the draws in which each row is the highest, shape (n,); the shares sum to 1, equals share a draw."""
    highest = draws == draws.max(axis=0)
    return np.asarray((highest / highest.sum(axis=0)).mean(axis=1), dtype=np.float64)


def best_set(values: FloatArray, draws: FloatArray, level: float) -> BoolArray:
    """Which may be the best: a set that holds the true best with at least this chance, whatever was chosen.

    A row stays in unless some other is higher than it by more than chance: the largest of the standardized differences
    to all others stays below its own resampled quantile. Each row is tested as if it were the best, and only the true best's
    test can go wrong, so many rows cost nothing beyond the largest of many differences.

    Args:
        values: shape (n,).
        draws: resampled values over the same questions, shape (n, n_draws).
        level: in (0, 1).

    Returns:
        Shape (n,); true for the highest.

    Reference: one-sided comparison with the best (Hsu 1981) with the bootstrap of the maximum as in Mogstad, Romano,
    Shaikh and Wilhelm 2024, "Inference for ranks".
    """
    kept = np.ones(len(values), dtype=bool)
    for row in range(len(values)):
        others = np.arange(len(values)) != row
        ahead = values[others] - values[row]
        if not (ahead > 0).any():
            continue
        drawn = draws[others] - draws[row]
        spread = drawn.std(axis=1, ddof=1)
        scale = np.where(spread > 0, spread, 1.0)
        noise = ((drawn - drawn.mean(axis=1, keepdims=True)) / scale[:, None]).max(axis=0)
        standardized = np.where(spread > 0, ahead / scale, np.where(ahead > 0, np.inf, 0.0))
        kept[row] = standardized.max() <= np.quantile(noise, level)
    return kept


def selection_optimism(values: FloatArray, draws: FloatArray) -> float:
    """How much the highest of several values overstates itself, by the bootstrap, >= 0.

    In each draw, centred at the values, the highest is chosen as it was in the data; its drawn value minus its value is what
    the choice alone added.
    """
    centred = draws - draws.mean(axis=1, keepdims=True) + values[:, None]
    chosen = centred.argmax(axis=0)
    gained = centred[chosen, np.arange(draws.shape[1])] - values[chosen]
    return max(float(gained.mean()), 0.0)
