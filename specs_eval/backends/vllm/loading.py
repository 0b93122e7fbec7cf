"""The next checkpoint into the running engine, or into a fresh one: whichever gives what a fresh one gives."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from specs_eval.backends.hf import loading as hf_loading
from specs_eval.backends.hf.chats import ChatEncoder
from specs_eval.backends.hf.foreign_errors import explained
from specs_eval.backends.vllm.engine import AdapterRoom, Engine
from specs_eval.backends.vllm.installation import VLLM
from specs_eval.backends.vllm.prompts import Prompts
from specs_eval.backends.vllm.rollouts import Loaded
from specs_eval.backends.vllm.settings import Settings
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, GenerationError
from specs_eval.fingerprint import stat_signature

logger = logging.getLogger(__name__)

MIN_PROVEN = 0.9
"""Share of a checkpoint's tensors whose rows must be found in a fresh engine, for changes in place to be trusted: weights that
vLLM stores in another number format, such as quantized ones, cannot be looked up."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of LoRA adapters that vLLM makes room for."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The weights that an engine holds."""

    folder: Path
    signature: tuple[object, ...]


class Loader:
    """Keeps one engine, and knows what is in it."""

    def __init__(self, vllm: VLLM, settings: Settings) -> None:
        self._vllm, self._settings = vllm, settings
        self._engine: Engine | None = None
        self._shape = ""
        self._processor = ""
        self._base: _Base | None = None
        self._proven: frozenset[str] = frozenset()
        """Names of the tensors that were found in the engine when it was fresh."""
        self._encoder: ChatEncoder | None = None
        self._n_adapters = 0
        self._adapter: int | None = None
        self.note: str | None = None
        """Why a fresh engine was started; None: it was not, or it is the first."""

    def load(self, checkpoint: Checkpoint) -> Loaded:
        """Make a checkpoint the one that answers.

        Raises:
            CheckpointError: it cannot be.
        """
        self.note = None
        folder = hf_loading.model_folder(checkpoint)
        processor_folder = hf_loading.processor_folder(checkpoint)
        shape = hf_loading.architecture(folder)
        processor = hf_loading.processor_digest(processor_folder)
        room = adapter_room(checkpoint)
        reason = self._reason_for_fresh(shape, processor, room)
        if reason is None:
            reason = self._exchange(folder)
        if reason is not None:
            self._start(folder, processor_folder, room or self._room())
            self.note = reason or None
        self._shape, self._processor = shape, processor
        engine = self._engine
        if engine is None or self._encoder is None:
            raise CheckpointError(f"{checkpoint.path}: the engine is gone")
        tokenizer = self._encoder.tokenizer
        generation = generation_config(folder)
        return Loaded(
            engine=engine,
            prompts=Prompts(self._encoder),
            tokenizer=tokenizer,
            eos=hf_loading.end_tokens(tokenizer, generation, str(checkpoint.path)),
            adapter=self._switch(engine, checkpoint),
            source=str(checkpoint.path),
        )

    def _reason_for_fresh(self, shape: str, processor: str, room: AdapterRoom | None) -> str | None:
        """Why the running engine will not do; empty: there is none; None: it may."""
        if self._engine is None:
            return ""
        if shape != self._shape:
            return f"a fresh engine was started, as its configuration differs ({hf_loading.difference(self._shape, shape)})"
        if processor != self._processor:
            return "a fresh engine was started, as its tokenizer or processor differs from the one before"
        have = self._engine.adapter_room
        if room is not None and (have is None or have.rank < room.rank):
            return f"a fresh engine was started, as the one before had no room for an adapter of rank {room.rank}"
        return None

    def _exchange(self, folder: Path) -> str | None:
        """Put a checkpoint's weights into the running engine; why that was not done; None: it was, and is proven."""
        engine = self._engine
        base = _Base(folder, stat_signature(folder))
        if engine is None or base == self._base:
            return None
        if not self._proven:
            return "a fresh engine was started, as vLLM keeps these weights in a form in which they cannot be checked"
        self._base = None
        self._drop_adapter(engine)
        try:
            engine.reload(folder)
            found, _ = found_weights(engine, folder)
        except GenerationError as error:
            return f"a fresh engine was started, as its weights could not be exchanged ({error})"
        missing = sorted(self._proven - found)
        if missing:
            return f"a fresh engine was started, as the running one did not take its weights ({', '.join(missing[:3])})"
        self._base = base
        return None

    def _room(self) -> AdapterRoom | None:
        """Room for adapters once there were some: more are likely to come."""
        return None if self._engine is None else self._engine.adapter_room

    def _start(self, folder: Path, processor_folder: Path, room: AdapterRoom | None) -> None:
        self.close()
        encoder = hf_loading.encoder_of(processor_folder, torch.float32)
        self._engine = Engine.start(self._vllm, folder, processor_folder, self._settings, room)
        self._encoder = encoder
        self._base = _Base(folder, stat_signature(folder))
        if self._engine.runs_foreign_code:
            logger.warning(
                "%s: vLLM has no implementation of its own for this model and runs that of transformers", folder
            )
        found, n_tensors = found_weights(self._engine, folder)
        share = len(found) / max(1, n_tensors)
        self._proven = found if share >= MIN_PROVEN else frozenset()
        logger.info("%s: rows of %.0f %% of the tensors are found in the engine", folder, 100 * share)

    def _switch(self, engine: Engine, checkpoint: Checkpoint) -> Any:
        """The checkpoint's adapter in the engine, instead of the one before; None: it is none."""
        self._drop_adapter(engine)
        if checkpoint.base is None:
            return None
        self._n_adapters += 1
        request = engine.adapter(self._n_adapters, checkpoint.path)
        self._adapter = self._n_adapters
        return request

    def _drop_adapter(self, engine: Engine) -> None:
        if self._adapter is not None:
            engine.remove_adapter(self._adapter)
            self._adapter = None

    def close(self) -> None:
        """Stop the engine."""
        engine, self._engine = self._engine, None
        self._base, self._adapter, self._encoder, self._proven = None, None, None, frozenset()
        if engine is not None:
            engine.shutdown()


def found_weights(engine: Engine, folder: Path) -> tuple[frozenset[str], int]:
    """Names of a checkpoint's tensors that are in the engine, in one of its workers at least; and how many it has."""
    tables = engine.ask_workers("specs_eval_weights", str(folder))
    found = frozenset(name for table in tables for name, found in table.items() if found)
    return found, max((len(table) for table in tables), default=0)


def generation_config(folder: Path) -> GenerationConfig:
    """The checkpoint's generation config, or what its configuration says."""
    with explained(folder, "its configuration does not load"):
        if (folder / "generation_config.json").exists():
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        return GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )


def adapter_room(checkpoint: Checkpoint) -> AdapterRoom | None:
    """What a checkpoint that is an adapter needs of an engine; None: it is none.

    Raises:
        CheckpointError: its configuration does not read, or vLLM has no room of that rank.
    """
    if checkpoint.base is None:
        return None
    path = checkpoint.path / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        ranks = [int(config["r"]), *(int(rank) for rank in (config.get("rank_pattern") or {}).values())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not read as the configuration of a LoRA adapter: {error}") from error
    fitting = [rank for rank in RANKS if rank >= max(ranks)]
    if not fitting:
        raise CheckpointError(
            f"{path}: vLLM takes adapters up to rank {RANKS[-1]}, this one has {max(ranks)}; merge it"
        )
    return AdapterRoom(fitting[0])
