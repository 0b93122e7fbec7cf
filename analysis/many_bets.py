"""Many bets on the same units at once: what `betting.log_wealth` gives for each, to the last digit, in few array operations.

Claims on the Generalization Factor are dozens of claims on single means (see `factor_bets`), and each costs more in calls than
in arithmetic.
"""

from __future__ import annotations

import numpy as np

from specs_eval.analysis.betting import MAX_STAKE, PRIOR_UNITS
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.errors import ConfigError

_CHUNK = 16_000
"""Numbers of one array that are worked on at a time: a processor's cache holds a few such arrays."""


def log_wealths(
    values: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    looks: IntArray,
    effects: FloatArray,
    variances: FloatArray,
) -> FloatArray:
    """Log wealth at each look of bets against "the mean of this row is at most 0".

    Args:
        values: of the units in the order drawn, a row a bet, shape (n_bets, n_units). All units weigh the same.
        bounds: least and most of each row, each of shape (n_bets,).
        looks: units drawn at the end of each block, shape (n_blocks,).
        effects: what each bets on, shape (n_bets, n_effects), > 0.
        variances: first guess of the variance of a unit, shape (n_bets,).

    Returns:
        Shape (n_bets, n_blocks); see `betting.log_wealth`.

    Raises:
        ConfigError: a value outside of its bounds.
    """
    low, high = bounds
    n_bets, n_units = values.shape
    if not n_units:
        return np.zeros((n_bets, 0))
    if not ((values >= low[:, None]).all() and (values <= high[:, None]).all()):
        raise ConfigError("values must lie within their bounds: betting needs them")
    rows = max(1, _CHUNK // (n_units * effects.shape[1]))
    chunks = [slice(start, start + rows) for start in range(0, n_bets, rows)]
    return np.concatenate([_wealths(values[at], low[at], looks, effects[at], variances[at]) for at in chunks])


def _wealths(
    values: FloatArray, low: FloatArray, looks: IntArray, effects: FloatArray, guess: FloatArray
) -> FloatArray:
    variance = np.repeat(_variances_before(values, looks, guess), np.diff(looks, prepend=0), axis=1)
    most = MAX_STAKE / np.maximum(-low, 1e-12)
    bets = effects[:, :, None]
    stakes = np.minimum(bets / (variance[:, None] + bets**2), most[:, None, None])
    paths = np.cumsum(np.log1p(stakes * values[:, None]), axis=2)[:, :, looks - 1]
    highest = paths.max(axis=1)
    mixed: FloatArray = highest + np.log(np.exp(paths - highest[:, None]).mean(axis=1))
    return mixed


def _variances_before(values: FloatArray, looks: IntArray, guess: FloatArray) -> FloatArray:
    """Variance of the units before each block, around their own mean, shape (n_bets, n_blocks)."""
    starts = np.concatenate([[0], looks[:-1]])

    def before(terms: FloatArray) -> FloatArray:
        sums = np.cumsum(terms, axis=1)
        found: FloatArray = np.where(starts > 0, sums[:, starts - 1], 0.0)
        return found

    sums = before(values)
    centre = sums / np.maximum(starts, 1e-12)
    spread = np.maximum(before(values**2) - 2 * centre * sums + centre**2 * starts, 0.0)
    variance: FloatArray = (spread + PRIOR_UNITS * guess[:, None]) / (starts + PRIOR_UNITS)
    return variance
