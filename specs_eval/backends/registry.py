"""Which backends there are, by the name typed after ``--backend``."""

from __future__ import annotations

import difflib

from specs_eval.backends.base import Backend, BackendOptions
from specs_eval.errors import ConfigError

BACKENDS = {
    "hf": "transformers, on CPU or GPU (the embedded default)",
    "vllm": "vLLM in this process (pip install 'specs-eval[vllm]')",
    "openai": "any OpenAI-compatible endpoint, such as vllm serve",
}


def create_backend(name: str, options: BackendOptions) -> Backend:
    """A backend that has not loaded anything yet.

    Raises:
        ConfigError: no backend has this name.
    """
    if name == "hf":
        from specs_eval.backends.hf import HFBackend

        return HFBackend(options)
    if name == "vllm":
        from specs_eval.backends.vllm import VLLMBackend

        return VLLMBackend(options)
    if name == "openai":
        from specs_eval.backends.endpoint import EndpointBackend

        return EndpointBackend(options)
    near = difflib.get_close_matches(name, BACKENDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown backend {name!r}{hint} Known: {', '.join(BACKENDS)}")
