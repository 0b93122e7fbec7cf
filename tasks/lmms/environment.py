"""A fence around lmms-eval's code inside our process: what it changes on the way is put back.

It logs to standard output and drops the host's log sinks, lets Pillow complete truncated images, reads rank variables,
retries a missing data set for minutes, downloads, and its scorers draw from the global random state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

logger = logging.getLogger("lmms_eval")

_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def downloads_allowed() -> bool:
    """Whether the user asked for data from the hub by ``HF_HUB_OFFLINE=0``; nothing is fetched unasked."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("0", "false", "no", "off")


@contextmanager
def importing_lmms_eval() -> Iterator[None]:
    """Around imports of lmms-eval and of its task modules."""
    from PIL import ImageFile

    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    with _log_sinks_kept(), contextlib.redirect_stdout(sys.stderr), random_state_kept():
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = truncated


@contextmanager
def running_lmms_eval(*, allow_download: bool = False) -> Iterator[None]:
    """Around calls of lmms-eval's task code; it must have been imported."""
    import datasets.config
    import huggingface_hub.constants
    from lmms_eval.api.task import ConfigurableTask

    with ExitStack() as stack:
        stack.enter_context(importing_lmms_eval())
        stack.enter_context(_no_rank_variables())
        for decorated in (ConfigurableTask.download, ConfigurableTask.process_results):
            stack.enter_context(_one_attempt(decorated))
        if not allow_download:
            stack.enter_context(_replaced(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
            stack.enter_context(_replaced(datasets.config, "HF_HUB_OFFLINE", True))
        yield


@contextmanager
def random_state_kept(seed: int | None = None) -> Iterator[None]:
    """The global states of `random` and numpy are the same after as before.

    Args:
        seed: what to start from inside; None: from where they are.
    """
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _log_sinks_kept() -> Iterator[None]:
    """Importing ``lmms_eval.models`` removes all loguru sinks and adds standard output; neither happens inside."""
    if "lmms_eval.models" in sys.modules:
        yield
        return
    nobody_configured = "loguru" not in sys.modules
    from loguru import logger as loguru_logger

    if nobody_configured:
        loguru_logger.remove()
        loguru_logger.add(_forward, level="WARNING", format="{message}")
    kind = type(loguru_logger)
    with _replaced(kind, "remove", lambda *_: None), _replaced(kind, "add", lambda *_, **__: 0):
        yield


def _forward(message: Any) -> None:
    logger.log(message.record["level"].no, "%s", message.record["message"])


@contextmanager
def _no_rank_variables() -> Iterator[None]:
    """Code that sees another rank's variables waits for processes that never come."""
    saved = {name: os.environ.pop(name) for name in _RANK_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


@contextmanager
def _one_attempt(decorated: Any) -> Iterator[None]:
    """A function under tenacity's ``retry`` is called once and raises what it raises."""
    from tenacity import stop_after_attempt

    retrying = decorated.retry
    with _replaced(retrying, "stop", stop_after_attempt(1)), _replaced(retrying, "reraise", True):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
