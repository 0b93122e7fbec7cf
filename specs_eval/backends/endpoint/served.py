"""Which of the models that an endpoint serves is meant, and whether it is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs_eval.checkpoints import SERVED, Checkpoint
from specs_eval.errors import CheckpointError

MAX_SHOWN = 8

_VERSION = re.compile(r"|-\d{4}(-\d\d-\d\d)?(-preview)?|-\d{8}|-latest|[:@][\w.-]{1,64}")
"""What may follow a name: nothing, a date, a tag. A size, as in ``-mini`` and ``-7b``, makes it another model."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One entry of ``GET /models``."""

    name: str
    root: str | None = None
    """Where the server took it from; vLLM says the folder or hub id, of an adapter its folder."""


def models_of(facts: Any) -> list[ServedModel]:
    """Read the list of models.

    Raises:
        ValueError: it is none.
    """
    data = facts.get("data") if isinstance(facts, dict) else None
    found = []
    for item in _listed(data):
        name = item.get("id") if isinstance(item, dict) else None
        if isinstance(name, str) and name:
            root = item.get("root")
            found.append(ServedModel(name, root if isinstance(root, str) and root else None))
    return found


def _listed(data: object) -> list[Any]:
    if isinstance(data, list):
        return data
    raise ValueError("the reply is no list of models")


def served_name(checkpoint: Checkpoint, models: Sequence[ServedModel], chosen: str | None, where: str) -> str:
    """The name to ask for.

    Args:
        checkpoint: a model of an endpoint, or a folder here that the endpoint serves too.
        models: what the endpoint lists.
        chosen: the name that the user says it serves the folder by.
        where: the endpoint's address, for messages.

    Raises:
        CheckpointError: the endpoint does not list it; the message says what it does.
    """
    wanted = checkpoint.served_name or chosen
    names = [model.name for model in models]
    if wanted is not None:
        if wanted in names:
            return wanted
        raise CheckpointError(f"{where} does not serve {wanted!r}; it serves {_shown(models)}")
    for model in models:
        if any(text is not None and _same_folder(text, checkpoint.path) for text in (model.root, model.name)):
            return model.name
    if checkpoint.name in names:
        return checkpoint.name
    raise CheckpointError(
        f"{where} does not say that it serves {checkpoint.path}; it serves {_shown(models)}. Start it with that folder, "
        f"or, if it does serve it, name it with --backend-arg model=NAME; --ckpt {SERVED}NAME evaluates a model by name"
    )


def is_that_model(reported: str, name: str, root: str | None = None) -> bool:
    """Whether the model that a reply reports is the one asked for: its name, or a dated version or tag of it."""
    known = [one for one in (name, name.rsplit("/", 1)[-1], root) if one]
    return any(reported.startswith(one) and _VERSION.fullmatch(reported[len(one) :]) for one in known)


def _same_folder(text: str, folder: Path) -> bool:
    try:
        return Path(text).is_dir() and Path(text).resolve() == folder.resolve()
    except (OSError, ValueError):
        return False


def _shown(models: Sequence[ServedModel]) -> str:
    shown = [
        repr(model.name[:100]) + (f" (from {model.root[:200]!r})" if model.root and model.root != model.name else "")
        for model in models[:MAX_SHOWN]
    ]
    more = f" and {len(models) - MAX_SHOWN} more" if len(models) > MAX_SHOWN else ""
    return ", ".join(shown) + more if shown else "no model"
