from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from specs_eval.errors import ConfigError
from specs_eval.lmms_models.requests import (
    DEFAULT_MAX_NEW_TOKENS,
    asked_docs,
    by_sampling,
    sampling_spec,
    stop_strings,
)
from specs_eval.sampling import SamplingSpec


def instance(doc_id: int, task: str = "toy", gen_kwargs: dict[str, Any] | None = None, padding: bool = False) -> Any:
    metadata = {"__padding_only__": True} if padding else {}
    return SimpleNamespace(args=("", None, gen_kwargs or {}, doc_id, task, "test"), metadata=metadata)


def test_repeats_of_one_object_are_one_document() -> None:
    first, second = instance(0), instance(1)
    docs = asked_docs([first] * 3 + [second] * 2)
    assert [(doc.doc_id, doc.n_rollouts, doc.task, doc.split) for doc in docs] == [
        (0, 3, "toy", "test"),
        (1, 2, "toy", "test"),
    ]


def test_equal_documents_that_are_other_objects_stay_apart() -> None:
    assert [doc.n_rollouts for doc in asked_docs([instance(0), instance(0)])] == [1, 1]


def test_documents_are_answered_together_by_task_rollouts_and_sampling() -> None:
    long = {"max_new_tokens": 9}
    docs = asked_docs([instance(0), instance(0, "other"), instance(1), instance(2, gen_kwargs=long), instance(3)])
    together = list(by_sampling(docs, seed=7))
    assert [positions for _, positions in together] == [[0, 2, 4], [1], [3]]
    assert all(spec.seed == 7 for spec, _ in together)


def test_padding_is_never_asked() -> None:
    docs = asked_docs([instance(0), instance(0, padding=True)])
    assert [positions for _, positions in by_sampling(docs, 0)] == [[0]]


@pytest.mark.parametrize(
    ("gen_kwargs", "temperature"),
    [
        (None, 0.0),
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "temperature": 0.7}, 0.7),
        ({"temperature": 0.7}, 0.7),
        ({"do_sample": False, "temperature": 0.7}, 0.0),
        ({"temperature": None}, 0.0),
    ],
)
def test_temperature(gen_kwargs: dict[str, Any] | None, temperature: float) -> None:
    assert sampling_spec(gen_kwargs, 0).temperature == temperature


def test_sampling_spec_of_a_usual_task() -> None:
    usual = {"max_new_tokens": 16, "temperature": 0, "top_p": 0, "num_beams": 1, "do_sample": False, "until": ["Q:"]}
    assert sampling_spec(usual, 3) == SamplingSpec(0.0, 16, 3, 1.0, ("Q:",))
    assert sampling_spec({}, 0).max_new_tokens == DEFAULT_MAX_NEW_TOKENS
    assert sampling_spec({"temperature": 1, "top_p": 0.9}, 0).top_p == 0.9


@pytest.mark.parametrize(
    "gen_kwargs",
    [{"num_beams": 4}, {"repetition_penalty": 1.2}, {"temperature": 1.0, "top_k": 5}, {"temperature": 1.0, "top_p": 0}],
)
def test_what_would_change_responses_is_refused(gen_kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sampling_spec(gen_kwargs, 0)


def test_neutral_settings_pass() -> None:
    sampling_spec({"temperature": 1.0, "top_k": -1, "repetition_penalty": 1, "min_p": 0.0, "top_p": None}, 0)
    sampling_spec({"top_k": 5}, 0)


def test_stop_strings_of_white_space_are_lmms_evals_own() -> None:
    assert stop_strings(["\n\n"]) == stop_strings(None) == stop_strings([]) == stop_strings("\n") == ()
    assert stop_strings(["Q:", "\n\n"]) == ("Q:",)
    assert stop_strings("</s>") == ("</s>",)
