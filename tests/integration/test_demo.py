"""The demo on a recipe of the same shape with a few steps: the real model, every stage, every command that it types."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

import specs_eval
from specs_eval.cli import main
from specs_eval.training.recipe_file import find_recipe


def small_recipe(folder: Path) -> Path:
    """`tiny_cpu` with two checkpoints a series and a handful of questions."""
    recipe = yaml.safe_load(find_recipe("tiny_cpu").read_text())
    stages = recipe["stages"]
    stages["zero"] |= {"steps": 4, "evaluate_every": 2, "batch": 4, "per_device": 32}
    stages["cold_start"] |= {"steps": 2, "batch": 4, "per_device": 4}
    stages["rl"] |= {"steps": 4, "evaluate_every": 2, "batch": 4, "per_device": 32}
    recipe["questions"]["limit"] = 40
    recipe["evaluation"] |= {"every": 1, "rollouts": 2}
    recipe["evaluation"]["limit"] = {"formats_id": 4, "formats_ood": 12, "easyvqa": 4}
    del recipe["gates"]
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


def test_the_demo_goes_from_the_base_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("specs_eval.cli.demo.RECIPE", str(small_recipe(tmp_path)))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    for said in (
        "$ specs-eval train",
        "$ specs-eval gf",
        "dpo+sft minus sft",
        "pass@2",
        "RBF",
        "Wrong mode",
        "Now with",
    ):
        assert said in result.output
    frame = specs_eval.load_runs(tmp_path / "demo" / "runs")
    counts = frame[frame.task == "easyvqa_formats_ood"].groupby("series")["step"].nunique()
    assert counts.to_dict() == {"base": 0, "zero": 2, "sft": 2, "dpo": 2, "dpo+sft": 2, "rl": 2}
    page = (tmp_path / "report.html").read_text()
    assert "rewards/margins" in page and "questions_easyvqa" not in page
    again = CliRunner().invoke(main, ["demo"])
    assert again.exit_code == 0 and "zero step" not in again.output, "nothing is trained twice"


def test_the_recipe_of_the_demo_is_the_whole_story() -> None:
    recipe = yaml.safe_load(find_recipe("tiny_cpu").read_text())
    assert list(recipe["stages"]) == ["base", "zero", "distill", "cold_start", "rl"]
    cold = recipe["stages"]["cold_start"]
    assert cold["methods"] == ["sft", "dpo", "dpo+sft"] and cold["steps"] >= 6 * recipe["evaluation"]["every"]
