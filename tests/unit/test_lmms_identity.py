from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from specs_eval.lmms_models.identity import name_docs


def docs(**columns: list[Any]) -> Any:
    return Dataset.from_dict(columns)


def test_our_documents_carry_their_names() -> None:
    names = name_docs(docs(specs_task=["easyvqa"] * 2, sample_id=["a", "b"], id=[1, 2]), "specs_easyvqa")
    assert (names.task, names.sample_ids) == ("easyvqa", ("a", "b"))


def test_a_unique_id_column_is_taken() -> None:
    assert name_docs(docs(question_id=[7, 8], text=["x", "x"]), "toy").sample_ids == ("7", "8")


@pytest.mark.parametrize("values", [[1, 1], [0.5, 1.5], ["", "a"], [True, False], [None, 1]])
def test_a_column_that_does_not_identify_is_not_taken(values: list[Any]) -> None:
    names = name_docs(docs(id=values), "toy")
    assert (names.sample_ids, names.source) == (("000000", "000001"), "document number")


def test_the_next_column_is_tried() -> None:
    assert name_docs(docs(id=[1, 1], pid=["x", "y"]), "toy").source == "pid"


def test_documents_without_columns_are_numbered() -> None:
    assert name_docs([{"q": 1}, {"q": 2}], "toy").sample_ids == ("000000", "000001")
