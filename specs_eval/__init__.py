"""specs-eval: do your VLM checkpoints generalize, and can they still explore?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specs_eval.analysis.checks.answer import check
    from specs_eval.frames import load_runs

__all__ = ["check", "load_runs"]

_PLACES = {"check": "specs_eval.analysis.checks.answer", "load_runs": "specs_eval.frames"}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import specs_eval` (and with it the command line) stays free of pandas and numpy.
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
