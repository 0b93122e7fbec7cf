"""Telling elementary expressions apart by their values at a few fixed complex points.

Computer algebra is slow, and most answers are simply wrong. Expressions that differ at a point are not equal, and the
official comparison gives them no credit. Where they agree, or no value exists, only algebra can tell.
"""

from __future__ import annotations

import cmath
import hashlib
from collections.abc import Callable
from typing import Any

from specs_eval.tasks.megabench.latex.grammar import Tree

POINTS = 3
TOLERANCE = 1e-6
MAX_EXPONENT = 200.0
"""Constant exponents beyond this size are left alone: they are made to exhaust whoever computes them."""

VALUE_ERRORS = (ArithmeticError, ValueError, KeyError, IndexError)


class TooLarge(ValueError):
    """A constant power that neither we nor computer algebra should compute."""


def differ(left: Tree, right: Tree) -> bool:
    """Whether two expressions certainly have different values.

    Raises:
        TooLarge: one holds a power of astronomic size.
    """
    for point in range(POINTS):
        try:
            one, other = _value(left, point), _value(right, point)
        except TooLarge:
            raise
        except VALUE_ERRORS:
            return False
        if not (cmath.isfinite(one) and cmath.isfinite(other)):
            return False
        if abs(one - other) > TOLERANCE * max(1.0, abs(one), abs(other)):
            return True
    return False


def has_value(tree: Tree) -> bool:
    """Whether an expression is elementary and finite: then computer algebra finds it equal to itself."""
    try:
        return cmath.isfinite(_value(tree, 0))
    except VALUE_ERRORS:
        return False


def real_value(tree: Tree) -> float:
    """The value of an expression without names.

    Raises:
        ValueError, ArithmeticError, KeyError, IndexError: it has no real value that we can compute.
    """
    value = _value(tree, 0)
    if abs(value.imag) > TOLERANCE * max(1.0, abs(value)):
        raise ValueError("not real")
    return value.real


def _value(tree: Tree, point: int) -> complex:
    kind = tree[0]
    if kind == "num":
        return complex(float(tree[1]))
    if kind == "sym":
        return _name_value(tree, point)
    if kind == "row":
        product = complex(1)
        for index, item in enumerate(tree[1]):
            if item == ("sym", "x", None, "") and 0 < index < len(tree[1]) - 1:
                raise KeyError("x may be a sign")
            product *= _value(item, point)
        return product
    if kind == "frac":
        return _fraction(tree, point)
    if kind == "function":
        return _function(tree, point)
    if kind == "root":
        return _value(tree[1], point) ** (0.5 if tree[2] is None else 1 / _value(tree[2], point))
    return _OPERATIONS[kind](*(_value(part, point) for part in tree[1:]))


def _name_value(tree: Tree, point: int) -> complex:
    digest = hashlib.sha256(f"{point}:{tree!r}".encode("utf-8", "surrogatepass")).digest()
    return complex(0.5 + digest[0] / 256 + digest[2] / 65536, 0.25 + digest[1] / 512 + digest[3] / 65536)


def _fraction(tree: Tree, point: int) -> complex:
    if any(token.kind == "differential" or token.text == "\\partial" for token in tree[4]):
        raise KeyError("perhaps a derivative")
    return _value(tree[1], point) / _value(tree[2], point)


def _function(tree: Tree, point: int) -> complex:
    _, name, argument, base, power = tree
    value = _value(argument, point)
    if name in ("log", "ln", "lg"):
        ground = cmath.log(_value(base, point)) if base is not None else cmath.log(10) if name == "lg" else 1
        value = cmath.log(value) / ground
    elif power is not None and power[0] == "neg":
        raise KeyError("perhaps an inverse function")
    else:
        value = _FUNCTIONS[name](value)
    return value if power is None else _power(value, _value(power, point))


def _power(base: complex, exponent: complex) -> complex:
    if abs(exponent) > MAX_EXPONENT:
        raise TooLarge("exponent too large")
    return complex(base**exponent)


_OPERATIONS: dict[str, Callable[..., complex]] = {
    "add": lambda one, other: one + other,
    "sub": lambda one, other: one - other,
    "mul": lambda one, other: one * other,
    "div": lambda one, other: one / other,
    "neg": lambda one: -one,
    "pow": _power,
    "abs": lambda one: complex(abs(one)),
}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "exp": cmath.exp, "sinh": cmath.sinh, "cosh": cmath.cosh,
    "tanh": cmath.tanh, "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan,
}  # fmt: skip


def holds_large_power(tree: Any) -> bool:
    """Whether a power with an exponent beyond `MAX_EXPONENT`, or a power of a power of numbers, occurs anywhere."""
    if not isinstance(tree, tuple) or not tree:
        return False
    if tree[0] == "pow" and _is_large(tree[2]):
        return True
    if tree[0] == "factorial" and _is_large(tree[1]):
        return True
    return any(holds_large_power(part) for part in tree)


def _is_large(exponent: Tree) -> bool:
    try:
        return abs(_value(exponent, 0)) > MAX_EXPONENT
    except TooLarge:
        return True
    except VALUE_ERRORS:
        return exponent[0] in ("factorial", "pow")
