"""Drawing a token from logits with one uniform number, and telling when rounding could have changed the draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specs_eval.sampling import SamplingSpec

FLOOR = -80.0
"""Logits further below the largest are lifted to here: e^-80 is nothing, and denormal numbers are slow."""

LOGIT_NOISE = 1e-5
"""Bound on how far float32 rounding moves a logit when the batch around it changes, as a share of the largest
absolute logit of the row. Measured on the CPU, against passes over single sequences, on random models of 2 to 28 layers
(width 48 to 1024): single logits moved by up to 5.6e-6, but what decides a draw, cumulative probabilities and gaps
between the likeliest tokens, never by more than moves of 2e-6 could have done. `benchmarks/bench_invariance.py` measures
both."""

BLOCK = 1024
"""Vocabularies beyond this are searched in two levels: blocks first, then inside the block."""


class Distribution:
    """The model's distributions at T = 1, unnormalised, for a batch of logit rows of shape (n_rows, n_vocabulary)."""

    __slots__ = ("finite", "probs", "scale", "shifted")

    def __init__(self, logits: Tensor) -> None:
        # Two passes: on the CPU they take a sixth of the time of one aminmax.
        low, high = logits.amin(dim=-1, keepdim=True), logits.amax(dim=-1, keepdim=True)
        self.finite = high.squeeze(-1).isfinite()
        """Rows without NaN and +inf."""
        self.scale = torch.maximum(high.abs(), low.abs()).squeeze(-1).clamp_(max=100.0)
        """Largest absolute logit of each row (a logit of -inf does not count as large)."""
        self.shifted = (logits - high).clamp_(min=FLOOR)
        """Logits minus their row's largest."""
        self.probs = self.shifted.exp()
        """Probabilities relative to the likeliest token's."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One token a row."""

    tokens: Tensor
    """Shape (n_rows,)."""
    doubtful: Tensor
    """Rows whose token rounding could change (or whose logits are not finite), shape (n_rows,), bool."""


def choose(distribution: Distribution, uniforms: Tensor | None, spec: SamplingSpec, noise: float) -> Choice:
    """Draw one token a row.

    At temperature 0 the likeliest token, the first of equals. Otherwise the first token, in vocabulary order, whose
    cumulative probability exceeds the row's uniform number, summed in float64, after temperature and top-p.

    Args:
        distribution: of n_rows rows.
        uniforms: numbers in [0, 1), float64, shape (n_rows,); None at temperature 0.
        spec: temperature and top_p.
        noise: bound on the relative error of a logit; 0: only rows that are not finite are doubtful.
    """
    if spec.temperature == 0 or uniforms is None:
        tokens = distribution.shifted.argmax(dim=-1)
        doubtful = ~distribution.finite
        if noise:
            close = distribution.shifted > -2.0 * noise * distribution.scale[:, None]
            doubtful |= close.sum(dim=-1) > 1
        return Choice(tokens, doubtful)
    # A cumulative probability c moves by at most 2 * e * c * (1 - c) when every logit moves by at most e.
    slack = (2.0 * noise / spec.temperature) * distribution.scale.double()
    probs, doubtful = distribution.probs, ~distribution.finite
    if spec.temperature != 1:
        probs = (distribution.shifted / spec.temperature).clamp_(min=FLOOR).exp_()
    if spec.top_p < 1:
        probs, close = _nucleus(probs, spec.top_p, slack)
        doubtful |= close
    tokens, below, above = _invert(probs, uniforms)
    if noise:
        doubtful |= (below > 0) & (uniforms - below < slack * below * (1 - below) + 1e-12)
        doubtful |= (above < 1) & (above - uniforms < slack * above * (1 - above) + 1e-12)
    return Choice(tokens, doubtful)


def _invert(probs: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, and the cumulative probabilities just below and at each."""
    n_rows, n_vocabulary = probs.shape
    before = probs.new_zeros((n_rows, 1), dtype=torch.float64)
    block = None
    if n_vocabulary > BLOCK:
        blocks = torch.nn.functional.pad(probs, (0, -n_vocabulary % BLOCK)).view(n_rows, -1, BLOCK)
        sums = blocks.sum(dim=-1, dtype=torch.float64)
        ends = sums.cumsum(dim=-1)
        total = ends[:, -1:]
        block = torch.searchsorted(ends, uniforms[:, None] * total, right=True).clamp_(max=ends.shape[-1] - 1)
        before = ends.gather(1, block) - sums.gather(1, block)
        probs = blocks[torch.arange(n_rows, device=probs.device), block.squeeze(1)]
    ends = probs.cumsum(dim=-1, dtype=torch.float64)
    if block is None:
        total = ends[:, -1:]
    inside = torch.searchsorted(ends, uniforms[:, None] * total - before, right=True)
    inside.clamp_(max=ends.shape[-1] - 1)
    above = before + ends.gather(1, inside)
    below = above - probs.gather(1, inside)
    tokens = inside if block is None else (block * BLOCK + inside).clamp_(max=n_vocabulary - 1)
    return tokens.squeeze(1), (below / total).squeeze(1), (above / total).squeeze(1)


def _nucleus(probs: Tensor, top_p: float, slack: Tensor) -> tuple[Tensor, Tensor]:
    """Zero all but the smallest set of likeliest tokens with mass >= top_p, and say where that set is in doubt."""
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    ends = ordered.cumsum(dim=-1, dtype=torch.float64)
    ends = ends / ends[:, -1:]
    kept = ends - ordered / ordered.sum(dim=-1, keepdim=True) < top_p
    kept[:, 0] = True
    last = kept.sum(dim=-1, keepdim=True) - 1
    at, previous = ends.gather(1, last), ends.gather(1, (last - 1).clamp(min=0))
    inside = ordered.gather(1, last)
    outside = torch.nn.functional.pad(ordered, (0, 1)).gather(1, last + 1)
    margin = slack[:, None] * top_p * (1 - top_p)
    close = (
        ((at - top_p).abs() < margin) | ((previous - top_p).abs() < margin) | (outside > inside * (1 - slack[:, None]))
    )
    return probs * torch.zeros_like(kept).scatter_(1, order, kept), close.squeeze(1) & (slack > 0)
