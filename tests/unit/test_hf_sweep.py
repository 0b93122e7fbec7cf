"""Many checkpoints through one engine: each answers as if it had been loaded alone, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import FakeTask, ListObserver
from hf_tiny_models import checkpoint_folder, checkpoint_of, loaded_backend, mixed_chats, requests_for, responses_by_key
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from specs_eval.backends.base import BackendOptions, Response
from specs_eval.backends.hf import HFBackend, backend, loading
from specs_eval.checkpoints import Checkpoint
from specs_eval.runner import RunRequest, evaluate
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore

SPEC = SamplingSpec(1.0, 6, seed=1)
FAMILY = "qwen2_5_vl"


def answers(engine: HFBackend) -> dict[Any, Response]:
    found = responses_by_key(engine, requests_for(mixed_chats()[:3], n_rollouts=2), SPEC)
    assert all(answer.error is None for answer in found.values())
    return found


def adapter(base: Path, folder: Path, seed: int, **more: Any) -> Path:
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_pretrained(base)
    config = LoraConfig(r=2, lora_alpha=8, init_lora_weights=False, **{"target_modules": ["q_proj", "up_proj"], **more})
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(1.05)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Full checkpoints, adapters on the same base (one with a whole layer of its own), and another architecture."""
    root = tmp_path_factory.mktemp("sweep")
    first, second = checkpoint_folder(FAMILY), checkpoint_folder(FAMILY, seed=1)
    return {
        "first": checkpoint_of(first),
        "second": checkpoint_of(second),
        "lora 1": checkpoint_of(adapter(first, root / "l1", 1), first),
        "lora 2": checkpoint_of(adapter(first, root / "l2", 2, target_modules=["v_proj"]), first),
        "lora with layer": checkpoint_of(adapter(first, root / "l3", 3, modules_to_save=["lm_head"]), first),
        "lora on second": checkpoint_of(adapter(second, root / "l4", 4), second),
        "other": checkpoint_of(checkpoint_folder("smolvlm")),
    }


@pytest.fixture(scope="module")
def alone(members: dict[str, Checkpoint]) -> dict[str, dict[Any, Response]]:
    """The answers of each when it is loaded into an engine of its own."""
    found = {}
    for name, checkpoint in members.items():
        fresh = HFBackend(BackendOptions())
        fresh.load(checkpoint)
        found[name] = answers(fresh)
    assert len({str(sorted(one.items())) for one in found.values()}) == len(found)
    return found


NAMES = ["first", "second", "lora 1", "lora 2", "lora with layer", "lora on second", "other"]


@settings(max_examples=8, deadline=None)
@given(order=st.lists(st.sampled_from(NAMES), min_size=2, max_size=6))
def test_in_any_order_each_answers_as_alone(
    members: dict[str, Checkpoint], alone: dict[str, dict[Any, Response]], order: list[str]
) -> None:
    engine = HFBackend(BackendOptions())
    for before, name in zip([None, *order], order, strict=False):
        model = engine.engine.model if before is not None else None
        engine.load(members[name])
        assert answers(engine) == alone[name]
        crosses = before is not None and (before == "other") != (name == "other")
        assert (engine.load_note is not None) == crosses
        assert before is None or crosses or engine.engine.model is model


def test_adapters_are_switched_by_restoring_what_the_last_one_changed(
    members: dict[str, Checkpoint], alone: dict[str, dict[Any, Response]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[frozenset[str] | None] = []
    real = backend.copy_in_place

    def copy(names: Any, folder: Path, only: Any = None) -> bool:
        copied.append(only)
        return real(names, folder, only)

    monkeypatch.setattr(backend, "copy_in_place", copy)
    engine = HFBackend(BackendOptions())
    for name in ("lora 1", "lora 2", "lora with layer", "first", "lora 1", "lora on second"):
        engine.load(members[name])
        assert answers(engine) == alone[name] and engine.load_note is None
    by_lora_1, by_lora_2, by_layer, by_nothing, other_base = copied
    assert by_lora_1 is not None and len(by_lora_1) == 6 and all("q_proj" in n or "up_proj" in n for n in by_lora_1)
    assert by_lora_2 is not None and {name.rsplit(".", 2)[1] for name in by_lora_2} == {"v_proj"}
    assert by_layer is not None and "lm_head.weight" in by_layer
    assert by_nothing is None and other_base is None


def test_a_base_that_was_overwritten_is_copied_whole(members: dict[str, Checkpoint], tmp_path: Path) -> None:
    import shutil

    base = Path(shutil.copytree(checkpoint_folder(FAMILY), tmp_path / "base"))
    lora = replace(members["lora 1"], base=base)
    engine = HFBackend(BackendOptions())
    engine.load(lora)
    shutil.copy2(checkpoint_folder(FAMILY, seed=1) / "model.safetensors", base / "model.safetensors")
    engine.load(lora)
    fresh = HFBackend(BackendOptions())
    fresh.load(lora)
    assert answers(engine) == answers(fresh)


@pytest.mark.parametrize("missed", ["model.embed_tokens.weight", "lm_head.weight"])
def test_weights_that_did_not_arrive_are_noticed(
    missed: str, alone: dict[str, dict[Any, Response]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backend.copy_in_place

    def copy(names: dict[str, torch.Tensor], folder: Path, only: Any = None) -> bool:
        kept = names[missed].clone()
        done = real(names, folder, only)
        names[missed].copy_(kept)
        return done

    monkeypatch.setattr(backend, "copy_in_place", copy)
    engine = loaded_backend(checkpoint_folder(FAMILY))
    engine.load(checkpoint_of(checkpoint_folder(FAMILY, seed=1)))
    assert engine.load_note is not None and f"did not take its weights ({missed})" in engine.load_note
    assert answers(engine) == alone["second"]


def test_a_layer_that_was_replaced_behind_our_back_is_noticed(alone: dict[str, dict[Any, Response]]) -> None:
    engine = loaded_backend(checkpoint_folder(FAMILY))
    model = engine.engine.model
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    engine.load(checkpoint_of(checkpoint_folder(FAMILY, seed=1)))
    assert engine.load_note is not None and engine.engine.model is not model
    assert answers(engine) == alone["second"]


def test_a_series_with_another_architecture_is_evaluated_and_said(tmp_path: Path) -> None:
    folders = [checkpoint_folder(FAMILY), checkpoint_folder("smolvlm"), checkpoint_folder(FAMILY, seed=1)]
    series = [
        Checkpoint(folder, f"s/checkpoint-{step}", "s", step, str(step) * 64) for step, folder in enumerate(folders)
    ]
    observer = ListObserver()
    done = evaluate(
        series, RunRequest([FakeTask(2)]), RunStore.create(tmp_path / "runs"), HFBackend(BackendOptions()), observer
    )
    assert done.problems == [] and len(done.runs) == 3
    notes = [line for line in observer.lines if "fresh engine" in line]
    assert len(notes) == 2 and "model_type qwen2_5_vl -> smolvlm" in notes[0] and notes[1].startswith("s/checkpoint-2:")


def test_where_two_configurations_part() -> None:
    one, other = '{"model_type": "a", "text": {"width": 8, "depth": 2}}', '{"model_type": "a", "text": {"width": 9}}'
    assert loading.difference(one, other) == "text.depth 2 -> unset, text.width 8 -> 9"
    assert loading.difference(one, one) == ""
