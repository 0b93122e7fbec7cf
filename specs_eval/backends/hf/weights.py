"""Weights into a model: a whole checkpoint in place of another, and LoRA adapters merged into their base."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from specs_eval.backends.hf.foreign_errors import explained
from specs_eval.errors import CheckpointError

N_PROBED = 256
"""Elements of each tensor, evenly spaced, that are held against the file after a checkpoint was copied into a live model."""


def weight_files(folder: Path, stem: str = "model") -> list[Path]:
    """The safetensors files of a checkpoint.

    Raises:
        CheckpointError: there are none, or the index does not read.
    """
    index = folder / f"{stem}.safetensors.index.json"
    try:
        if index.exists():
            table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return [folder / Path(name).name for name in sorted(set(table.values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}: {error}") from error
    single = folder / f"{stem}.safetensors"
    if not single.is_file():
        raise CheckpointError(f"{folder} holds no {stem}.safetensors; other weight formats are refused")
    return [single]


def saved_names(model: Any) -> dict[str, Tensor] | None:
    """The model's own tensors under the names that its checkpoint files use.

    Returns:
        Name -> the live tensor, also for tied ones; None when names are not enough (weights that are stored split or
        merged), so that a checkpoint cannot be copied in.
    """
    from transformers.core_model_loading import revert_weight_conversion

    own = model.state_dict()
    saved: dict[str, Tensor] = revert_weight_conversion(model, dict(own))
    shapes = {(tensor.data_ptr(), tensor.shape) for tensor in own.values()}
    if any((tensor.data_ptr(), tensor.shape) not in shapes for tensor in saved.values()):
        return None
    return saved


def copy_in_place(names: dict[str, Tensor], folder: Path, only: AbstractSet[str] | None = None) -> bool:
    """Overwrite a live model with the weights of another checkpoint of the same architecture.

    Args:
        names: from `saved_names`.
        folder: the other checkpoint.
        only: names of the tensors to copy, where the others hold this checkpoint's already; None: all.

    Returns:
        Whether it was done. A checkpoint that names its weights in another way (saved by another version, or not
        whole) is left to the ordinary way of loading, and nothing is changed.

    Raises:
        CheckpointError: a file does not read or a shape is wrong; the model is then in pieces.
    """
    files = weight_files(folder)
    found: set[str] = set()
    for path in files:
        with explained(folder, f"{path.name} does not load"), safe_open(path, framework="pt") as file:
            found |= set(file.keys())
    filled = {names[name].data_ptr() for name in found & set(names)}
    if not found <= set(names) or any(tensor.data_ptr() not in filled for tensor in names.values()):
        return False
    for name, tensor in _tensors(folder, found if only is None else found & only):
        check_weights(folder, misshapen=[name] if tensor.shape != names[name].shape else [])
        names[name].copy_(tensor)
    return True


def differing(names: dict[str, Tensor], folder: Path) -> list[str]:
    """Names of the live tensors that do not hold what a checkpoint's files do, by a sample of the elements of each.

    Args:
        names: from `saved_names`, made after the weights were changed: a layer that was replaced has other tensors.
        folder: the checkpoint that should have been loaded.
    """
    different = []
    for name, tensor in _tensors(folder, set(names)):
        live = names[name]
        if live.shape != tensor.shape:
            different.append(name)
            continue
        places = torch.linspace(0, tensor.numel() - 1, min(tensor.numel(), N_PROBED), dtype=torch.float64).long()
        expected = tensor.flatten()[places].to(live.dtype)
        found = live.detach().flatten()[places.to(live.device)].cpu()
        if not torch.equal(found.nan_to_num(nan=0.5), expected.nan_to_num(nan=0.5)):
            different.append(name)
    return different


def _tensors(folder: Path, wanted: AbstractSet[str]) -> Iterator[tuple[str, Tensor]]:
    """Some of the tensors of a checkpoint, one at a time."""
    for path in weight_files(folder):
        with explained(folder, f"{path.name} does not load"), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name in wanted:
                    yield name, file.get_tensor(name)


def replaced(before: dict[str, Tensor], after: dict[str, Tensor]) -> frozenset[str]:
    """Names of the tensors that live elsewhere now, as those do that an adapter was merged into."""
    return frozenset(
        name for name, tensor in before.items() if name not in after or after[name].data_ptr() != tensor.data_ptr()
    )


def check_weights(
    folder: Path, *, missing: Iterable[str] = (), misshapen: Iterable[str] = (), unexpected: Iterable[str] = ()
) -> None:
    """Refuse a checkpoint whose weights are not exactly those of the model.

    Raises:
        CheckpointError: any of the three is not empty.
    """
    unfinished = "Was the save finished, and is this the model's own config.json?"
    untrained = (
        "What would answer is not what was trained; give the backend unexpected_weights=ignore to evaluate it anyway"
    )
    for names, problem, hint in (
        (missing, "lacks {} of the model's weights ({}), which would be random", unfinished),
        (misshapen, "holds {} weights of another shape than the model's ({})", unfinished),
        (unexpected, "holds {} weights that the model has no place for ({})", untrained),
    ):
        listed = sorted(names)
        if listed:
            shown = ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
            raise CheckpointError(f"{folder} {problem.format(len(listed), shown)}. {hint}")


def merge_adapter(model: Any, folder: Path) -> Any:
    """Merge a LoRA adapter into its base model (in the base's own precision).

    Raises:
        CheckpointError: PEFT is missing, or the adapter does not fit the model.
    """
    try:
        from peft import PeftConfig, PeftModel, set_peft_model_state_dict
    except ImportError as error:
        raise CheckpointError(
            f"{folder} is a LoRA adapter, which needs PEFT: pip install 'specs-eval[train]'"
        ) from error
    with explained(folder, "the adapter does not fit its base model"):
        adapted = PeftModel(model, PeftConfig.from_pretrained(folder))
        tensors: dict[str, Tensor] = {}
        for path in weight_files(folder, "adapter_model"):
            tensors |= load_file(path)
        result = set_peft_model_state_dict(adapted, tensors)
    missing = [name for name in result.missing_keys if ".default" in name]
    check_weights(folder, missing=missing, unexpected=result.unexpected_keys)
    with torch.no_grad(), explained(folder, "the adapter cannot be merged"):
        return adapted.merge_and_unload(safe_merge=True).eval()
