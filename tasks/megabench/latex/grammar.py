"""A parser of LaTeX mathematics with the reach and the quirks of the grammar behind the official metrics.

It reads as much of the text as makes sense and ignores the rest ("12, 13" is 12), joins digits over spaces ("1 2" is
12), takes ``x`` between numbers for a multiplication sign, and raises an exponent only to one atom or a brace group.

The result is a tree of tuples: ``("num", text)``, ``("sym", name)``, ``("add" | "sub" | "mul" | "div" | "pow" | "neg",
...)``, ``("row", items)`` for juxtaposition, ``("rel", sign, left, right)``, ``("call", name, arguments)`` and some rarer
kinds that only `specs_eval.tasks.megabench.latex.symbolic` builds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specs_eval.tasks.megabench.latex.lexer import END, Committed, LatexError, Token, UnknownCharacter, next_token

Tree = tuple[Any, ...]

MAX_DEPTH = 40
"""Nesting of groups beyond which the text is refused (the official parser runs out of stack a little later)."""

MAX_STEPS = 20_000
"""Rule applications of one parse; bounds the time spent on ambiguous bars and brackets."""

_RELATIONS = ("=", "<", "<=", ">", ">=", "!=")
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}


def parse(text: str) -> Tree:
    """The expression or relation at the start of the text.

    Raises:
        LatexError: the text does not start with mathematics, or is nested too deeply.
    """
    return _Parser(text.strip()).relation()


class _Parser:
    """Recursive descent with backtracking: a continuation that cannot be completed is left unread."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.steps = 0
        self._tokens: dict[int, Token] = {}

    def peek(self) -> Token:
        token = self._tokens.get(self.position)
        if token is None:
            token = self._tokens[self.position] = next_token(self.text, self.position)
        return token

    def take(self, *kinds: str) -> Token:
        token = self.peek()
        if token.kind not in kinds:
            raise LatexError(f"expected {' or '.join(kinds)}, found {token.text!r}")
        self.position = token.end
        return token

    def at(self, *kinds: str) -> bool:
        return self.peek().kind in kinds

    def attempt(self, rule: Callable[[], Tree], committed: bool = False) -> Tree | None:
        """The result of a rule, or None with nothing read; a broken-off construct is an error where committed."""
        position, depth = self.position, self.depth
        try:
            return rule()
        except UnknownCharacter:
            raise
        except Committed:
            if committed:
                raise
            self.position, self.depth = position, depth
            return None
        except LatexError:
            self.position, self.depth = position, depth
            return None

    def relation(self) -> Tree:
        left = self.expr()
        while self.at(*_RELATIONS):
            sign = self.take(*_RELATIONS).kind
            left = ("rel", sign, left, self.expr())
        return left

    def expr(self) -> Tree:
        self.steps += 1
        self.depth += 1
        if self.depth > MAX_DEPTH or self.steps > MAX_STEPS:
            raise LatexError("nested too deeply")
        tree = self._chain(self.product, {"+": "add", "-": "sub"})
        self.depth -= 1
        return tree

    def product(self, functions: bool = True) -> Tree:
        return self._chain(lambda: self.unary(functions), {"*": "mul", "/": "div"})

    def _chain(self, operand: Callable[[], Tree], signs: dict[str, str]) -> Tree:
        left = operand()
        while self.at(*signs):
            position, kind = self.position, self.take(*signs).kind
            right = self.attempt(operand, committed=True)
            if right is None:
                self.position = position
                break
            left = (signs[kind], left, right)
        return left

    def unary(self, functions: bool = True) -> Tree:
        signs = 0
        minus = 0
        while self.at("+", "-"):
            minus += self.take("+", "-").kind == "-"
            signs += 1
            if signs > MAX_DEPTH:
                raise LatexError("too many signs")
        tree = self._row(functions)
        for _ in range(minus):
            tree = ("neg", tree)
        return tree

    def _row(self, functions: bool) -> Tree:
        items = [self.postfix(functions)]
        while not self.at("+", "-", "*", "/", END, ")", "}", "]", ",", "=", ".", "_", "^"):
            item = self.attempt(lambda: self.postfix(functions))
            if item is None:
                break
            items.append(item)
        return items[0] if len(items) == 1 else ("row", tuple(items))

    def postfix(self, functions: bool) -> Tree:
        tree = self.power(functions)
        while self.at("!", "|"):
            if self.at("!"):
                self.take("!")
                tree = ("factorial", tree)
                continue
            value = self.attempt(lambda base=tree: self._evaluated_at(base))  # type: ignore[misc]
            if value is None:
                break
            tree = value
        return tree

    def _evaluated_at(self, tree: Tree) -> Tree:
        self.take("|")
        marks: dict[str, Tree] = {}
        for mark in ("^", "_"):
            if self.at(mark):
                self.take(mark)
                self.take("{")
                marks[mark] = self._equality_or_expr()
                self.take("}")
        if not marks:
            raise LatexError("expected limits")
        return ("at", tree, marks.get("^"), marks.get("_"))

    def _equality_or_expr(self) -> Tree:
        left = self.expr()
        if not self.at("="):
            return left
        self.take("=")
        return ("equal", left, self.expr())

    def power(self, functions: bool) -> Tree:
        base = self.component(functions)
        while self.at("^"):
            position = self.position
            self.take("^")
            exponent = self.attempt(self._script, committed=True)
            if exponent is None:
                self.position = position
                break
            if self.at("_"):
                self.attempt(self._subscript)
            base = ("pow", base, exponent)
        return base

    def _script(self) -> Tree:
        if self.at("{"):
            return self._group()
        return self.atom()

    def _subscript(self) -> Tree:
        self.take("_")
        try:
            return self._script()
        except UnknownCharacter:
            raise
        except LatexError as error:
            raise Committed("expected a subscript") from error

    def component(self, functions: bool) -> Tree:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise LatexError("too long")
        kind = self.peek().kind
        if kind in _CLOSING:
            return self._group()
        if kind == "|":
            return self.attempt(self._absolute) or self._bra_or_ket()
        if kind in ("lfloor", "lceil"):
            return self._rounded(kind)
        if functions:
            function = _functions.parse_function(self, kind)
            if function is not None:
                return function
        return self.atom()

    def _group(self) -> Tree:
        opening = self.take(*_CLOSING).kind
        tree = self.expr()
        self.take(_CLOSING[opening])
        return tree

    def _absolute(self) -> Tree:
        self.take("|")
        tree = self.expr()
        self.take("|")
        return ("abs", tree)

    def _rounded(self, kind: str) -> Tree:
        self.take(kind)
        tree = self.expr()
        self.take("r" + kind[1:])
        return ("call", "floor" if kind == "lfloor" else "ceiling", (tree,))

    def atom(self) -> Tree:
        kind = self.peek().kind
        if kind in ("letter", "symbol"):
            return self._name()
        if kind == "digit":
            number = self._number()
            if number[0] == "0" and number.isdigit() and number.strip("0"):
                raise UnknownCharacter("an integer with leading zeros")
            return ("num", number)
        if kind == "differential":
            return ("sym", "d" + differential_name(self.take("differential").text))
        if kind == "mathit":
            return self._mathit()
        if kind == "frac":
            return self._fraction()
        if kind == "binom":
            return self._binomial()
        if kind in ("langle", "|", "left|"):
            return self._bra_or_ket()
        raise LatexError(f"unexpected {self.peek().text!r}")

    def _name(self) -> Tree:
        token = self.take("letter", "symbol")
        subscript, quotes = self.name_marks()
        if token.text == "\\infty":
            return ("inf",)
        return ("sym", token.text.lstrip("\\"), subscript, quotes if token.kind == "letter" else "")

    def name_marks(self) -> tuple[Tree | None, str]:
        """A subscript and primes behind a name, in either order."""
        subscript, quotes = None, ""
        for _ in range(2):
            if self.at("_") and subscript is None:
                subscript = self._subscript()
            elif self.at("quotes") and not quotes:
                quotes = self.take("quotes").text
        return subscript, quotes

    def _number(self) -> str:
        """Digits, thousands groups and a fraction.

        Where a dot follows that begins no fraction, the official look-ahead retreats and splits the digits: ``125.`` is
        1 times 2, ``12,345.`` is 12, ``3.14.`` is 3.1, ``12.05.2024`` is 12.0 times 5.2024.
        """
        digits = self._digits()
        if self._at_lone_dot():
            if len(digits) == 1:
                raise Committed("expected a digit after the dot")
            self.position = digits[0].end
            return digits[0].text
        text = "".join(digit.text for digit in digits)
        while self.at(","):
            group = self._thousands()
            if group is None:
                break
            text += group
        if self.at("."):
            self.take(".")
            fraction = self._digits()
            if len(fraction) > 1 and (self.at(".") or self._at_thousands()):
                self.position = fraction.pop().start
            text += "." + "".join(digit.text for digit in fraction)
        return text

    def _thousands(self) -> str | None:
        """A comma and three digits; None, with nothing read, for anything else."""
        position = self.position
        self.take(",")
        digits: list[Token] = []
        while len(digits) < 3 and self.at("digit"):
            digits.append(self.take("digit"))
        if len(digits) < 3 or self._at_lone_dot():
            self.position = position
            return None
        return "".join(digit.text for digit in digits)

    def _at_thousands(self) -> bool:
        position = self.position
        found = self.at(",") and self._thousands() is not None
        self.position = position
        return found

    def _at_lone_dot(self) -> bool:
        if not self.at("."):
            return False
        position = self.position
        self.take(".")
        lone = not self.at("digit")
        self.position = position
        return lone

    def _digits(self) -> list[Token]:
        digits = [self.take("digit")]
        while self.at("digit"):
            digits.append(self.take("digit"))
        return digits

    def _mathit(self) -> Tree:
        self.take("mathit")
        self.take("{")
        start = self.peek().start
        end = start
        while self.at("letter"):
            end = self.take("letter").end
        self.take("}")
        return ("sym", self.text[start:end])

    def _fraction(self) -> Tree:
        self.take("frac")
        (upper, over), (lower, under) = self._fraction_part(), self._fraction_part()
        return ("frac", upper, lower, over, under)

    def _fraction_part(self) -> tuple[Tree, tuple[Token, ...]]:
        if self.at("digit"):
            token = self.take("digit")
            return ("num", token.text), ()
        self.take("{")
        start = self.position
        tree = self.expr()
        end = self.position
        self.take("}")
        return tree, self._tokens_between(start, end)

    def _tokens_between(self, start: int, end: int) -> tuple[Token, ...]:
        tokens: list[Token] = []
        while start < end and len(tokens) < 3:
            token = next_token(self.text, start)
            tokens.append(token)
            start = token.end
        rest = Token("text", self.text[tokens[0].start : end], tokens[0].start, end)
        return (*tokens, rest)

    def _binomial(self) -> Tree:
        self.take("binom")
        upper = self.braced()
        return ("call", "binomial", (upper, self.braced()))

    def braced(self) -> Tree:
        """An expression in braces."""
        if not self.at("{"):
            raise LatexError("expected a brace")
        return self._group()

    def _bra_or_ket(self) -> Tree:
        if self.at("langle"):
            self.take("langle")
            tree = self.expr()
            self.take("right|", "|")
            return ("call", "Bra", (tree,))
        self.take("left|", "|")
        tree = self.expr()
        self.take("rangle")
        return ("call", "Ket", (tree,))


def differential_name(text: str) -> str:
    r"""``x`` of ``dx``, ``d x`` and ``d\x``."""
    return text[1:].strip().removeprefix("\\")


from specs_eval.tasks.megabench.latex import functions as _functions  # the rules of one grammar, two files
