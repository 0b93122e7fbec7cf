"""Several tests at once: adjusted p values."""

from __future__ import annotations

from collections.abc import Sequence

from specs_eval.errors import ConfigError


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment: the chance of even one false alarm in the family stays below the level.

    It needs no assumption about how the tests depend on each other (tasks share weights, categories share samples), and
    is never weaker than Bonferroni's.

    Args:
        p_values: of one family, each in (0, 1], any order.

    Returns:
        The adjusted p values in the same order, each at least as large as the raw one and at most 1. Reject where
        adjusted p < level.

    Raises:
        ConfigError: a p value outside (0, 1].

    Reference: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)
    """
    for p in p_values:
        if not 0 < p <= 1:
            raise ConfigError(f"p values lie in (0, 1], not {p}")
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return tuple(adjusted)
