"""An exit code for lmms-eval's command line, which ends with 0 whatever happened.

lmms-eval catches every exception of an evaluation, prints it and exits with 0: a job script takes that for success.
When something of ours failed under its command line, the process therefore ends with our own code instead. Library
callers (`simple_evaluate`) see the exception or the ``failed`` metric, and their exit code is left alone.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from specs_eval.errors import EXIT_INCOMPLETE, SpecsEvalError

logger = logging.getLogger(__name__)


@contextmanager
def nonzero_exit_on_error() -> Iterator[None]:
    """Around a piece of our code: what it raises goes on, and lmms-eval's command line ends with our exit code."""
    try:
        yield
    except SpecsEvalError as error:
        end_with(error.exit_code)
        raise
    except Exception:
        end_with(EXIT_INCOMPLETE)
        raise


def end_with(code: int) -> None:
    """Make the process end with this exit code when lmms-eval's command line is what runs; else do nothing."""
    if not under_lmms_eval_cli():
        return
    atexit.unregister(_exit_now)
    atexit.register(_exit_now, code)


def under_lmms_eval_cli() -> bool:
    """Whether lmms-eval's ``cli_evaluate`` is among the callers, in this thread."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "cli_evaluate" and frame.f_globals.get("__name__") == "lmms_eval.__main__":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _exit_now(code: int) -> None:
    # The interpreter has settled on its exit status before exit handlers run, so only os._exit can change it; the
    # handlers that are still to come (temporary folders, loggers) are run first.
    atexit.unregister(_exit_now)
    logger.error("specs-eval: not complete, see the messages above; exit code %d", code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
