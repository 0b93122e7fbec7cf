"""Checks, before a model answers anything, that it is decoded correctly.

Models differ in positions, masks and caches, and a mistake there gives fluent, slightly wrong text. So each
architecture proves itself once: two prompts of different length and image size are prefilled and decoded for a few
steps, with different tokens in each slot, and the logits must equal those of plain forward passes without a cache.
So must those of the passes that settle a doubtful draw (`canonical`).
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from specs_eval.backends.hf.canonical import Canonical
from specs_eval.backends.hf.chats import Inputs
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.foreign_errors import INPUT_ERRORS, first_line, is_out_of_memory
from specs_eval.backends.hf.layouts import Layout, RepeatedLayout, SharedLayout
from specs_eval.backends.hf.prompts import collate, prefill
from specs_eval.chat import Chat, ImagePart, user_chat
from specs_eval.errors import CheckpointError, GenerationError
from specs_eval.sampling import SamplingSpec

N_STEPS = 3
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Root mean square of the difference, as a share of the logits' own spread."""

WAYS = (("shared", True), ("shared", False), ("repeated", True), ("repeated", False))
"""Layouts, and whether prompts are prefilled together, from the fastest to the most patient."""


class _UnsuitableError(Exception):
    """A layout cannot hold this model's cache: the next one is tried."""


def settle_layout(engine: Engine, source: str) -> None:
    """Find the fastest way of decoding that gives this model's own logits, and set it on the engine.

    Args:
        engine: a freshly loaded one.
        source: name of the checkpoint, for messages.

    Raises:
        CheckpointError: the model cannot answer, or no way of decoding is right.
    """
    try:
        inputs = [engine.encoder.encode(chat) for chat in _chats()]
        tokens = _forced_tokens(inputs)
        plain = torch.stack(
            [plain_logits(engine.model, inputs[prompt], tokens[prompt, slot]) for prompt in (0, 1) for slot in (0, 1)]
        )
    except GenerationError as error:
        raise CheckpointError(f"{source} cannot be asked about an image: {error}") from error
    except INPUT_ERRORS as error:
        _pass_on_memory(error)
        raise CheckpointError(f"{source} fails on a first question: {first_line(error)}") from error
    reasons = []
    for layout, joint in WAYS:
        if engine.settings.layout not in ("auto", layout):
            continue
        try:
            error_share = _difference(plain, _decoded_logits(engine, inputs, tokens, layout, joint))
        except (*INPUT_ERRORS, _UnsuitableError) as error:
            _pass_on_memory(error)
            reasons.append(f"{layout}: {first_line(error)}")
            continue
        if error_share <= TOLERANCE[engine.settings.dtype]:
            engine.layout, engine.joint_prefill = layout, joint
            if engine.settings.verify:
                _check_settling(engine, inputs, tokens, plain, source)
            return
        reasons.append(f"{layout}: logits off by {error_share:.2g} of their spread")
    raise CheckpointError(
        f"{source} ({type(engine.model).__name__}) is not decoded correctly by the hf backend, so it is refused. "
        + "; ".join(reasons)
    )


def _chats() -> tuple[Chat, Chat]:
    small = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    wide = Image.radial_gradient("L").resize((96, 64)).convert("RGB")
    return user_chat(ImagePart(small), "One word."), user_chat(
        "Look at this:", ImagePart(wide), "What do you see in it?"
    )


def _forced_tokens(inputs: list[Inputs]) -> Tensor:
    """Tokens to continue with, shape (2 prompts, 2 slots, N_STEPS): the ends of the prompts, which are ordinary text."""
    ends = [item["input_ids"][0, -N_STEPS:] for item in inputs]
    return torch.stack([torch.stack([end, end.flip(0)]) for end in ends])


def plain_logits(model: Any, inputs: Inputs, tokens: Tensor) -> Tensor:
    """Logits after the prompt and after each token but the last, by one forward pass without a cache."""
    extended = {key: tensor.to(model.device) for key, tensor in inputs.items()}
    extended["input_ids"] = torch.cat([extended["input_ids"], tokens[None, :-1].to(model.device)], dim=1)
    for key, value in (("attention_mask", 1), ("mm_token_type_ids", 0), ("token_type_ids", 0)):
        if key in extended:
            more = extended[key].new_full((1, tokens.numel() - 1), value)
            extended[key] = torch.cat([extended[key], more], dim=1)
    return torch.as_tensor(model(**extended, use_cache=False, return_dict=True).logits[0, -tokens.numel() :].float())


def _check_settling(engine: Engine, inputs: list[Inputs], tokens: Tensor, plain: Tensor, source: str) -> None:
    """Whether doubtful draws are settled on the model's own logits, also the second of a prompt.

    Raises:
        CheckpointError: they are not, or the model cannot do it.
    """
    canonical = Canonical(engine.model, SamplingSpec(0.0, N_STEPS), inputs)
    try:
        logits = [canonical.logits(i, tokens[i, slot, :-1].tolist()) for i in range(len(inputs)) for slot in (0, 1)]
        error_share = _difference(plain[:, -1], torch.cat(logits))
        fault = f"logits off by {error_share:.2g} of their spread"
    except INPUT_ERRORS as error:
        _pass_on_memory(error)
        error_share, fault = float("inf"), first_line(error)
    if error_share > TOLERANCE[engine.settings.dtype]:
        raise CheckpointError(
            f"{source} ({type(engine.model).__name__}) is refused: draws that rounding could flip would not be settled "
            f"correctly ({fault}). With verify=off nothing is settled, and text may depend on the batch"
        )


def _decoded_logits(engine: Engine, inputs: list[Inputs], tokens: Tensor, name: str, joint: bool) -> Tensor:
    """The same logits by our own loop, shape (4, N_STEPS, n_vocabulary)."""
    if not joint and name == "repeated":
        return torch.cat([_steps(engine, [item], tokens[[i]], name) for i, item in enumerate(inputs)])
    return _steps(engine, inputs, tokens, name, joint)


def _steps(engine: Engine, inputs: list[Inputs], tokens: Tensor, name: str, joint: bool = True) -> Tensor:
    together = [list(range(len(inputs)))]
    groups = together if joint else [[index] for index in range(len(inputs))]
    prefilled = [(prefill(engine.model, collate([inputs[i] for i in group], engine.pad_id)), group) for group in groups]
    rows = [index for index in range(len(inputs)) for _ in range(1 if name == "shared" else 2)]
    first = torch.cat([prompts.logits for prompts, _ in prefilled]).repeat_interleave(2, dim=0)
    layout: Layout
    if name == "shared":
        if not all(SharedLayout.fits(prompts.cache) for prompts, _ in prefilled):
            raise _UnsuitableError("the cache is not plain keys and values")
        if prefilled[0][0].next_positions() is None:
            raise _UnsuitableError("the model takes no positions")
        layout = SharedLayout(engine.model, prefilled, rows, 2, N_STEPS)
    else:
        layout = RepeatedLayout(engine.model, prefilled[0][0], rows)
    logits = [first]
    for step in range(tokens.shape[-1] - 1):
        logits.append(layout.step(tokens[..., step].flatten().to(first.device)))
    return torch.stack(logits, dim=1)


def _difference(plain: Tensor, decoded: Tensor) -> float:
    """Largest root mean square difference of a position, as a share of the spread of its logits."""
    shares = (plain - decoded).square().mean(-1).sqrt() / plain.std(-1).clamp(min=1e-6)
    return float(shares.nan_to_num(nan=float("inf")).max())


def _pass_on_memory(error: Exception) -> None:
    if is_out_of_memory(error):
        raise error
