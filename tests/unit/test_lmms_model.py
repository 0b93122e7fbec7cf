from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from lmms_fakes import NoisyBackend, NoisyModel, noisy_model
from PIL import Image

from specs_eval.chat import images_of, text_of
from specs_eval.errors import CheckpointError, ConfigError, GenerationError
from specs_eval.lmms_models import model as model_module
from specs_eval.lmms_models.hf import SpecsHF
from specs_eval.lmms_models.manifest import manifests
from specs_eval.lmms_models.model import find_checkpoint
from specs_eval.sampling import noise_key, rollout_uniforms


class Asker:
    """Shows documents as one of our tasks does, or as a foreign one."""

    def __init__(self, ours: bool = True) -> None:
        if ours:
            self.records_failures = True

    def doc_to_messages(self, doc: dict[str, Any]) -> list[dict[str, Any]]:
        if doc["text"] == "broken":
            raise OSError("truncated file")
        image = Image.new("RGB", (2, 2), "red")
        return [{"role": "user", "content": [{"type": "image", "url": image}, {"type": "text", "text": doc["text"]}]}]


def prepare(model: NoisyModel, texts: list[str], asker: Asker, repeats: int = 1, **gen_kwargs: Any) -> list[Any]:
    model.task_dict["toy"] = {"test": [{"text": text} for text in texts]}
    instances = [
        SimpleNamespace(args=("", asker.doc_to_messages, gen_kwargs, number, "toy", "test"), metadata={})
        for number in range(len(texts))
    ]
    return [instance for instance in instances for _ in range(repeats)]


def test_repeats_become_rollouts_of_one_request_in_order(monkeypatch: Any) -> None:
    engine = NoisyBackend()
    model = noisy_model(monkeypatch, engine, seed=5)
    requests = prepare(model, ["a", "b", "c"], Asker(), repeats=4, temperature=1.0, max_new_tokens=7)
    results = model.generate_until(requests)
    assert [(request.sample_id, request.rollouts) for request in engine.calls[0]] == [
        (f"{number:06d}", (0, 1, 2, 3)) for number in range(3)
    ]
    for number in range(3):
        key = noise_key("toy", f"{number:06d}")
        expected = [engine.texts[int(rollout_uniforms(5, key, k, 1)[0] * 3)] for k in range(4)]
        assert [result.text for result in results[4 * number : 4 * number + 4]] == expected
    assert [result.token_counts.output_tokens for result in results[:4]] == [2, 3, 4, 5]
    assert (engine.specs[0].temperature, engine.specs[0].max_new_tokens, engine.specs[0].seed) == (1.0, 7, 5)


def test_chats_reach_the_engine_as_the_task_shows_them(monkeypatch: Any) -> None:
    engine = NoisyBackend()
    model = noisy_model(monkeypatch, engine)
    model.generate_until(prepare(model, ["what?"], Asker()))
    chat = engine.calls[0][0].chat
    assert text_of(chat) == "<image>\nwhat?"
    assert images_of(chat)[0].load().getpixel((0, 0)) == (255, 0, 0)


def test_many_documents_go_in_whole_blocks(monkeypatch: Any) -> None:
    engine = NoisyBackend(block=24)
    model = noisy_model(monkeypatch, engine)
    monkeypatch.setattr(model_module, "SAMPLES_AT_ONCE", 30)
    results = model.generate_until(prepare(model, ["x"] * 100, Asker()))
    assert [len(call) for call in engine.calls] == [48, 48, 4]
    assert len(results) == 100 and all(result.text for result in results)


@pytest.mark.parametrize("way", ["rollout failed", "no response", "not shown"])
def test_a_failed_rollout_of_our_tasks_is_none_and_loud(way: str, monkeypatch: Any, caplog: Any) -> None:
    engine = NoisyBackend()
    model = noisy_model(monkeypatch, engine)
    texts = ["a", "broken" if way == "not shown" else "b", "c"]
    if way == "rollout failed":
        engine.fail = {("000001", 0)}
    if way == "no response":
        engine.silent = {"000001"}
    with caplog.at_level(logging.ERROR):
        results = model.generate_until(prepare(model, texts, Asker()))
    assert [result.text is None for result in results] == [False, True, False]
    assert "toy: 1 rollouts failed" in caplog.text


def test_one_failed_rollout_of_several(monkeypatch: Any) -> None:
    engine = NoisyBackend()
    engine.fail = {("000000", 1)}
    model = noisy_model(monkeypatch, engine)
    results = model.generate_until(prepare(model, ["a"], Asker(), repeats=3))
    assert [result.text is None for result in results] == [False, True, False]


def test_a_failure_of_a_foreign_task_ends_the_evaluation(monkeypatch: Any) -> None:
    engine = NoisyBackend()
    engine.fail = {("000001", 0)}
    model = noisy_model(monkeypatch, engine)
    with pytest.raises(GenerationError, match="would score it as an empty answer: out of memory"):
        model.generate_until(prepare(model, ["a", "b"], Asker(ours=False)))


def test_padding_gets_an_answer_nobody_reads(monkeypatch: Any) -> None:
    engine = NoisyBackend()
    model = noisy_model(monkeypatch, engine)
    requests = prepare(model, ["a", "b"], Asker())
    requests[1].metadata["__padding_only__"] = True
    assert len(model.generate_until(requests)) == 2
    assert len(engine.calls[0]) == 1


def test_clean_leaves_the_engine_alone(monkeypatch: Any) -> None:
    model = noisy_model(monkeypatch)
    model.clean()
    assert model.generate_until(prepare(model, ["a"], Asker()))[0].text


@pytest.mark.parametrize(
    ("arguments", "lmms_options", "batch_size"),
    [
        ("pretrained=x", {"batch_size": 1, "max_batch_size": None, "device": None}, None),
        ("pretrained=x", {"batch_size": "1"}, 1),
        ("pretrained=x", {"batch_size": "auto"}, None),
        ("pretrained=x", {"batch_size": "auto:4", "max_batch_size": 32}, 32),
        ("pretrained=x,batch_size=6", {"batch_size": 1}, 6),
        ("pretrained=x,batch_size=6,seed=3,dtype=bfloat16,device=cpu", {"batch_size": "2", "device": "cuda"}, 6),
    ],
)
def test_model_args(monkeypatch: Any, arguments: str, lmms_options: dict[str, Any], batch_size: int | None) -> None:
    kind = type(noisy_model(monkeypatch))
    model = kind.create_from_arg_string(arguments, lmms_options)
    assert model.options.batch_size == batch_size
    if "seed" in arguments:
        assert (model.seed, model.options.dtype, model.options.device) == (3, "bfloat16", "cpu")


@pytest.mark.parametrize("arguments", ["", "pretrained=x,attn=flash"])
def test_model_args_that_are_unknown_or_missing(arguments: str) -> None:
    with pytest.raises(ConfigError, match="known: pretrained, batch_size"):
        SpecsHF.create_from_arg_string(arguments, {"batch_size": 1})


def test_only_generation_is_offered(monkeypatch: Any) -> None:
    model = noisy_model(monkeypatch)
    with pytest.raises(ConfigError, match="only run generate tasks"):
        model.loglikelihood([])
    with pytest.raises(ConfigError, match="only run generate tasks"):
        model.generate_until_multi_round([])


def test_a_checkpoint_must_be_one_and_whole(tmp_path: Any) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        find_checkpoint(str(tmp_path / "empty"))
    with pytest.raises(ConfigError):
        find_checkpoint(str(tmp_path / "nowhere"))


def test_the_manifest_names_a_chat_model() -> None:
    manifest = manifests()[0]
    assert manifest.model_id == "specs_hf"
    assert manifest.chat_class_path == f"{SpecsHF.__module__}.{SpecsHF.__name__}"
    assert SpecsHF.is_simple is False
