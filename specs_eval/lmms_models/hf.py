"""``lmms-eval --model specs_hf``: transformers models through our hf backend."""

from __future__ import annotations

from specs_eval.backends.base import Backend, BackendOptions
from specs_eval.backends.registry import create_backend
from specs_eval.lmms_models.model import SpecsModel


class SpecsHF(SpecsModel):
    """Any transformers image-text model, k rollouts from one prefill."""

    def make_backend(self, options: BackendOptions) -> Backend:
        """The hf backend."""
        return create_backend("hf", options)
