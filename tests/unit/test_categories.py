"""Means by category against their plain definition, and the published breakdowns when they are at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis.categories import CategoryMeans, task_means
from specs_eval.analysis.samples import Rollouts
from specs_eval.analysis.statistics import summarize
from specs_eval.errors import ConfigError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "public"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published figures are not here")

Row = tuple[int, float | None, float]
"""Sample, score, share of the fields that were scored."""


def rollouts_of(rows: list[Row], categories: list[dict[str, str]], groups: list[str] | None = None) -> Rollouts:
    ids = tuple(f"s{place}" for place in range(len(categories)))
    return Rollouts(
        sample_ids=ids,
        clusters=tuple(groups or ids),
        samples=np.array([row[0] for row in rows], dtype=np.int64),
        values=np.array([math.nan if row[1] is None else row[1] for row in rows]),
        categories=tuple(categories),
    )


SCORES = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0]))


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Row], list[dict[str, str]]]:
    categories = draw(
        st.lists(
            st.fixed_dictionaries(
                {"task": st.sampled_from("abc")}, optional={"skill": st.sampled_from(["x", "y", "x; y", ""])}
            ),
            min_size=1,
            max_size=8,
        )
    )
    rows = [
        (sample, draw(SCORES), draw(st.sampled_from([0.5, 1.0])))
        for sample in range(len(categories))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return rows, categories


@settings(max_examples=200, deadline=None)
@given(runs())
def test_every_number_is_its_plain_definition(run: tuple[list[Row], list[dict[str, str]]]) -> None:
    rows, categories = run
    fields = np.array([row[2] for row in rows])
    means = CategoryMeans(rollouts_of(rows, categories), macro_over="task", field_coverage=fields)
    values = {value for category in categories for value in category.get("skill", "").split("; ") if value}
    found = means.by_value("skill")
    assert list(found) == sorted(values)
    everything = set(range(len(categories)))
    members = {
        value: {place for place in everything if value in categories[place].get("skill", "").split("; ")}
        for value in values
    }
    for chosen, mean in [(everything, means.overall()), *((members[value], found[value]) for value in values)]:
        mine = [row for row in rows if row[0] in chosen]
        scored = [row for row in mine if row[1] is not None]
        by_sample = {
            place: np.mean([row[1] for row in scored if row[0] == place])
            for place in chosen
            if any(row[0] == place for row in scored)
        }
        by_task: dict[str, list[float]] = {}
        for place, value in by_sample.items():
            by_task.setdefault(categories[place]["task"], []).append(float(value))
        assert (mean.n_samples, mean.n_rollouts, mean.n_unscored) == (len(chosen), len(mine), len(mine) - len(scored))
        assert mean.n_tasks == len({categories[place]["task"] for place in chosen})
        assert mean.coverage == pytest.approx(sum(row[2] for row in scored) / len(mine))
        assert mean.macro is not None and mean.headline is mean.macro
        if not by_sample:
            assert mean.micro.value is None and mean.macro.value is None and mean.macro.reason
            continue
        assert mean.micro.value == pytest.approx(np.mean(list(by_sample.values())))
        assert mean.macro.value == pytest.approx(np.mean([np.mean(values) for values in by_task.values()]))
        assert mean.micro.n_samples == len(by_sample) and mean.macro.n_samples == len(by_task)


def test_the_overall_mean_is_that_of_the_score_table_clusters_included() -> None:
    rows = [(place, float(place % 3 == 0), 1.0) for place in range(12)]
    rollouts = rollouts_of(rows, [{}] * 12, groups=[f"g{place // 2}" for place in range(12)])
    overall = CategoryMeans(rollouts).overall()
    assert overall.micro == summarize(rollouts.by_sample()) and overall.micro.n_clusters == 6
    assert overall.macro is None and overall.n_tasks is None and overall.coverage == 1.0


def test_a_dimension_that_no_sample_has_is_empty() -> None:
    assert CategoryMeans(rollouts_of([(0, 1.0, 1.0)], [{"a": "b"}])).by_value("c") == {}


def test_what_cannot_be_tabulated_is_refused() -> None:
    bare = Rollouts(("s",), ("s",), np.array([0]), np.array([1.0]))
    with pytest.raises(ConfigError, match="no categories"):
        CategoryMeans(bare)
    with pytest.raises(ConfigError, match="names no task"):
        CategoryMeans(rollouts_of([(0, 1.0, 1.0)], [{"skill": "x"}]), macro_over="task")


def test_a_task_without_a_score_leaves_the_macro_mean() -> None:
    means = task_means(np.array([1.0, 0.0, math.nan]), np.array([0, 0, 1]), 2)
    assert means[0] == 0.5 and math.isnan(means[1])


@needs_shared
def test_published_megabench_breakdowns() -> None:
    """Each published task score as one sample: the macro means must be the published ones."""
    from specs_eval.splits import VALUE_SEPARATOR
    from specs_eval.tasks.megabench.breakdown import task_cards

    runs: dict[str, list[dict[str, Any]]] = {}
    for line in (SHARED / "megabench_task_results.jsonl").read_text().splitlines():
        row = json.loads(line)
        runs.setdefault(row["run"], []).append(row)
    expected = json.loads((SHARED / "megabench_breakdown_expected.json").read_text())
    assert set(expected) == set(runs)
    for run, tasks in runs.items():
        cards = [task_cards()[row["task_name"]] for row in tasks]
        categories = [
            {"task": row["task_name"], "kind": card.kind}
            | {name: VALUE_SEPARATOR.join(values) for name, values in card.keywords.items()}
            for row, card in zip(tasks, cards, strict=True)
        ]
        rows = [(place, row["official_task_score"], 1.0) for place, row in enumerate(tasks)]
        means = CategoryMeans(rollouts_of(rows, categories), macro_over="task")
        summary = expected[run]["model_summary"]
        assert means.overall().headline.value == pytest.approx(summary["overall_score"], abs=1e-9)
        assert means.by_value("kind")["rule"].headline.value == pytest.approx(
            summary["core"]["macro_mean_score"], abs=1e-9
        )
        for dimension, keywords in expected[run]["keyword_stats"].items():
            found = means.by_value(dimension)
            assert {name: mean.n_tasks for name, mean in found.items()} == {
                name: facts["count"] for name, facts in keywords.items()
            }
            for name, facts in keywords.items():
                assert found[name].headline.value == pytest.approx(facts["average_score"], abs=1e-9)
