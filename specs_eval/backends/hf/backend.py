"""The backend that `specs_eval.backends.registry` makes: checkpoints in, responses out."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specs_eval.backends.base import BackendOptions, Request, Response, Timing
from specs_eval.backends.hf import loading
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.foreign_errors import FATAL_ERRORS, MODEL_ERRORS, first_line, is_out_of_memory
from specs_eval.backends.hf.memory import Room, cache_budget, cache_bytes_per_token, final_tokens
from specs_eval.backends.hf.probe import settle_layout
from specs_eval.backends.hf.rollouts import MAX_SLOTS, Answer, Question, RolloutBatch
from specs_eval.backends.hf.settings import settings_from
from specs_eval.backends.hf.weights import copy_in_place, differing, merge_adapter, replaced, saved_names
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import GenerationError
from specs_eval.fingerprint import stat_signature
from specs_eval.sampling import SamplingSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Merged:
    """An adapter that was merged into the live model."""

    base: tuple[Path, tuple[object, ...]]
    """Folder of the base, and its files as they were."""
    names: frozenset[str]
    """The tensors that it changed."""


class HFBackend:
    """Transformers image-text models, on CPU or one GPU.

    Promise: in float32, text depends on the checkpoint, the chat, the sampling spec and the rollout's number, and not
    on batch size, order, resume or what else is asked (see `canonical`). In bfloat16 and float16 rounding is too coarse
    for that: batches of another make-up may flip an occasional token, as they do in any engine.

    Sampling follows the sampling spec alone. Temperature, top-k, repetition penalty and the like that a checkpoint's
    generation_config.json may carry are not applied; its end tokens are, together with the tokenizer's.
    """

    name = "hf"

    def __init__(self, options: BackendOptions) -> None:
        """Nothing is loaded yet.

        Raises:
            ConfigError: an option has no meaning here.
        """
        self._settings = settings_from(options)
        self.timing = Timing()
        self._engine: Engine | None = None
        self._architecture = ""
        self._processor = ""
        self._names: dict[str, Tensor] | None = None
        self._merged: _Merged | None = None
        self.load_note: str | None = None

    @property
    def numerics(self) -> str:
        """``hf/<dtype>``."""
        return f"hf/{self._settings.dtype_name}"

    @property
    def engine(self) -> Engine:
        """What is loaded.

        Raises:
            GenerationError: nothing is.
        """
        if self._engine is None:
            raise GenerationError("the hf backend has no checkpoint loaded")
        return self._engine

    def block_size(self, n_rollouts: int) -> int:
        """Samples a batch."""
        return self._settings.block_size(n_rollouts)

    def load(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint; one of the architecture that is loaded already goes into the live model.

        Raises:
            CheckpointError: it cannot be loaded, or would not be decoded correctly.
        """
        self.load_note = None
        folder = loading.model_folder(checkpoint)
        try:
            shape = loading.architecture(folder)
            alike = self._engine is not None and shape == self._architecture
            if self._engine is not None and not alike:
                self._note(f"its configuration differs ({loading.difference(self._architecture, shape)})")
            with torch.inference_mode():
                model = self._refill(folder) if alike else None
                fresh = model is None
                if fresh:
                    self.close()
                    model = loading.load_model(folder, self._settings)
                    self._names = saved_names(model)
                if checkpoint.base is not None:
                    model = self._merge(model, checkpoint)
                self._assemble(model, checkpoint, probe=fresh)
        except BaseException:
            # Neither half-loaded weights nor those of the checkpoint before may answer for this one.
            self.close()
            raise
        self._architecture = shape

    def _note(self, reason: str) -> None:
        self.load_note = f"a fresh engine was started, as {reason}"

    def _refill(self, folder: Path) -> Any | None:
        """The live model with the weights of a folder, checked; None when they cannot be copied in."""
        model, merged = self.engine.model, self._merged
        self._merged = None
        # Of the base of the adapter before, everything is there but what the adapter was merged into.
        only = merged.names if merged is not None and merged.base == (folder, stat_signature(folder)) else None
        if self._names is None or not copy_in_place(self._names, folder, only):
            self._note("its weights are stored in a way that cannot be copied into a live model")
            return None
        self._names = saved_names(model)
        different = [] if self._names is None else differing(self._names, folder)
        if different:
            self._note(f"the live model did not take its weights ({', '.join(different[:3])})")
            return None
        return model

    def _merge(self, model: Any, checkpoint: Checkpoint) -> Any:
        """The model with an adapter merged into it; remembers what the next checkpoint must find as it was."""
        folder = loading.model_folder(checkpoint)
        before, base = self._names, (folder, stat_signature(folder))
        adapted = merge_adapter(model, checkpoint.path)
        self._names = saved_names(adapted)
        if before is not None and self._names is not None:
            self._merged = _Merged(base, replaced(before, self._names))
        return adapted

    def _assemble(self, model: Any, checkpoint: Checkpoint, *, probe: bool) -> None:
        source = str(checkpoint.path)
        digest = loading.processor_digest(loading.processor_folder(checkpoint))
        before = self._engine
        known = before is not None and digest == self._processor
        encoder = before.encoder if before is not None and known else loading.load_encoder(checkpoint, self._settings)
        generation = loading.load_generation_config(loading.model_folder(checkpoint), model)
        engine = loading.make_engine(model, encoder, generation, self._settings, self.timing, source)
        if before is not None and known and not probe:
            engine.layout, engine.joint_prefill = before.layout, before.joint_prefill
        else:
            settle_layout(engine, source)
        if before is not None and not known:
            self.load_note = "its tokenizer or processor differs from the one before, so it was loaded and probed anew"
        self._engine, self._processor = engine, digest

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer requests, batch by batch in the order given."""
        engine = self.engine
        most = max((len(request.rollouts) for request in requests), default=1)
        size = self.block_size(most)
        for start in range(0, len(requests), size):
            yield from self._answer_block(engine, requests[start : start + size], spec)

    def _answer_block(self, engine: Engine, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer a block in one batch, or in as many as memory (or the model) asks for."""
        batch: list[Question] = []
        room = self._room(engine)
        per_token = cache_bytes_per_token(engine.model)
        for request in requests:
            if not request.rollouts:
                yield request, []
                continue
            try:
                question = self._encode(engine, request)
            except GenerationError as error:
                yield failed(request, str(error))
                continue
            tokens = cached_tokens(engine, question, spec)
            n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in question.inputs.values())
            if not room.take(tokens * per_token, n_bytes):
                yield from self._answer_batch(engine, batch, spec)
                batch, room = [], self._room(engine)
                room.take(tokens * per_token, n_bytes)
            batch.append(question)
        if batch:
            yield from self._answer_batch(engine, batch, spec)

    def _encode(self, engine: Engine, request: Request) -> Question:
        started = time.perf_counter()
        try:
            return Question(request, engine.encoder.encode(request.chat))
        finally:
            engine.timing.preprocess += time.perf_counter() - started

    def _room(self, engine: Engine) -> Room:
        if engine.layout == "repeated" and not engine.joint_prefill:
            return Room(cache=0, inputs=0)
        return Room(cache_budget(engine.model))

    def _answer_batch(self, engine: Engine, questions: list[Question], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer in one batch, or in halves of halves when memory runs out or the model chokes on a sample."""
        left, reason = list(questions), ""
        try:
            for request, responses in RolloutBatch(engine, questions, spec).answers():
                left = [question for question in left if question.request is not request]
                yield request, responses
        except FATAL_ERRORS:
            raise
        except MODEL_ERRORS as error:
            reason = out_of_memory_text(left[0], spec) if is_out_of_memory(error) else first_line(error)
        if not left:
            return
        _release_memory()
        if len(questions) == 1:
            yield failed(left[0].request, f"the model failed on this sample alone: {reason}")
            return
        logger.warning("a batch of %d samples failed (%s); going on in halves", len(questions), reason)
        half = len(left) // 2
        for batch in (left[:half], left[half:]):
            if batch:
                yield from self._answer_batch(engine, batch, spec)

    def close(self) -> None:
        """Free the model and its memory."""
        if self._engine is None and self._names is None:
            return
        self._engine, self._names, self._architecture, self._processor = None, None, "", ""
        self._merged = None
        _release_memory()


def cached_tokens(engine: Engine, question: Question, spec: SamplingSpec) -> int:
    """Tokens that a question may come to hold in caches."""
    n_rollouts = len(question.request.rollouts)
    n_rows = -(-n_rollouts // MAX_SLOTS) if engine.layout == "shared" else n_rollouts
    length = question.inputs["input_ids"].shape[1]
    return final_tokens(length, n_rollouts, n_rows, spec.max_new_tokens, engine.settings.device)


def failed(request: Request, reason: str) -> Answer:
    """Every rollout of a request, failed."""
    return request, [Response(rollout, finish_reason="error", error=reason) for rollout in request.rollouts]


def out_of_memory_text(question: Question, spec: SamplingSpec) -> str:
    """What a user can do about a sample that does not fit alone."""
    return (
        f"out of memory; {question.inputs['input_ids'].shape[1]} prompt tokens, "
        f"{len(question.request.rollouts)} rollouts of up to {spec.max_new_tokens} tokens. "
        "Ask for fewer rollouts or tokens, or limit the image size in the checkpoint's preprocessor_config.json; "
        "a smaller --batch-size was tried"
    )


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
