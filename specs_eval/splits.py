"""Parts of a benchmark as one types them: ``mathvista[skills=algebraic reasoning,grade!=college]``.

A split is a task and conditions on the categories of its samples. All conditions must hold; a condition names a
dimension and one or several values (``format=json|boxed``), or what must not be (``format!=json``). Dimensions and values may be
shortened as long as one only is meant. A sample that lists several values of a dimension ("; " between them) has each.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from specs_eval.errors import ConfigError
from specs_eval.task_names import canonical_task_name

VALUE_SEPARATOR = "; "
"""Between the values of one dimension where a sample has several, such as MathVista's skills."""

Category = Mapping[str, str]

_SHAPE = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_SYNTAX = "write TASK or TASK[DIMENSION=VALUE], such as formats_ood[format=json|boxed] or mathvista[grade!=college]"


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a sample's category."""

    dimension: str
    values: tuple[str, ...]
    """The sample must have one of them; with `negated`, none."""
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.dimension}{'!=' if self.negated else '='}{'|'.join(self.values)}"

    def holds(self, category: Category) -> bool:
        """Whether a sample with these categories meets the condition; one without the dimension has no value of it."""
        has = any(value in self.values for value in category_values(category, self.dimension))
        return has != self.negated


@dataclass(frozen=True, slots=True)
class Split:
    """A task, or the part of it that meets all conditions."""

    task: str
    """Its canonical name."""
    conditions: tuple[Condition, ...] = ()
    written_out: bool = field(default=False, compare=False)
    """Whether its names are whole and mean the same everywhere, also where no sample has them; see `resolved`."""

    def __str__(self) -> str:
        return self.task + (f"[{','.join(map(str, self.conditions))}]" if self.conditions else "")

    def holds(self, category: Category) -> bool:
        """Whether a sample with these categories belongs to the split."""
        return all(condition.holds(category) for condition in self.conditions)

    def resolved(self, categories: Iterable[Category]) -> Split:
        """The split with its shortened names written out, after the categories that the task's samples have.

        Raises:
            ConfigError: a dimension or value that no sample has, or that is short for several; the message lists them.
        """
        if not self.conditions or self.written_out:
            return self
        known = values_by_dimension(categories)
        return replace(self, conditions=tuple(_resolved(one, known, self) for one in self.conditions), written_out=True)


def parse_split(text: str) -> Split:
    """Read one split.

    Raises:
        ConfigError: not of the form TASK[DIMENSION=VALUE|VALUE,DIMENSION!=VALUE].

    Example:
        >>> str(parse_split("formats_ood[format = json | boxed]"))
        'easyvqa_formats_ood[format=json|boxed]'
    """
    found = _SHAPE.fullmatch(text.strip())
    if found is None or not found.group(1).strip():
        raise ConfigError(f"cannot read {text!r}: {_SYNTAX}")
    name, inside = found.groups()
    parts = [] if inside is None else inside.split(",")
    return Split(canonical_task_name(name), tuple(_condition(part, text) for part in parts))


def parse_splits(text: str) -> list[Split]:
    """Read a comma-separated list of splits, each once; commas inside brackets belong to the split.

    Raises:
        ConfigError: the list is empty, or one of them cannot be read.
    """
    parts = [part for part in re.split(r",(?![^\[\]]*\])", text) if part.strip()]
    if not parts:
        raise ConfigError(f"no task in {text!r}: {_SYNTAX}")
    return list(dict.fromkeys(map(parse_split, parts)))


def category_values(category: Category, dimension: str) -> tuple[str, ...]:
    """The values that a sample has in a dimension; () where it has none."""
    value = category.get(dimension, "")
    return tuple(part for part in value.split(VALUE_SEPARATOR) if part)


def values_by_dimension(categories: Iterable[Category]) -> dict[str, tuple[str, ...]]:
    """Dimension -> the values that occur, sorted."""
    found: dict[str, set[str]] = {}
    for category in categories:
        for dimension in category:
            found.setdefault(dimension, set()).update(category_values(category, dimension))
    return {dimension: tuple(sorted(values)) for dimension, values in sorted(found.items()) if values}


def _condition(text: str, whole: str) -> Condition:
    dimension, equals, values = text.partition("=")
    negated = dimension.endswith("!")
    named = tuple(value.strip() for value in values.split("|"))
    dimension = dimension.removesuffix("!").strip()
    if not (dimension and equals and all(named)):
        raise ConfigError(f"cannot read {text.strip()!r} in {whole!r}: {_SYNTAX}")
    return Condition(dimension, named, negated)


def _resolved(condition: Condition, known: Mapping[str, Sequence[str]], split: Split) -> Condition:
    dimension = _meant(condition.dimension, list(known), f"{split.task} has no dimension")
    values = [_meant(value, known[dimension], f"{split.task} has no {dimension}") for value in condition.values]
    return replace(condition, dimension=dimension, values=tuple(dict.fromkeys(values)))


def _meant(typed: str, known: Sequence[str], complaint: str) -> str:
    """The known name that was typed: letter by letter, but for case, or as the start of one name only."""
    if typed in known:
        return typed
    for found in (
        [name for name in known if name.casefold() == typed.casefold()],
        [name for name in known if name.casefold().startswith(typed.casefold())],
    ):
        if len(found) == 1:
            return found[0]
    near = difflib.get_close_matches(typed, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known[:40]) + (f" and {len(known) - 40} more" if len(known) > 40 else "")
    raise ConfigError(f"{complaint} {typed!r}; {hint}it has: {listed or 'none'}")
