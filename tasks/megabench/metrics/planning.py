"""Symbolic planning: does a sequence of actions reach the goal of a PDDL problem?

The official checker works on text: facts are compared as strings, conditions are filled in by substitution. So does this
one, because spacing and spelling decide there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_PARAMETERS = re.compile(r"((?:\?\S+\s*)+)(?:-\s+([^\?$]+)\s*)?")
_PARAMETER = re.compile(r"\?([^\s\?\)]+)\s*")
_SPACES = re.compile(r"\s+")

MAX_FACT_CHARS = 2_000
"""A fact longer than this can only come from an answer that substitutes into itself; the plan fails."""

MAX_ACTIONS = 5_000
"""Longer plans fail."""


@dataclass(frozen=True)
class Action:
    """An action of the domain."""

    parameters: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


def reaches_goal(response: Any, context: Mapping[str, Any]) -> float:
    """1 when every action is allowed in its turn and the goal holds at the end, else 0.

    Raises:
        TypeError, ValueError: the answer is neither text nor a list, or an action is malformed.
    """
    actions = domain_actions(context["domain_pddl"])
    if not isinstance(response, (str, list, tuple)):
        raise TypeError("a plan is text or a list")
    lines = response.split("\n") if isinstance(response, str) else list(response)
    plan = [line.strip() for line in lines if line.startswith("(")]
    if len(plan) > MAX_ACTIONS:
        return 0.0
    state = list(sections(context["task_pddl"], "(:init")[1])
    goal = sections(context["task_pddl"], "(and")[1]
    for step in plan:
        action, names = _bound(actions, step)
        if not all(_holds(fact, state) for fact in _filled(action.before, names)):
            return 0.0
        _apply(_filled(action.after, names), state)
    return float(all(_holds(fact, state) for fact in goal))


def _holds(fact: str, state: list[str]) -> bool:
    """A negated fact holds unless it is itself listed (facts are listed without a negation)."""
    return (fact in state) != fact.startswith("(not ")


def _bound(actions: Mapping[str, Action], step: str) -> tuple[Action, dict[str, str]]:
    words = step[1:-1].split(" ")
    action = actions.get(words[0].strip())
    if action is None or len(words) - 1 != len(action.parameters):
        raise ValueError(f"no such action: {step[:100]}")
    return action, dict(zip(action.parameters, words[1:], strict=True))


def _filled(facts: tuple[str, ...], names: Mapping[str, str]) -> list[str]:
    return [_substituted(fact, names) for fact in facts]


def _substituted(fact: str, names: Mapping[str, str]) -> str:
    for parameter, name in names.items():
        if f"?{parameter}" not in fact:
            continue
        if "\\" in name:
            raise ValueError("a backslash in a name")
        fact = _reference(parameter).sub(lambda _, name=name: name, fact)  # type: ignore[misc]
        if len(fact) > MAX_FACT_CHARS:
            raise ValueError("a fact grows without end")
    return fact


@lru_cache(maxsize=1024)
def _reference(parameter: str) -> re.Pattern[str]:
    return re.compile(rf"\?{parameter}(?=[^\w-])")


def _apply(effects: list[str], state: list[str]) -> None:
    for effect in effects:
        removed = sections(effect, "(not ")[1]
        if removed:
            if len(removed) != 1:
                raise ValueError("an effect removes one fact")
            if removed[0] in state:
                state.remove(removed[0])
        elif effect.strip() not in state:
            state.append(effect)


def sections(text: str, opening: str) -> tuple[str, Any]:
    """The outer text and the inner parenthesized parts of what follows a mark.

    Returns:
        ``("", [])`` without the mark; lists for one occurrence; for several, a list and a dictionary by first word.
    """
    count = text.count(opening)
    if count == 0:
        return "", []
    if count == 1:
        outer, inner, _ = _enclosed(text.split(opening)[1])
        return opening + outer, inner
    outers, by_name = [], {}
    while opening in text:
        text = text.split(opening, 1)[1]
        outer, inner, end = _enclosed(text)
        outers.append(opening + outer)
        by_name[_SPACES.split(text.strip())[0]] = inner
        text = text[end:]
    return "\n".join(outers), by_name


def _enclosed(text: str) -> tuple[str, list[str], int]:
    """Up to the parenthesis that closes the text: that text, its inner groups, and where it ends."""
    depth, start = 0, 0
    groups: list[str] = []
    for index, char in enumerate(text):
        if char == ")" and depth == 0:
            return text[: index + 1], groups, index + 1
        if char == "(":
            start = index if depth == 0 else start
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                groups.append(text[start : index + 1])
    return text, groups, len(text)


@lru_cache(maxsize=256)
def domain_actions(domain: str) -> dict[str, Action]:
    """The actions of a domain by name.

    Raises:
        TypeError, ValueError: the domain has fewer than two actions or one without its three parts.
    """
    by_name = sections(domain, "(:action")[1]
    if not isinstance(by_name, dict):
        raise TypeError("a domain has several actions")
    actions = {}
    for name, parts in by_name.items():
        if len(parts) != 3:
            raise ValueError(f"action {name} has {len(parts)} parts")
        body = domain.split(f"(:action {name}")[1]
        actions[name] = Action(
            _parameter_names(parts[0]), _conditions(body, ":precondition"), _conditions(body, ":effect")
        )
    return actions


def _parameter_names(text: str) -> tuple[str, ...]:
    text = text.strip()[1:-1]
    names = [name for group, _ in _PARAMETERS.findall(text) for name in _PARAMETER.findall(group)]
    return tuple(dict.fromkeys(names))


def _conditions(body: str, tag: str) -> tuple[str, ...]:
    """The conditions behind a tag, negated ones first."""
    text = body.split(tag)[1].strip()
    clauses = _clauses(text) if text.startswith("(and") else [text.split(")")[0].strip() + ")"]
    return tuple(sorted(dict.fromkeys(clauses), key=lambda clause: not clause.startswith("(not ")))


def _clauses(text: str) -> list[str]:
    depth, start, clauses = 0, 0, []
    for index, char in enumerate(text):
        if char == "(":
            depth += 1
            start = index if depth == 2 else start
        elif char == ")":
            depth -= 1
            if depth == 0:
                break
            if depth == 1:
                clauses.append(_untyped(text[start : index + 1]))
    return clauses


def _untyped(clause: str) -> str:
    """A clause without ``- type`` annotations."""
    first, *rest = clause.split(" - ")
    for index, part in enumerate(rest):
        stripped = part.strip()
        if len(stripped.split(")")[0].split()) == 1:
            rest[index] = ")" + stripped.split(")", 1)[1]
        else:
            rest[index] = " " + stripped.split(" ", 1)[1]
    return "".join([first, *rest]).strip() if rest else clause
