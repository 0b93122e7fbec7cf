"""Tokens of LaTeX mathematics, one at a time: what lies behind the point where parsing stops is never looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass


class LatexError(ValueError):
    """The text is not mathematics that the grammar knows."""


class UnknownCharacter(LatexError):
    """A character that belongs to no token: it spoils the text as soon as the parser looks at it."""


class Committed(LatexError):
    """A construct broke off after the parser had decided for it: only juxtaposition can do without it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it stands in the text."""

    kind: str
    text: str
    start: int
    end: int


END = "end"

_SKIPPED = [
    "thinspace",
    "medspace",
    "thickspace",
    "quad",
    "qquad",
    "negthinspace",
    "negmedspace",
    "negthickspace",
    "left",
    "right",
    "vrule",
    "vcenter",
    "vbox",
    "vskip",
    "vspace",
    "hfil",
]
FUNCTIONS = frozenset(
    [
        "exp",
        "log",
        "lg",
        "ln",
        "sin",
        "cos",
        "tan",
        "csc",
        "sec",
        "cot",
        "arcsin",
        "arccos",
        "arctan",
        "arccsc",
        "arcsec",
        "arccot",
        "sinh",
        "cosh",
        "tanh",
        "arsinh",
        "arcosh",
        "artanh",
    ]
)
_COMMANDS = {
    **dict.fromkeys(_SKIPPED, "skip"),
    **dict.fromkeys(FUNCTIONS, "function"),
    **dict.fromkeys(("to", "rightarrow", "Rightarrow", "longrightarrow", "Longrightarrow"), "approach"),
    **dict.fromkeys(("times", "cdot"), "*"),
    **dict.fromkeys(("frac", "dfrac", "tfrac"), "frac"),
    **dict.fromkeys(("binom", "dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("leq", "le", "leqq", "leqslant"), "<="),
    **dict.fromkeys(("geq", "ge", "geqq", "geqslant"), ">="),
    "div": "/", "neq": "!=", "lim": "lim", "int": "int", "sum": "sum", "prod": "prod", "sqrt": "sqrt",
    "overline": "overline", "mathit": "mathit", "langle": "langle", "rangle": "rangle", "lfloor": "lfloor",
    "rfloor": "rfloor", "lceil": "lceil", "rceil": "rceil",
}  # fmt: skip
_SINGLE = {**{char: char for char in "+-*/(){}[]|_^:!<>,.=&"}, ":": "/"}
_ESCAPED = {**dict.fromkeys(',:;!*-./"(=', "skip"), "{": "\\{", "}": "\\}"}
_WHITE = " \t\r\n"
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_DIFFERENTIAL = re.compile(r"d[ \t\r\n]*(?:[a-zA-Z]|\\[a-zA-Z]+)")
_EQUAL = re.compile(r"&[ \t\r\n]*=|=[ \t\r\n]*&|=")
_QUOTES = re.compile(r"'+")


def next_token(text: str, start: int) -> Token:
    """The token at or after a position; spacing commands and white space are skipped.

    Raises:
        UnknownCharacter: no token of the grammar starts there.
    """
    while True:
        while start < len(text) and text[start] in _WHITE:
            start += 1
        if start >= len(text):
            return Token(END, "", start, start)
        kind, end = _kind_at(text, start)
        if kind != "skip":
            return Token(kind, text[start:end], start, end)
        start = end


def _kind_at(text: str, start: int) -> tuple[str, int]:
    char = text[start]
    if char == "\\":
        return _command_at(text, start)
    if char in "=&":
        match = _EQUAL.match(text, start)
        if match is None:
            raise UnknownCharacter(f"unexpected {char!r}")
        return "=", match.end()
    if char in "0123456789":
        return "digit", start + 1
    if char == "d" and (match := _DIFFERENTIAL.match(text, start)):
        return "differential", match.end()
    if "a" <= char <= "z" or "A" <= char <= "Z":
        return "letter", start + 1
    if char == "'" and (match := _QUOTES.match(text, start)):
        return "quotes", match.end()
    if char in _SINGLE:
        return _SINGLE[char], start + 1
    raise UnknownCharacter(f"unexpected {char!r}")


def _command_at(text: str, start: int) -> tuple[str, int]:
    for mark, kind in (("\\right|", "right|"), ("\\left|", "left|"), ("\\int\\limits", "int")):
        if text.startswith(mark, start):
            return kind, start + len(mark)
    match = _COMMAND.match(text, start)
    if match is not None:
        return _COMMANDS.get(match.group()[1:], "symbol"), match.end()
    following = text[start + 1 : start + 2]
    if following in _ESCAPED:
        return _ESCAPED[following], start + 2
    raise UnknownCharacter("unexpected backslash")
