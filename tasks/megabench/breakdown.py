"""Scores by skill, input, output, number of images and application, as on the official leaderboard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from specs_eval.splits import VALUE_SEPARATOR
from specs_eval.tasks.megabench.aggregation import EvaluationType, TaskResult
from specs_eval.tasks.megabench.language.lists import word_list

Dimension = Literal["app", "skills", "input_format", "output_format", "input_num"]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

CORE_CATEGORIES = (
    "Knowledge", "Mathematics", "Perception", "Coding", "Information_Extraction", "Planning", "Science", "Metrics",
)  # fmt: skip
"""The eight applications, in the order of the published core tables."""


@dataclass(frozen=True, slots=True)
class TaskCard:
    """What is known of a task without its data."""

    kind: EvaluationType
    keywords: Mapping[Dimension, tuple[str, ...]]
    """Dimension -> values; a task has one value but for skills."""


@dataclass(frozen=True, slots=True)
class Group:
    """The tasks that share a keyword."""

    n_tasks: int
    n_samples: int
    """Queries and demonstrations, as counted officially."""
    n_queries: int
    n_scored: int
    score: float | None
    """Mean of the task scores, in [0, 1]; None: no task was scored."""


@cache
def task_cards() -> Mapping[str, TaskCard]:
    """The cards of the 505 tasks by name.

    Raises:
        ScoringError: the list that comes with the package is missing or damaged.
    """
    stored = json.loads(word_list("task_cards"))
    names = stored["dimensions"]
    cards = {}
    for task, (kind, app, skills, input_format, output_format, number) in stored["tasks"].items():
        values = {"app": app, "skills": skills, "input_format": input_format, "output_format": output_format}
        keywords: dict[Dimension, tuple[str, ...]] = {"input_num": _named(names["num_input"], number)}
        for dimension in DIMENSIONS:
            if dimension != "input_num":
                keywords[dimension] = _named(names[dimension], values[dimension])
        cards[task] = TaskCard(kind, keywords)
    return cards


@cache
def task_category(task: str) -> Mapping[str, str]:
    """What the samples of a task are categorized by: the task, and what its card says if there is one."""
    card = task_cards().get(task)
    if card is None:
        return {"task": task}
    category = {"task": task}
    for dimension, values in card.keywords.items():
        category[dimension] = VALUE_SEPARATOR.join(values)
    return {**category, "kind": card.kind}


def _named(names: list[str], indices: int | list[int] | None) -> tuple[str, ...]:
    if indices is None:
        return ()
    return tuple(names[index] for index in ([indices] if isinstance(indices, int) else indices))


def breakdown(
    tasks: Iterable[TaskResult], cards: Mapping[str, TaskCard] | None = None
) -> dict[Dimension, dict[str, Group]]:
    """Groups of tasks by every dimension.

    Args:
        tasks: results; tasks without a card are left out, a task counts under each of its skills.
        cards: by task name; None: those that come with the package.
    """
    cards = task_cards() if cards is None else cards
    members: dict[Dimension, dict[str, list[TaskResult]]] = {dimension: {} for dimension in DIMENSIONS}
    for task in tasks:
        card = cards.get(task.name)
        for dimension in DIMENSIONS if card is not None else ():
            for keyword in card.keywords.get(dimension, ()) if card is not None else ():
                members[dimension].setdefault(keyword, []).append(task)
    return {
        dimension: {keyword: _group(group) for keyword, group in sorted(groups.items())}
        for dimension, groups in members.items()
    }


def core_categories(tasks: Iterable[TaskResult], cards: Mapping[str, TaskCard] | None = None) -> dict[str, Group]:
    """The eight application categories over core tasks only, in published order."""
    groups = breakdown((task for task in tasks if task.kind == "rule"), cards)["app"]
    return {name: groups[name] for name in CORE_CATEGORIES if name in groups}


def _group(tasks: list[TaskResult]) -> Group:
    scores = [task.score for task in tasks if task.score is not None]
    return Group(
        n_tasks=len(tasks),
        n_samples=sum(task.n_queries + task.n_demonstrations for task in tasks),
        n_queries=sum(task.n_queries for task in tasks),
        n_scored=sum(task.n_scored for task in tasks),
        score=math.fsum(scores) / len(scores) if scores else None,
    )
