"""What transformers, PEFT, safetensors and friends raise when a checkpoint or an input is bad.

They have no common base class; this is the list that we turn into our own errors. Anything else is a bug and passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from specs_eval.errors import CheckpointError

INPUT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    jinja2.TemplateError,
)
"""From a processor that was given one sample."""

MODEL_ERRORS = (IndexError, RuntimeError, ValueError)
"""From a model that was given a batch, one sample of which it may not like."""

FATAL_ERRORS = (torch.AcceleratorError,)
"""From a device that will not compute anything any more."""

LOAD_ERRORS = (*INPUT_ERRORS, ImportError, SafetensorError, StrictDataclassError)
"""From loading a model, adapter or processor."""


@contextmanager
def explained(folder: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong inside into a sentence about a checkpoint.

    Raises:
        CheckpointError: with the folder and `what` did not work.
    """
    try:
        yield
    except LOAD_ERRORS as error:
        raise CheckpointError(f"{folder}: {what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Type and first line of an error's text, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out (on the CPU it has no type of its own)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
