"""What lmms-eval reads at its start: names and class paths, nothing heavy.

lmms-eval stops reading entry points of *all* packages when one fails, so this module must import without torch,
transformers or a backend.
"""

from __future__ import annotations

from typing import Any


def manifests() -> list[Any]:
    """The models that we offer to ``lmms-eval --model``: one `ModelManifest` each."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id="specs_hf", chat_class_path="specs_eval.lmms_models.hf.SpecsHF")]
