"""Parts of a benchmark: what can be typed, what is meant, what is refused, and what the store gives for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_runs import FakeRun, write_run

from specs_eval.analysis.stored.reading import read_rollouts
from specs_eval.errors import ConfigError
from specs_eval.splits import Condition, Split, category_values, parse_split, parse_splits, values_by_dimension

SKILLS = ({"skills": "algebraic reasoning; statistics", "grade": "college"}, {"skills": "statistics", "grade": "daily"})


def test_a_split_is_a_task_with_conditions() -> None:
    split = parse_split(" specs_mathvista[skills=algebraic reasoning|statistics, grade != college] ")
    assert split == Split(
        "mathvista",
        (Condition("skills", ("algebraic reasoning", "statistics")), Condition("grade", ("college",), negated=True)),
    )
    assert parse_split("formats_ood") == Split("easyvqa_formats_ood")


def test_a_list_keeps_commas_inside_brackets() -> None:
    found = parse_splits("mmmu[domain=Science,subject=Physics], mathvista,mmmu[domain=Science,subject=Physics]")
    assert list(map(str, found)) == ["mmmu[domain=Science,subject=Physics]", "mathvista"]


@pytest.mark.parametrize(
    "text", ["", "[a=b]", "task[]", "task[a]", "task[a=]", "task[=b]", "task[a=b", "task]a=b[", "task[a=b]x", "t[a=b|]"]
)
def test_what_cannot_be_read_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="TASK"):
        parse_splits(text)


def test_shortened_names_are_written_out_when_one_only_is_meant() -> None:
    split = parse_split("mathvista[skill=Algebra]").resolved(SKILLS)
    assert str(split) == "mathvista[skills=algebraic reasoning]"
    assert [split.holds(category) for category in SKILLS] == [True, False]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mathvista[skils=statistics]", "did you mean 'skills'"),
        ("mathvista[skills=geometry]", "algebraic reasoning, statistics"),
        ("mathvista[grade=]", "TASK"),
    ],
)
def test_names_that_no_sample_has_are_refused_with_those_there_are(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_split(text).resolved(SKILLS)


def test_a_short_name_for_two_values_is_refused() -> None:
    with pytest.raises(ConfigError, match="it has: box, boxed"):
        parse_split("t[format=b]").resolved([{"format": "boxed"}, {"format": "box"}])
    assert parse_split("t[format=box]").resolved([{"format": "boxed"}, {"format": "box"}]).conditions[0].values == (
        "box",
    )


WORDS = st.text("abc ", min_size=1, max_size=4).map(str.strip).filter(bool)


@given(st.lists(st.dictionaries(WORDS, WORDS, max_size=3), max_size=6), st.data())
def test_a_condition_and_its_negation_part_the_samples(categories: list[dict[str, str]], data: st.DataObject) -> None:
    known = values_by_dimension(categories)
    if not known:
        return
    dimension = data.draw(st.sampled_from(sorted(known)))
    value = data.draw(st.sampled_from(known[dimension]))
    positive, negative = (Condition(dimension, (value,), negated) for negated in (False, True))
    for category in categories:
        assert positive.holds(category) == (value in category_values(category, dimension)) != negative.holds(category)


def test_reading_a_part_keeps_its_samples_groups_and_categories(tmp_path: Path) -> None:
    scores = np.arange(12.0).reshape(6, 2) / 12
    categories = [{"format": ("json", "boxed", "swapped")[i % 3]} for i in range(6)]
    run = write_run(
        tmp_path, FakeRun("formats", scores, groups=[f"g{i // 3}" for i in range(6)], categories=categories)
    )
    part = read_rollouts(run, ["score"], split=parse_split("formats[format!=json]"), categories=True)["score"]
    assert part.sample_ids == ("s0001", "s0002", "s0004", "s0005")
    assert part.clusters == ("g0", "g0", "g1", "g1")
    assert [dict(category) for category in part.categories] == [categories[i] for i in (1, 2, 4, 5)]
    np.testing.assert_allclose(part.by_sample().values, scores[[1, 2, 4, 5]].mean(1))
    with pytest.raises(ConfigError, match="no dimension 'formt'"):
        read_rollouts(run, ["score"], split=parse_split("formats[formt=json]"))
    with pytest.raises(ConfigError, match="no sample of formats meets all"):
        read_rollouts(run, ["score"], split=parse_split("formats[format=json,format=boxed]"))
