"""The backend that `specs_eval.backends.registry` makes as ``vllm``: checkpoints in, responses out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from specs_eval.backends.base import BackendOptions, Request, Timing
from specs_eval.backends.vllm.installation import load_vllm
from specs_eval.backends.vllm.loading import Loader
from specs_eval.backends.vllm.rollouts import Answer, Loaded, Pass
from specs_eval.backends.vllm.settings import settings_from
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import GenerationError
from specs_eval.sampling import SamplingSpec

logger = logging.getLogger(__name__)


class VLLMBackend:
    """Image-text models in vLLM, k rollouts of all samples in one continuous batch.

    Promise: the random numbers of a rollout depend on (seed, sample, rollout, position) and on nothing else, and are those of
    the hf backend. Batches, order and resume enter through rounding alone: a draw flips when its number lies within
    rounding of a boundary between two tokens, which is rare in float32 and happens in bfloat16, as in any engine (there is
    no settling of such draws, as the hf backend does). Statistics may differ in their last digits in the same way.

    Sampling follows the sampling spec alone; of generation_config.json only the end tokens count.
    """

    name = "vllm"

    def __init__(self, options: BackendOptions) -> None:
        """Nothing is loaded yet, vLLM is not imported.

        Raises:
            ConfigError: an option has no meaning here.
        """
        self._settings = settings_from(options)
        self.timing = Timing()
        self.load_note: str | None = None
        self._loader: Loader | None = None
        self._loaded: Loaded | None = None
        self._said_censored = False

    @property
    def numerics(self) -> str:
        """``vllm/<dtype>``, and arguments of the engine that change more than rounding."""
        return self._settings.numerics

    def block_size(self, n_rollouts: int) -> int:
        """0: every rollout stands alone."""
        return 0

    def load(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint; one of the architecture that is loaded already goes into the running engine.

        Raises:
            ConfigError: vLLM is missing, too old, or does not know an argument.
            CheckpointError: the checkpoint cannot be loaded; the message says why.
        """
        self._loaded, self.load_note = None, None
        if self._loader is None:
            self._loader = Loader(load_vllm(self._settings), self._settings)
        try:
            self._loaded = self._loader.load(checkpoint)
        except BaseException:
            # Neither half-loaded weights nor those of the checkpoint before may answer for this one.
            self.close()
            raise
        self.load_note = self._loader.note

    def generate(self, requests: Sequence[Request], spec: SamplingSpec) -> Iterator[Answer]:
        """Answer requests as their rollouts end.

        Raises:
            GenerationError: nothing is loaded, or the engine has died.
        """
        if self._loaded is None:
            raise GenerationError("the vllm backend has no checkpoint loaded")
        answers = Pass(self._loaded, requests, spec, self._settings)
        try:
            yield from answers.answers(self.timing)
        except GenerationError:
            self.close()
            raise
        finally:
            self._say_what_is_missing(answers.n_censored)

    def _say_what_is_missing(self, n_censored: int) -> None:
        if n_censored and not self._said_censored:
            self._said_censored = True
            logger.warning(
                "%d rollouts have no nucleus size: it is not told by the %d likeliest tokens at every position; raise "
                "--backend-arg top_logprobs, or measure with statistics=exact",
                n_censored,
                self._settings.top_logprobs,
            )

    def close(self) -> None:
        """Stop the engine and free its memory."""
        self._loaded = None
        if self._loader is not None:
            self._loader.close()
