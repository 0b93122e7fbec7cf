"""The functions of the LaTeX grammar: named ones, applied names, roots, integrals, sums, products and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specs_eval.tasks.megabench.latex.lexer import END, LatexError

if TYPE_CHECKING:
    from specs_eval.tasks.megabench.latex.grammar import Tree, _Parser

MAX_DIFFERENTIALS = 8
"""How many differentials of one integrand are tried as its end."""

_OPENING = ("(", "{", "[", "\\{")
_CLOSERS = (")", "}", "]", "\\}")


def parse_function(parser: _Parser, kind: str) -> Tree | None:
    """The function that starts at the next token, of this kind; None when none does."""
    if kind == "function":
        return _named(parser)
    if kind in ("letter", "symbol"):
        return parser.attempt(lambda: _applied(parser))
    if kind == "int":
        return _integral(parser)
    if kind == "sqrt":
        return _root(parser)
    if kind == "overline":
        parser.take("overline")
        return ("call", "conjugate", (parser.braced(),))
    if kind in ("sum", "prod"):
        return _series(parser, kind)
    return _limit(parser) if kind == "lim" else None


def _named(parser: _Parser) -> Tree:
    name = parser.take("function").text[1:]
    scripts = _scripts(parser)
    argument = parser.attempt(lambda: _parenthesized(parser)) if parser.at("(") else None
    if argument is None:
        argument = parser.product(functions=False)
    return ("function", name, argument, scripts.get("_"), scripts.get("^"))


def _scripts(parser: _Parser) -> dict[str, Any]:
    scripts: dict[str, Any] = {}
    while parser.at("_", "^") and parser.peek().kind not in scripts:
        mark = parser.take("_", "^").kind
        scripts[mark] = parser._script()
    return scripts


def _parenthesized(parser: _Parser) -> Tree:
    parser.take("(")
    first = parser.expr()
    while parser.at(","):
        parser.take(",")
        parser.expr()
    parser.take(")")
    return first


def _applied(parser: _Parser) -> Tree:
    name = parser.take("letter", "symbol").text.lstrip("\\")
    subscript, quotes = parser.name_marks()
    parser.take("(")
    arguments = [parser.expr()]
    while parser.at(","):
        parser.take(",")
        arguments.append(parser.expr())
    parser.take(")")
    return ("apply", name, subscript, quotes, tuple(arguments))


def _root(parser: _Parser) -> Tree:
    parser.take("sqrt")
    degree = None
    if parser.at("["):
        parser.take("[")
        degree = parser.expr()
        parser.take("]")
    return ("root", parser.braced(), degree)


def _series(parser: _Parser, kind: str) -> Tree:
    parser.take(kind)
    marks: dict[str, Any] = {}
    while len(marks) < 2:
        mark = parser.take(*({"_", "^"} - marks.keys())).kind
        if mark == "^":
            marks[mark] = parser._script()
            continue
        parser.take("{")
        variable = parser.expr()
        parser.take("=")
        marks[mark] = (variable, parser.expr())
        parser.take("}")
    return ("series", kind, parser.product(), *marks["_"], marks["^"])


def _limit(parser: _Parser) -> Tree:
    parser.take("lim")
    parser.take("_")
    parser.take("{")
    variable = parser.take("letter", "symbol").text.lstrip("\\")
    parser.take("approach")
    target = parser.expr()
    direction = "+-"
    if parser.at("^"):
        parser.take("^")
        braced = parser.at("{")
        if braced:
            parser.take("{")
        direction = parser.take("+", "-").kind
        if braced:
            parser.take("}")
    parser.take("}")
    return ("limit", parser.product(), variable, target, direction)


def _integral(parser: _Parser) -> Tree:
    from specs_eval.tasks.megabench.latex.grammar import differential_name

    parser.take("int")
    scripts = _scripts(parser)
    if len(scripts) == 1:
        raise LatexError("an integral has two limits or none")
    limits = (scripts["_"], scripts["^"]) if scripts else None
    start = parser.position
    for end in reversed(_differentials(parser)):
        parser.position = start
        body = None if end == start else parser.attempt(lambda stop=end: _until(parser, stop))  # type: ignore[misc]
        if body is not None or end == start:
            parser.position = end
            return ("integral", body, differential_name(parser.take("differential").text), limits)
    parser.position = start
    return ("integral", parser.expr(), None, limits)


def _until(parser: _Parser, end: int) -> Tree:
    """An expression that ends exactly at a position."""
    inner = type(parser)(parser.text[:end])
    inner.position, inner.depth, inner.steps = parser.position, parser.depth, parser.steps
    tree = inner.expr()
    parser.steps = inner.steps
    if inner.peek().kind != END:
        raise LatexError("text before the differential")
    return tree


def _differentials(parser: _Parser) -> list[int]:
    """Where differentials stand ahead in the same group."""
    found: list[int] = []
    position, depth = parser.position, 0
    while len(found) < MAX_DIFFERENTIALS:
        parser.position = position
        token = parser.peek()
        if token.kind == END or token.kind in ("=", "<", ">", ","):
            break
        depth += (token.kind in _OPENING) - (token.kind in _CLOSERS)
        if depth < 0:
            break
        if token.kind == "differential" and depth == 0:
            found.append(token.start)
        position = token.end
        parser.steps += 1
    return found
