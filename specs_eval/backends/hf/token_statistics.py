"""How open the model's choice is at a position: entropy and nucleus size of its distribution at T = 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specs_eval.backends.base import NUCLEUS_MASS
from specs_eval.backends.hf.choosing import Distribution

TOP_COUNTS = (8, 256)
"""How many of the likeliest tokens are looked at before all are sorted. Most positions of a trained model need one or
a few, and selecting few is much cheaper than sorting a vocabulary."""

SMALL_VOCABULARY = 4096
"""Up to here a row is sorted as fast as its likeliest 256 tokens are found."""

PART_NUMBERS = 1 << 20
"""Numbers that are worked on at a time on the CPU, where fresh pages for larger copies cost more than the work on them."""


def entropy_nats(distribution: Distribution) -> Tensor:
    """Entropy in nats over the full vocabulary, shape (n_rows,), >= 0."""
    total = distribution.probs.sum(dim=-1)
    # H = log Z - sum p (logit - max): the shifted logits are <= 0, so nothing cancels badly.
    pairs = zip(_parts(distribution.probs), _parts(distribution.shifted), strict=True)
    mean = torch.cat([(probs * shifted).sum(dim=-1) for probs, shifted in pairs]) / total
    return (total.log() - mean).clamp_(min=0)


def nucleus_sizes(distribution: Distribution) -> Tensor:
    """Smallest number of tokens whose mass reaches `NUCLEUS_MASS`, shape (n_rows,), int64, >= 1.

    Reference: rollout branching factor of arXiv 2508.07534, at nucleus mass 0.95.
    """
    probs = distribution.probs
    n_vocabulary = probs.shape[-1]
    goals = probs.sum(dim=-1) * NUCLEUS_MASS
    sizes = torch.ones_like(goals, dtype=torch.long)
    # The likeliest token's probability is 1 on the scale of `probs`.
    open_rows = (goals > 1).nonzero().squeeze(1)
    for count in (*TOP_COUNTS, n_vocabulary):
        if not open_rows.numel():
            break
        if count > n_vocabulary or (count > TOP_COUNTS[0] and n_vocabulary <= SMALL_VOCABULARY):
            count = n_vocabulary
        parts = torch.split(open_rows, _part_rows(probs))
        found = torch.cat([_reaching(probs[rows], goals[rows], count) for rows in parts])
        sizes[open_rows] = found.clamp(max=n_vocabulary)
        open_rows = open_rows[found > count] if count < n_vocabulary else open_rows[:0]
    return sizes


def _part_rows(rows: Tensor) -> int:
    """How many rows are worked on at a time."""
    return max(1, PART_NUMBERS // rows.shape[-1]) if rows.device.type == "cpu" else max(1, rows.shape[0])


def _parts(rows: Tensor) -> Sequence[Tensor]:
    return torch.split(rows, _part_rows(rows))


def _reaching(probs: Tensor, goals: Tensor, count: int) -> Tensor:
    """How many of the `count` likeliest tokens of each row reach its goal; more than `count` where they do not."""
    masses = _largest(probs, count).cumsum(dim=-1)
    return (masses < goals[:, None]).sum(dim=-1) + 1


def rounded(value: float) -> float:
    """A mean or entropy as it is reported: six decimals, since the rest depends on what else was in the batch."""
    return round(float(value), 6)


def _largest(probs: Tensor, count: int) -> Tensor:
    """The `count` largest of each row, descending."""
    if count < probs.shape[-1]:
        return probs.topk(count, dim=-1).values
    if probs.device.type == "cpu":
        # NumPy sorts rows of a few hundred numbers ten times as fast.
        return torch.from_numpy(np.sort(probs.numpy(), axis=-1)).flip(-1)
    return probs.sort(dim=-1, descending=True).values
