"""Numbers as people read them: percent on screen, intervals beside them, what is missing in words."""

from __future__ import annotations

from collections.abc import Sequence

from specs_eval.analysis.report.document import Cell
from specs_eval.analysis.statistics import Estimate, Interval

MINUS = "\N{MINUS SIGN}"
PLAIN_QUANTITIES = frozenset({"rbf", "rbf@samples", "entropy", "distinct", "effective"})
"""Quantities that are no shares: shown as they are, not in percent."""

_NAMES = {
    "rbf": "RBF",
    "entropy": "Entropy (nats)",
    "distinct": "Distinct answers",
    "effective": "Effective answers",
    "gf": "GF",
    "lock_in": "Format lock-in",
    "wrong_mode": "Wrong-mode share",
    "persistence": "Persistence",
}


def checkpoint_label(checkpoint: str, series: str, step: int | None) -> str:
    """A checkpoint as figures and tables call it: series and step, or its name where it has no step."""
    return checkpoint if step is None else f"{series} {step:,}"


def quantity_name(quantity: str, k: int | None = None) -> str:
    """A quantity as a heading."""
    if k is not None:
        return quantity.replace("@k", f"@{k}")
    return _NAMES.get(quantity, quantity.replace("_", " ").capitalize())


def number(value: float, quantity: str) -> str:
    """A value in the unit of its quantity: percent with one decimal, or plain with two."""
    text = f"{value:.2f}" if quantity in PLAIN_QUANTITIES else f"{100 * value:.1f}"
    text = text.replace("-0.0", "0.0") if float(text) == 0 else text
    return text.replace("-", MINUS)


def signed(value: float, quantity: str) -> str:
    """A difference with its sign."""
    text = number(value, quantity)
    return text if text.startswith(MINUS) or not value else f"+{text}"


def interval_text(interval: Interval | None, quantity: str) -> str:
    """``[low, high]``; empty without one."""
    if interval is None:
        return ""
    return f"[{number(interval.low, quantity)}, {number(interval.high, quantity)}]"


def estimate_cell(estimate: Estimate | None, quantity: str) -> Cell:
    """A number with its interval; a dash with the reason where it is undefined; empty where nothing was asked."""
    if estimate is None:
        return Cell("")
    if estimate.value is None:
        return Cell("–", estimate.reason or "undefined")
    return Cell(number(estimate.value, quantity), interval_text(estimate.interval, quantity))


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 sample``, ``2,000 samples``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(names: Sequence[str], limit: int = 4) -> str:
    """``a, b and c``; longer lists end with how many more there are."""
    unique = list(dict.fromkeys(names))
    if len(unique) > limit:
        return f"{', '.join(unique[:limit])} and {len(unique) - limit} more"
    return " and ".join(filter(None, (", ".join(unique[:-1]), unique[-1] if unique else "")))
