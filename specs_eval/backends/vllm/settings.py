"""What the options of a user mean for the vllm backend."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

import torch

from specs_eval.backends.base import BackendOptions
from specs_eval.errors import ConfigError

SamplingName = Literal["keyed", "native"]
StatisticsName = Literal["exact", "topk", "none"]

OWN = {
    "sampling": ("keyed", "native"),
    "statistics": ("exact", "topk", "none"),
    "check_prompts": ("yes", "no"),
}
"""Values of `BackendOptions.extra` that are ours; the first is the default. Others go to vLLM's ``EngineArgs``."""

DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_TOP_LOGPROBS = 20
MAX_TOP_LOGPROBS = 1 << 20
_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"

OURS: Mapping[str, str] = MappingProxyType(
    {
        "model": "--ckpt names the checkpoints",
        "tokenizer": "the checkpoint's own is used",
        "hf_config_path": "the checkpoint's own configuration is used",
        "dtype": "say --dtype",
        "seed": "say --seed",
        "trust_remote_code": "no code of a checkpoint is run here",
        "load_format": "only safetensors are loaded",
        "logits_processors": "the backend's own is loaded",
        "worker_extension_cls": "the backend's own is loaded",
        "skip_tokenizer_init": "the tokenizer is needed",
        "generation_config": "sampling follows the sampling spec alone",
        "override_generation_config": "sampling follows the sampling spec alone",
        "max_logprobs": "say top_logprobs",
        "logprobs_mode": "statistics are of the untruncated distribution at T = 1",
        "speculative_config": "logits processors do not work with speculative decoding, and statistics come from one",
        "enable_lora": "it is on when a checkpoint is an adapter",
        "data_parallel_size": "one process holds one engine; share the work out with --shard I/N, a process for each GPU, or "
        "serve the model with 'vllm serve --data-parallel-size N' and ask it with --backend openai",
    }
)
"""Arguments of vLLM that a user cannot set here, and why."""

NEUTRAL = frozenset(
    (
        "async_scheduling",
        "attention_backend",
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "cudagraph_capture_sizes",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "enable_chunked_prefill",
        "enable_expert_parallel",
        "enable_prefix_caching",
        "enable_tower_connector_lora",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "limit_mm_per_prompt",
        "long_prefill_token_threshold",
        "max_cpu_loras",
        "max_cudagraph_capture_size",
        "max_lora_rank",
        "max_loras",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_partial_prefills",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "mm_encoder_tp_mode",
        "mm_processor_cache_gb",
        "mm_processor_cache_type",
        "num_gpu_blocks_override",
        "performance_mode",
        "pipeline_parallel_size",
        "prefix_caching_hash_algo",
        "safetensors_load_strategy",
        "scheduling_policy",
        "tensor_parallel_size",
    )
)
"""Arguments of vLLM that change where and how fast is computed, and results by no more than rounding. What is not here is
part of a run's identity."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked options."""

    dtype_name: str
    device: str | None
    per_position: bool
    sampling: SamplingName = "keyed"
    """Who draws tokens: we, from the noise that the hf backend uses, or vLLM, with a seed for each rollout."""
    statistics: StatisticsName = "exact"
    top_logprobs: int = DEFAULT_TOP_LOGPROBS
    check_prompts: bool = True
    """Hold prompt tokens against those of the checkpoint's own processor."""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """For vLLM."""

    @property
    def needs_processor(self) -> bool:
        """Whether anything is done in the engine's process."""
        return self.sampling == "keyed" or self.statistics == "exact"

    @property
    def numerics(self) -> str:
        """What responses depend on: number format, who draws, and arguments of vLLM that are not `NEUTRAL`."""
        parts = [f"vllm/{self.dtype_name}"]
        if self.sampling != "keyed":
            parts.append(f"sampling={self.sampling}")
        for name in sorted(self.engine_args.keys() - NEUTRAL):
            parts.append(f"{name}={json.dumps(self.engine_args[name], sort_keys=True)}")
        return "/".join(parts)


def settings_from(options: BackendOptions) -> Settings:
    """Check a user's options, as far as that can be done without vLLM.

    Raises:
        ConfigError: an option has no meaning here.
    """
    if options.batch_size is not None:
        raise ConfigError("vLLM batches as it goes; --backend-arg max_num_seqs=N bounds the rollouts at a time")
    name = options.dtype or ("bfloat16" if _has_cuda() else "float32")
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r}; the vllm backend knows {', '.join(DTYPES)}")
    own = {key: values[0] for key, values in OWN.items()}
    engine_args: dict[str, Any] = {}
    top_logprobs = DEFAULT_TOP_LOGPROBS
    for key, value in options.extra.items():
        if key in OWN:
            own[key] = _one_of(key, value, OWN[key])
        elif key == "top_logprobs":
            top_logprobs = _count(key, value)
        elif key in OURS:
            raise ConfigError(f"--backend-arg {key} cannot be set: {OURS[key]}")
        else:
            engine_args[key] = _plain(value)
    return Settings(
        dtype_name=name,
        device=_device(options.device, engine_args),
        per_position=options.per_position,
        sampling=cast("SamplingName", own["sampling"]),
        statistics=cast("StatisticsName", own["statistics"]),
        top_logprobs=top_logprobs,
        check_prompts=own["check_prompts"] == "yes",
        engine_args=engine_args,
    )


def check_names(engine_args: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse arguments that the installed vLLM does not have.

    Raises:
        ConfigError: there is one; the message names what is close to it.
    """
    for name in engine_args:
        if name not in known:
            near = difflib.get_close_matches(name, known | OWN.keys() | {"top_logprobs"}, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            ours = ", ".join(f"{key}={'|'.join(values)}" for key, values in OWN.items())
            raise ConfigError(
                f"vLLM has no engine argument {name!r}{hint} Beside vLLM's own, the backend takes {ours}, top_logprobs=N"
            )


def _has_cuda() -> bool:
    """Whether there is a GPU; without waking its driver, which would settle which ones this process sees."""
    before = os.environ.get(_CHECK)
    os.environ[_CHECK] = "1"
    try:
        return torch.cuda.is_available()
    finally:
        if before is None:
            del os.environ[_CHECK]
        else:
            os.environ[_CHECK] = before


def _one_of(key: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"--backend-arg {key} is one of {', '.join(known)}, not {value!r}")
    return value


def _count(key: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,7}", value) or not 1 <= int(value) <= MAX_TOP_LOGPROBS:
        raise ConfigError(f"--backend-arg {key} is a whole number from 1 to {MAX_TOP_LOGPROBS}, not {value!r}")
    return int(value)


def _plain(value: str) -> Any:
    """A value as JSON, where it is; yes and no are true and false; else the text itself."""
    if value.lower() in ("yes", "true"):
        return True
    if value.lower() in ("no", "false"):
        return False
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _device(device: str | None, engine_args: Mapping[str, Any]) -> str | None:
    if device is None:
        return None
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise ConfigError(f"the vllm backend runs on cpu and cuda, not on {device!r}")
    parallel = any(engine_args.get(name, 1) != 1 for name in ("tensor_parallel_size", "pipeline_parallel_size"))
    if ":" in device and parallel:
        raise ConfigError(f"--device {device} names one GPU, and a parallel engine takes several; leave it out")
    return device
