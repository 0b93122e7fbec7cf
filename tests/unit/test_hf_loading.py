"""Checkpoints into engines: in place, fresh, with adapters, and everything that is wrong with some."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_tiny_models import checkpoint_folder, checkpoint_of, loaded_backend, mixed_chats, requests_for, responses_by_key
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, DynamicCache, GenerationMixin

from specs_eval.backends.base import BackendOptions
from specs_eval.backends.hf import HFBackend, canonical, loading, probe, prompts
from specs_eval.backends.hf.layouts import SharedLayout
from specs_eval.errors import CheckpointError, GenerationError
from specs_eval.sampling import SamplingSpec

SPEC = SamplingSpec(1.0, 12, seed=1)


def answers_of(backend: HFBackend) -> dict[Any, str]:
    answers = responses_by_key(backend, requests_for(mixed_chats(), n_rollouts=2), SPEC)
    assert all(answer.error is None for answer in answers.values())
    return {key: answer.text for key, answer in answers.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkpoint that may be broken."""
    return Path(shutil.copytree(checkpoint_folder("qwen2_5_vl"), tmp_path / "copy"))


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "idefics3", "llava_onevision"])
def test_a_checkpoint_in_place_equals_a_fresh_one(family: str) -> None:
    first, second = checkpoint_folder(family), checkpoint_folder(family, seed=1)
    backend = loaded_backend(first)
    model, encoder = backend.engine.model, backend.engine.encoder
    before = answers_of(backend)
    backend.load(checkpoint_of(second))
    assert backend.engine.model is model and backend.engine.encoder is encoder
    there = answers_of(backend)
    assert there == answers_of(loaded_backend(second)) != before
    backend.load(checkpoint_of(first))
    assert answers_of(backend) == before


def test_tied_weights_in_place(tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("qwen2_5_vl"))
    for name, gain in (("a", 1.0), ("b", 1.1)):
        folder = shutil.copytree(checkpoint_folder("qwen2_5_vl"), tmp_path / name)
        tied = AutoModelForImageTextToText.from_pretrained(folder)
        tied.config.tie_word_embeddings = tied.config.text_config.tie_word_embeddings = True
        tied.tie_weights()
        with torch.no_grad():
            tied.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight * gain)
        tied.save_pretrained(folder)
        assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    backend = loaded_backend(tmp_path / "a")
    live = backend.engine.model
    backend.load(checkpoint_of(tmp_path / "b"))
    assert backend.engine.model is live
    assert answers_of(backend) == answers_of(loaded_backend(tmp_path / "b"))


def test_another_architecture_replaces_the_model() -> None:
    backend = loaded_backend(checkpoint_folder("qwen2_5_vl"))
    model = backend.engine.model
    backend.load(checkpoint_of(checkpoint_folder("smolvlm")))
    assert backend.engine.model is not model
    assert answers_of(backend) == answers_of(loaded_backend(checkpoint_folder("smolvlm")))


def test_another_processor_in_place(copy: Path) -> None:
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").write_text(template.replace("assistant", "user"))
    backend = loaded_backend(checkpoint_folder("qwen2_5_vl"))
    model = backend.engine.model
    backend.load(checkpoint_of(copy))
    assert backend.engine.model is model
    assert answers_of(backend) == answers_of(loaded_backend(copy))


def test_bfloat16_weights_run_in_float32_on_the_cpu(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint_folder("qwen2_5_vl"), tmp_path / "half"))
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert load_file(folder / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    backend = loaded_backend(folder)
    assert backend.engine.model.dtype == torch.float32
    expected = answers_of(backend)
    live = loaded_backend(checkpoint_folder("qwen2_5_vl"))
    live.load(checkpoint_of(folder))
    assert answers_of(live) == expected
    half = loaded_backend(folder, dtype="bfloat16")
    assert half.engine.model.dtype == torch.bfloat16 and len(answers_of(half)) == 10


def test_sharded_weights(copy: Path) -> None:
    AutoModelForImageTextToText.from_pretrained(copy).save_pretrained(copy, max_shard_size="200KB")
    (copy / "model.safetensors").unlink(missing_ok=True)
    assert (copy / "model.safetensors.index.json").exists()
    backend = loaded_backend(checkpoint_folder("qwen2_5_vl", seed=1))
    backend.load(checkpoint_of(copy))
    assert (
        answers_of(backend)
        == answers_of(loaded_backend(copy))
        == answers_of(loaded_backend(checkpoint_folder("qwen2_5_vl")))
    )


def rewrite(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


BREAKS: dict[str, tuple[Any, str]] = {
    "missing": (lambda tensors: tensors.pop("model.norm.weight"), "lacks 1 of the model's weights"),
    "unexpected": (lambda tensors: tensors.update({"value_head.weight": torch.zeros(3)}), "no place for"),
    "shape": (lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 48)}), "lm_head"),
}


@pytest.mark.parametrize("in_place", [False, True], ids=["fresh", "in place"])
@pytest.mark.parametrize("kind", BREAKS)
def test_weights_that_do_not_fit_are_refused(copy: Path, kind: str, in_place: bool) -> None:
    change, message = BREAKS[kind]
    rewrite(copy, change)
    backend = HFBackend(BackendOptions())
    if in_place:
        backend.load(checkpoint_of(checkpoint_folder("qwen2_5_vl")))
    with pytest.raises(CheckpointError, match=message) as caught:
        backend.load(checkpoint_of(copy))
    assert str(copy) in str(caught.value)
    with pytest.raises(GenerationError):  # half-loaded weights never answer
        list(backend.generate(requests_for(mixed_chats()), SPEC))
    backend.load(checkpoint_of(checkpoint_folder("qwen2_5_vl")))
    assert answers_of(backend) == answers_of(loaded_backend(checkpoint_folder("qwen2_5_vl")))


@pytest.mark.parametrize("in_place", [False, True], ids=["fresh", "in place"])
def test_unexpected_weights_may_be_ignored(copy: Path, in_place: bool) -> None:
    rewrite(copy, BREAKS["unexpected"][0])
    backend = HFBackend(BackendOptions(extra={"unexpected_weights": "ignore"}))
    if in_place:
        backend.load(checkpoint_of(checkpoint_folder("qwen2_5_vl", seed=1)))
    backend.load(checkpoint_of(copy))
    assert answers_of(backend) == answers_of(loaded_backend(checkpoint_folder("qwen2_5_vl")))


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def drop(*names: str) -> Any:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def only_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def garble_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl", ')


DAMAGES: dict[str, Any] = {
    "truncated weights": truncate,
    "no weights": drop("model.safetensors"),
    "pickle only": only_pickle,
    "no config": drop("config.json"),
    "torn config": garble_config,
    "unknown model": lambda folder: edit(folder, "config.json", model_type="no_such_model"),
    "text model": lambda folder: edit(folder, "config.json", model_type="qwen2"),
    "remote code": lambda folder: edit(
        folder, "config.json", model_type="mine", auto_map={"AutoModelForImageTextToText": "evil.Model"}
    ),
    "no processor": drop("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    "no tokenizer": drop("tokenizer.json"),
    "no template": drop("chat_template.jinja"),
    "template that fails": lambda folder: (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}"),
    "template for text": lambda folder: (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ),
    "template without images": lambda folder: (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_checkpoints_are_refused_with_a_reason(copy: Path, kind: str) -> None:
    DAMAGES[kind](copy)
    with pytest.raises(CheckpointError) as caught:
        HFBackend(BackendOptions()).load(checkpoint_of(copy))
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_in_place(copy: Path) -> None:
    truncate(copy)
    backend = loaded_backend(checkpoint_folder("qwen2_5_vl"))
    with pytest.raises(CheckpointError, match="model.safetensors does not load"):
        backend.load(checkpoint_of(copy))


def test_a_model_that_is_decoded_wrongly_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TOLERANCE", {torch.float32: -1.0})
    with pytest.raises(CheckpointError, match="not decoded correctly.*shared: logits off.*repeated: logits off"):
        loaded_backend(copy)


def test_a_cache_under_an_unknown_name_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as renamed:
        renamed.setattr(prompts, "CACHE_KEYWORDS", ("older", "oldest"))
        with pytest.raises(CheckpointError, match="neither older nor oldest.*install an older transformers"):
            loaded_backend(copy)
    update = GenerationMixin._update_model_kwargs_for_generation

    def twice(self: Any, outputs: Any, kwargs: dict[str, Any], **more: Any) -> dict[str, Any]:
        """As a version does that renames the cache and still takes the old name."""
        return {**update(self, outputs, kwargs, **more), "memory": DynamicCache()}

    monkeypatch.setattr(GenerationMixin, "_update_model_kwargs_for_generation", twice)
    with pytest.raises(CheckpointError, match="came back as memory.*install an older transformers"):
        loaded_backend(copy)


def test_a_model_whose_doubtful_draws_are_settled_wrongly_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        canonical, "_scratch", lambda cache: cache
    )  # so that the second draw sees the first one's tokens
    with pytest.raises(CheckpointError, match="not be settled correctly .logits off.*verify=off"):
        loaded_backend(copy)
    HFBackend(BackendOptions(extra={"verify": "off"})).load(checkpoint_of(copy))


def test_the_probe_falls_back(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers_of(loaded_backend(copy))
    step = SharedLayout.step
    monkeypatch.setattr(SharedLayout, "step", lambda self, tokens: step(self, tokens) + tokens[:, None] * 0.01)
    backend = loaded_backend(copy)
    assert backend.engine.layout == "repeated" and backend.engine.joint_prefill
    assert answers_of(backend) == expected
    monkeypatch.setattr(SharedLayout, "fits", staticmethod(lambda cache: False))
    assert loaded_backend(copy).engine.layout == "repeated"
    monkeypatch.setattr(probe, "collate", lambda inputs, pad: inputs[0] if len(inputs) == 1 else {})
    backend = loaded_backend(copy)
    assert (backend.engine.layout, backend.engine.joint_prefill) == ("repeated", False)
    assert answers_of(backend) == expected


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LoRA adapter with random weights, and the same merged into a full checkpoint."""
    base = checkpoint_folder("qwen2_5_vl")
    root = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base)
    targets = ["q_proj", "v_proj", "gate_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(root / "adapter")
    merged = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), root / "adapter")
    shutil.copytree(base, root / "merged")
    merged.merge_and_unload().save_pretrained(root / "merged")
    return root / "adapter", root / "merged"


def test_an_adapter_equals_its_merged_model(adapter: tuple[Path, Path]) -> None:
    folder, merged = adapter
    base = checkpoint_folder("qwen2_5_vl")
    backend = HFBackend(BackendOptions())
    backend.load(checkpoint_of(folder, base))
    expected = answers_of(loaded_backend(merged))
    assert answers_of(backend) == expected != answers_of(loaded_backend(base))
    # The live model now holds merged weights: the next checkpoints must not see them.
    backend.load(checkpoint_of(base))
    assert answers_of(backend) == answers_of(loaded_backend(base))
    backend.load(checkpoint_of(folder, base))
    assert answers_of(backend) == expected
    backend.load(checkpoint_of(folder, checkpoint_folder("qwen2_5_vl", seed=1)))
    assert answers_of(backend) != expected


def test_an_adapter_without_peft(adapter: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_peft(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(CheckpointError, match=r"pip install 'specs-eval\[train\]'"):
        HFBackend(BackendOptions()).load(checkpoint_of(adapter[0], checkpoint_folder("qwen2_5_vl")))


@pytest.mark.parametrize("kind", ["missing", "unexpected", "rank", "truncated", "absent", "config"])
def test_adapters_that_do_not_fit_are_refused(adapter: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(adapter[0], tmp_path / "bad"))
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    if kind == "missing":
        tensors.pop(min(tensors))
    if kind == "unexpected":
        tensors["base_model.model.other.lora_A.weight"] = torch.zeros(4, 4)
    if kind == "config":
        (folder / "adapter_config.json").write_text("{")
    save_file(tensors, weights)
    if kind == "rank":
        edit(folder, "adapter_config.json", r=8)
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    if kind == "absent":
        weights.unlink()
    with pytest.raises(CheckpointError) as caught:
        HFBackend(BackendOptions()).load(checkpoint_of(folder, checkpoint_folder("qwen2_5_vl")))
    assert str(folder) in str(caught.value)


def test_end_tokens_come_from_generation_config_and_tokenizer(copy: Path) -> None:
    edit(copy, "generation_config.json", eos_token_id=[77, 78], temperature=0.1, do_sample=True, repetition_penalty=9.0)
    backend = loaded_backend(copy)
    assert backend.engine.eos_set == {2, 77, 78}
    (copy / "generation_config.json").unlink()
    assert 2 in loaded_backend(copy).engine.eos_set


def test_the_processor_digest_sees_what_matters(copy: Path) -> None:
    before = loading.processor_digest(copy)
    edit(copy, "generation_config.json", temperature=0.3)
    (copy / "trainer_state.json").write_text("{}")
    assert loading.processor_digest(copy) == before
    edit(copy, "tokenizer_config.json", model_max_length=99)
    assert loading.processor_digest(copy) != before
