"""Running one cell of the study, a setting with a seed: an ordinary recipe through the ordinary command."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from bases import base_path
from settings import EVERY, REFERENCE, STEPS, Setting

from specs_eval.training.recipe_file import find_recipe

METHODS = ("sft", "dpo", "dpo+sft")


def cell_folder(output: Path, setting: Setting, seed: int, kind: str = "cold") -> Path:
    """Where a cell lives."""
    return output / kind / setting.name / f"seed-{seed}"


def run_cold_starts(output: Path, setting: Setting, seed: int, questions: int = 40) -> Path:
    """The three cold starts under a setting and a seed, each evaluated every few steps. Runs once; continues if killed."""
    folder = cell_folder(output, setting, seed)
    recipe = shipped_recipe()
    recipe["stages"].pop("rl")
    recipe["model"]["path"] = str(base_path(setting.base, output))
    recipe["stages"]["cold_start"]["steps"] = STEPS
    for key, value in setting.changes.items():
        put(recipe, key, value)
    if not setting.own_pairs:
        run_cold_starts(output, REFERENCE, seed, questions)
        recipe["stages"] = {"base": {}, "cold_start": recipe["stages"]["cold_start"]}
        recipe["stages"]["cold_start"]["data"] = str(cell_folder(output, REFERENCE, seed) / "pairs")
    evaluate(recipe, questions, EVERY)
    return train(folder, recipe, seed)


def run_rl(output: Path, setting: Setting, seed: int, method: str, questions: int = 40) -> Path:
    """GRPO from the last checkpoint of a method's cold start: what each start leaves to RL."""
    start = run_cold_starts(output, setting, seed, questions) / method / f"checkpoint-{STEPS}"
    recipe = shipped_recipe()
    recipe["stages"] = {"rl": {**recipe["stages"]["rl"], "start": "base"}}
    recipe["model"]["path"] = str(start)
    evaluate(recipe, questions, 8)
    recipe["stages"]["rl"]["evaluate_every"] = 8
    return train(cell_folder(output, setting, seed, "rl") / method, recipe, seed)


def shipped_recipe() -> dict[str, Any]:
    """The recipe that ships, without gates: whole curves are wanted."""
    recipe: dict[str, Any] = yaml.safe_load(find_recipe("tiny_cpu").read_text(encoding="utf-8"))
    recipe.pop("gates", None)
    return recipe


def put(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its dotted key."""
    *path, last = key.split(".")
    for part in path:
        recipe = recipe.setdefault(part, {})
    recipe[last] = value


def evaluate(recipe: dict[str, Any], questions: int, every: int) -> None:
    """The same questions and seed of evaluation in every cell."""
    recipe["evaluation"].update(
        tasks=[],
        every=every,
        rollouts=2,
        limit={"formats_id": questions, "formats_ood": 6 * questions},
    )


def train(folder: Path, recipe: Mapping[str, Any], seed: int) -> Path:
    """``specs-eval train`` on the recipe, unless it has ended before.

    Raises:
        SystemExit: it failed; its output is in ``log.txt`` of the folder.
    """
    done = folder / "done.json"
    if done.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {**copy.deepcopy(dict(recipe)), "output": str(folder), "seed": seed}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "specs_eval", "train", str(file), "--no-report"]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        sys.exit(f"{folder}: training ended with code {code}; see {folder / 'log.txt'}")
    done.write_text(json.dumps({"seed": seed}), encoding="utf-8")
    return folder
