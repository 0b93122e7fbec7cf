"""The backend that `specs_eval.backends.registry` makes: checkpoints in, responses out."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from specs_eval.backends.base import BackendOptions, Request, Response, Timing
from specs_eval.backends.hf import loading
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.foreign_errors import is_out_of_memory
from specs_eval.backends.hf.memory import cache_budget, cache_bytes_per_token, final_tokens, fitting_groups
from specs_eval.backends.hf.probe import settle_layout
from specs_eval.backends.hf.rollouts import MAX_SLOTS, Question, RolloutBatch
from specs_eval.backends.hf.settings import settings_from
from specs_eval.backends.hf.weights import copy_in_place, merge_adapter, saved_names
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import GenerationError
from specs_eval.sampling import SamplingSpec

logger = logging.getLogger(__name__)

Answer = tuple[Request, list[Response]]


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
        folder = loading.model_folder(checkpoint)
        shape = loading.architecture(folder)
        alike = self._engine is not None and shape == self._architecture
        try:
            with torch.inference_mode():
                model = self._refill(checkpoint) if alike else None
                if model is None:
                    self.close()
                    model = loading.load_model(folder, self._settings)
                    self._names = saved_names(model)
                if checkpoint.base is not None:
                    model = merge_adapter(model, checkpoint.path)
                    self._names = saved_names(model)
                self._assemble(model, checkpoint, probe=not alike)
        except BaseException:
            # Half-loaded weights must never answer.
            self.close()
            raise
        self._architecture = shape

    def _refill(self, checkpoint: Checkpoint) -> Any | None:
        """The live model with this checkpoint's weights; None when they cannot be copied in."""
        folder = loading.model_folder(checkpoint)
        if self._names is None:
            return None
        return self.engine.model if copy_in_place(self._names, folder) else None

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
        self._engine, self._processor = engine, digest

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer requests, batch by batch in the order given."""
        engine = self.engine
        most = max((len(request.rollouts) for request in requests), default=1)
        size = self.block_size(most)
        for start in range(0, len(requests), size):
            yield from self._answer_block(engine, requests[start : start + size], spec)

    def _answer_block(self, engine: Engine, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        questions: list[Question] = []
        started = time.perf_counter()
        for request in requests:
            if not request.rollouts:
                yield request, []
                continue
            try:
                questions.append(Question(request, engine.encoder.encode(request.chat)))
            except GenerationError as error:
                yield failed(request, str(error))
        engine.timing.preprocess += time.perf_counter() - started
        for batch in fitting_batches(engine, questions, spec):
            yield from self._answer_batch(engine, batch, spec)

    def _answer_batch(self, engine: Engine, questions: list[Question], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer in one batch, or in smaller and smaller ones when memory runs out."""
        try:
            with torch.inference_mode():
                answers = RolloutBatch(engine, questions, spec).run()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            answers = []
        if answers:
            yield from answers
            return
        _release_memory()
        if len(questions) == 1:
            yield failed(questions[0].request, out_of_memory_text(questions[0], spec))
            return
        half = len(questions) // 2
        logger.warning("out of memory with %d samples at once; going on with %d", len(questions), half)
        yield from self._answer_batch(engine, questions[:half], spec)
        yield from self._answer_batch(engine, questions[half:], spec)

    def close(self) -> None:
        """Free the model and its memory."""
        if self._engine is None and self._names is None:
            return
        self._engine, self._names, self._architecture, self._processor = None, None, "", ""
        _release_memory()


def fitting_batches(engine: Engine, questions: Sequence[Question], spec: SamplingSpec) -> list[list[Question]]:
    """A block in batches that memory, and the model, can take at once; almost always one."""
    n_tokens = []
    for question in questions:
        n_rollouts = len(question.request.rollouts)
        n_rows = -(-n_rollouts // MAX_SLOTS) if engine.layout == "shared" else n_rollouts
        length = question.inputs["input_ids"].shape[1]
        n_tokens.append(final_tokens(length, n_rollouts, n_rows, spec.max_new_tokens, engine.settings.device))
    alone = engine.layout == "repeated" and not engine.joint_prefill
    budget = 0 if alone else cache_budget(engine.model)
    per_token = 1 if alone else cache_bytes_per_token(engine.model)
    return [[questions[i] for i in group] for group in fitting_groups(n_tokens, per_token, budget)]


def failed(request: Request, reason: str) -> Answer:
    """Every rollout of a request, failed."""
    return request, [Response(rollout, finish_reason="error", error=reason) for rollout in request.rollouts]


def out_of_memory_text(question: Question, spec: SamplingSpec) -> str:
    """What a user can do about a sample that does not fit alone."""
    return (
        f"out of memory with this sample alone: {question.inputs['input_ids'].shape[1]} prompt tokens, "
        f"{len(question.request.rollouts)} rollouts of up to {spec.max_new_tokens} tokens at once. "
        "Ask for fewer rollouts or tokens, or limit the image size in the checkpoint's preprocessor_config.json; "
        "--batch-size 1 does not help any more"
    )


def _release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
