"""A series trained from a base: complete checkpoints or none, resumable, reproducible, honest about its settings."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.training.tiny import METHODS, series, train_series
from specs_eval.training.tiny.architecture import build_model, build_processor, save_checkpoint
from specs_eval.training.tiny.batches import train_samples
from specs_eval.training.tiny.build import weights_digest
from specs_eval.training.tiny.corpus import Corpus
from specs_eval.training.tiny.folders import complete_or_absent

SHORT: dict[str, Any] = {"steps": 3, "save_every": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("base")
    processor = build_processor(["Is there a teal circle?", "<think>the image shows a teal circle.</think>"])
    save_checkpoint(build_model(processor.tokenizer, seed=0), processor, folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _small_split() -> object:
    """A few train questions stand for all: loading 4,000 images is not what is tested here."""
    few = train_samples()[:400]
    patch = pytest.MonkeyPatch()
    patch.setattr(series, "train_samples", lambda: few)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return train_series(base, tmp_path_factory.mktemp("series") / "sft", **SHORT)


def test_each_checkpoint_is_complete(base: Path, trained: list[Path]) -> None:
    assert [folder.name for folder in trained] == ["checkpoint-2", "checkpoint-3"]
    digests = {weights_digest(base)}
    for folder in trained:
        model = AutoModelForImageTextToText.from_pretrained(folder)
        assert model.dtype == torch.bfloat16
        assert AutoProcessor.from_pretrained(folder).tokenizer.padding_side == "left"
        assert {file.name for file in folder.iterdir()} == {
            *(file.name for file in base.iterdir()),
            "trainer_state.json",
        }
        digests.add(weights_digest(folder))
    assert len(digests) == 3, "every checkpoint differs from the others and from the base"


def test_trainer_state_logs_the_loss_of_every_step(trained: list[Path]) -> None:
    state = json.loads((trained[-1] / "trainer_state.json").read_text())
    assert (state["global_step"], state["max_steps"]) == (3, 3)
    assert [entry["step"] for entry in state["log_history"]] == [1, 2, 3]
    assert all(entry["loss"] > 0 and entry["learning_rate"] > 0 for entry in state["log_history"])


def test_a_finished_series_is_returned_without_training(
    base: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "load_checkpoint", None)
    assert train_series(base, trained[0].parent, **SHORT) == trained


def test_an_interrupted_series_is_completed_and_equals_one_that_was_not(
    base: Path, trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "again"

    def fail_late(model: Any, processor: Any, folder: Path) -> None:
        save_checkpoint(model, processor, folder)
        if "checkpoint-3" in folder.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(series, "save_checkpoint", fail_late)
    with pytest.raises(KeyboardInterrupt):
        train_series(base, output, **SHORT)
    assert sorted(entry.name for entry in output.iterdir()) == ["checkpoint-2", "series.json"]
    monkeypatch.undo()
    few = train_samples()[:400]
    monkeypatch.setattr(series, "train_samples", lambda: few)
    kept = (output / "checkpoint-2").stat().st_mtime_ns
    folders = train_series(base, output, **SHORT)
    assert (output / "checkpoint-2").stat().st_mtime_ns == kept
    assert [weights_digest(folder) for folder in folders] == [weights_digest(folder) for folder in trained]


def test_methods_and_seeds_train_differently(base: Path, trained: list[Path], tmp_path: Path) -> None:
    mixed = train_series(base, tmp_path / "mixed", method="mixed", **SHORT)
    seeded = train_series(base, tmp_path / "seeded", seed=1, **SHORT)
    assert len({weights_digest(folders[-1]) for folders in (trained, mixed, seeded)}) == 3


def test_what_each_method_trains_on() -> None:
    assert set(METHODS) == {"sft", "mixed"}
    corpus, rng = Corpus(train_samples()[:400]), random.Random(0)
    asked = {
        method: [example.asked for example in (series._drawing(corpus, method)(rng) for _ in range(400))]
        for method in METHODS
    }
    assert set(asked["sft"]) == {"think_answer"}
    practice = [name for name in asked["mixed"] if name != "think_answer"]
    assert 0.4 < len(practice) / 400 < 0.6
    assert all(name.startswith("practice_") for name in practice), "no evaluated OOD instruction is trained on"


def test_other_settings_need_another_folder(base: Path, trained: list[Path]) -> None:
    with pytest.raises(ConfigError, match="other settings"):
        train_series(base, trained[0].parent, **{**SHORT, "steps": 5})


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"save_every": 0}, {"batch_size": 0}, {"learning_rate": float("nan")}, {"method": "dpo"}],
)
def test_settings_out_of_range_are_refused(base: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        train_series(base, tmp_path / "series", **{**SHORT, **wrong})
    assert not (tmp_path / "series").exists()


def test_bad_bases_and_folders_are_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        train_series(tmp_path / "nowhere", tmp_path / "series", **SHORT)
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in base.iterdir():
        (torn / file.name).write_bytes(file.read_bytes()[: 1000 if file.suffix == ".safetensors" else None])
    with pytest.raises(CheckpointError, match="torn"):
        train_series(torn, tmp_path / "series", **SHORT)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        train_series(base, full, **SHORT)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "late"
    with pytest.raises(RuntimeError), complete_or_absent(folder) as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert list(folder.parent.iterdir()) == []
    with complete_or_absent(folder) as scratch:
        (scratch / "all").write_text("x")
        assert not folder.exists()
    assert [file.name for file in folder.iterdir()] == ["all"]
    with pytest.raises(ConfigError, match="exists already"), complete_or_absent(folder):
        pass
