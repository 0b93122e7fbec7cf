"""Finding, ordering and identifying checkpoints."""
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: where it is, which series and step it belongs to, and the fingerprint of its weights."""

    path: Path
    name: str
    series: str
    step: int | None
    fingerprint: str
    base: Path | None = None
