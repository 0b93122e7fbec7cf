"""Bets on the Generalization Factor of means that are not known yet, each at any time.

GF is a weighted harmonic mean of the gains x (ID) and y (OOD). With s = beta^2 / (1 + beta^2),

    GF = min over u in [0, 1] of  u^2 x / (1 - s) + (1 - u)^2 y / s        (where both gains are positive),

a minimum of *linear* functions of the two means (the best u is the share that ID has in 1 / GF; Cauchy-Schwarz). So a claim on
GF is one or many claims on a single mean, and a bet on that mean is an ordinary bet on bounded values:

- "GF <= c" says: for some u the linear function is <= c. It is refuted when it is refuted for every u: the least wealth over u.
- "GF >= c" says: for every u it is >= c. One u is enough, chosen before each block from the blocks before.
- "GF changed by at most c": by the mean value theorem the change is the linear function of the *paired differences* at some u
  between those of the two checkpoints. A tenth of the wealth bets on where that u is not, the rest on the differences.

Splitting the error over one confidence sequence a mean, which holds too, needs about twice the samples, and more for changes,
as it forgets that the checkpoints answered the same questions.

All bets at one look are on the same units, so that wealth may be mixed. Claims hold for gains of any sign (GF is 0 where a gain
is negative). `docs/design/gates.md` has the argument in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specs_eval.analysis.betting import Bets, Units, log_wealth
from specs_eval.analysis.many_bets import log_wealths
from specs_eval.analysis.samples import FloatArray, IntArray

N_CELLS = 64
"""Steps of u that stand for all of them; what lies between is paid for by a bound that is a trifle harder."""

PLACE = 0.1
"""Share of the wealth that bets on where the change of GF is to be read."""

SMALLEST_BOUND = 1e-6
"""GF is compared with bounds above 0."""

_PLACE_EFFECTS = (0.1, 0.4)
_ROUNDING = 1e-9
_PRIOR_VARIANCE = 0.15
_PRIOR_UNITS = 20


@dataclass(frozen=True, slots=True, eq=False)
class FactorDesign:
    """What is known of the units before anything is answered."""

    sizes: FloatArray
    """Samples of each unit in ID and OOD over the mean of all units, in the order drawn, shape (2, n_units)."""
    looks: IntArray
    """Units drawn at the end of each block."""
    beta: float
    """Weight of OOD."""
    floor: float = 0.0
    """Least gain of a sample: 0 for scores, -1 for differences to a base."""

    @property
    def share(self) -> float:
        """Weight of OOD in the harmonic mean."""
        return self.beta**2 / (1 + self.beta**2)

    def scales(self) -> FloatArray:
        """What ID has at u = 1 and OOD at u = 0, shape (2,)."""
        return np.array([1 / (1 - self.share), 1 / self.share])

    def slack(self, cells: int) -> float:
        """How far the linear function between two neighbouring u can lie below the nearer one, for means in [-1, 1]."""
        return float(self.scales().sum()) / (4 * cells**2)


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Gains of a checkpoint over the units seen so far, what failed filled both ways.

    A unit's gain is the sum over its samples, over the mean number of samples of a unit: its mean is the mean over samples.
    """

    least: FloatArray
    """Shape (2, n_seen): ID, OOD."""
    most: FloatArray

    @property
    def n(self) -> int:
        """Units seen."""
        return int(self.least.shape[1])

    def reversed(self) -> Gains:
        """With the sign changed."""
        return Gains(-self.most, -self.least)


def log_wealth_above(design: FactorDesign, gains: Gains, bound: float, effects: tuple[float, ...]) -> FloatArray:
    """Log wealth against "GF is at most `bound`", at each look that the gains reach.

    Args:
        design: of all units.
        gains: of the units seen.
        bound: > 0.
        effects: distances of GF from the bound that are bet on.

    Returns:
        Shape (n_looks,): at most log(1 / alpha) at all looks with probability 1 - alpha if GF is at most `bound`.
    """
    hard = bound + design.slack(N_CELLS)
    claims = []
    for u in np.linspace(0, 1, N_CELLS + 1):
        slopes = _slopes(design, u)
        # Further from the tangent point, GF's linear function exceeds GF, and so does the effect to be seen.
        further = bound * (slopes.sum() - 1) / 2
        bets = tuple(effect + further for effect in effects)
        claims.append(_Claim(gains.least, slopes, hard * np.array([u, 1 - u]), bets))
    wealth: FloatArray = _linear_wealth(design, claims).min(axis=0)
    return wealth


def log_wealth_below(design: FactorDesign, gains: Gains, bound: float, effects: tuple[float, ...]) -> FloatArray:
    """Log wealth against "GF is at least `bound`", at each look; arguments as for `log_wealth_above`."""
    looks = _seen(design, gains.n)
    u = np.repeat(_tangents(design, gains, bound, looks), np.diff(looks, prepend=0))
    slopes = np.stack([u**2, (1 - u) ** 2]) * design.scales()[:, None]
    centres = bound * np.stack([u, 1 - u])
    sizes = design.sizes[:, : gains.n]
    values = (centres * sizes - slopes * gains.most).sum(axis=0)
    ends = np.array(_range_of_u(design, bound))
    at_ends = np.stack([ends**2, (1 - ends) ** 2]) * design.scales()[:, None]
    least, most = _extremes(design, -at_ends, -bound * np.stack([ends, 1 - ends]))
    mean_slopes = at_ends.mean(axis=1)
    return _wealth(values, least, most, looks, Bets(effects, float(_variances(design, mean_slopes[None])[0])))


def log_wealth_change(
    design: FactorDesign,
    pair: tuple[Gains, Gains],
    change: Gains,
    bound: float,
    effects: tuple[float, ...],
    place: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Log wealth against "GF of the second is at most GF of the first plus `bound`", at each look.

    Args:
        design: of all units.
        pair: gains of the first and of the second checkpoint.
        change: gains of the second minus those of the first, paired by sample, so that a base cancels.
        bound: of any sign.
        effects: distances of the change from the bound that are bet on.
        place: `place_wealth` of the pair in either order, where it is known already.
    """
    _, second = pair
    places = np.linspace(0, 1, N_CELLS + 1)
    not_above, not_below = place_wealth(design, pair) if place is None else place
    # Where both gains of a checkpoint are negative, its u says nothing.
    defined = np.full(not_above.shape[1], np.inf)
    if design.floor < 0:
        defined = np.minimum(*(_positive_wealth(design, one) for one in pair))
    paired = FactorDesign(design.sizes, design.looks, design.beta, -1.0)
    hard = bound + design.slack(N_CELLS)
    claims = [_Claim(change.least, _slopes(design, u), hard * np.array([u, 1 - u]), effects) for u in places]
    elsewhere = np.minimum(_elsewhere(not_above, not_below), defined)
    here = _linear_wealth(paired, claims)
    wealth: FloatArray = np.logaddexp(math.log(1 - PLACE) + here, math.log(PLACE) + elsewhere).min(axis=0)
    if design.floor < 0 and bound >= 0:
        # GF is the positive part of the minimum that the linear argument is about. They part where the first checkpoint's
        # minimum is negative: then the second's GF itself must be above the bound.
        wealth = np.minimum(wealth, log_wealth_above(design, second, max(bound, SMALLEST_BOUND), effects))
    return wealth


def place_wealth(design: FactorDesign, pair: tuple[Gains, Gains]) -> tuple[FloatArray, FloatArray]:
    """Log wealth against "the best u of one of these checkpoints is at least (at most) u", both of shape (n_places, n_looks)."""
    places = np.linspace(0, 1, N_CELLS + 1)
    above, below = (np.minimum(*(_place_wealth(design, one, places, side) for one in pair)) for side in (1, -1))
    return above, below


def _elsewhere(not_above: FloatArray, not_below: FloatArray) -> FloatArray:
    """Log wealth against "the change is read at a u next to this one", which lies between those of the checkpoints.

    Shape (n_places, n_looks), as both arguments have it.
    """
    broke = np.full((1, not_above.shape[1]), -np.inf)
    left, right = np.concatenate([broke, not_above[:-1]]), np.concatenate([not_below[1:], broke])
    mixed: FloatArray = np.logaddexp(left, right) - math.log(2)
    return mixed


def _slopes(design: FactorDesign, u: float) -> FloatArray:
    """Weights of ID and OOD in the linear function at u, shape (2,)."""
    return np.array([u**2, (1 - u) ** 2]) * design.scales()


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    """That slopes . means are at most the sum of the centres.

    Each role is centred by itself, so that units with samples of one role only do not differ by their role.
    """

    gains: FloatArray
    """Shape (2, n_seen)."""
    slopes: FloatArray
    """Shape (2,)."""
    centres: FloatArray
    """Shape (2,)."""
    effects: tuple[float, ...]
    """To bet on against it."""


def _linear_wealth(design: FactorDesign, claims: Sequence[_Claim]) -> FloatArray:
    """Log wealth against claims on the same units, shape (n_claims, n_looks)."""
    n = claims[0].gains.shape[1]
    sizes = design.sizes[:, :n]
    values = np.stack([one.slopes @ one.gains - one.centres @ sizes for one in claims])
    ends = [_extremes(design, one.slopes[:, None], one.centres[:, None]) for one in claims]
    least, most = np.array(ends).T
    return log_wealths(
        values,
        (least - _ROUNDING, most + _ROUNDING),
        _seen(design, n),
        np.array([one.effects for one in claims]),
        _variances(design, np.stack([one.slopes for one in claims])),
    )


def _wealth(values: FloatArray, least: float, most: float, looks: IntArray, bets: Bets) -> FloatArray:
    units = Units(values, np.ones(len(values)), least - _ROUNDING, most + _ROUNDING, looks)
    return log_wealth(units, 0.0, bets) if len(values) else np.zeros(0)


def _place_wealth(design: FactorDesign, gains: Gains, places: FloatArray, side: int) -> FloatArray:
    """Log wealth against "the best u of these means is at least (side 1) or at most (side -1) u", shape (n_places, n_looks)."""
    claims = []
    for u in places:
        slopes = side * np.array([u, -(1 - u)]) * design.scales()
        worst = np.where(slopes[:, None] >= 0, gains.least, gains.most)
        claims.append(_Claim(worst, slopes, np.zeros(2), _PLACE_EFFECTS))
    return _linear_wealth(design, claims)


def _positive_wealth(design: FactorDesign, gains: Gains) -> FloatArray:
    """Log wealth against "both gains are at most 0", at each look."""
    claims = [_Claim(gains.least, slopes, np.zeros(2), _PLACE_EFFECTS) for slopes in np.eye(2) * design.scales()]
    mixed: FloatArray = np.logaddexp(*_linear_wealth(design, claims)) - math.log(2)
    return mixed


def _extremes(design: FactorDesign, slopes: FloatArray, centres: FloatArray) -> tuple[float, float]:
    """Least and most that slopes . gains - centres . sizes of a unit can be, over columns of slopes and centres."""
    with_floor, with_one = slopes * design.floor - centres, slopes - centres
    low, high = np.minimum(with_floor, with_one), np.maximum(with_floor, with_one)
    return float((low.T @ design.sizes).min()), float((high.T @ design.sizes).max())


def _variances(design: FactorDesign, slopes: FloatArray) -> FloatArray:
    """First guess of the variance of a unit for each row of slopes."""
    squares = (design.sizes**2).mean(axis=1)
    return np.array([float(_PRIOR_VARIANCE * (row**2 @ squares)) + 1e-12 for row in slopes])


def _seen(design: FactorDesign, n: int) -> IntArray:
    """The looks up to n units; n is one of them."""
    return design.looks[design.looks <= n]


def _range_of_u(design: FactorDesign, bound: float) -> tuple[float, float]:
    """The u whose tangents touch GF = bound at gains up to 1."""
    return min(bound * (1 - design.share), 1.0), max(1 - bound * design.share, 0.0)


def _tangents(design: FactorDesign, gains: Gains, bound: float, looks: IntArray) -> FloatArray:
    """The u to bet on in each block: the best one for the means of the blocks before, which begin at GF = bound."""
    sums = np.concatenate([np.zeros((2, 1)), np.cumsum(gains.most, axis=1)], axis=1)
    starts = np.concatenate([[0], looks[:-1]])
    means = (sums[:, starts] + _PRIOR_UNITS * bound) / (starts + _PRIOR_UNITS)
    one, other = np.maximum(means, 1e-9) * design.scales()[:, None]
    low, high = _range_of_u(design, bound)
    tangents: FloatArray = np.clip(other / (one + other), min(low, high), max(low, high))
    return tangents
