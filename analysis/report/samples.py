"""The samples that a page carries: packed in order of what they tell, until the size budget is used up."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from specs_eval.analysis.report.embedding import cut, finite, label, visible

MAX_PROMPT = 12_000
_MAX_SHORT = 500
"""Characters of an answer, a target or a reason."""
_SPARE = 1_000
"""Bytes kept for the last line and the end of the stream."""
_GZIP = 31
"""zlib's window bits for a gzip stream, which browsers unpack themselves."""


@dataclass(frozen=True, slots=True)
class BrowserRollout:
    """One response and how it was scored."""

    response: str
    answer: str | None
    score: float | None
    rule: str
    reason: str | None
    finish_reason: str
    n_tokens: int | None


@dataclass(frozen=True, slots=True)
class BrowserSample:
    """One sample with its rollouts at several checkpoints."""

    task: str
    sample_id: str
    category: Mapping[str, str]
    prompt: str
    target: str
    tags: tuple[str, ...]
    """Why it is telling: ``flipped up``, ``flipped down``, ``stuck``, ``failed``; empty: drawn at random."""
    rollouts: Mapping[str, tuple[BrowserRollout, ...]]
    """By checkpoint."""
    images: tuple[str, ...] = ()
    """Digests."""
    sides: tuple[str, ...] = ()
    """Checkpoints to show first: the two between which it flipped, or the one at which it is stuck or failed."""


class PictureSource(Protocol):
    """Where thumbnails come from."""

    @property
    def problem(self) -> str:
        """Why some images are not shown; known once all were asked for."""
        ...

    def find(self, sample: BrowserSample) -> Mapping[str, str]:
        """Digest -> data URI of the thumbnails of a sample's images, as far as there are any."""
        ...


@dataclass(frozen=True, slots=True)
class NoPictures:
    """No thumbnails."""

    problem: str = ""

    def find(self, sample: BrowserSample) -> Mapping[str, str]:
        """Nothing."""
        return {}


@dataclass(frozen=True, slots=True)
class Candidates:
    """What there is to choose from, in the order in which a page takes it."""

    checkpoints: tuple[str, ...]
    """Checkpoints of which rollouts are carried."""
    samples: Iterable[BrowserSample]
    """Read as far as they fit: a generator may fetch texts in batches."""
    pictures: PictureSource = field(default_factory=NoPictures)
    totals: Mapping[str, int] = field(default_factory=dict)
    """Tag -> samples in the store that have it; ``all``: all samples."""
    seed: int = 0
    """Of the random share."""
    left_out: tuple[str, ...] = ()
    """What the candidates leave out already, one sentence each."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Samples as they lie in the page."""

    payload: str
    """Base64 of a gzip stream of JSON lines: a head, then pictures and samples as they are needed."""
    n_samples: int
    notes: tuple[str, ...]


def pack(candidates: Candidates, budget: int) -> Packed:
    """Pack samples in their order while they fit.

    Args:
        candidates: in order.
        budget: bytes of the payload.
    """
    packer = _Packer(budget)
    packer.add([{"checkpoints": list(map(label, candidates.checkpoints))}])
    kept: list[tuple[str, ...]] = []
    sent: set[str] = set()
    for sample in candidates.samples:
        needed = {one: data for one, data in candidates.pictures.find(sample).items() if one not in sent}
        lines: list[dict[str, Any]] = [{"picture": one, "data": data} for one, data in needed.items()]
        if not packer.add([*lines, _line(sample, candidates.checkpoints)]):
            break
        sent.update(needed)
        kept.append(sample.tags)
    packer.add([{"noPictures": visible(cut(candidates.pictures.problem, _MAX_SHORT))}], spare=0)
    return Packed(packer.payload(), len(kept), (_what_is_shown(kept, candidates), *candidates.left_out))


class _Packer:
    """A gzip stream that knows its size after every line."""

    def __init__(self, budget: int) -> None:
        self._budget = budget * 3 // 4
        self._stream = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, lines: Iterable[Mapping[str, Any]], spare: int = _SPARE) -> bool:
        """Append lines if the stream stays in its budget with some bytes to spare, and say whether it did."""
        data = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines).encode()
        trial = self._stream.copy()
        chunk = trial.compress(data) + trial.flush(zlib.Z_SYNC_FLUSH)
        if self._chunks and self._size + len(chunk) + spare > self._budget:
            return False
        self._stream = trial
        self._chunks.append(chunk)
        self._size += len(chunk)
        return True

    def payload(self) -> str:
        """The stream, closed, as base64."""
        return base64.b64encode(b"".join([*self._chunks, self._stream.flush()])).decode()


def _line(sample: BrowserSample, checkpoints: tuple[str, ...]) -> dict[str, Any]:
    """A sample as the page reads it: foreign text cut and made visible here, so that the page only has to write it."""
    place = {checkpoint: number for number, checkpoint in enumerate(checkpoints)}
    return {
        "task": label(sample.task),
        "id": label(sample.sample_id),
        "category": {label(name): label(value) for name, value in sample.category.items()},
        "prompt": visible(cut(sample.prompt, MAX_PROMPT)),
        "target": visible(cut(sample.target, _MAX_SHORT)),
        "tags": list(sample.tags),
        "images": list(sample.images),
        "sides": [place[one] for one in sample.sides if one in sample.rollouts],
        "runs": {
            str(place[checkpoint]): [_row(rollout) for rollout in rollouts]
            for checkpoint, rollouts in sample.rollouts.items()
        },
    }


def _row(rollout: BrowserRollout) -> list[str | float | int | None]:
    def short(text: str | None) -> str | None:
        return None if text is None else visible(cut(text, _MAX_SHORT))

    return [
        visible(cut(rollout.response)),
        short(rollout.answer),
        finite(rollout.score),
        label(rollout.rule),
        short(rollout.reason),
        label(rollout.finish_reason),
        rollout.n_tokens,
    ]


def _what_is_shown(kept: Sequence[tuple[str, ...]], candidates: Candidates) -> str:
    """One sentence on what the page carries and what it left out."""
    everything = candidates.totals.get("all", len(kept))
    parts = []
    for tag, total in candidates.totals.items():
        if tag != "all" and total:
            n = sum(tag in tags for tags in kept)
            parts.append(f"{n:,} of {total:,} {tag}")
    drawn = sum(not tags for tags in kept)
    if drawn:
        parts.append(f"{drawn:,} drawn at random (seed {candidates.seed})")
    text = f"This page carries {len(kept):,} of {everything:,} samples{': ' if parts else ''}{', '.join(parts)}."
    return text if len(kept) == everything else f"{text} The rest is left out to keep the file small; see --max-mb."
