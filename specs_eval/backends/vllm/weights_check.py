"""Whether the weights that an engine holds are those of a checkpoint's files. Runs in the engine's process.

An engine keeps weights in its own way: joined (q, k and v in one tensor), split over devices, under other names. Rows survive
all of that, so rows are what is looked for: some of each tensor of the files, anywhere in the live model. That needs no
table of names, which every architecture and version has its own.

On the CPU vLLM packs matrices for its kernels. What is computed with then is read back by asking the kernel for unit
vectors, which gives the elements of the matrix, bit by bit. Exchanging weights forgets one such copy (vLLM 0.32, an output
layer that is tied to the embedding): `pack_again` makes it anew, and the comparison would notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from specs_eval.backends.hf.weights import weight_files

N_ROWS = 32
"""Rows of each tensor that are looked for, evenly spaced."""
N_ELEMENTS = 64
"""Leading elements of a row that are held against each other."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def found_in(model: Any, folder: str) -> dict[str, bool]:
    """Whether the rows of each tensor of a checkpoint are in a live model (of this worker's share of it).

    Args:
        model: the live one.
        folder: the checkpoint.

    Returns:
        Name in the files -> whether its rows were all found.

    Raises:
        CheckpointError: a file does not read.
    """
    sampled = dict(_sampled_rows(Path(folder)))
    kinds = {(rows.dim(), rows.shape[-1]) for rows in sampled.values()}
    known = _signatures_of(model, kinds)
    return {name: _is_known(rows, known) for name, rows in sampled.items()} | _copies_in_step(model)


def pack_again(model: Any) -> None:
    """Make the packed copies anew of matrices that are kept beside them."""
    for _, layer, weight in _packed_layers(model):
        if weight.numel():
            layer.quant_method.process_weights_after_loading(layer)


def _packed_layers(model: Any) -> Iterator[tuple[str, Any, Tensor]]:
    """Layers that compute with a packed copy of their weights: name, layer, weights (empty where only the copy is kept)."""
    for name, layer in model.named_modules():
        weight = getattr(layer, "weight", None)
        if hasattr(layer, "cpu_linear") and hasattr(layer, "quant_method") and isinstance(weight, Tensor):
            yield name, layer, weight


def _unpacked(layer: Any, weight: Tensor) -> Tensor | None:
    """Leading elements of the rows that a packed layer computes with, shape (n_rows, <= N_ELEMENTS); None: not to be had."""
    width = weight.shape[1] if weight.dim() == 2 else getattr(layer, "input_size_per_partition", None)
    if not isinstance(width, int) or not width:
        return None
    units = torch.eye(width, dtype=weight.dtype, device=weight.device)[:N_ELEMENTS]
    rows: Tensor = layer.cpu_linear(units, weight, None)
    return rows.t()


def _copies_in_step(model: Any) -> dict[str, bool]:
    """Of layers that keep their weights beside a packed copy: whether the two are the same."""
    found = {}
    for name, layer, weight in _packed_layers(model):
        rows = _unpacked(layer, weight) if weight.dim() == 2 else None
        if rows is not None:
            found[f"packed {name}"] = torch.equal(rows, weight.data[:, : rows.shape[1]])
    return found


_Kind = tuple[int, int]
"""Dimensions (1: a vector, 2: rows of a matrix) and leading elements that are looked at."""


def _signatures_of(model: Any, kinds: set[_Kind]) -> dict[tuple[_Kind, torch.dtype], Tensor]:
    """Signatures of everything in a live model that a row of each kind may be."""
    live: dict[tuple[_Kind, torch.dtype], list[Tensor]] = {}
    for _, parameter in model.named_parameters():
        tensor = parameter.data
        if tensor.dim() == 0 or not tensor.numel() or not tensor.is_floating_point():
            continue
        for kind in kinds:
            for rows in _row_forms(tensor, kind):
                live.setdefault((kind, tensor.dtype), []).append(_signatures(rows).cpu())
    for _, layer, weight in _packed_layers(model):
        matrix = None if weight.numel() else _unpacked(layer, weight)
        for kind in kinds:
            if matrix is not None and kind[0] == 2 and matrix.shape[1] >= kind[1]:
                live.setdefault((kind, matrix.dtype), []).append(_signatures(matrix[:, : kind[1]]).cpu())
    return {key: torch.cat(found) for key, found in live.items()}


def _row_forms(tensor: Tensor, kind: _Kind) -> Iterator[Tensor]:
    """A live tensor as rows, in each way in which a file may hold it."""
    dimensions, width = kind
    if dimensions == 1:
        if tensor.dim() == 1 and tensor.shape[0] >= width:
            # Biases that were joined begin anywhere.
            yield tensor.unfold(0, width, 1)
        return
    if tensor.dim() > 1 and tensor[0].numel() >= width:
        yield tensor.flatten(1)[:, :width]
    if tensor.dim() > 2 and tensor.shape[-1] >= width:
        # Experts of a mixture, stacked.
        yield tensor.flatten(0, -2)[:, :width]


def _is_known(rows: Tensor, known: dict[tuple[_Kind, torch.dtype], Tensor]) -> bool:
    wanted = (rows.dim(), rows.shape[-1])
    for (kind, dtype), signatures in known.items():
        if kind == wanted and bool(torch.isin(_signatures(rows.to(dtype)), signatures).all()):
            return True
    return False


def _sampled_rows(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                piece = file.get_slice(name)
                shape = piece.get_shape()
                if not shape or 0 in shape:
                    continue
                if len(shape) == 1:
                    yield name, file.get_tensor(name)[:N_ELEMENTS]
                    continue
                places = torch.linspace(0, shape[0] - 1, min(shape[0], N_ROWS), dtype=torch.float64).long().tolist()
                rows = torch.cat([piece[place : place + 1] for place in sorted(set(places))])
                yield name, rows.flatten(1)[:, :N_ELEMENTS]


def _signatures(rows: Tensor) -> Tensor:
    """One number a row, of the bits of its elements, shape (n_rows,)."""
    # The sign of a zero does not survive a kernel.
    rows = torch.where(rows == 0, torch.zeros_like(rows), rows)
    bits = rows.contiguous().view(_BITS[rows.element_size()]).long()
    # Odd multipliers of a fixed generator; sums wrap around, which is what is wanted.
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(1 << 62, (N_ELEMENTS,), generator=generator)[: rows.shape[-1]] * 2 + 1
    return (bits * factors.to(bits.device)).sum(dim=-1, keepdim=bits.dim() == 1)
