"""The Generalization Factor: one number that is high only when performance in and out of distribution both are."""

from __future__ import annotations

import math
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from specs_eval.analysis.samples import FloatArray
from specs_eval.errors import ConfigError

Gain = Literal["score", "difference", "normalized"]
GAINS: tuple[Gain, ...] = get_args(Gain)

DEFAULT_BETA = 2.0
_MAX_BETA = 1e6


@overload
def generalization_factor(id_performance: float, ood_performance: float, beta: float = ...) -> float: ...
@overload
def generalization_factor(id_performance: ArrayLike, ood_performance: ArrayLike, beta: float = ...) -> FloatArray: ...
def generalization_factor(
    id_performance: ArrayLike, ood_performance: ArrayLike, beta: float = DEFAULT_BETA
) -> float | FloatArray:
    """F-beta mean of in-distribution and out-of-distribution performance; higher is better.

    ``(1 + beta^2) * id * ood / (beta^2 * id + ood)``, a weighted harmonic mean: it lies between the two, near the lower
    one, and is 0 when either is 0 or negative. At beta = 2, OOD weighs four times as much as ID. The inputs may be
    performances or gains over a base model (`gain_over`): the caller says which.

    Args:
        id_performance: share in [0, 1] under the trained instruction; any shape that broadcasts with the next.
        ood_performance: share in [0, 1] under changed instructions.
        beta: weight of OOD, in (0, 1e6].

    Returns:
        A float for two scalars, else an array of the common shape; a share (the formula is homogeneous, so percentages
        give a percentage).

    Raises:
        ConfigError: beta out of range, or a performance that is not finite: undefined is None and never gets here.

    Reference: SPECS, arXiv 2510.25801. A negative gain counts as 0, about which the paper is silent.

    >>> round(generalization_factor(0.983, 0.691), 3)
    0.735
    """
    check_beta(beta)
    one, other = np.asarray(id_performance, dtype=np.float64), np.asarray(ood_performance, dtype=np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ConfigError("the Generalization Factor needs finite performances")
    factor = _factor(one, other, beta)
    return float(factor) if factor.ndim == 0 else factor


def gain_over(performance: ArrayLike, base: ArrayLike | None, gain: Gain) -> FloatArray:
    """Performance read as a gain, not clipped: negative when it fell below the base.

    Args:
        performance: shares in [0, 1].
        base: of the base model, same range; broadcasts with `performance`; None only for ``score``.
        gain: ``score``: the performance itself. ``difference``: performance - base. ``normalized``: the difference as a
            share of what the base left to gain, (performance - base) / (1 - base); NaN where the base is at 1.

    Raises:
        ConfigError: a reading that needs a base without one.
    """
    scores = np.asarray(performance, dtype=np.float64)
    if gain == "score":
        return scores
    if base is None:
        raise ConfigError(f"gain {gain!r} is over a base model: name one with --base, or use --gain score")
    floor = np.asarray(base, dtype=np.float64)
    difference = scores - floor
    if gain == "difference":
        return difference
    room = 1 - floor
    normalized = np.full(np.broadcast_shapes(difference.shape, room.shape), np.nan)
    np.divide(difference, room, out=normalized, where=room > 0)
    return normalized


def check_beta(beta: float) -> None:
    """Refuse a weight without meaning.

    Raises:
        ConfigError: not in (0, 1e6].
    """
    if not (math.isfinite(beta) and 0 < beta <= _MAX_BETA):
        raise ConfigError(f"beta must lie in (0, {_MAX_BETA:g}], not {beta}; 2 weighs OOD four times as much as ID")


def choose_gain(gain: Gain | None, has_base: bool) -> Gain:
    """The reading to use: ``difference`` when a base is given, else ``score``, unless one is named.

    Raises:
        ConfigError: unknown, or a gain over a base without one.
    """
    if gain is None:
        return "difference" if has_base else "score"
    if gain not in GAINS:
        raise ConfigError(f"gain must be one of {', '.join(GAINS)}, not {gain!r}")
    if gain != "score" and not has_base:
        raise ConfigError(f"gain {gain!r} is over a base model: name one with --base, or use --gain score")
    return gain


def _factor(one: FloatArray, other: FloatArray, beta: float) -> FloatArray:
    one, other = np.broadcast_arrays(one, other)
    share = beta**2 / (1 + beta**2)
    both = (one > 0) & (other > 0)
    # As a weighted harmonic mean, and clipped to what a mean is: rounding must not lift GF above the larger input.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = 1 / (share / other + (1 - share) / one)
    return np.where(both, np.clip(factor, np.minimum(one, other), np.maximum(one, other)), 0.0)
