"""The number that an answer stands for, without running it.

The official code prints the parsed LaTeX as Python and runs it (or runs the text itself where it does not parse). Here
the parsed tree is computed, and Python text is walked by a whitelist of node types: no names but constants, no calls
but a few functions of numbers, and no integer beyond a fixed size.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from specs_eval.tasks.megabench.latex.grammar import Tree, parse
from specs_eval.tasks.megabench.latex.lexer import LatexError
from specs_eval.tasks.megabench.latex.refute import real_value
from specs_eval.tasks.megabench.literals import LITERAL_ERRORS

EULER = 2.718
"""What the name E stands for in the official evaluation."""

MAX_BITS = 100_000
"""Integers beyond this size are refused; the official evaluation runs into its timeout a little later."""

MAX_DIGITS = 1_000
"""Digits that a number may be rounded to."""

MAX_EXPRESSION_CHARS = 2_000
"""Longer text is not evaluated as Python."""

Number = int | float

ARITHMETIC_ERRORS = (*LITERAL_ERRORS, ArithmeticError, LookupError, AttributeError)


def number_of(text: str) -> Any:
    """The number, list or tuple that a cleaned answer stands for; None when it stands for none."""
    try:
        tree = parse(text)
    except LatexError:
        return _from_text(text)
    if tree[0] == "num":
        return as_number(tree[1])
    try:
        return as_number(_Tree.value(tree))
    except _NotComparable:
        return _from_text(text)
    except ARITHMETIC_ERRORS:
        return None


def as_number(value: Any) -> Number | None:
    """A float, or an int where it is whole; None for anything that has no float."""
    try:
        number = float(value)
        return round(number) if number.is_integer() else number
    except (TypeError, ValueError, OverflowError):
        return None


def _from_text(text: str) -> Any:
    number = as_number(text)
    if number is not None:
        return number
    try:
        value = evaluate(text)
    except ARITHMETIC_ERRORS:
        return None
    return value if isinstance(value, (list, tuple)) else as_number(value)


class _NotComparable(Exception):
    """A comparison of a comparison, where the official parser fails."""


class _Tree:
    """Values of parsed LaTeX."""

    @classmethod
    def value(cls, tree: Tree) -> Any:
        kind = tree[0]
        if kind == "num":
            return _checked(float(tree[1]) if "." in tree[1] else int(tree[1]))
        if kind == "rel":
            return cls._relation(tree)
        if kind == "row":
            return cls._row(tree[1])
        if kind == "sym":
            return cls._symbol(tree)
        if kind == "frac":
            return _divide(cls.value(tree[1]), cls.value(tree[2]))
        if kind == "root":
            return cls._root(tree)
        return cls._operation(kind, tree)

    @classmethod
    def _operation(cls, kind: str, tree: Tree) -> Any:
        if kind == "neg":
            return -cls.value(tree[1])
        if kind == "div" and tree[1] == ("num", "1") and _is_inverse(tree[2]):
            return _divide(1, cls.value(tree[2][1] if tree[2][0] == "pow" else tree[2][2]))
        operation = _TREE_OPERATORS.get(kind)
        if operation is None:
            raise ValueError(f"no number: {kind}")
        return _checked(operation(cls.value(tree[1]), cls.value(tree[2])))

    @staticmethod
    def _symbol(tree: Tree) -> Any:
        if tree[1] in _CONSTANTS and not any(tree[2:]):
            return _CONSTANTS[tree[1]]
        raise ValueError("a name is no number")

    @classmethod
    def _row(cls, items: tuple[Tree, ...]) -> Any:
        product: Any = 1
        for index, item in enumerate(items):
            if 0 < index < len(items) - 1 and item == ("sym", "x", None, "") and _numeric(items, index):
                continue
            product = _checked(product * cls.value(item))
        return product

    @classmethod
    def _root(cls, tree: Tree) -> Any:
        degree = None if tree[2] is None else cls.value(tree[2])
        if degree is None or degree == 2:
            raise ValueError("a square root is printed as a name that has no value")
        return _power(cls.value(tree[1]), 1 / degree)

    @classmethod
    def _relation(cls, tree: Tree) -> bool:
        _, sign, left, right = tree
        if left[0] == "rel" or right[0] == "rel":
            if sign != "=" and sign != "!=":
                raise _NotComparable
            same: bool = cls.value(left) is cls.value(right)
            return same is (sign == "=")
        value = cls.value if names_in(tree) else cls._side
        return bool(_RELATIONS[sign](value(left), value(right)))

    @classmethod
    def _side(cls, tree: Tree) -> Any:
        """A side of a relation without names: computer algebra knows the size of roots and functions there."""
        try:
            return cls.value(tree)
        except ValueError:
            return real_value(tree)


def _is_inverse(tree: Tree) -> bool:
    """Whether a tree is printed as ``1/b``; 1 over that is printed as ``1/1/b``, which has the value of ``1/b``."""
    if tree[0] == "pow":
        return bool(tree[2] == ("neg", ("num", "1")))
    return bool(tree[0] == "frac" and tree[1] == ("num", "1"))


def _numeric(items: tuple[Tree, ...], index: int) -> bool:
    return not (names_in(items[index - 1]) or names_in(items[index + 1]))


def names_in(tree: Any) -> bool:
    """Whether a name occurs in a tree."""
    if not isinstance(tree, tuple) or not tree:
        return False
    return tree[0] == "sym" or any(names_in(part) for part in tree)


def _divide(left: Any, right: Any) -> Any:
    return left / right


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * base.bit_length() > MAX_BITS:
        raise OverflowError("integer too large")
    return base**exponent


def _checked(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError("integer too large")
    return value


def _shift(shift: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    def bounded(left: Any, right: Any) -> Any:
        if isinstance(right, int) and right > MAX_BITS:
            raise OverflowError("shift too large")
        return shift(left, right)

    return bounded


def _of_numbers(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operation that on texts or lists would repeat or fill in: ``"%999999999d" % 1`` is a gigabyte."""

    def guarded(left: Any, right: Any) -> Any:
        if not isinstance(left, (int, float, complex)) or not isinstance(right, (int, float, complex)):
            raise TypeError("only of numbers")
        return operation(left, right)

    return guarded


def _rounded(value: Any, digits: Any = None) -> Any:
    if digits is not None and abs(digits) > MAX_DIGITS:
        raise OverflowError("too many digits")  # round(1, -10**9) would compute 10**10**9
    return round(value, digits)


_TREE_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _divide,
    "pow": _power,
}
_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS: dict[str, Any] = {"E": EULER, "True": True, "False": False, "None": None}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _power,
    ast.BitXor: operator.xor,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: _shift(operator.lshift),
    ast.RShift: _shift(operator.rshift),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "round": _rounded, "float": float, "int": int, "sum": sum,
    "math.sqrt": math.sqrt, "math.sin": math.sin, "math.cos": math.cos, "math.tan": math.tan, "math.log": math.log,
    "math.log10": math.log10, "math.log2": math.log2, "math.exp": math.exp, "math.floor": math.floor,
    "math.ceil": math.ceil, "math.radians": math.radians, "math.degrees": math.degrees, "math.atan": math.atan,
    "math.asin": math.asin, "math.acos": math.acos, "math.atan2": math.atan2, "math.hypot": math.hypot, "pow": _power,
    "math.pow": math.pow,
}  # fmt: skip


def evaluate(text: str) -> Any:
    """The value of Python arithmetic; nothing else of Python is understood.

    Raises:
        SyntaxError, ValueError, TypeError, ArithmeticError, ...: `ARITHMETIC_ERRORS`.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        raise SyntaxError("too long to be a number")
    tree = _silently_parsed(text.lstrip(" \t"))
    return _python_value(tree.body)


def _silently_parsed(text: str) -> ast.Expression:
    import warnings

    from specs_eval.tasks.megabench.literals import _WARNING_LOCK

    with _WARNING_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, mode="eval")


def _python_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, (int, float, complex, str, type(None))):
            return _checked(node.value)
        raise ValueError("no number")
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.Attribute) and ast.unparse(node) in ("math.pi", "math.e", "math.tau"):
        return getattr(math, node.attr)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_python_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _checked(_BINARY[type(node.op)](_python_value(node.left), _python_value(node.right)))
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_python_value(node.operand))
    return _python_compound(node)


def _python_compound(node: ast.expr) -> Any:
    if isinstance(node, ast.BoolOp):
        value: Any = None
        for item in node.values:
            value = _python_value(item)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value
    if isinstance(node, ast.Compare):
        left = _python_value(node.left)
        for sign, item in zip(node.ops, node.comparators, strict=True):
            right = _python_value(item)
            if not _COMPARE[type(sign)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.Call) and not node.keywords and len(node.args) <= 20:
        return _checked(_CALLS[ast.unparse(node.func)](*map(_python_value, node.args)))
    raise ValueError("not arithmetic")
