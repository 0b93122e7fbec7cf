"""What all our benchmarks do with their samples: a content hash, and an order in which every prefix is a fair sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from specs_eval.chat import chat_digest, combined_digest
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample


def content_hash(samples: Iterable[Sample]) -> str:
    """12 hex digits that change with any prompt, image, gold answer or fact that scoring uses."""
    parts = [
        f"{sample.sample_id} {chat_digest(sample.chat)} {sample.target} {json.dumps(sample.meta, sort_keys=True)}"
        for sample in samples
    ]
    return combined_digest(parts)[:12]


def fixed_random_order(samples: Sequence[Sample], title: str) -> list[Sample]:
    """The samples by the hash of their ids: the same order everywhere, and every prefix a random sample of them.

    Raises:
        TaskDataError: an id occurs twice.
    """
    seen: set[str] = set()
    for sample in samples:
        if sample.sample_id in seen:
            raise TaskDataError(f"{title}: the id {sample.sample_id!r} occurs twice")
        seen.add(sample.sample_id)
    return sorted(samples, key=lambda sample: hashlib.sha256(sample.sample_id.encode()).digest())
