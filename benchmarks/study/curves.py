"""From the stores of the cells to one table: a row for each checkpoint of each setting and seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import METHODS, cell_folder
from scipy import stats
from settings import Setting

import specs_eval
from specs_eval.analysis.generalization import generalization_factor

KEYS = ["setting", "seed", "series", "step"]


def cell_curves(output: Path, setting: Setting, seed: int) -> pd.DataFrame:
    """Shares in [0, 1] of a cell's checkpoints: ID, OOD, GF of the scores, right answers, lock-in, each OOD format."""
    folder = cell_folder(output, setting, seed)
    rows = _checkpoints(specs_eval.load_runs(folder / "runs"))
    for method in METHODS:
        later = cell_folder(output, setting, seed, "rl") / method
        if (later / "done.json").is_file():
            frame = specs_eval.load_runs(later / "runs")
            rows += [{**row, "series": f"rl after {method}"} for row in _checkpoints(frame) if row["series"] == "rl"]
    return pd.DataFrame([{"setting": setting.name, "seed": seed, **row} for row in rows])


def _checkpoints(frame: pd.DataFrame) -> list[dict[str, Any]]:
    frame = frame.assign(part=[_format(category) for category in frame["category"]])
    is_id = frame["task"].str.endswith("formats_id")
    is_ood = frame["task"].str.endswith("formats_ood")
    rows = []
    for (series, step), group in frame.groupby(["series", "step"], dropna=False):
        known, changed = group[is_id.loc[group.index]], group[is_ood.loc[group.index]]
        if known.empty or changed.empty:
            continue
        one, other = known["score"].mean(), changed["score"].mean()
        rows.append(
            {
                "series": series,
                "step": 0 if pd.isna(step) else int(step),
                "id": one,
                "ood": other,
                "gf": generalization_factor(one, other),
                "id_accuracy": known["metric_accuracy"].mean(),
                "ood_accuracy": changed["metric_accuracy"].mean(),
                "ood_lock_in": changed["metric_lock_in"].mean(),
                "ood_nucleus": changed["nucleus"].mean(),
                **changed.groupby("part")["score"].mean().to_dict(),
            }
        )
    return rows


def _format(category: Any) -> str:
    facts = json.loads(category) if isinstance(category, str) else dict(category or {})
    return str(facts.get("format", ""))


def read_curves(output: Path, settings: list[Setting], seeds: tuple[int, ...]) -> pd.DataFrame:
    """The curves of all cells that have run."""
    cells = [(setting, seed) for setting in settings for seed in seeds]
    done = [cell for cell in cells if (cell_folder(output, *cell) / "done.json").is_file()]
    if not done:
        return pd.DataFrame(columns=KEYS)
    return pd.concat([cell_curves(output, *cell) for cell in done], ignore_index=True).round(4)


def per_seed(curves: pd.DataFrame) -> pd.DataFrame:
    """What one series comes to, a row for each setting, seed and series: last, best and mean GF; last ID and OOD."""
    trained = curves[curves["step"] > 0].sort_values("step")
    groups = trained.groupby(["setting", "seed", "series"])
    last = groups.last()
    return pd.DataFrame(
        {
            "last_id": last["id"],
            "last_ood": last["ood"],
            "last_gf": last["gf"],
            "best_gf": groups["gf"].max(),
            "mean_gf": groups["gf"].mean(),
        }
    ).reset_index()


def mean_interval(values: np.ndarray[Any, Any], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds with Student's t interval: what another seed would do, not what another question would."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half
