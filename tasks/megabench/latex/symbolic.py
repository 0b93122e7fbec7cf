"""Equality of two LaTeX expressions by computer algebra. Runs in a bounded worker: only there is sympy imported."""

from __future__ import annotations

import importlib
from typing import Any

import sympy
from sympy.core.sympify import SympifyError
from sympy.printing.str import StrPrinter

from specs_eval.tasks.megabench.latex.grammar import Tree, parse
from specs_eval.tasks.megabench.latex.lexer import LatexError

_QUANTUM = "sympy.physics.quantum.state"
"""As slow to load as all the rest of sympy, and only for bras and kets."""

UNDECIDED = (LatexError, SympifyError, TypeError, NotImplementedError)
"""Where the official code falls back to comparing the texts."""

FAILED = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, ValueError)
"""Where it gives no credit."""


def compare(texts: list[str]) -> str:
    """``equal``, ``different`` or ``undecided``, for two normalized LaTeX texts.

    ``different`` also where algebra can neither prove nor refute equality, as in the official metric.
    """
    left, right = texts
    try:
        return "equal" if build(parse(left)).equals(build(parse(right))) else "different"
    except UNDECIDED:
        return "undecided"
    except FAILED:
        return "different"


def prepare(texts: list[str]) -> None:
    """Load what only these texts need, before their time is counted: verdicts must not depend on who comes first."""
    if any("angle" in text for text in texts):
        importlib.import_module(_QUANTUM)


def warm_up() -> None:
    """Load what the first comparison would load, so that its time is not counted."""
    compare(["\\frac{x^2-1}{x-1}", "x+1"])
    compare(["\\sin^2 x + \\cos^2 x", "1"])


def build(tree: Tree) -> Any:
    """The sympy object of a tree, unevaluated as far as the official conversion leaves it; a list for ``d/dx``.

    Raises:
        LatexError: a derivative stands where it has no meaning.
    """
    return _BUILDERS[tree[0]](tree)


def _sum(tree: Tree) -> Any:
    left, right = build(tree[1]), build(tree[2])
    if tree[0] == "sub":
        right = -1 * right if getattr(right, "is_Atom", False) else sympy.Mul(-1, right, evaluate=False)
    return sympy.Add(left, right, evaluate=False)


def _product(tree: Tree) -> Any:
    left, right = build(tree[1]), build(tree[2])
    if tree[0] == "div":
        right = sympy.Pow(right, -1, evaluate=False)
    return sympy.Mul(left, right, evaluate=False)


def _row(tree: Tree) -> Any:
    return _row_from([build(item) for item in tree[1]], 0)


def _row_from(items: list[Any], index: int) -> Any:
    item, last = items[index], index == len(items) - 1
    if not isinstance(item, sympy.Expr):  # d/dx before what it applies to
        if last:
            raise LatexError("a derivative of nothing")
        return sympy.Derivative(_row_from(items, index + 1), item[0])
    if last:
        return item
    if index > 0 and str(item) == "x" and _is_sign(items[index - 1], items[index + 1]):
        return _row_from(items, index + 1)
    return sympy.Mul(item, _row_from(items, index + 1), evaluate=False)


def _is_sign(left: Any, right: Any) -> bool:
    """Whether an x between two factors is a multiplication sign: neither holds a name."""
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return False
    return not (left.atoms(sympy.Symbol) or right.atoms(sympy.Symbol))


def _power(tree: Tree) -> Any:
    base = build(tree[1])
    if isinstance(base, list):
        raise LatexError("a power of a derivative")
    return sympy.Pow(base, build(tree[2]), evaluate=False)


def _factorial(tree: Tree) -> Any:
    value = build(tree[1])
    if isinstance(value, list):
        raise LatexError("a factorial of a derivative")
    return sympy.factorial(value, evaluate=False)


def _name(name: str, subscript: Tree | None, quotes: str) -> str:
    if subscript is not None:
        name += "_{" + StrPrinter().doprint(build(subscript)) + "}"
    return name + quotes


def _symbol(tree: Tree) -> Any:
    return sympy.Symbol(_name(*tree[1:]) if len(tree) > 2 else tree[1])


def _evaluated(tree: Tree) -> Any:
    _, body, upper, lower = tree
    value = build(body)
    at_upper = None if upper is None else _substituted(value, upper)
    at_lower = None if lower is None else _substituted(value, lower)
    if at_upper is not None and at_lower is not None:
        return sympy.Add(at_upper, -1 * at_lower, evaluate=False)
    return at_lower if at_upper is None else at_upper


def _substituted(value: Any, place: Tree) -> Any:
    if place[0] == "equal":
        return value.subs(build(place[1]), build(place[2]))
    target = build(place)
    names = sorted(target.atoms(sympy.Symbol), key=str)
    return value.subs(names[0], target) if names else value


def _fraction(tree: Tree) -> Any:
    _, upper, lower, over, under = tree
    if over and under:
        derivative = _derivative(over, under)
        if derivative is not None:
            return derivative
    top, inverse = build(upper), sympy.Pow(build(lower), -1, evaluate=False)
    return inverse if top == 1 else sympy.Mul(top, inverse, evaluate=False)


def _derivative(over: tuple[Any, ...], under: tuple[Any, ...]) -> Any:
    """``d/dx`` as a list of its variable, ``df/dx`` as a derivative; None for a plain fraction."""
    tokens, over_text = under[:-1], over[-1].text.rstrip()
    if len(tokens) == 1 and tokens[0].kind == "differential":
        mark, variable = "d", tokens[0].text[1:].strip().removeprefix("\\")
    elif len(tokens) == 2 and tokens[0].text == "\\partial" and tokens[1].kind in ("letter", "symbol"):
        mark, variable = "\\partial", tokens[1].text.removeprefix("\\")
    else:
        return None
    if over_text == mark:
        return [sympy.Symbol(variable)]
    starts = over_text.startswith("d") if mark == "d" else over[0].text == mark
    top = build(parse(over_text[len(mark) :])) if starts else None
    return sympy.Derivative(top, sympy.Symbol(variable)) if top else None


def _relation(tree: Tree) -> Any:
    return _RELATIONS[tree[1]](build(tree[2]), build(tree[3]))


def _named_function(tree: Tree) -> Any:
    _, name, argument_tree, base_tree, power_tree = tree
    argument = build(argument_tree)
    power = None if power_tree is None else build(power_tree)
    if name in ("log", "lg", "ln"):
        base = build(base_tree) if base_tree is not None else 10 if name == "lg" else sympy.E
        value = sympy.log(argument, base, evaluate=False)
    else:
        sympy_name = name.replace("arc", "a", 1) if name.startswith("arc") else name.replace("ar", "a", 1)
        if power == -1 and name in _INVERTIBLE:
            sympy_name, power = "a" + name, None
        value = getattr(sympy, sympy_name if name.startswith("ar") or power is None else name)(argument, evaluate=False)
    return sympy.Pow(value, power, evaluate=False) if power else value


_INVERTIBLE = ("sin", "cos", "tan", "csc", "sec", "cot", "sinh", "cosh", "tanh")


def _applied(tree: Tree) -> Any:
    _, name, subscript, quotes, arguments = tree
    return sympy.Function(_name(name, subscript, quotes))(*map(build, arguments))


def _integral(tree: Tree) -> Any:
    _, body, variable, limits = tree
    integrand = sympy.Integer(1) if body is None else build(body)
    name = None if variable is None else sympy.Symbol(variable)
    if name is None:
        inside = [symbol for symbol in sorted(integrand.atoms(sympy.Symbol), key=str) if _is_differential(symbol)]
        name = sympy.Symbol(str(inside[-1])[1:]) if inside else sympy.Symbol("x")
        integrand = integrand.subs(inside[-1], 1) if inside else integrand
    if limits is None:
        return sympy.Integral(integrand, name)
    return sympy.Integral(integrand, (name, build(limits[0]), build(limits[1])))


def _is_differential(symbol: Any) -> bool:
    return len(str(symbol)) > 1 and str(symbol)[0] == "d"


def _series(tree: Tree) -> Any:
    _, kind, body, variable, start, end = tree
    make = sympy.Sum if kind == "sum" else sympy.Product
    return make(build(body), (build(variable), build(start), build(end)))


def _limit(tree: Tree) -> Any:
    _, body, variable, target, direction = tree
    return sympy.Limit(build(body), sympy.Symbol(variable), build(target), direction)


def _root(tree: Tree) -> Any:
    if tree[2] is None:
        return sympy.sqrt(build(tree[1]), evaluate=False)
    return sympy.root(build(tree[1]), build(tree[2]), evaluate=False)


def _call(tree: Tree) -> Any:
    arguments = list(map(build, tree[2]))
    if tree[1] in ("Bra", "Ket"):
        return getattr(importlib.import_module(_QUANTUM), tree[1])(*arguments)
    return getattr(sympy, tree[1])(*arguments, evaluate=False)


_RELATIONS = {
    "=": sympy.Eq,
    "!=": sympy.Ne,
    "<": sympy.StrictLessThan,
    "<=": sympy.LessThan,
    ">": sympy.StrictGreaterThan,
    ">=": sympy.GreaterThan,
}
_BUILDERS = {
    "num": lambda tree: sympy.Number(tree[1]),
    "sym": _symbol,
    "inf": lambda _: sympy.oo,
    "add": _sum,
    "sub": _sum,
    "mul": _product,
    "div": _product,
    "neg": lambda tree: -build(tree[1]),
    "row": _row,
    "pow": _power,
    "factorial": _factorial,
    "abs": lambda tree: sympy.Abs(build(tree[1]), evaluate=False),
    "at": _evaluated,
    "frac": _fraction,
    "rel": _relation,
    "function": _named_function,
    "apply": _applied,
    "integral": _integral,
    "series": _series,
    "limit": _limit,
    "root": _root,
    "call": _call,
}


warm_up()
