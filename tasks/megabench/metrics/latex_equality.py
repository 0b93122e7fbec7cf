"""Equality of LaTeX expressions, and of text with LaTeX between dollar signs."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any

from specs_eval.bounded import Bounded, OverLimit
from specs_eval.tasks.megabench.latex.grammar import parse
from specs_eval.tasks.megabench.latex.lexer import LatexError
from specs_eval.tasks.megabench.latex.refute import TooLarge, differ, has_value, holds_large_power
from specs_eval.tasks.megabench.metrics.strings import simple

MAX_LATEX_CHARS = 2_000
"""Longer expressions are compared as text."""

CPU_SECONDS, WALL_SECONDS = 0.6, 5.0
"""Processor time of one symbolic comparison, then it counts as undecided (the official limit is 15 s)."""

_MACRON = "\u0304"
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψωΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ",
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "omicron",
            "pi",
            "rho",
            "sigma",
            "tau",
            "upsilon",
            "phi",
            "chi",
            "psi",
            "omega",
            "Alpha",
            "Beta",
            "Gamma",
            "Delta",
            "Epsilon",
            "Zeta",
            "Eta",
            "Theta",
            "Iota",
            "Kappa",
            "Lambda",
            "Mu",
            "Nu",
            "Xi",
            "Omicron",
            "Pi",
            "Rho",
            "Sigma",
            "Tau",
            "Upsilon",
            "Phi",
            "Chi",
            "Psi",
            "Omega",
        ],
        strict=True,
    )
)
_GREEK_LETTER = re.compile(r"[α-ωΑ-Ω]")
_OVERLINE_SUBSCRIPT = re.compile(r"\\overline\{([^}]*)\}_([^{}\\ ]*)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{.*?\}(?:\[[^\[\]]*\])?")
_DELIMITER = re.compile(r"\\[()\[\]]")
_INLINE = re.compile(r"(\$[^$]*\$)")


def expression_equality(response: Any, gold: Any) -> float:
    """1 when both are the same expression by computer algebra; where they do not parse, when they are the same text."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return 0.0
    if max(len(response), len(gold)) > MAX_LATEX_CHARS:
        return simple(response, gold)
    left, right = normalized(response), normalized(gold)
    verdict = _verdict(left, right)
    return simple(left, right) if verdict == "undecided" else float(verdict == "equal")


def text_equality(response: Any, gold: Any) -> float:
    """1 when the plain text matches (`simple`) and the formulas, joined without commas, are equal."""
    if not isinstance(response, str) or not isinstance(gold, str):
        return 0.0
    (words, formulas), (gold_words, gold_formulas) = _separated(response), _separated(gold)
    if not simple(words, gold_words):
        return 0.0
    return expression_equality(formulas, gold_formulas)


def _separated(text: str) -> tuple[str, str]:
    parts = _INLINE.split(text)
    is_formula = [part.startswith("$") and part.endswith("$") for part in parts]
    words = [part.strip() for part, formula in zip(parts, is_formula, strict=True) if not formula]
    formulas = [part[1:-1].strip().replace(",", "") for part, formula in zip(parts, is_formula, strict=True) if formula]
    return "".join(words).replace(",", ""), " ".join(formulas)


@lru_cache(maxsize=4096)
def _verdict(left: str, right: str) -> str:
    """``equal``, ``different`` or ``undecided``."""
    try:
        one, other = parse(left), parse(right)
    except LatexError:
        return "undecided"
    try:
        if holds_large_power(one) or holds_large_power(other):
            return "undecided"
        if differ(one, other):
            return "different"
        if one == other and has_value(one):
            return "equal"
        return str(_algebra()([left, right]))
    except (TooLarge, OverLimit, RecursionError):
        return "undecided"


@cache
def _algebra() -> Bounded:
    return Bounded("specs_eval.tasks.megabench.latex.symbolic:compare", CPU_SECONDS, WALL_SECONDS)


def normalized(text: str) -> str:
    """LaTeX with overlines for bars and macrons, commands for Greek letters, and no delimiters or environments."""
    text = _with_overlines(text.replace("\\bar", "\\overline"))
    text = _OVERLINE_SUBSCRIPT.sub(r"\\overline{\1_\2}", text)
    text = _GREEK_LETTER.sub(lambda match: f"\\{_GREEK[match.group()]} ", text)
    return _DELIMITER.sub("", _ENVIRONMENT.sub("", text))


def _with_overlines(text: str) -> str:
    if text.isascii():
        return text
    written: list[str] = []
    for char in text:
        if char == _MACRON:
            written[-1] = f"\\overline{{{written[-1]}}}"
            continue
        decomposed = unicodedata.normalize("NFD", char) if char.isalpha() else char
        barred = len(decomposed) > 1 and decomposed[1] == _MACRON
        written.append(f"\\overline{{{decomposed[0]}}}" if barred else char)
    return "".join(written)
