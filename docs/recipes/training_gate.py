"""How a training loop asks the gates: as a function, and as a callback of transformers' Trainer. Copy what you need.

The function:

    answer = specs_eval.check("runs", "main", "out/dpo/checkpoint-600", "specs-eval.toml")
    if not answer.passed:
        raise SystemExit(answer.summary())

The callback:

    trainer = DPOTrainer(..., processing_class=processor, callbacks=[GateCallback("main")])

The Trainer must save the processor with each checkpoint (``processing_class``), or the folder cannot be evaluated alone.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import specs_eval
from specs_eval.analysis.checks.answer import Answer
from specs_eval.checkpoints import CheckpointNames
from specs_eval.errors import EXIT_REGRESSION, SpecsEvalError

logger = logging.getLogger(__name__)


class GateCallback(TrainerCallback):
    """After each save: evaluate the checkpoint, ask the gates, and stop training when one has closed.

    The evaluation runs in a process of its own, so that nothing of it (random numbers, memory, hooks) reaches the training.
    A checkpoint that cannot be evaluated, and a gate that is undecided, stop nothing: they are logged.
    """

    def __init__(
        self,
        baseline: str,
        policy: str = "specs-eval.toml",
        store: str = "runs",
        evaluate: Callable[[Path], None] | None = None,
    ) -> None:
        self.baseline, self.policy, self.store = baseline, policy, store
        self.answers: list[Answer] = []
        self._evaluate = evaluate or self._evaluate_in_a_process

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Called by the Trainer when a checkpoint is on disk."""
        closed = False
        if state.is_world_process_zero:
            closed = self._has_closed(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        if on_all_ranks(closed):
            control.should_training_stop = True
        return control

    def _has_closed(self, checkpoint: Path) -> bool:
        try:
            self._evaluate(checkpoint)
            name = CheckpointNames.of_folder(checkpoint.resolve()).name  # as the store calls it: dpo/checkpoint-600
            answer = specs_eval.check(self.store, self.baseline, name, self.policy)
        except (SpecsEvalError, OSError) as error:
            logger.warning("no verdict on %s: %s", checkpoint, error)
            return False
        self.answers.append(answer)
        logger.warning("%s", answer.summary())
        return answer.exit_code == EXIT_REGRESSION

    def _evaluate_in_a_process(self, checkpoint: Path) -> None:
        names = ["--baseline", self.baseline, "--candidate", str(checkpoint)]
        where = ["--policy", self.policy, "--store", self.store]
        # Its exit code is the verdict, which is asked for again as an object.
        subprocess.run([sys.executable, "-m", "specs_eval", "check", "--run", *names, *where], check=False)


def on_all_ranks(flag: bool) -> bool:
    """What rank 0 says, on every rank: all must leave the training loop at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return flag
    box = [flag]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
