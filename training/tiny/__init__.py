"""The tiny VLM that ships as the embedded default: how it is built, trained and found.

Importing this package, and asking for the shipped folder, loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specs_eval.training.tiny.build import Recipe
    from specs_eval.training.tiny.scores import Scores, measure
    from specs_eval.training.tiny.series import METHODS, train_series

# Not `build`: that name is the module's; the function is `specs_eval.training.tiny.build.build`.
__all__ = ["METHODS", "Recipe", "Scores", "checkpoint_path", "measure", "train_series"]

_HOME = {
    "METHODS": "series",
    "Recipe": "build",
    "Scores": "scores",
    "measure": "scores",
    "train_series": "series",
}


def checkpoint_path() -> Path:
    """Folder of the shipped checkpoint: a hub-format Qwen2.5-VL with ``recipe.json``."""
    return Path(__file__).resolve().parent / "checkpoint"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
