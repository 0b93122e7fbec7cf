"""Tiny random instances of five architectures against transformers' own generate and plain forward passes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_tiny_models import (
    FAMILIES,
    checkpoint_folder,
    loaded_backend,
    mixed_chats,
    requests_for,
    responses_by_key,
)

from specs_eval.backends.hf import HFBackend, attention, layouts
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.layouts import Layout, RepeatedLayout, SharedLayout
from specs_eval.backends.hf.probe import plain_logits
from specs_eval.backends.hf.prompts import collate, group_by_length, prefill
from specs_eval.sampling import SamplingSpec

N_NEW = 20


@pytest.fixture(scope="module", params=FAMILIES)
def backend(request: pytest.FixtureRequest) -> HFBackend:
    return loaded_backend(checkpoint_folder(request.param))


def generated(backend: HFBackend, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Greedy texts by transformers' own generate."""
    engine = backend.engine
    with torch.inference_mode():
        rows = engine.model.generate(**inputs, max_new_tokens=N_NEW, do_sample=False)
    new = rows[:, inputs["input_ids"].shape[1] :]
    return [str(text) for text in engine.encoder.tokenizer.batch_decode(new, skip_special_tokens=True)]


def processed(backend: HFBackend, numbers: list[int]) -> dict[str, Any]:
    """Some of the mixed chats as the processor itself makes a batch of them."""
    engine = backend.engine
    chats = [mixed_chats()[number] for number in numbers]
    images = [[part.load() for m in chat for part in m.parts if hasattr(part, "load")] for chat in chats]
    texts = [engine.encoder.render(chat) for chat in chats]
    return dict(
        engine.encoder.processor(
            text=texts, images=images if any(images) else None, padding=True, padding_side="left", return_tensors="pt"
        )
    )


def test_the_fast_way_is_found_right(backend: HFBackend) -> None:
    assert (backend.engine.layout, backend.engine.joint_prefill) == ("shared", True)
    text = backend.engine.model.config.get_text_config(decoder=True)
    assert attention.head_groups(text) == 2 and text._attn_implementation == attention.NAME


def test_greedy_text_is_that_of_generate(backend: HFBackend) -> None:
    answers = responses_by_key(backend, requests_for(mixed_chats()), SamplingSpec(0.0, N_NEW))
    texts = [answers[f"s{number}", 0].text for number in range(5)]
    assert len(set(texts)) == 5
    for number in range(5):
        assert texts[number] == generated(backend, processed(backend, [number]))[0]
    assert [texts[0], texts[1], texts[4]] == generated(backend, processed(backend, [0, 1, 4]))


def test_collated_inputs_are_those_of_the_processor(backend: HFBackend) -> None:
    ours = collate([backend.engine.encoder.encode(mixed_chats()[n]) for n in (0, 1, 4)], backend.engine.pad_id)
    theirs = processed(backend, [0, 1, 4])
    assert set(ours) == set(theirs)
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize("name", ["shared", "repeated"])
def test_logits_of_every_step_are_those_of_a_plain_forward(
    backend: HFBackend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "GROWTH_STEPS", 2)  # so that the cache grows on the way
    model = backend.engine.model
    with torch.inference_mode():
        inputs = [backend.engine.encoder.encode(chat) for chat in mixed_chats()]
        tokens = torch.randint(40, 300, (5, 3, 7), generator=torch.Generator().manual_seed(0))
        plain = torch.stack(
            [torch.stack([plain_logits(model, x, t) for t in row]) for x, row in zip(inputs, tokens, strict=True)]
        )
        cells = [(sample, slot) for sample in range(5) for slot in range(3)]
        layout = _layout(backend, inputs, name)
        for step in range(6):
            logits = layout.step(torch.stack([tokens[sample, slot, step] for sample, slot in cells]))
            for cell, (sample, slot) in enumerate(cells):
                expected = plain[sample, slot, step + 1]
                assert torch.allclose(logits[cell], expected, atol=1e-4, rtol=1e-4), (step, sample, slot)
            if step in (2, 4):
                ended = {
                    2: {(0, 0), (0, 1), (0, 2), (3, 1), (1, 0), (2, 2), (4, 0)},
                    4: {(1, 1), (2, 0), (3, 0), (4, 1)},
                }[step]
                active = torch.tensor([cell not in ended for cell in cells])
                kept = layout.compact(active)
                assert kept is not None
                cells = [cells[old] for old in kept.tolist()]


def _layout(backend: HFBackend, inputs: list[dict[str, torch.Tensor]], name: str) -> Layout:
    engine = backend.engine
    if name == "repeated":
        prompts = prefill(engine.model, collate(inputs, engine.pad_id))
        return RepeatedLayout(engine.model, prompts, [sample for sample in range(5) for _ in range(3)])
    groups = [[0, 1], [2], [3, 4]]
    prefilled = [(prefill(engine.model, collate([inputs[i] for i in group], engine.pad_id)), group) for group in groups]
    return SharedLayout(engine.model, prefilled, range(5), 3, 7)


def test_text_does_not_depend_on_the_batch(backend: HFBackend) -> None:
    spec = SamplingSpec(1.0, N_NEW, seed=7)
    requests = requests_for(mixed_chats(), n_rollouts=11)
    folder = Path(backend.engine.encoder.tokenizer.name_or_path)
    whole = texts_of(backend, requests, spec)
    assert len({text for text, _, _ in whole.values()}) > 50
    for size in (1, 3):
        other = loaded_backend(folder, batch_size=size)
        assert texts_of(other, requests[::-1], spec) == whole
    some = [type(r)(r.sample_id, r.key, r.chat, (9, 0, 4)[: 1 + i % 3]) for i, r in enumerate(requests)]
    few = texts_of(backend, some, spec)
    assert few == {key: whole[key] for key in few}
    assert texts_of(loaded_backend(folder, extra={"layout": "repeated"}), requests, spec) == whole


def texts_of(backend: HFBackend, requests: Any, spec: SamplingSpec) -> dict[Any, tuple[str, int | None, str]]:
    answers = responses_by_key(backend, requests, spec)
    return {key: (answer.text, answer.n_tokens, answer.finish_reason) for key, answer in answers.items()}


def test_statistics_are_those_of_a_plain_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = loaded_backend(checkpoint_folder("qwen2_5_vl"), per_position=True)
    engine, decode = backend.engine, Engine.decode
    drawn: list[list[int]] = []
    monkeypatch.setattr(Engine, "decode", lambda self, ids: drawn.extend(ids) or decode(self, ids))
    requests = requests_for(mixed_chats()[:2], n_rollouts=3)
    answers = responses_by_key(backend, requests, SamplingSpec(0.7, 12, top_p=0.9))
    assert len(drawn) == len(answers) == 6
    inputs = [engine.encoder.encode(chat) for chat in mixed_chats()[:2]]
    for ((sample, _), answer), tokens in zip(answers.items(), drawn, strict=True):
        ends = [] if answer.n_tokens == len(tokens) else [engine.pad_id]
        with torch.inference_mode():
            logits = plain_logits(engine.model, inputs[int(sample[1:])], torch.tensor(tokens + ends)).double()
        check_statistics(answer, torch.softmax(logits, dim=-1))


def check_statistics(answer: Any, probs: torch.Tensor) -> None:
    entropies = torch.special.entr(probs).sum(-1)
    sizes = (probs.sort(dim=-1, descending=True).values.cumsum(-1) < 0.95).sum(-1) + 1
    assert answer.entropies == pytest.approx(entropies.tolist(), abs=1e-4)
    assert answer.nucleus_sizes == tuple(sizes.tolist())
    assert answer.entropy == pytest.approx(float(entropies.mean()), abs=1e-4)
    assert answer.nucleus == pytest.approx(float(sizes.double().mean()), abs=1e-6)


def test_first_tokens_are_drawn_from_the_softmax() -> None:
    backend = loaded_backend(checkpoint_folder("qwen2_vl"))
    engine, n = backend.engine, 4000
    (request,) = requests_for(mixed_chats()[:1], n_rollouts=n)
    ((_, responses),) = backend.generate([request], SamplingSpec(1.0, 1))
    with torch.inference_mode():
        logits = prefill(engine.model, engine.encoder.encode(request.chat)).logits[0]
    probs = torch.softmax(logits.double(), dim=-1)
    likely = probs.topk(8).indices.tolist()
    texts = engine.decode([[token] for token in likely])
    unique = [i for i, text in enumerate(texts) if text and texts.count(text) == 1 and "\ufffd" not in text]
    assert len(unique) >= 3
    for i in unique:
        p = float(probs[likely[i]])
        observed = sum(response.text == texts[i] for response in responses)
        assert abs(observed - n * p) < 4.5 * (n * p * (1 - p)) ** 0.5


def test_prompts_are_grouped_in_order_within_the_budget() -> None:
    assert group_by_length([10, 10, 30, 5, 5], 40) == [[0, 1], [2], [3, 4]]
    assert group_by_length([100], 10) == [[0]]
    assert group_by_length([5, 5], 0) == [[0], [1]]
    assert group_by_length([], 10) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu(family: str) -> None:
    requests, spec = requests_for(mixed_chats(), n_rollouts=11), SamplingSpec(1.0, N_NEW, seed=7)
    whole = texts_of(loaded_backend(checkpoint_folder(family), device="cuda", dtype="float32"), requests, spec)
    for size in (1, 3):
        other = loaded_backend(checkpoint_folder(family), device="cuda", dtype="float32", batch_size=size)
        assert texts_of(other, requests[::-1], spec) == whole
    half = loaded_backend(checkpoint_folder(family), device="cuda")
    assert half.numerics == "hf/bfloat16"
    assert len(texts_of(half, requests, spec)) == len(whole)
