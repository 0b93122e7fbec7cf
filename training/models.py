"""Models and processors as trainers want them, and adapters folded into full weights between stages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.training.config import LoraSettings, ModelSettings
from specs_eval.training.tiny.folders import complete_or_absent

TINY = "tiny"
_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")
_VISION = ("visual", "vision", "image", "merger", "projector", "connector")
"""Words in the names of modules that are not of the language model."""


def on_cpu(settings: ModelSettings) -> bool:
    """Whether training runs on the CPU."""
    import torch

    return settings.device == "cpu" or not torch.cuda.is_available()


def find_model(path: str, fingerprinter: Fingerprinter) -> Checkpoint:
    """The checkpoint that a recipe names: a folder, a hub id, or ``tiny``.

    Raises:
        ConfigError: no such place.
        CheckpointError: it is not a whole checkpoint, or an adapter (fold it into its base first).
    """
    if path == TINY:
        from specs_eval.training.tiny import checkpoint_path

        path = str(checkpoint_path())
    argument = f"{path.rstrip('/')}/." if Path(path).is_dir() else path
    found = resolve_checkpoints([argument], fingerprinter).checkpoints[0]
    if found.base is not None:
        raise CheckpointError(f"{path} is an adapter; training starts from full weights: merge it into its base first")
    return found


def load_model(path: Path, settings: ModelSettings) -> Any:
    """A model to be trained, in training's number format.

    Raises:
        ConfigError: its attention cannot be had here.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=getattr(torch, dtype_name(settings)),
            attn_implementation=settings.attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except ImportError as error:
        raise ConfigError(f"model.attention: {settings.attention} cannot be had: {error}") from error
    if settings.freeze_vision and settings.lora is None:
        for name, weights in model.named_parameters():
            weights.requires_grad_(not _of_vision(name))
    return model


def load_processor(path: Path, settings: ModelSettings) -> Any:
    """The processor of a model, padding on the left.

    On the right, Qwen2.5-VL's positions are wrong in GRPO (huggingface/trl issue 5785).
    """
    from transformers import AutoProcessor

    limits = {} if settings.max_pixels is None else {"max_pixels": settings.max_pixels}
    processor = AutoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False, **limits)
    processor.tokenizer.padding_side = "left"
    return processor


def as_trained(checkpoint: Path, settings: ModelSettings, target: Path) -> Path:
    """The model before training with the processor that training gives its checkpoints; its weights are linked.

    With a limit on pixels they see smaller images than the model as it was published: gains over that one would be partly
    about the size of images.

    Args:
        checkpoint: folder of the model.
        settings: of the recipe.
        target: folder to be made, if it is needed and not there.
    """
    if settings.max_pixels is None:
        return checkpoint
    if (target / "config.json").exists():
        return target
    processor = load_processor(checkpoint, settings)
    with complete_or_absent(target) as scratch:
        processor.save_pretrained(scratch)
        for pattern in _MODEL_FILES:
            for file in checkpoint.glob(pattern):
                (scratch / file.name).symlink_to(file.resolve())
    return target


def dtype_name(settings: ModelSettings) -> str:
    """Number format of the weights in memory."""
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if settings.lora is not None and not on_cpu(settings) else "float32"


def adapter_config(model: Any, settings: LoraSettings) -> Any:
    """PEFT's configuration of the adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(model, settings.targets),
        task_type="CAUSAL_LM",
    )


def _targets(model: Any, targets: str | tuple[str, ...]) -> list[str]:
    import torch

    if targets not in ("language", "all"):
        named = [targets] if isinstance(targets, str) else list(targets)
        modules = [name for name, _ in model.named_modules()]
        for target in named:
            if not any(name == target or name.endswith(f".{target}") for name in modules):
                last = sorted(
                    {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
                )
                raise ConfigError(
                    f"model.lora.targets: the model has no module {target!r}; its linear layers are {', '.join(last)}"
                )
        return named
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    return [name for name in linear if targets == "all" or not _of_vision(name)]


def _of_vision(name: str) -> bool:
    return any(word in name.lower() for word in _VISION)


def fold_adapter(checkpoint: Path, target: Path) -> Path:
    """Full weights of an adapter and its base, in the base's number format: what the next stage starts from.

    Raises:
        CheckpointError: the adapter cannot be read.
    """
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    if (target / "config.json").is_file():
        return target
    base = resolve_checkpoints([f"{checkpoint}/."], Fingerprinter()).checkpoints[0].base
    if base is None:
        return checkpoint
    try:
        model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto", local_files_only=True)
        merged = PeftModel.from_pretrained(model, checkpoint).merge_and_unload()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint}: the adapter does not load: {error}") from error
    with complete_or_absent(target) as scratch:
        merged.save_pretrained(scratch)
        for file in checkpoint.iterdir():
            if file.suffix in (".json", ".jinja", ".txt") and "adapter" not in file.name and "state" not in file.name:
                shutil.copyfile(file, scratch / file.name)
        for file in scratch.iterdir():
            file.chmod(0o644)
    return target
