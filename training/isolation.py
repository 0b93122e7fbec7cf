"""Doing something else in the middle of training and leaving no trace: evaluation must not change what is trained."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore every global that training reads: random number generators, gradient mode, default dtype.

    Memory that the block took on an accelerator is given back.
    """
    import numpy as np
    import torch

    python, numpy_state = random.getstate(), np.random.get_state()
    cpu, cuda = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        torch.set_rng_state(cpu)
        if cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(numpy_state)
        random.setstate(python)
