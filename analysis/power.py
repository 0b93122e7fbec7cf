"""What a paired comparison can see: the minimum detectable effect, and the samples that an effect needs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from specs_eval.analysis.pairs import Spread
from specs_eval.analysis.statistics import t_quantile
from specs_eval.errors import ConfigError

_MOST_SAMPLES = 10**12
"""More than this is not a number of samples that anybody needs to know."""


@dataclass(frozen=True, slots=True)
class PowerSpec:
    """What "detectable" means: found with this probability by a two-sided test at this level."""

    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha must lie between 0 and 1, such as 0.05, not {self.alpha}")
        if not 0.5 <= self.power < 1:
            raise ConfigError(f"the power must lie from 0.5 to below 1, such as 0.8, not {self.power}")


@dataclass(frozen=True, slots=True)
class PowerFigures:
    """What the comparison could see, and what it would take to see an effect."""

    alpha: float
    power: float
    minimum_effect: float | None
    """Smallest true mean difference that a run like this one finds with this power; None: undefined, see `reason`."""
    effect: float | None
    """The effect that `n_samples` is for: asked for, else the size of the observed difference; None: it is 0."""
    n_samples: int | None
    """Samples needed to find `effect`, at the observed spread and cluster sizes; None: undefined, see `reason`."""
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return asdict(self)


def power_figures(spread: Spread | None, spec: PowerSpec, effect: float | None = None) -> PowerFigures:
    """Minimum detectable effect of these pairs, and the samples needed for an effect.

    Args:
        spread: of the observed differences; None: fewer than two clusters.
        spec: level and power.
        effect: mean difference to plan for, > 0; None: the size of the observed one, which is itself uncertain.

    Raises:
        ConfigError: an effect that no difference can have.
    """
    if effect is not None and not 0 < effect < math.inf:
        raise ConfigError(f"an effect is a difference > 0, such as 0.02 for two points, not {effect}")
    if spread is None:
        return _undefined(spec, effect, "fewer than two independent samples: nothing shows how much differences vary")
    if effect is not None and spread.bounded and effect > 1:
        raise ConfigError(f"an effect on a share is at most 1, such as 0.02 for two points, not {effect}")
    minimum = minimum_effect(spread, spec)
    wanted = effect or abs(spread.mean) or None
    if minimum is None:
        return _undefined(spec, wanted, "all differences are the same: nothing shows how much they vary")
    if wanted is None:
        zero = "the observed difference is 0: no number of samples would find it; name an effect"
        return PowerFigures(spec.alpha, spec.power, minimum, None, None, zero)
    needed = samples_needed(spread, wanted, spec)
    missing = None if needed is not None else f"more than {_MOST_SAMPLES:,} samples"
    return PowerFigures(spec.alpha, spec.power, minimum, wanted, needed, missing)


def minimum_effect(spread: Spread, spec: PowerSpec) -> float | None:
    """Smallest true mean difference that pairs with this spread show with this power.

    For shares by Connor's formula for McNemar's test at the effective number of pairs: under an effect D at least a share
    D of the samples must flip, so that the variance is never less than that of D. Where nothing flipped it gives about
    8 / n, as the exact test does, instead of 0. For other metrics (t_alpha + t_power) standard errors.

    Returns:
        A difference > 0; at most 1 for shares. None for a metric without bounds that does not vary.

    Reference: Connor 1987, Biometrics 43, 207-211, eq. 3, with Student's t for the normal quantiles.
    """
    if not spread.bounded:
        at_alpha, at_power = _quantiles(spread.n_clusters, spec)
        return (at_alpha + at_power) * spread.stderr or None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _detectable(spread, middle, spec):
            high = middle
        else:
            low = middle
    return high


def samples_needed(spread: Spread, effect: float, spec: PowerSpec) -> int | None:
    """Samples after which the effect is detectable, for the observed spread and the observed size of clusters.

    Args:
        spread: of the observed differences.
        effect: true mean difference, > 0; at most 1 for shares.
        spec: level and power.

    Returns:
        At least 2; None for more than 10^12.
    """
    low, high = 1, 2
    while not _detectable(_resized(spread, high), effect, spec):
        low, high = high, 2 * high
        if high > _MOST_SAMPLES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if _detectable(_resized(spread, middle), effect, spec):
            high = middle
        else:
            low = middle
    return high


def _undefined(spec: PowerSpec, effect: float | None, reason: str) -> PowerFigures:
    return PowerFigures(spec.alpha, spec.power, None, effect, None, reason)


def _resized(spread: Spread, n_samples: int) -> Spread:
    """The same differences from another number of samples, in clusters of the same size."""
    factor = n_samples / spread.n_samples
    return replace(
        spread,
        n_samples=n_samples,
        n_clusters=max(round(spread.n_clusters * factor), 2),
        stderr=spread.stderr / math.sqrt(factor),
    )


def _detectable(spread: Spread, effect: float, spec: PowerSpec) -> bool:
    at_alpha, at_power = _quantiles(spread.n_clusters, spec)
    if not spread.bounded:
        return effect >= (at_alpha + at_power) * spread.stderr
    flips = max(spread.mean_size, effect)
    needed = at_alpha * math.sqrt(flips) + at_power * math.sqrt(max(flips - effect**2, 0.0))
    return effect * math.sqrt(spread.n_effective) >= needed


def _quantiles(n_clusters: int, spec: PowerSpec) -> tuple[float, float]:
    """Student's quantiles for level and power."""
    df = n_clusters - 1
    return t_quantile(1 - spec.alpha / 2, df), t_quantile(spec.power, df)
