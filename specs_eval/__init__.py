"""specs-eval: do your VLM checkpoints generalize, and can they still explore?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specs_eval.frames import load_runs

__all__ = ["load_runs"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import specs_eval` (and with it the command line) stays free of pandas.
    if name == "load_runs":
        from specs_eval.frames import load_runs

        return load_runs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
