"""The shipped checkpoint is what its recipe says; building makes such a folder; the command line reaches all of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import AutoModelForImageTextToText, AutoProcessor

from specs_eval.cli.tiny import tiny
from specs_eval.errors import ConfigError
from specs_eval.tasks.easyvqa.task import EasyVQA
from specs_eval.tasks.formats.styles import FORMATS, OOD_FORMATS
from specs_eval.training.tiny import METHODS, checkpoint_path
from specs_eval.training.tiny import build as build_module
from specs_eval.training.tiny.architecture import build_tokenizer
from specs_eval.training.tiny.batches import train_samples
from specs_eval.training.tiny.build import Recipe, build, weights_digest
from specs_eval.training.tiny.corpus import AskedFormat, all_texts
from specs_eval.training.tiny.practice import PRACTICE_FORMATS
from specs_eval.training.tiny.scores import measure, respond

SHIPPED = checkpoint_path()
RECIPE: dict[str, Any] = json.loads((SHIPPED / "recipe.json").read_text())


def test_folder_is_complete_and_small() -> None:
    names = {file.name for file in SHIPPED.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "recipe.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    } == names
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 2_000_000


def test_weights_are_the_recorded_ones_and_the_recipe_is_the_default() -> None:
    assert weights_digest(SHIPPED) == RECIPE["sha256"]
    assert RECIPE["recipe"] == json.loads(json.dumps(asdict(Recipe()))), "recipe changed: build and ship it again"
    assert {"torch", "transformers", "tokenizers", "easy-vqa", "python"} == set(RECIPE["versions"])


def test_recorded_scores_leave_room_to_learn_and_to_lose() -> None:
    measured = RECIPE["measured"]
    assert measured["direct_greedy"]["value"] > 0.8
    assert 0.3 < measured["id_format"]["value"] < 0.55
    assert 0.25 < measured["ood_format"]["value"] < 0.45
    assert all(0.2 < share["value"] < 0.5 for share in measured["by_format"].values())
    assert min(measured["id_accuracy"]["value"], measured["ood_accuracy"]["value"]) > 0.65


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    import torch

    model = AutoModelForImageTextToText.from_pretrained(SHIPPED, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(SHIPPED)


def test_answers_test_questions_well_above_chance(loaded: tuple[Any, Any]) -> None:
    task = EasyVQA("test")
    samples = task.samples()[:40]
    responses = respond(*loaded, samples, task.max_new_tokens)
    right = sum(task.score(sample, text).score or 0 for sample, text in zip(samples, responses, strict=True))
    # A coin on yes/no questions (three quarters of them) and the best guess on the others get under 0.5; a share of
    # 0.85 falls below 27 of 40 with a chance under 1 %.
    assert right >= 27


def test_sampled_responses_follow_their_seed(loaded: tuple[Any, Any]) -> None:
    samples = EasyVQA("test").samples()[:8]
    assert respond(*loaded, samples, 8, seed=1) == respond(*loaded, samples, 8, seed=1)


def test_every_ideal_response_fits_the_token_budget(loaded: tuple[Any, Any]) -> None:
    tokenizer, task = loaded[1].tokenizer, EasyVQA("test")
    budget = task.max_new_tokens + task.reasoning_tokens
    styles: tuple[AskedFormat, ...] = (*FORMATS.values(), *PRACTICE_FORMATS)
    for style in styles:
        ids = tokenizer(style.render("the image shows a yellow rectangle.", "rectangle"))["input_ids"]
        assert len(ids) + 1 <= budget, style.name


def test_asking_for_the_folder_imports_no_torch() -> None:
    code = (
        "import sys, specs_eval.training.tiny as tiny; tiny.checkpoint_path(); "
        "import specs_eval.cli.tiny; "
        "sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0


def test_unknown_names_are_attribute_errors() -> None:
    import specs_eval.training.tiny as package

    assert package.Recipe is Recipe
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few questions stand for the splits; the loop, the files and the record are the real ones."""
    few = train_samples()[:400]
    monkeypatch.setattr(build_module, "train_samples", lambda: few)
    monkeypatch.setattr(build_module, "measure", partial(measure, n_direct=4))


@pytest.mark.usefixtures("_short")
def test_build_is_reproducible_and_writes_its_recipe(tmp_path: Path) -> None:
    records = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        folder = build(tmp_path / name, seed=seed, steps=2, vision_steps=2, n_questions=1)
        records.append(json.loads((folder / "recipe.json").read_text()))
        assert {file.name for file in folder.iterdir()} == {file.name for file in SHIPPED.iterdir()}
        assert records[-1]["sha256"] == weights_digest(folder)
    first, same, other = records
    assert first["sha256"] == same["sha256"] != other["sha256"]
    assert (first["recipe"]["seed"], first["recipe"]["language"]["steps"]) == (5, 2)
    assert first["recipe"]["vision"]["steps"] == 2
    assert first["measured"] == same["measured"]
    assert first["measured"]["ood_format"]["n"] == len(OOD_FORMATS)


def test_the_shipped_tokenizer_is_the_one_that_the_corpus_makes(loaded: tuple[Any, Any]) -> None:
    assert build_tokenizer(all_texts(train_samples())).get_vocab() == loaded[1].tokenizer.get_vocab()


def test_build_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        build(tmp_path)


def test_command_line() -> None:
    result = CliRunner().invoke(tiny, ["path"])
    assert (result.exit_code, result.output.strip()) == (0, str(SHIPPED))
    assert set(tiny.commands) == {"path", "build", "series"}
    method = next(option for option in tiny.commands["series"].params if option.name == "method")
    assert list(method.type.choices) == list(METHODS)  # type: ignore[attr-defined]


def test_command_line_series(tmp_path: Path) -> None:
    arguments = ["series", str(tmp_path / "s"), "--method", "mixed", "--steps", "1", "--save-every", "1"]
    result = CliRunner().invoke(tiny, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "s" / "checkpoint-1")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_rebuild_reaches_the_recorded_scores(tmp_path: Path) -> None:
    """Within four standard deviations of the difference of two shares of n, plus 0.05.

    The first part is chance of sampling; the second is room for weights that differ because another processor or
    library version sums in another order, which a whole training run amplifies.
    """
    build(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "recipe.json").read_text())
    for name, recorded in RECIPE["measured"].items():
        if not isinstance(recorded, dict) or "n" not in recorded:
            continue
        share, n = recorded["value"], recorded["n"]
        tolerance = 4 * math.sqrt(2 * share * (1 - share) / n) + 0.05
        assert again["measured"][name]["value"] == pytest.approx(share, abs=tolerance), name
