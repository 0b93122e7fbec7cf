"""What runs on a device: an engine that is given blocks of requests, each with the checkpoint that is to answer it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from specs_eval.backends.base import BackendOptions, Request, Response
from specs_eval.chat import Chat, ImagePart, Message
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, ConfigError, GenerationError
from specs_eval.sampling import SamplingSpec

if TYPE_CHECKING:
    from PIL.Image import Image

N_BLOCK_SIZES = 1024
"""Numbers of rollouts for which a worker says how many samples it computes together."""

ErrorKind = Literal["checkpoint", "generation", "config", "other"]


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker is."""

    numerics: str
    block_sizes: tuple[int, ...]
    """`Backend.block_size` of 1, 2, ... rollouts."""
    device: str
    node: str
    process: int


@dataclass(frozen=True, slots=True)
class Work:
    """One block: what is computed together, and by which checkpoint."""

    checkpoint: Checkpoint
    requests: tuple[Request, ...]
    spec: SamplingSpec


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a block."""

    answers: tuple[tuple[str, tuple[Response, ...]], ...] = ()
    """Sample id and responses, in the order in which they were done."""
    note: str | None = None
    """What a user must know of the checkpoint's loading."""
    error: str | None = None
    """Why there are no answers."""
    kind: ErrorKind = "other"

    def raise_error(self) -> None:
        """Raise what the engine raised, as the error that it was."""
        if self.error is not None:
            kinds = {"checkpoint": CheckpointError, "config": ConfigError}
            raise kinds.get(self.kind, GenerationError)(self.error)


class EngineWorker:
    """An engine in a process of its own. It keeps its checkpoint until a block comes with another one."""

    def __init__(self, backend: str, options: BackendOptions) -> None:
        from specs_eval.backends.registry import create_backend

        self._engine = create_backend(backend, options)
        self._loaded: Checkpoint | None = None

    def describe(self) -> WorkerFacts:
        """What this worker is."""
        from specs_eval.environment import describe_environment

        sizes = tuple(self._engine.block_size(n) for n in range(1, N_BLOCK_SIZES + 1))
        device = describe_environment().get("device", "cpu")
        return WorkerFacts(self._engine.numerics, sizes, device, platform.node(), os.getpid())

    def answer(self, work: Work) -> Reply:
        """Answer a block. Errors of the engine come back as values: they are not the worker's end."""
        try:
            note = self._ready(work.checkpoint)
            answers = [
                (asked.sample_id, tuple(found)) for asked, found in self._engine.generate(work.requests, work.spec)
            ]
            return Reply(tuple(answers), note)
        except CheckpointError as error:
            return Reply(error=str(error), kind="checkpoint")
        except ConfigError as error:
            return Reply(error=str(error), kind="config")
        except GenerationError as error:
            return Reply(error=str(error), kind="generation")
        except Exception as error:  # noqa: BLE001 - one checkpoint must not end a worker; the runner records it
            self._loaded = None
            self._engine.close()
            return Reply(error=f"{type(error).__name__}: {error}"[:2000])

    def _ready(self, checkpoint: Checkpoint) -> str | None:
        if self._loaded == checkpoint:
            return None
        self._loaded = None
        if not checkpoint.path.is_dir():
            raise CheckpointError(
                f"{checkpoint.path} is not there on {platform.node()}; workers need the same file system"
            )
        checkpoint.assert_unchanged()
        self._engine.load(checkpoint)
        checkpoint.assert_unchanged()
        self._loaded = checkpoint
        note: str | None = getattr(self._engine, "load_note", None)
        return note


def portable(work: Work) -> Work:
    """The same work with its pictures in it, for a process that may not see the files that they lie in."""
    return replace(work, requests=tuple(replace(asked, chat=_portable_chat(asked.chat)) for asked in work.requests))


def _portable_chat(chat: Chat) -> Chat:
    return tuple(
        Message(
            message.role,
            tuple(_portable_image(part) if isinstance(part, ImagePart) else part for part in message.parts),
        )
        for message in chat
    )


def _portable_image(part: ImagePart) -> ImagePart:
    try:
        source = part.source
        return ImagePart(source.read_bytes() if isinstance(source, Path) else source)
    except Exception as error:  # noqa: BLE001 - a picture that cannot be read fails its own sample, in the engine
        return _UnreadableImage(f"{type(error).__name__}: {error}")


class _UnreadableImage(ImagePart):
    """What is left of a picture that could not be read: the reason, where its bytes would be."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason.encode("utf-8", "replace"))

    def load(self, *, on_white: bool = False) -> Image:
        """Say why there is none."""
        reason = self.source.decode() if isinstance(self.source, bytes) else ""
        raise GenerationError(f"image does not decode: {reason}")
