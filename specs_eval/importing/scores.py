"""Which number of a log is the score, and what it is as a share."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.importing.imported import listed

PREFERRED = ("score", "acc", "accuracy", "exact_match", "anls", "relaxed_overall")
"""Names that are the score where a sample has several numbers and one of these only."""

_NUMBER = re.compile(
    r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE
)
_WORDS = {"true": 1.0, "false": 0.0}
SCORE_FIELDS = ("score", "true_false")
"""Fields of a mapping that are its score, the first that it has."""

_EDGE = 1e-6
"""How far rounding may carry a share over the edge."""


def number(value: object) -> float | None:
    """A value as a number, NaN and infinity included; None where it is none.

    A mapping counts with its ``score``, or with ``true_false`` (MathVista). Text counts where it is a number or True and False: lmms-eval writes numbers of
    numpy so.
    """
    if isinstance(value, Mapping):
        value = _score_field(value)
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        return float(text) if len(text) <= 1000 and _NUMBER.fullmatch(text) else None
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def _score_field(value: Mapping[str, Any]) -> Any:
    return next((value[name] for name in SCORE_FIELDS if name in value), None)


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """The value under a key, or under ``key.inner`` inside a mapping; None where there is none."""
    if key in row:
        return row[key]
    outer, dot, inner = key.partition(".")
    found = row.get(outer)
    return value_at(found, inner) if dot and isinstance(found, Mapping) else None


def rollout_values(value: Any) -> list[Any] | None:
    """The scores of each of a sample's rollouts, where the log has them: the list ``all`` of a mapping."""
    found = value.get("all") if isinstance(value, Mapping) else None
    return found if isinstance(found, list) and found else None


def numeric_keys(rows: Sequence[Mapping[str, Any]], structure: Collection[str]) -> list[str]:
    """Keys outside `structure` that hold a number (not as text) in some row, in the order first seen."""
    found: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            plain = not isinstance(value, str) and number(value) is not None
            if key not in found and key not in structure and plain:
                found[key] = None
    return list(found)


def choose_score(
    rows: Sequence[Mapping[str, Any]],
    wanted: Sequence[str],
    known: Mapping[str, bool | None],
    structure: Collection[str],
    where: str,
) -> tuple[str, ...]:
    """The keys whose values are the scores: for each row the first that it has.

    Asked for, those. Else of the metrics that the log declares higher is better (of all numbers where it declares none):
    the only one; the first that every row has, where all agree in each row (POPE, MMStar); the only one of `PREFERRED`; or
    all of them, where every row has exactly one (MME).

    Args:
        rows: of one task.
        wanted: as typed.
        known: metric -> higher is better, as the log declares it; empty: it does not.
        structure: keys that are no metrics.
        where: the file, for messages.

    Raises:
        ConfigError: a key that no row has, none that is a number, or several; the message lists them.
    """
    numeric = numeric_keys(rows, structure)
    fields = listed(_fields(rows, structure)) or "none"
    if wanted:
        missing = [key for key in wanted if all(value_at(row, key) is None for row in rows)]
        if missing:
            raise ConfigError(f"{where}: no sample has {missing[0]!r}; the fields of a sample are: {fields}")
        return tuple(wanted)
    if not numeric:
        raise ConfigError(
            f"{where}: no metric is a number for each sample; name one inside a field with --score-key FIELD.NAME, or "
            f"score the responses with 'specs-eval score'; the fields are: {fields}"
        )
    declared = [key for key in numeric if known.get(key)]
    candidates = declared or [key for key in numeric if known.get(key) is not False] or numeric
    preferred = [key for key in PREFERRED if key in candidates]
    for names in (candidates, preferred):
        found = names[0] if len(names) == 1 else _agreed(rows, names)
        if found is not None:
            return (found,)
    if all(sum(key in row for key in candidates) == 1 for row in rows):
        return tuple(candidates)
    raise ConfigError(
        f"{where}: which number is the score? Name it with --score-key (several where samples have different ones): "
        f"{listed(candidates)}"
    )


def _agreed(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str | None:
    """The first key that every row has, where the numbers under all keys that a row has are the same."""
    in_all = next((key for key in keys if all(key in row for row in rows)), None)
    if in_all is None:
        return None
    same = all(number(row[key]) == number(row[in_all]) for row in rows for key in keys if key in row)
    return in_all if same else None


def _fields(rows: Sequence[Mapping[str, Any]], structure: Collection[str]) -> list[str]:
    found: dict[str, None] = {}
    for row in rows[:1000]:
        for key, value in row.items():
            if key not in structure:
                inner = value if isinstance(value, Mapping) else {}
                found.update(dict.fromkeys([f"{key}.{name}" for name in inner] or [key]))
    return list(found)


class Scale:
    """From the log's numbers to shares in [0, 1]."""

    def __init__(self, top: float | None, name: str, where: str) -> None:
        if top is not None and not (math.isfinite(top) and top > 0):
            raise ConfigError(f"--scale must be a number above 0, such as 100, not {top}")
        self.top = top
        self.name, self.where = name, where

    def share(self, value: object, line: int) -> tuple[float | None, str | None]:
        """The share, and the reason where there is none.

        Raises:
            ConfigError: not a number, or outside [0, 1] after scaling; the message has file and line.
        """
        if isinstance(value, Mapping) and any(name in value for name in SCORE_FIELDS):
            value = _score_field(value)
        if value is None:
            return None, f"the log has no {self.name}"
        found = number(value)
        if found is None:
            raise ConfigError(f"{self.where}:{line}: {self.name} is not a number but {str(value)[:80]!r}")
        if math.isnan(found):
            return None, f"{self.name} is NaN in the log"
        share = found / (self.top or 1.0)
        if not -_EDGE <= share <= 1 + _EDGE:
            raise ConfigError(f"{self.where}:{line}: {self.name} is {found:g}, outside [0, 1]; {self._hint(found)}")
        return min(max(share, 0.0), 1.0), None

    def _hint(self, found: float) -> str:
        if self.top is not None:
            return f"--scale {self.top:g} is not the best score of this log"
        if 1 < found <= 100:
            return "say what the best score is, such as --scale 100"
        return "say what the best score is with --scale, or take another number with --score-key"


def further_metrics(row: Mapping[str, Any], keys: Collection[str], position: int, n: int) -> dict[str, float]:
    """The other numbers of a row that are shares, for one of its `n` rollouts.

    Numbers of all rollouts together count only where there is one.
    """
    found = {}
    for key in keys:
        value = row.get(key)
        each = rollout_values(value)
        if each is not None and len(each) == n:
            value = each[position]
        elif n > 1:
            continue
        share = number(value)
        if share is not None and 0 <= share <= 1:
            found[key] = share
    return found
