"""Any of our backends behind lmms-eval's model interface."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.utils import simple_parse_args_string
from tqdm import tqdm

from specs_eval.backends.base import Backend, BackendOptions, Request, Response
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.errors import EXIT_INCOMPLETE, ConfigError, GenerationError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.lmms_models.exit_status import end_with, nonzero_exit_on_error
from specs_eval.lmms_models.identity import DocNames, name_docs
from specs_eval.lmms_models.messages import chat_from_messages
from specs_eval.lmms_models.requests import AskedDoc, asked_docs, by_sampling
from specs_eval.sampling import SamplingSpec, noise_key

logger = logging.getLogger(__name__)

SAMPLES_AT_ONCE = 64
"""Samples whose images are decoded at the same time (rounded up to whole blocks of the backend)."""

_LMMS_EVAL_DEFAULT_BATCH_SIZE = 1


class SpecsModel(lmms):  # type: ignore[misc] # lmms-eval is not typed
    """A chat model of lmms-eval that answers with one of our backends.

    Repeats of a document become one request with k rollouts; sampling noise is keyed as in ``specs-eval run``, so
    both give the same responses. A failed rollout is None, never text, and our tasks count it as failed; a task that
    cannot do that must not score it, so the evaluation is ended instead.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        seed: int = 0,
        max_batch_size: int | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            pretrained: checkpoint folder or hub id, as for ``specs-eval run --ckpt``.
            batch_size: samples a batch; None or "auto": the backend chooses. Never changes a score.
            device: such as ``cuda:1``; default: one of this process's own rank.
            dtype: such as ``bfloat16``.
            seed: seed of the sampling noise.
            max_batch_size: upper limit when the batch size is automatic.

        Raises:
            CheckpointError: the checkpoint cannot be loaded.
            ConfigError: it is not one checkpoint.
        """
        super().__init__()
        self.seed = int(seed)
        with nonzero_exit_on_error():
            size = None if batch_size is None or str(batch_size).startswith("auto") else int(batch_size)
            device = device or _device_of_this_rank()
            options = BackendOptions(size or max_batch_size, device, dtype)
            self.checkpoint = find_checkpoint(str(pretrained))
            self.backend = self.make_backend(options)
            self.backend.load(self.checkpoint)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._names: dict[tuple[str, str], DocNames] = {}

    @abstractmethod
    def make_backend(self, options: BackendOptions) -> Backend:
        """The backend, nothing loaded yet."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> SpecsModel:
        """Model from ``--model_args`` and lmms-eval's own options; the former win.

        lmms-eval always passes a batch size, 1 unless the user gave one; its default is not a wish.
        """
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if type(given.get("batch_size")) is int and given["batch_size"] == _LMMS_EVAL_DEFAULT_BATCH_SIZE:
            del given["batch_size"]  # an explicit --batch_size 1 arrives as text
        arguments = {**given, **simple_parse_args_string(arg_string)}
        with nonzero_exit_on_error():
            known = ("pretrained", "batch_size", "device", "dtype", "seed", "max_batch_size")
            unknown = sorted(set(arguments) - set(known))
            if unknown or "pretrained" not in arguments:
                problem = f"unknown: {', '.join(unknown)}" if unknown else "pretrained is missing"
                raise ConfigError(f"--model_args of {cls.__name__}: {problem}; known: {', '.join(known)}")
        return cls(**arguments)

    def generate_until(self, requests: list[Any]) -> list[GenerationResult]:
        """Responses in the order of the requests; None as text where generation failed.

        Raises:
            GenerationError: the engine broke, or a rollout failed of a task that would score it as an answer.
        """
        docs = asked_docs(requests)
        answers: list[list[GenerationResult]] = [[GenerationResult("")] * doc.n_rollouts for doc in docs]
        failed: dict[str, list[str]] = {}
        progress = tqdm(total=len(requests), desc="specs-eval rollouts", disable=self.rank != 0)
        with nonzero_exit_on_error(), progress:
            for spec, positions in by_sampling(docs, self.seed):
                for position, responses in self._answer([docs[p] for p in positions], spec):
                    doc = docs[positions[position]]
                    checked = one_a_rollout(responses, doc.n_rollouts)
                    _count_failures(doc, checked, failed)
                    answers[positions[position]] = [_result(response) for response in checked]
                    progress.update(len(checked))
        for task, reasons in failed.items():
            end_with(EXIT_INCOMPLETE)
            logger.error("%s: %d rollouts failed; the first: %s", task, len(reasons), reasons[0])
        return [answer for doc_answers in answers for answer in doc_answers]

    def _answer(self, docs: Sequence[AskedDoc], spec: SamplingSpec) -> Iterator[tuple[int, list[Response]]]:
        """(position, responses) of documents of one task with one sampling spec, some at a time."""
        block = max(1, self.backend.block_size(docs[0].n_rollouts))
        step = block * -(-SAMPLES_AT_ONCE // block)
        for start in range(0, len(docs), step):
            asked: dict[str, int] = {}
            requests = []
            for position in range(start, min(start + step, len(docs))):
                request = self._request(docs[position])
                if isinstance(request, Request):
                    requests.append(request)
                    asked[request.sample_id] = position
                else:
                    yield position, request
            for request, responses in self.backend.generate(requests, spec) if requests else ():
                yield asked.pop(request.sample_id), responses
            for position in asked.values():
                yield position, []

    def _request(self, doc: AskedDoc) -> Request | list[Response]:
        """What to ask the backend, or failed responses where the task cannot show the document."""
        names = self._doc_names(doc)
        sample_id = names.sample_ids[doc.doc_id]
        numbers = tuple(range(doc.n_rollouts))
        try:
            chat = chat_from_messages(doc.doc_to_messages(self.task_dict[doc.task][doc.split][doc.doc_id]))
        except Exception as error:  # noqa: BLE001 - a task's own code on one sample
            reason = f"{sample_id}: {type(error).__name__}: {error}"
            return [Response(number, finish_reason="error", error=reason) for number in numbers]
        return Request(sample_id, noise_key(names.task, sample_id), chat, numbers)

    def _doc_names(self, doc: AskedDoc) -> DocNames:
        place = (doc.task, doc.split)
        if place not in self._names:
            self._names[place] = name_docs(self.task_dict[doc.task][doc.split], doc.task)
        return self._names[place]

    def clean(self) -> None:
        """Nothing: lmms-eval's own version deletes every module of the model and frees a trainer's accelerator."""

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not offered."""
        raise _only_generation("loglikelihood (multiple choice by probability)")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not offered."""
        raise _only_generation("multi-round")


def _device_of_this_rank() -> str | None:
    """The GPU of this process where several share a machine; None: the backend chooses."""
    rank = os.environ.get("LOCAL_RANK")
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return f"cuda:{rank}" if several and rank is not None and torch.cuda.is_available() else None


def find_checkpoint(pretrained: str) -> Checkpoint:
    """The one checkpoint of this path or hub id.

    Raises:
        CheckpointError: it is not usable.
        ConfigError: it is none or several.
    """
    found = resolve_checkpoints([pretrained], Fingerprinter())
    if len(found.checkpoints) != 1:
        names = ", ".join(checkpoint.name for checkpoint in found.checkpoints)
        raise ConfigError(f"pretrained={pretrained} is {len(found.checkpoints)} checkpoints ({names}); name one")
    return found.checkpoints[0]


def _only_generation(kind: str) -> ConfigError:
    end_with(EXIT_INCOMPLETE)
    return ConfigError(f"specs-eval's models only run generate tasks, not {kind}")


def one_a_rollout(responses: Sequence[Response], n_rollouts: int) -> list[Response]:
    """One response a rollout, in order; a missing one is a failed one."""
    by_number = {response.rollout: response for response in responses}
    missing = "the backend gave no response"
    return [
        by_number.get(number, Response(number, finish_reason="error", error=missing)) for number in range(n_rollouts)
    ]


def _count_failures(doc: AskedDoc, responses: Sequence[Response], failed: dict[str, list[str]]) -> None:
    """Remember reasons; end the evaluation where lmms-eval would score the failure as an empty answer.

    Raises:
        GenerationError: the task is not one of ours.
    """
    reasons = [response.error for response in responses if response.error is not None]
    if not reasons:
        return
    failed.setdefault(doc.task, []).extend(reasons)
    if not getattr(getattr(doc.doc_to_messages, "__self__", None), "records_failures", False):
        raise GenerationError(
            f"{doc.task}: a rollout failed, and lmms-eval would score it as an empty answer: {reasons[0]} "
            "('specs-eval run --tasks' records such rollouts as failed and goes on.)"
        )


def _result(response: Response) -> GenerationResult:
    text = response.text if response.error is None else None
    return GenerationResult(text, TokenCounts(output_tokens=response.n_tokens))
