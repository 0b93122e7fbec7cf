"""The shipped, trained checkpoint: real questions, thousands of tokens."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_tiny_models import loaded_backend, responses_by_key

from specs_eval.backends.base import Request
from specs_eval.chat import images_of
from specs_eval.sampling import SamplingSpec, noise_key
from specs_eval.tasks.easyvqa.task import EasyVQA
from specs_eval.tasks.formats.styles import FORMATS
from specs_eval.tasks.formats.task import FormatTask

SHIPPED = Path(__file__).parents[2] / "training" / "tiny" / "checkpoint"
SPEC = SamplingSpec(1.0, 64, seed=5)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    samples = FormatTask("formats", EasyVQA(), list(FORMATS.values())).samples()[:40]
    return [Request(s.sample_id, noise_key("formats", s.sample_id), s.chat, tuple(range(8))) for s in samples]


def texts_of(requests: list[Request], spec: SamplingSpec = SPEC, **options: Any) -> dict[Any, tuple[str, int | None]]:
    answers = responses_by_key(loaded_backend(SHIPPED, **options), requests, spec)
    assert all(answer.error is None for answer in answers.values())
    return {key: (answer.text, answer.n_tokens) for key, answer in answers.items()}


def test_text_depends_on_nothing_but_the_question_and_the_rollout(requests: list[Request]) -> None:
    whole = texts_of(requests)
    assert sum(n or 0 for _, n in whole.values()) > 3000
    assert len({text for text, _ in whole.values()}) > 100
    shuffled = random.Random(0).sample(requests, len(requests))
    some = [Request(r.sample_id, r.key, r.chat, (6, 1, 3)[: 1 + i % 3]) for i, r in enumerate(requests)]
    for batch_size in (1, 3, 16):
        assert texts_of(shuffled, batch_size=batch_size) == whole
        few = texts_of(some, batch_size=batch_size)
        assert few == {key: whole[key] for key in few}
    assert texts_of(shuffled[:9], extra={"layout": "repeated"}).items() <= whole.items()


def test_few_draws_need_a_pass_of_their_own(requests: list[Request]) -> None:
    backend = loaded_backend(SHIPPED)
    responses_by_key(backend, requests, SPEC)
    assert backend.engine.n_draws > 3000
    assert backend.engine.n_settled < 0.005 * backend.engine.n_draws


def test_greedy_text_is_that_of_generate(requests: list[Request]) -> None:
    backend = loaded_backend(SHIPPED)
    engine, asked = backend.engine, requests[::5]
    answers = texts_of([Request(r.sample_id, r.key, r.chat, (0,)) for r in asked], SamplingSpec(0.0, 64))
    inputs = engine.encoder.processor(
        text=[engine.encoder.render(r.chat) for r in asked],
        images=[[part.load() for part in images_of(r.chat)] for r in asked],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    with torch.inference_mode():
        rows = engine.model.generate(**inputs, max_new_tokens=64, do_sample=False)
    new = rows[:, inputs["input_ids"].shape[1] :]
    texts = engine.encoder.tokenizer.batch_decode(new, skip_special_tokens=True)
    assert [answers[r.sample_id, 0][0] for r in asked] == texts
