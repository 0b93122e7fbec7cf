"""One pass over requests: rollouts into the engine as it has room, answers out as samples are whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from specs_eval.backends.base import FinishReason, Request, Response, Timing
from specs_eval.backends.endpoint.requests import request_seed
from specs_eval.backends.endpoint.statistics import TokenStatistics, entropy_of, nucleus_size
from specs_eval.backends.vllm.engine import Engine
from specs_eval.backends.vllm.observing import EXTRA_ARGS_KEY, Order
from specs_eval.backends.vllm.prompts import Prompts
from specs_eval.backends.vllm.settings import Settings
from specs_eval.errors import CheckpointError, GenerationError
from specs_eval.sampling import SamplingSpec

logger = logging.getLogger(__name__)

Answer = tuple[Request, list[Response]]

N_CHECKED = 4
"""Prompts of each pass whose token ids are held against the checkpoint's own processor."""
QUEUE = 2
"""Rollouts in the engine, as a multiple of those that it computes at a time: what waits there is ready when room is."""
FETCH_SECONDS = 0.25
FETCH_ROLLOUTS = 64
"""Notes are fetched from the engine's process when so much time has passed, or so many rollouts have ended."""

_TAGS = count()
"""Rollouts of this process, numbered through: no two in an engine share a number, whichever pass they are of."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint in an engine and all that asking it takes."""

    engine: Engine
    prompts: Prompts
    tokenizer: Any
    eos: frozenset[int]
    adapter: Any
    """vLLM's request for a LoRA adapter; None: the model itself."""
    source: str


@dataclass(slots=True)
class _Sample:
    """A request whose rollouts are under way."""

    request: Request
    responses: dict[int, Response] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.responses) == len(self.request.rollouts)

    def answer(self) -> Answer:
        return self.request, [self.responses[number] for number in self.request.rollouts]


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout in the engine."""

    tag: int
    number: int
    sample: _Sample


class Pass:
    """Answers some requests in one continuous batch."""

    def __init__(self, loaded: Loaded, requests: Sequence[Request], spec: SamplingSpec, settings: Settings) -> None:
        self._loaded, self._spec, self._settings = loaded, spec, settings
        self._waiting = iter(requests)
        self._running: dict[str, _Rollout] = {}
        self._ended: list[tuple[_Rollout, Any]] = []
        self._to_check = N_CHECKED if settings.check_prompts else 0
        self._room = QUEUE * loaded.engine.max_num_seqs
        self._fetched = time.monotonic()
        self._exhausted = False
        self.n_censored = 0
        """Rollouts whose statistics the log-probabilities of the likeliest tokens do not tell."""

    def answers(self, timing: Timing) -> Iterator[Answer]:
        """Answer everything, each sample as soon as its last rollout has ended.

        Raises:
            GenerationError: the engine has died.
            CheckpointError: vLLM does not ask what the checkpoint's own processor does.
        """
        try:
            while True:
                started = time.perf_counter()
                refused = list(self._fill())
                filled = time.perf_counter()
                timing.preprocess += filled - started
                yield from refused
                if not self._running and not self._ended:
                    if self._exhausted:
                        return
                    continue
                started = time.perf_counter()
                self._step()
                stepped = time.perf_counter()
                whole = self._fetch() if self._due() else []
                timing.decode += stepped - started
                timing.statistics += time.perf_counter() - stepped
                for sample in whole:
                    self._count(sample, timing)
                    yield sample.answer()
        finally:
            self._stop()

    def _fill(self) -> Iterator[Answer]:
        """Put samples into the engine while it has room; those that are refused come back at once."""
        while len(self._running) < self._room:
            request = next(self._waiting, None)
            if request is None:
                self._exhausted = True
                return
            if not request.rollouts:
                yield request, []
                continue
            try:
                self._add(request)
            except GenerationError as error:
                yield request, [Response(n, finish_reason="error", error=str(error)) for n in request.rollouts]

    def _add(self, request: Request) -> None:
        engine = self._loaded.engine
        prompt = self._loaded.prompts.prompt_of(request.chat)
        prepared = engine.prepare(prompt)
        ids = list(prepared["prompt_token_ids"])
        if len(ids) >= engine.max_model_len:
            raise GenerationError(
                f"the prompt has {len(ids)} tokens and the engine was started for {engine.max_model_len} with the response; "
                "raise --backend-arg max_model_len"
            )
        if self._to_check:
            self._check(request, ids)
            self._to_check -= 1
        sample = _Sample(request)
        added: list[str] = []
        try:
            for number in request.rollouts:
                rollout = _Rollout(next(_TAGS), number, sample)
                name = f"specs-eval-{rollout.tag}"
                engine.add(name, prepared, self._params(rollout), self._loaded.adapter)
                self._running[name] = rollout
                added.append(name)
        except GenerationError:
            engine.abort(added)
            for name in added:
                del self._running[name]
            raise

    def _check(self, request: Request, ids: list[int]) -> None:
        difference = self._loaded.prompts.difference(request.chat, ids)
        if difference is not None:
            raise CheckpointError(
                f"{self._loaded.source}: vLLM makes other prompt tokens than the checkpoint's own processor "
                f"({difference}; sample {request.sample_id}). Its answers would not compare with those of other backends; "
                "--backend-arg check_prompts=no evaluates it anyway"
            )

    def _params(self, rollout: _Rollout) -> Any:
        return sampling_params(
            self._loaded, self._settings, self._spec, rollout.tag, rollout.sample.request, rollout.number
        )

    def _step(self) -> None:
        if not self._running:
            return
        for output in self._loaded.engine.step():
            rollout = self._running.pop(output.request_id, None)
            if rollout is not None:
                self._ended.append((rollout, output.outputs[0]))

    def _due(self) -> bool:
        waited = time.monotonic() - self._fetched >= FETCH_SECONDS
        return bool(self._ended) and (not self._running or waited or len(self._ended) >= FETCH_ROLLOUTS)

    def _fetch(self) -> list[_Sample]:
        """Make responses of the rollouts that have ended; the samples that are whole now."""
        ended, self._ended = self._ended, []
        self._fetched = time.monotonic()
        notes: dict[int, list[Any]] = {}
        if self._settings.statistics == "exact":
            tags = [[rollout.tag, len(output.token_ids)] for rollout, output in ended]
            for found in self._loaded.engine.ask_workers("specs_eval_take", tags):
                # Workers that share a model all have the same notes; those of other stages have none.
                notes |= {tag: rest for tag, *rest in found}
        whole = []
        for rollout, output in ended:
            sample = rollout.sample
            sample.responses[rollout.number] = self._response(rollout.number, output, notes.get(rollout.tag))
            if sample.whole:
                whole.append(sample)
        return whole

    def _response(self, number: int, output: Any, notes: list[Any] | None) -> Response:
        tokens = list(output.token_ids)
        if not tokens or output.finish_reason not in ("stop", "length"):
            reason = f"vLLM ended the rollout with {output.finish_reason!r} after {len(tokens)} tokens"
            return Response(number, finish_reason="error", error=reason)
        if output.finish_reason == "length" and len(tokens) < self._spec.max_new_tokens:
            return Response(
                number,
                finish_reason="error",
                error=f"cut off after {len(tokens)} of {self._spec.max_new_tokens} tokens, as the engine was started for "
                f"{self._loaded.engine.max_model_len} tokens with the prompt; raise --backend-arg max_model_len",
            )
        if notes is not None and notes[2]:
            return Response(number, finish_reason="error", error="the model's logits are not finite")
        reason_name: FinishReason = "stop" if output.finish_reason == "stop" else "length"
        return Response(number, self._text(tokens), len(tokens), reason_name, **self._measures(output, notes))

    def _text(self, tokens: list[int]) -> str:
        """The response without its end token, before the first stop string; decoded as the hf backend does."""
        kept = tokens[:-1] if tokens[-1] in self._loaded.eos else tokens
        (text,) = self._loaded.tokenizer.batch_decode(
            [kept], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = [at for stop in self._spec.stop if (at := text.find(stop)) >= 0]
        return str(text[: min(found, default=len(text))])

    def _measures(self, output: Any, notes: list[Any] | None) -> dict[str, Any]:
        statistics = TokenStatistics(None, None)
        if notes is not None and notes[0] is not None:
            statistics = TokenStatistics(tuple(notes[0]), tuple(notes[1]))
        elif self._settings.statistics == "topk" and output.logprobs is not None:
            statistics = from_top_logprobs(output.logprobs, self._settings.top_logprobs)
        if self._settings.statistics != "none" and statistics.nucleus_sizes is None:
            self.n_censored += 1
        measures: dict[str, Any] = {"entropy": statistics.entropy, "nucleus": statistics.nucleus}
        if self._settings.per_position:
            entropies = statistics.entropies
            measures["entropies"] = None if entropies is None else tuple(round(value, 6) for value in entropies)
            measures["nucleus_sizes"] = statistics.nucleus_sizes
        return measures

    def _count(self, sample: _Sample, timing: Timing) -> None:
        timing.n_rollouts += len(sample.responses)
        timing.n_tokens += sum(response.n_tokens or 0 for response in sample.responses.values())

    def _stop(self) -> None:
        """Leave nothing behind in the engine when the caller goes away in the middle."""
        running, self._running = self._running, {}
        if running:
            self._loaded.engine.abort(running)
            self._loaded.engine.ask_workers("specs_eval_forget")


def sampling_params(
    loaded: Loaded, settings: Settings, spec: SamplingSpec, tag: int, request: Request, number: int
) -> Any:
    """How vLLM is to draw one rollout.

    Where we draw, its sampler is greedy over the one token that is left: no generator, no seed. Else each rollout has a
    seed of its own, a function of (seed, sample, rollout).
    """
    keyed = settings.sampling == "keyed"
    order = Order(tag, request.key, number, spec, draw=keyed, measure=settings.statistics == "exact")
    native = not keyed and spec.temperature > 0
    vllm = loaded.engine.vllm
    return vllm.sampling_params(
        n=1,
        temperature=spec.temperature if native else 0.0,
        top_p=spec.top_p if native else 1.0,
        seed=request_seed(spec.seed, request.key, number) if native else None,
        max_tokens=spec.max_new_tokens,
        stop=list(spec.stop) or None,
        stop_token_ids=sorted(loaded.eos),
        # Texts are decoded by us; only a stop string needs the engine to read along.
        detokenize=bool(spec.stop),
        output_kind=vllm.final_only,
        logprobs=settings.top_logprobs if settings.statistics == "topk" else None,
        extra_args={EXTRA_ARGS_KEY: order.packed()} if settings.needs_processor else None,
    )


def from_top_logprobs(positions: Sequence[Any], top: int) -> TokenStatistics:
    """Statistics from the log-probabilities of the likeliest tokens: exact, or None for the rollout.

    Args:
        positions: a table of token id -> vLLM's log-probability with its rank, for each position.
        top: how many of the likeliest were asked for; the drawn token may come on top of them.
    """
    tables = [
        sorted((float(one.logprob) for one in table.values() if one.rank <= top), reverse=True) for table in positions
    ]
    sizes, entropies = [nucleus_size(table) for table in tables], [entropy_of(table) for table in tables]
    return TokenStatistics(
        None if None in entropies else tuple(value for value in entropies if value is not None),
        None if None in sizes else tuple(size for size in sizes if size is not None),
    )
