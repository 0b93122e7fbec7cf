"""Loading checkpoints into engines, and telling clearly why one cannot be loaded."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from specs_eval.backends.base import Timing
from specs_eval.backends.hf import attention
from specs_eval.backends.hf.chats import ChatEncoder
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.foreign_errors import explained
from specs_eval.backends.hf.settings import Settings
from specs_eval.backends.hf.weights import check_weights
from specs_eval.checkpoints import Checkpoint

logger = logging.getLogger(__name__)

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_PROCESSOR_CONFIGS = ("processor_config.json", "preprocessor_config.json")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".safetensors.index.json")
_NOT_PROCESSOR = ("config.json", "generation_config.json", "adapter_config.json", "trainer_state.json")
_NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")


def model_folder(checkpoint: Checkpoint) -> Path:
    """The folder with the model's configuration: the base's, for an adapter."""
    return checkpoint.base if checkpoint.base is not None else checkpoint.path


def load_model(folder: Path, settings: Settings) -> Any:
    """A model in eval mode, on the device, all of its weights from the checkpoint.

    Raises:
        CheckpointError: it cannot be had like that.
    """
    with explained(folder, "its model does not load"), _quiet():
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=settings.dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **_LOCAL,
        )
        model = model.to(settings.device).eval()
    check_weights(
        folder,
        missing=report["missing_keys"],
        misshapen=[item[0] for item in report["mismatched_keys"]],
        unexpected=report["unexpected_keys"] if settings.refuse_unexpected else (),
    )
    attention.install(model)
    return model


def load_encoder(checkpoint: Checkpoint, settings: Settings) -> ChatEncoder:
    """The checkpoint's processor.

    Raises:
        CheckpointError: it is missing, incomplete or has no chat template.
    """
    return encoder_of(processor_folder(checkpoint), settings.dtype)


def encoder_of(folder: Path, dtype: torch.dtype) -> ChatEncoder:
    """The processor in a folder; images come as `dtype`.

    Raises:
        CheckpointError: it is missing, incomplete or has no chat template.
    """
    with explained(folder, "its processor does not load"), _quiet():
        processor = AutoProcessor.from_pretrained(folder, **_LOCAL)
    return ChatEncoder(processor, dtype, str(folder))


def processor_folder(checkpoint: Checkpoint) -> Path:
    """Where the processor is; an adapter's own, if it has one."""
    own = any((checkpoint.path / name).exists() for name in _PROCESSOR_CONFIGS)
    return checkpoint.path if own else model_folder(checkpoint)


def processor_digest(folder: Path) -> str:
    """Hash of every file that a processor may be made of."""
    hasher = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        small = path.is_file() and path.suffix in (".json", ".txt", ".jinja", ".model")
        if small and path.name not in _NOT_PROCESSOR and not path.name.endswith(_WEIGHT_SUFFIXES):
            hasher.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def architecture(folder: Path) -> str:
    """A checkpoint's configuration as text, without what does not matter to the shape of the model.

    Raises:
        CheckpointError: config.json does not read.
    """
    with explained(folder, "its config.json does not load"), _quiet():
        config = AutoConfig.from_pretrained(folder, **_LOCAL).to_dict()
    return json.dumps(_stripped(config), sort_keys=True, default=str)


def difference(one: str, other: str) -> str:
    """Where two configurations (see `architecture`) part, in a few words."""
    first, second = (dict(_leaves(json.loads(text))) for text in (one, other))
    parted = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    # The kind of model says more than any of the settings that differ with it.
    parted.sort(key=lambda name: name != "model_type")
    shown = [f"{name} {first.get(name, 'unset')} -> {second.get(name, 'unset')}"[:120] for name in parted[:2]]
    return ", ".join(shown) + (", ..." if len(parted) > 2 else "")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, f"{name}.{key}" if name else key)
    else:
        yield name, value


def load_generation_config(folder: Path, model: Any) -> GenerationConfig:
    """The checkpoint's generation config, or the one that its model came with."""
    if not (folder / "generation_config.json").exists():
        return model.generation_config
    with explained(folder, "its generation_config.json does not load"), _quiet():
        return GenerationConfig.from_pretrained(folder, local_files_only=True)


def make_engine(
    model: Any, encoder: ChatEncoder, generation: GenerationConfig, settings: Settings, timing: Timing, source: str
) -> Engine:
    """Put an engine together. Of the generation config only the end and padding tokens are used."""
    tokenizer = encoder.tokenizer
    eos = end_tokens(tokenizer, generation, source)
    pads = (tokenizer.pad_token_id, generation.pad_token_id, *sorted(eos), 0)
    return Engine(
        model=model,
        encoder=encoder,
        settings=settings,
        timing=timing,
        eos_ids=torch.tensor(sorted(eos), dtype=torch.long, device=settings.device),
        eos_set=eos,
        pad_id=next(pad for pad in pads if pad is not None),
    )


def end_tokens(tokenizer: Any, generation: GenerationConfig, source: str) -> frozenset[int]:
    """Ids of all tokens that end a response: the tokenizer's and those of the generation config; may be empty."""
    eos: set[int] = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    more = generation.eos_token_id
    eos |= set(more) if isinstance(more, list | tuple) else {more} if more is not None else set()
    if not eos:
        logger.warning("%s names no end token: every response runs to the token limit", source)
    return frozenset(eos)


def _stripped(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _stripped(value) for key, value in config.items() if key not in _NOT_ARCHITECTURE}
    return [_stripped(value) for value in config] if isinstance(config, list | tuple) else config


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and reports that transformers writes to stderr while loading."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
