"""Python literals in model text: `ast.literal_eval` within limits, and containers in an order that never varies.

`ast.literal_eval` builds constants and containers and runs nothing. What it lacks is a bound on its input and, for sets
of strings, an order: the official code lists sets in hash order, which changes from process to process.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from specs_eval.tasks.megabench.limits import MAX_LITERAL_CHARS

LITERAL_ERRORS = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""All that `literal` raises on text that is not a literal."""

_WARNS = re.compile(r"\\|\d[A-Za-z_]")
_DEEP = re.compile(r"[-+~]{1000}|(?:not\s{1,9}){500}")
_STRING_START = frozenset("'\"rRuU(#\\\f\n\r\t -+~")
MAX_REMEMBERED_CHARS = 500
_WARNING_LOCK = threading.Lock()


def literal(text: Any) -> Any:
    """The value of a Python literal.

    Raises:
        SyntaxError, ValueError, TypeError, MemoryError, RecursionError: not a literal, or beyond our limits
            (`LITERAL_ERRORS`); which of them follows the interpreter, since the official code tells them apart.
    """
    if not isinstance(text, str):
        raise ValueError(f"not text: {type(text).__name__}")  # noqa: TRY004  # as ast.literal_eval does
    if len(text) > MAX_LITERAL_CHARS or _DEEP.search(text):
        raise SyntaxError("too long or too deep for a literal")
    if _WARNS.search(text) is None:
        return ast.literal_eval(_tree(text) if len(text) <= MAX_REMEMBERED_CHARS else text)
    with _WARNING_LOCK, warnings.catch_warnings():  # an escape such as "\d" must neither print nor raise
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


@lru_cache(maxsize=512)
def _tree(text: str) -> ast.Expression:
    """The syntax tree, of which each call makes values of its own: gold answers come again and again."""
    return ast.parse(text.lstrip(" \t"), mode="eval")


def unquoted(value: Any) -> Any:
    """The text inside when the value is the literal of a string, else the value itself."""
    if not isinstance(value, str) or not value:
        return value
    if value[0] not in _STRING_START and not value.startswith("not"):
        return value
    try:
        found = literal(value)
    except MemoryError:
        return ""
    except LITERAL_ERRORS:
        return value
    return found if isinstance(found, str) else value


def stable_text(value: Any) -> str:
    """``str(value)`` with the items of sets in a fixed order.

    Raises:
        RecursionError: nested too deeply to be written.
    """
    return _written(value) if _holds_set(value) else str(value)


def listed(items: Iterable[Any]) -> list[Any]:
    """``list(items)`` with sets in a fixed order: the interpreter's where that is the same in every process."""
    if isinstance(items, (set, frozenset)) and not all(map(_hash_is_fixed, items)):
        return sorted(items, key=lambda item: (type(item).__name__, stable_text(item)))
    return list(items)


def _hash_is_fixed(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_hash_is_fixed, value))
    return isinstance(value, (int, float, complex))


def _holds_set(value: Any) -> bool:
    if isinstance(value, (set, frozenset)):
        return True
    if isinstance(value, dict):
        return any(map(_holds_set, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_set, value))


def _written(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(map(_written, listed(value))) + "}" if value else "set()"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_written, value)) + (",)" if len(value) == 1 else ")")
    return repr(value)


def to_container(make: Callable[..., Any], text: Any) -> Any:
    """Read text as a container, the official way: a literal if it is one, else items between commas.

    Args:
        make: ``set`` or ``list``.
        text: the text; anything else gives an empty container.

    Returns:
        The container; ``""`` for the literal None (a quirk that later makes it unequal to every container).
    """
    if not isinstance(text, str):
        return make()
    text = text.strip(" ")
    if not text:
        return make()
    closing = {"(": ")", "{": "}", "[": "]"}.get(text[0])
    if closing is not None and not text.endswith(closing):
        return make()
    try:
        value = literal(text)
    except (SyntaxError, ValueError):
        inner = text[1:-1] if closing is not None else text
        return make([item.strip() for item in inner.split(",")])
    except TypeError:
        return make()
    return _contained(make, value)


def _contained(make: Callable[..., Any], value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return make([value])
    try:
        return make(listed(value) if make is list else value)
    except TypeError:
        return make()
