"""The study of docs/study.md: its recipes are valid, its formats are not evaluated ones, its arithmetic is over seeds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from specs_eval.tasks.formats.styles import FORMATS
from specs_eval.training.config import Recipe

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"
MODULES = ("bases", "cells", "curves", "settings", "tables")


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(STUDY))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_setting_makes_a_valid_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cells
    from settings import REPORTED, SETTINGS

    made: list[dict[str, Any]] = []

    def keep(folder: Path, recipe: Mapping[str, Any], seed: int) -> Path:
        made.append({**recipe, "output": str(folder), "seed": seed})
        return folder

    monkeypatch.setattr(cells, "train", keep)
    monkeypatch.setattr(cells, "base_path", lambda name, output: output / "bases" / name)
    for setting in SETTINGS:
        cells.run_cold_starts(tmp_path, setting, 3)
        recipe = Recipe.model_validate(made[-1])
        assert recipe.stages.cold_start is not None and recipe.stages.cold_start.methods == cells.METHODS
        steps, every = recipe.stages.cold_start.steps, recipe.evaluates_every("cold_start")
        assert every and steps // every >= 6 and not recipe.gates
        assert (recipe.stages.distill is None) == (not setting.own_pairs)
    cells.run_rl(tmp_path, SETTINGS[0], 3, "dpo")
    recipe = Recipe.model_validate(made[-1])
    assert recipe.stages.chosen == ("rl",) and recipe.model.path.endswith("/dpo/checkpoint-30")
    assert set(REPORTED) <= {setting.name for setting in SETTINGS}


def test_seeds_that_choose_are_not_reported() -> None:
    from settings import CHOOSING_SEEDS, REPORTED_SEEDS

    assert not set(CHOOSING_SEEDS) & set(REPORTED_SEEDS) and len(REPORTED_SEEDS) >= 5


def test_a_failed_cell_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cells

    codes = [1, 0]
    monkeypatch.setattr(
        cells.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, codes.pop(0))
    )
    with pytest.raises(SystemExit, match="code 1"):
        cells.train(tmp_path / "cell", {"stages": {}}, 0)
    assert cells.train(tmp_path / "cell", {"stages": {}}, 0) == tmp_path / "cell"
    assert cells.train(tmp_path / "cell", {"stages": {}}, 0) == tmp_path / "cell" and not codes


def test_practice_formats_of_the_study_are_evaluated_by_no_task() -> None:
    from bases import BASES, TrainedOn

    formats = BASES["formats"]
    assert isinstance(formats, TrainedOn) and len({one.name for one in formats.practice}) == len(formats.practice) == 55
    assert len({one.instruction for one in formats.practice}) == 55
    for one in formats.practice:
        response = one.render("the image shows a red circle.", "red")
        assert "red circle" in response
        assert not [name for name, style in FORMATS.items() if style.parse(response).ok], response


def test_intervals_are_over_seeds() -> None:
    from curves import mean_interval

    values = np.array([0.1, 0.4, 0.2, 0.35])
    mean, low, high = mean_interval(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(mean_interval(np.array([0.5]))[1])


def test_methods_are_compared_within_a_seed() -> None:
    from tables import differences_table, methods_table

    rows = [
        {"setting": "s", "seed": seed, "series": series, "step": step, "id": 0.9, "ood": level, "gf": level}
        for seed, shift in ((1, 0.0), (2, 0.2))
        for series, gain in (("sft", 0.0), ("dpo", 0.1))
        for step, level in ((0, 0.9), (5, 0.3 + shift + gain), (10, 0.2 + shift + gain))
    ]
    curves = pd.DataFrame(rows)
    assert "| s | dpo - sft | 2 | +10.0 [10.0, 10.0] | +10.0 [10.0, 10.0] |" in differences_table(curves)
    table = methods_table(curves, ("sft", "dpo"))
    assert "| s | dpo | 2 | 90.0 [90.0, 90.0] | 40.0" in table and "| 50.0 [" in table, "the base is no checkpoint"
