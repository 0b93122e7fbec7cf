"""Finding, ordering, checking and identifying checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes import write_checkpoint

from specs_eval.checkpoints import resolve_checkpoints
from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import Fingerprinter


def resolve(*arguments: str | Path):  # type: ignore[no-untyped-def]
    return resolve_checkpoints([str(argument) for argument in arguments], Fingerprinter())


def series(tmp_path: Path, *steps: int) -> Path:
    for step in steps:
        write_checkpoint(tmp_path / "dpo" / f"checkpoint-{step}", step.to_bytes(4, "little"))
    return tmp_path / "dpo"


def test_a_folder_of_steps_is_a_series_in_step_order(tmp_path: Path) -> None:
    found = resolve(series(tmp_path, 1000, 200, 90)).checkpoints
    assert [c.step for c in found] == [90, 200, 1000]
    assert {c.series for c in found} == {"dpo"} and found[0].name == "dpo/checkpoint-90"
    assert len({c.fingerprint for c in found}) == 3


def test_a_glob_is_ordered_by_step_and_not_by_text(tmp_path: Path) -> None:
    folder = series(tmp_path, 1000, 200)
    assert [c.step for c in resolve(f"{folder}/checkpoint-*").checkpoints] == [200, 1000]


def test_a_series_can_be_named_and_nothing_comes_twice(tmp_path: Path) -> None:
    folder = series(tmp_path, 1, 2)
    found = resolve(f"mine={folder}", folder / "checkpoint-2").checkpoints
    assert [c.name for c in found] == ["mine/checkpoint-1", "mine/checkpoint-2"]


def test_a_training_folder_that_holds_a_model_itself_says_so(tmp_path: Path) -> None:
    folder = write_checkpoint(series(tmp_path, 1))
    resolution = resolve(folder)
    assert len(resolution.checkpoints) == 1 and "add --ckpt" in resolution.notes[0]
    assert resolve(f"{folder}/.").checkpoints[0].name == "dpo"


def test_a_broken_checkpoint_of_a_series_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    folder = series(tmp_path, 1, 2)
    (folder / "checkpoint-2" / "model.safetensors").unlink()
    resolution = resolve(folder)
    assert [c.step for c in resolution.checkpoints] == [1]
    assert "was the save finished" in resolution.problems[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot read"),
        (lambda f: (f / "config.json").write_text("[]"), "names no model_type"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-3]), "interrupted"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "cut off"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x04" + b"\0" * 7 + b"nope"), "not a safetensors file"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickle"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "no processor"),
    ],
)
def test_half_written_checkpoints_are_refused_with_the_reason(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    folder = write_checkpoint(tmp_path / "model")
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        resolve(folder)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CheckpointError, match="lacks 1 of 2 weight files: model-00002"):
        resolve(folder)
    names["b"] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        resolve(folder)


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nowhere*", "matches no folder"), ("./nowhere", "no such folder"), ("name=", "names no checkpoint")],
)
def test_arguments_that_match_nothing(
    argument: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        resolve(argument)


def test_a_slip_below_an_existing_folder_is_not_taken_for_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such folder; dpo has checkpoint-1"):
        resolve("dpo/checkpoint-2")


def test_a_hub_id_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="the hub did not give it"):
        resolve("no-such-org-xyz/no-such-model")


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    cache = tmp_path / "cache.json"
    first = Fingerprinter(cache)
    before = first.digest(folder)
    first.save()
    assert Fingerprinter(cache).digest(folder) == before
    (folder / "trainer_state.json").write_text("{}")
    assert Fingerprinter(cache).digest(folder) == before, "trainer state does not reach the output"
    shutil.copytree(folder, tmp_path / "copy")
    assert Fingerprinter().digest(tmp_path / "copy") == before
    write_checkpoint(folder, b"\1" * 8)
    assert Fingerprinter(cache).digest(folder) != before, "overwritten weights are another checkpoint"


def test_an_adapter_has_the_fingerprint_of_both(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base")
    adapter = write_checkpoint(tmp_path / "lora" / "checkpoint-5")
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    (adapter / "config.json").unlink()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (found,) = resolve(adapter).checkpoints
    assert found.base == base and found.step == 5
    write_checkpoint(base, b"\1" * 8)
    assert resolve(adapter).checkpoints[0].fingerprint != found.fingerprint
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        resolve(adapter)


def test_a_checkpoint_that_changes_while_loading_is_noticed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (found,) = resolve(folder).checkpoints
    found.assert_unchanged()
    write_checkpoint(folder, b"\1" * 8)
    with pytest.raises(CheckpointError, match="changed while"):
        found.assert_unchanged()
