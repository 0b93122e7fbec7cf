"""One program in several processes: what only the first one does, and how the others learn of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

from specs_eval.errors import SpecsEvalError, TrainingError

T = TypeVar("T")

TIMEOUT = datetime.timedelta(hours=24)
"""How long processes wait for each other: as long as the first one may evaluate alone."""


def start_processes(*, cpu: bool) -> None:
    """Join the processes that a launcher (accelerate, torchrun, Slurm) started; a single process needs nothing."""
    from accelerate import PartialState

    PartialState(cpu=cpu, timeout=TIMEOUT)


def n_processes() -> int:
    """How many processes train together."""
    from accelerate import PartialState

    return int(PartialState().num_processes)


def is_first() -> bool:
    """Whether this process evaluates, writes and talks."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def wait_for_all() -> None:
    """Go on when all processes are here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def on_first(work: Callable[[], T]) -> T:
    """Let the first process do something, and give its result to all of them.

    Args:
        work: called in the first process only; its result must be picklable.

    Raises:
        SpecsEvalError: as in the first process, in all of them: nobody is left waiting.
    """
    if n_processes() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    told: list[Any] = [None, None]
    caught: BaseException | None = None
    if is_first():
        try:
            told = [True, work()]
        except BaseException as error:  # noqa: BLE001 - raised again below, when the others know
            caught, told = error, [False, _portable(error)]
    broadcast_object_list(told, from_process=0)
    if caught is not None:
        raise caught
    if not told[0]:
        raise told[1]
    result: T = told[1]
    return result


def any_process(condition: bool, accelerator: Any) -> bool:
    """Whether a condition holds in any process. All of them must ask."""
    if accelerator.num_processes == 1:
        return condition
    import torch

    flag = torch.tensor(float(condition), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum").item() > 0)


def _portable(error: BaseException) -> SpecsEvalError:
    if isinstance(error, SpecsEvalError):
        return type(error)(str(error))
    return TrainingError(f"the first process failed: {type(error).__name__}: {error}"[:2000])
