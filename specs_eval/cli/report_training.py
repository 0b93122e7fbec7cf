"""Training curves: what trainers logged beside their checkpoints, in the form of transformers' trainer_state.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from specs_eval.analysis.report.content import TrainingCurve
from specs_eval.checkpoints import step_of
from specs_eval.cli.report_runs import ShownRuns

STATE_FILE = "trainer_state.json"
_MAX_BYTES = 100_000_000
_MAX_QUANTITIES = 16
_KNOWN = (
    "loss",
    "reward",
    "rewards/format_reward/mean",
    "rewards/accuracy_reward/mean",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "entropy",
    "frac_reward_zero_std",
)
"""What is looked at first, in this order: the names that TRL logs under, with the names of our rewards."""
_WORDS = ("loss", "reward", "margin", "entropy", "kl", "length", "clip", "learning_rate", "grad_norm")
"""Words of further names, in the order in which they are shown."""
_NOT_SHOWN = frozenset({"step", "epoch", "total_flos"})


def training_curves(shown: ShownRuns, folders: Sequence[Path]) -> tuple[list[TrainingCurve], list[str]]:
    """What was logged for each series, from the last checkpoint folder that is still there and from named folders.

    Args:
        shown: the runs of the report; their manifests say where the checkpoints were.
        folders: of training runs: a state file, a folder with one, or one with ``checkpoint-N`` folders.

    Returns:
        Curves, the most telling quantities first, and notes on what could not be read.
    """
    notes: list[str] = []
    sources = {series: path for series, path in _beside_checkpoints(shown) if path is not None}
    for folder in folders:
        found = _state_file(folder)
        if found is None:
            notes.append(f"--training {folder.name}: no {STATE_FILE} there or in its checkpoint folders")
        else:
            sources[_series_of(found)] = found
    curves = [curve for series, path in sources.items() for curve in _read(series, path, notes)]
    quantities = sorted({curve.quantity for curve in curves}, key=_order)
    if len(quantities) > _MAX_QUANTITIES:
        notes.append(f"training: {_MAX_QUANTITIES} of {len(quantities)} logged quantities are shown")
    place = {quantity: number for number, quantity in enumerate(quantities[:_MAX_QUANTITIES])}
    kept = [curve for curve in curves if curve.quantity in place]
    return sorted(kept, key=lambda curve: place[curve.quantity]), notes


def _beside_checkpoints(shown: ShownRuns) -> Iterator[tuple[str, Path | None]]:
    """The state file of the last checkpoint of each series, where its folder is still there."""
    paths = {
        (run.manifest.checkpoint.series, run.manifest.checkpoint.step or 0): run.manifest.checkpoint.path
        for run in shown.runs
    }
    for series, step in sorted(paths):
        found = _state_file(Path(paths[series, step]))
        if found is not None:
            yield series, found


def _state_file(place: Path) -> Path | None:
    """The state file at a place: itself, in the folder, or in its last checkpoint folder."""
    try:
        if place.name == STATE_FILE and place.is_file():
            return place
        if (place / STATE_FILE).is_file():
            return place / STATE_FILE
        steps = [(step_of(child) or -1, child) for child in place.glob("*/") if (child / STATE_FILE).is_file()]
    except OSError:
        return None
    return max(steps)[1] / STATE_FILE if steps else None


def _series_of(path: Path) -> str:
    """The folder that the checkpoints are in gives the series its name."""
    folder = path.resolve().parent
    return folder.parent.name if step_of(folder) is not None else folder.name


def _read(series: str, path: Path, notes: list[str]) -> list[TrainingCurve]:
    source = "/".join(path.parts[-3:])
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES // 1_000_000} MB")
        state = json.loads(path.read_text(encoding="utf-8"))
        history = state["log_history"]
        if not isinstance(history, list):
            raise TypeError("log_history is no list")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        notes.append(f"training log {source} cannot be read: {error}")
        return []
    points: dict[str, dict[float, float]] = {}
    for entry in history:
        if isinstance(entry, dict) and _is_number(entry.get("step")):
            for name, value in entry.items():
                if name not in _NOT_SHOWN and _is_number(value):
                    points.setdefault(str(name), {})[float(entry["step"])] = float(value)
    return [
        TrainingCurve(series, name, tuple(sorted(at)), tuple(at[step] for step in sorted(at)), source)
        for name, at in points.items()
        if len(at) > 1
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _order(quantity: str) -> tuple[int, int, str]:
    """Known names first, then by word; what has none of the words last."""
    known = _KNOWN.index(quantity) if quantity in _KNOWN else len(_KNOWN)
    word = next((number for number, word in enumerate(_WORDS) if word in quantity), len(_WORDS))
    return known, word, quantity
