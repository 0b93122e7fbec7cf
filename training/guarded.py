"""What all our trainers have beyond TRL's: whole saves, weights that are really loaded, a stop when numbers are lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from specs_eval.errors import SpecsEvalError, StoreError, TrainingError
from specs_eval.training.checkpoints import checkpoint_folder, partial_folder, saved_steps
from specs_eval.training.failures import is_out_of_memory
from specs_eval.training.ranks import any_process


class GuardedTrainer:
    """Mixed into a trainer class of TRL, before it in the order of bases.

    A loss or a weight that is not a finite number ends training before it is saved. A checkpoint is written beside its
    place and renamed when it is complete: a process that dies, or a disk that fills up, leaves the earlier ones as they
    were.
    """

    args: Any
    state: Any
    accelerator: Any
    model: Any
    _scratch: Path | None = None
    _lost: Any = False
    """Whether a loss of this step was no number; a tensor on the device."""

    def training_step(self, *arguments: Any, **options: Any) -> Any:
        """One forward and backward pass.

        Raises:
            TrainingError: the loss is not a number.
        """
        loss = cast(Any, super()).training_step(*arguments, **options)
        # Read once a step: a GPU would be waited for at each reading.
        self._lost = ~loss.detach().isfinite() | self._lost
        if self.accelerator.sync_gradients and any_process(bool(self._lost), self.accelerator):
            raise self._diverged("the loss is not a number")
        return loss

    def _diverged(self, what: str) -> TrainingError:
        steps = saved_steps(Path(self.args.output_dir))
        kept = f"checkpoint-{steps[-1]} is the last good one and is kept" if steps else "no checkpoint was saved yet"
        return TrainingError(
            f"{Path(self.args.output_dir).name}, step {self.state.global_step + 1}: {what} any more; {kept}. Lower the "
            "stage's learning_rate or max_grad_norm, or add warmup_steps, and start the stage again with --from"
        )

    def create_model_card(self, *arguments: Any, **options: Any) -> None:
        """No card: it would be rewritten at each save, outside the checkpoint."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._scratch) if self._scratch is not None else cast(Any, super())._get_output_dir(trial=trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        series = Path(self.args.output_dir)
        self._check_weights()
        self._scratch = partial_folder(series)
        try:
            if self.args.should_save:
                shutil.rmtree(self._scratch, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            cast(Any, super())._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                _settle(checkpoint_folder(self._scratch, self.state.global_step), series)
        except SpecsEvalError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # Before space is freed: it says how much there was.
            told = _not_saved(series, self.state.global_step, error)
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise told from error
        finally:
            self._scratch = None
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights to continue from, as a model is loaded.

        Transformers reads the file's tensors by their names, which for VLMs such as Qwen2.5-VL are not those in memory:
        nothing would fit, and training would go on from the start's weights with no more than a warning. Adapters and
        FSDP keep their names.
        """
        mine = self.model if model is None else model
        sharded = cast(Any, self).is_fsdp_enabled
        if sharded or hasattr(mine, "peft_config"):
            cast(Any, super())._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(mine).from_pretrained(resume_from_checkpoint, dtype=mine.dtype, local_files_only=True)
        mine.load_state_dict(saved.state_dict(), strict=True)

    def _check_weights(self) -> None:
        lost = any(not bool(weights.isfinite().all()) for weights in self.model.parameters() if weights.requires_grad)
        if any_process(lost, self.accelerator):
            raise self._diverged("weights are not numbers")


def guarded(trainer_class: type[Any], *more: type[Any]) -> type[Any]:
    """A trainer class of TRL with our guards, and further mixins before them."""
    return type(f"Guarded{trainer_class.__name__}", (*more, GuardedTrainer, trainer_class), {})


def _settle(written: Path, series: Path) -> None:
    """Flush a complete checkpoint to the disk and give it its name."""
    import os

    for path in written.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    target = series / written.name
    shutil.rmtree(target, ignore_errors=True)
    written.rename(target)
    shutil.rmtree(written.parent, ignore_errors=True)


def _not_saved(series: Path, step: int, error: Exception) -> StoreError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("inline_container.cc" in line for line in lines):
        lines = ["the disk refused a write"]  # torch.save tells no more than a position in its file
    steps = saved_steps(series)
    kept = f"checkpoint-{steps[-1]} is whole" if steps else "no earlier checkpoint is there"
    free = shutil.disk_usage(series).free
    return StoreError(
        f"cannot save checkpoint-{step} of {series}: {lines[0] if lines else type(error).__name__} "
        f"({free / 1e9:.1f} GB are free); {kept}. Free space (or keep: best), then run the same command: it continues there"
    )
