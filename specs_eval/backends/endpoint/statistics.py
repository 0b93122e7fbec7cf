"""Entropy and nucleus size from the log-probabilities of a reply, where they are exact; else nothing.

A server gives the K most probable tokens of each position. The nucleus is known where these hold its mass: K = 20 is enough
for most positions of a trained model. The entropy is known only where nothing is left over, which in practice means the
whole vocabulary. A rollout has a statistic when every one of its positions has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.backends.base import NUCLEUS_MASS
from specs_eval.backends.endpoint.replies import TopLogprobs, top_logprobs

EXACT = 1e-6
"""Entropy in nats by which the tokens that were not given may raise it and leave it exact: what is stored is rounded to
six decimals."""
MAX_VOCABULARY = 1 << 20
"""Tokens that may share the mass that was not given, at most."""
_DECIMALS = 6
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Of one rollout; None: not exact at every position."""

    entropies: tuple[float, ...] | None
    """Nats, by position."""
    nucleus_sizes: tuple[int, ...] | None

    @property
    def entropy(self) -> float | None:
        """Mean over positions."""
        return round(math.fsum(self.entropies) / len(self.entropies), _DECIMALS) if self.entropies else None

    @property
    def nucleus(self) -> float | None:
        """Mean over positions."""
        return round(sum(self.nucleus_sizes) / len(self.nucleus_sizes), _DECIMALS) if self.nucleus_sizes else None


def statistics_of(positions: Sequence[Any], n_tokens: int | None, *, whole: bool = False) -> TokenStatistics:
    """Statistics of a rollout from what its reply holds for each position.

    Args:
        positions: as in a reply.
        n_tokens: generated tokens, where known; other than the number of positions, nothing is known of the rest.
        whole: whether each position holds the whole vocabulary.
    """
    if not positions or (n_tokens is not None and n_tokens != len(positions)):
        return TokenStatistics(None, None)
    tables = [top_logprobs(position) for position in positions]
    sizes = [None if table is None else nucleus_size(table) for table in tables]
    entropies = [None if table is None else entropy_of(table, whole=whole) for table in tables]
    return TokenStatistics(
        None if None in entropies else tuple(value for value in entropies if value is not None),
        None if None in sizes else tuple(size for size in sizes if size is not None),
    )


def nucleus_size(table: TopLogprobs) -> int | None:
    """Size of the smallest token set with mass >= 0.95; None: it cannot be told from these tokens.

    The last entry may be the token that was drawn, put in the place of a more probable one. It counts only where no
    token that is missing can be more probable than it.
    """
    missing = max(0.0, 1.0 - math.fsum(map(math.exp, table)))
    mass = 0.0
    for index, value in enumerate(table):
        if index and index == len(table) - 1 and math.exp(value) < missing:
            return None
        mass += math.exp(value)
        if mass >= NUCLEUS_MASS:
            return index + 1
    return None


def entropy_of(table: TopLogprobs, *, whole: bool = False) -> float | None:
    """Entropy in nats; None: the tokens that are missing could change it.

    Of a whole vocabulary nothing is missing, but rounded log-probabilities need not add up to 1 by more than a check.
    """
    known = [(math.exp(value), value) for value in table if value > -math.inf]
    missing = max(0.0, 1.0 - math.fsum(p for p, _ in known))
    # The most that mass m on N tokens adds is m (ln N - ln m).
    most = missing * (math.log(MAX_VOCABULARY) - math.log(missing)) if missing else 0.0
    exact = missing < _ROUNDING if whole else most <= EXACT
    return math.fsum(-p * value for p, value in known) if exact else None
