"""What this backend adds to an engine's workers, called by name through ``collective_rpc``."""

from __future__ import annotations

from typing import Any

from specs_eval.backends.vllm.lifeline import watch
from specs_eval.backends.vllm.observing import OBSERVER
from specs_eval.backends.vllm.weights_check import found_in, pack_again


class WorkerExtension:
    """Mixed into the engine's worker class (``worker_extension_cls``)."""

    model_runner: Any

    def specs_eval_watch(self, host: str, pid: int) -> bool:
        """End when the owner of the engine does."""
        return watch(host, pid)

    def specs_eval_take(self, ended: list[list[int]]) -> list[list[Any]]:
        """Notes of rollouts that have ended: [tag, entropies, sizes, broken] of each that this worker knows."""
        return [[tag, *notes] for tag, notes in OBSERVER.take(ended).items()]

    def specs_eval_forget(self) -> None:
        """Forget the notes of everything that is still running."""
        OBSERVER.forget_all()

    def specs_eval_weights(self, folder: str) -> dict[str, bool]:
        """Whether this worker holds the weights of each tensor of a checkpoint's files."""
        return found_in(self.model_runner.get_model(), folder)

    def specs_eval_pack_again(self) -> None:
        """After weights were exchanged: make packed copies anew that the exchange has forgotten."""
        pack_again(self.model_runner.get_model())

    def specs_eval_adapter_gaps(self, adapter: int) -> list[str]:
        """Modules of a LoRA adapter that this worker has no place for, and would leave out without a word."""
        manager = self.model_runner.lora_manager._adapter_manager
        lora = manager.list_adapters()[adapter]
        return sorted(set(lora.loras) - set(manager.modules))

    def specs_eval_newest_adapter_gaps(self) -> list[str]:
        """The same of the adapter that was loaded last, where a server numbers them."""
        return self.specs_eval_adapter_gaps(max(self.model_runner.lora_manager._adapter_manager.list_adapters()))
