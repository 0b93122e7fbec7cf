"""A running vLLM engine: started with what we need of it, stepped by us, and its errors as sentences."""

from __future__ import annotations

import gc
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from specs_eval.backends.hf.foreign_errors import INPUT_ERRORS, first_line
from specs_eval.backends.vllm.installation import VLLM
from specs_eval.backends.vllm.settings import Settings
from specs_eval.errors import CheckpointError, GenerationError

PROCESSOR = "specs_eval.backends.vllm.processor:RolloutProcessor"
EXTENSION = "specs_eval.backends.vllm.worker.WorkerExtension"

_MEMORY = re.compile(
    r"out of memory|OutOfMemory|No available memory for the cache|[Ff]ree memory on device|larger than the (?:available|maximum)"
    r"|can't allocate memory|KV cache is needed"
)
_UNSUPPORTED = re.compile(r"(?:not|n't) support|no vLLM implementation|[Cc]annot find model|not compatible with vLLM")
_IN_ITS_CORE = re.compile(r"Engine core initialization failed")
_MAX_TEXT = 20_000

MEMORY_KNOBS = (
    "--backend-arg gpu_memory_utilization=0.95 takes more of the GPU, max_model_len=N and max_num_seqs=N need less of it, "
    "tensor_parallel_size=N spreads the model over GPUs, enforce_eager=yes saves the CUDA graphs"
)


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """What an engine must be started with to take LoRA adapters."""

    rank: int


class Engine:
    """One engine, for the checkpoints of one architecture."""

    def __init__(self, vllm: VLLM, live: Any, adapter_room: AdapterRoom | None) -> None:
        self.vllm = vllm
        self._live = live
        self.adapter_room = adapter_room

    @classmethod
    def start(
        cls, vllm: VLLM, folder: Path, tokenizer: Path, settings: Settings, adapter_room: AdapterRoom | None
    ) -> Engine:
        """Start an engine on a checkpoint.

        Raises:
            CheckpointError: vLLM does not serve this model, memory is short, or it fails for another reason.
        """
        arguments = engine_arguments(folder, tokenizer, settings, adapter_room)
        try:
            live = vllm.engine.from_engine_args(vllm.engine_args(**arguments))
        except (*INPUT_ERRORS, torch.OutOfMemoryError) as error:
            raise CheckpointError(f"{folder}: {start_problem(error, folder, vllm.version)}") from error
        engine = cls(vllm, live, adapter_room)
        engine.ask_workers("specs_eval_watch", socket.gethostname(), os.getpid())
        return engine

    @property
    def max_model_len(self) -> int:
        """Tokens that prompt and response may have together."""
        return int(self._live.vllm_config.model_config.max_model_len)

    @property
    def max_num_seqs(self) -> int:
        """Rollouts that are computed at a time."""
        return int(self._live.vllm_config.scheduler_config.max_num_seqs)

    @property
    def runs_foreign_code(self) -> bool:
        """Whether vLLM has no implementation of its own for this model and runs that of transformers."""
        return str(self._live.vllm_config.model_config.architecture).startswith("Transformers")

    def prepare(self, prompt: Mapping[str, Any]) -> Any:
        """Process a prompt and its images, once for all of its rollouts.

        Raises:
            GenerationError: vLLM refuses it.
        """
        try:
            return self._live.renderer.render_cmpl([dict(prompt)])[0]
        except INPUT_ERRORS as error:
            raise GenerationError(f"vLLM refused the sample: {first_line(error)}") from error

    def add(self, name: str, prepared: Any, params: Any, adapter: Any) -> None:
        """Queue one rollout.

        Raises:
            GenerationError: vLLM refuses it.
        """
        try:
            # The engine writes into what it is given.
            self._live.add_request(name, dict(prepared), params, lora_request=adapter)
        except INPUT_ERRORS as error:
            raise GenerationError(f"vLLM refused the sample: {first_line(error)}") from error

    def step(self) -> list[Any]:
        """Compute one step; the requests that have ended with it.

        Raises:
            GenerationError: the engine has died.
        """
        try:
            return [output for output in self._live.step() if output.finished]
        except Exception as error:
            _pass_on_ours(error)
            hint = f" {MEMORY_KNOBS}" if _MEMORY.search(_text(error)) else " What vLLM wrote above says more"
            raise GenerationError(f"the vLLM engine failed while generating: {first_line(error)}.{hint}") from error

    def abort(self, names: Iterable[str]) -> None:
        """Stop rollouts that nobody waits for."""
        left = list(names)
        if left:
            self._live.abort_request(left)

    def ask_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker.

        Raises:
            GenerationError: one of them failed.
        """
        return self._call_workers(method, args=arguments)

    def reload(self, folder: Path) -> None:
        """Load the weights of another checkpoint in place, and forget everything that came of the old ones.

        Raises:
            GenerationError: it failed; what is loaded now is not known.
        """
        self._call_workers("reload_weights", kwargs={"weights_path": str(folder)})
        self._call_workers("specs_eval_pack_again")
        if not self._live.reset_prefix_cache():
            raise GenerationError("vLLM did not let go of its prefix cache")
        # What the old vision tower made of an image must not be taken for the new one's.
        self._live.reset_mm_cache()
        self._live.reset_encoder_cache()

    def _call_workers(self, method: str, **arguments: Any) -> list[Any]:
        try:
            return list(self._live.collective_rpc(method, **arguments))
        except Exception as error:
            _pass_on_ours(error)
            raise GenerationError(f"vLLM failed in {method}: {first_line(error)}") from error

    def adapter(self, number: int, folder: Path) -> Any:
        """Load a LoRA adapter beside the base model.

        Raises:
            CheckpointError: vLLM does not take it, or not all of it.
        """
        request = self.vllm.lora_request(f"adapter-{number}", number, str(folder))
        try:
            self._live.add_lora(request)
        except Exception as error:
            _pass_on_ours(error)
            raise CheckpointError(
                f"{folder}: vLLM does not take this adapter: {first_line(error)}. {_MERGE}"
            ) from error
        gaps = set.intersection(*map(set, self.ask_workers("specs_eval_adapter_gaps", number)))
        if gaps:
            self._live.remove_lora(number)
            shown = ", ".join(sorted(gaps)[:3]) + (", ..." if len(gaps) > 3 else "")
            raise CheckpointError(
                f"{folder}: vLLM would leave {len(gaps)} of the adapter's modules out ({shown}); what would answer is not "
                f"what was trained. For those of the vision tower --backend-arg enable_tower_connector_lora=yes may do. {_MERGE}"
            )
        return request

    def remove_adapter(self, number: int) -> None:
        """Let an adapter go."""
        self._live.remove_lora(number)

    def shutdown(self) -> None:
        """Stop the engine and free its memory."""
        live, self._live = self._live, None
        if live is None:
            return
        core = getattr(live, "engine_core", None)
        if core is not None:
            core.shutdown()
        del live, core
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_MERGE = "Or merge it into its base and evaluate that, or use --backend hf, which merges it"


def engine_arguments(
    folder: Path, tokenizer: Path, settings: Settings, adapter_room: AdapterRoom | None
) -> dict[str, Any]:
    """The arguments of an engine."""
    arguments: dict[str, Any] = {
        "model": str(folder),
        "tokenizer": str(tokenizer),
        "dtype": settings.dtype_name,
        "load_format": "safetensors",  # never pickle
        "trust_remote_code": False,
        "generation_config": "vllm",  # sampling follows the sampling spec alone
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # It would save processing an image that comes again, but sends it to the engine only once, trusting that the engine
        # saw it: a sample that is refused after its images were processed then breaks every later one with that image.
        "mm_processor_cache_gb": 0,
    }
    if settings.needs_processor:
        arguments["logits_processors"] = [PROCESSOR]
    arguments["worker_extension_cls"] = EXTENSION
    if settings.statistics == "topk":
        arguments["max_logprobs"] = settings.top_logprobs
    if adapter_room is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": adapter_room.rank}
    return arguments | dict(settings.engine_args)


def start_problem(error: BaseException, folder: Path, version: str) -> str:
    """Why an engine did not start, and what to do about it."""
    text = _text(error)
    if _MEMORY.search(text):
        return f"vLLM has not enough memory ({_telling_line(error, _MEMORY)}). {MEMORY_KNOBS}"
    if _UNSUPPORTED.search(text):
        return (
            f"vLLM {version} does not serve this model ({_architectures(folder)}: {_telling_line(error, _UNSUPPORTED)}). "
            "--backend hf takes every image-text model of transformers; nothing is fallen back to by itself"
        )
    if _IN_ITS_CORE.search(text):
        return f"vLLM's engine core did not start; the cause stands above, in what it wrote. If it is memory: {MEMORY_KNOBS}"
    return f"vLLM {version} did not start on it: {first_line(error)}"


def _pass_on_ours(error: Exception) -> None:
    """Raise again what neither vLLM nor torch nor an input can have caused: vLLM's own errors have no base class."""
    if not isinstance(error, INPUT_ERRORS) and not type(error).__module__.startswith(("vllm.", "torch")):
        raise error


def _architectures(folder: Path) -> str:
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return "unknown architecture"
    return ", ".join(map(str, named))[:200] if isinstance(named, Sequence) and named else "unknown architecture"


def _text(error: BaseException) -> str:
    """The words of an error and of those that it came from."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(texts) < 8:
        texts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(texts)[:_MAX_TEXT]


def _telling_line(error: BaseException, pattern: re.Pattern[str]) -> str:
    line = next(line for line in _text(error).splitlines() if pattern.search(line))
    return line.strip()[:300]
