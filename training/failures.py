"""What goes wrong while weights are trained, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from specs_eval.errors import SpecsEvalError, TrainingError
from specs_eval.training.config import ColdStartSettings, RLSettings, TrainSettings

Doing = Literal["training", "evaluating", "loading"]


@contextmanager
def explained(stage: str, settings: TrainSettings, doing: Doing = "training") -> Iterator[None]:
    """Turn running out of memory into an error that names the knobs of the recipe.

    Raises:
        TrainingError: memory ran out inside.
    """
    try:
        yield
    except SpecsEvalError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"{stage} ran out of memory while {doing}. {knobs(stage, settings, doing)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of an accelerator or of the machine."""
    text = str(error).lower()
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or "out of memory" in text or "can't allocate memory" in text


def knobs(stage: str, settings: TrainSettings, doing: Doing) -> str:
    """What a user can turn: first what the same command goes on with, then what makes it another training."""
    place = f"stages.{stage.partition(' ')[0]}"
    if doing == "evaluating":
        return (
            "Lower evaluation.batch_size or move evaluation.device, and the same command goes on; or lower "
            "evaluation.max_new_tokens or evaluation.rollouts, which needs --from"
        )
    free, costly = ["set model.gradient_checkpointing, if it is off"], []
    if settings.per_device > 1:
        free.insert(0, f"lower {place}.per_device ({settings.per_device}): the same steps in smaller pieces")
    if isinstance(settings, ColdStartSettings):
        costly.append(f"set {place}.max_length" if settings.max_length is None else f"lower {place}.max_length")
    if isinstance(settings, RLSettings):
        costly.append(f"lower {place}.max_new_tokens")
        if settings.vllm is not None and settings.vllm.mode == "colocate":
            free.append(f"lower {place}.vllm.gpu_memory ({settings.vllm.gpu_memory:g}) or set {place}.vllm.sleep")
    free.append("share the weights over more devices (ZeRO-3 or FSDP2, see docs/training.md)")
    costly += ["set or lower model.max_pixels", "train an adapter (model.lora)"]
    return f"The same command goes on after any of these: {'; '.join(free)}. With --from, in this order: {'; '.join(costly)}"
