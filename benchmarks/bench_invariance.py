"""How far rounding moves logits when the batch changes, how often draws are settled for it, and what that is worth.

    python benchmarks/bench_invariance.py [--samples 256] [--rollouts 8] [--random 2x96,8x256,28x1024]

On the shipped tiny VLM, and on random models of its kind with so many layers of such a width, float32 on the CPU:

- *texts*: all rollouts again at other batch sizes, with and without settling; how many texts differ from those at the default
  batch size. With settling it must be none.
- *settled*: share of the draws that were repeated alone.
- *noise*: every draw of a batch against a pass over that sequence alone. Of single logits; and of what decides a draw, as the
  least move of the logits that could explain it: cumulative probabilities, and the gap between the two likeliest tokens. Both
  as shares of the row's largest absolute logit, as the margin `LOGIT_NOISE` is.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.hf import HFBackend
from specs_eval.backends.hf.choosing import LOGIT_NOISE, Distribution
from specs_eval.backends.hf.rollouts import Question, RolloutBatch
from specs_eval.chat import Chat
from specs_eval.checkpoints import Checkpoint
from specs_eval.sampling import SamplingSpec, noise_key
from specs_eval.tasks.registry import get_task
from specs_eval.training.tiny import checkpoint_path

N_NEW = 24
OTHER_BATCHES = (1, 7, 23)
HEAD_WIDTH = 32


@dataclass(slots=True)
class Noise:
    """The largest that was seen."""

    n_draws: int = 0
    single: float = 0.0
    """Of a logit, where the row's largest is set to 0."""
    cumulative: float = 0.0
    gap: float = 0.0

    def add(self, batched: Distribution, row: int, alone: Tensor) -> None:
        """Compare a row of a batch with the same draw alone."""
        other = Distribution(alone)
        scale = float(other.scale[0])
        one, two = batched.shifted[row].double(), other.shifted[0].double()
        self.n_draws += 1
        self.single = max(self.single, float((one - two).abs().max()) / scale)
        ends = [torch.softmax(logits, dim=0).cumsum(dim=0) for logits in (one, two)]
        room = 2 * ends[1] * (1 - ends[1])
        inside = room > 1e-6  # at the ends of the scale a share of nothing is only the rounding of float64
        self.cumulative = max(self.cumulative, float(((ends[0] - ends[1]).abs() / room)[inside].max()) / scale)
        tops = [logits.topk(2).indices for logits in (one, two)]
        if bool((tops[0] == tops[1]).all()):
            gaps = [logits[tops[0][0]] - logits[tops[0][1]] for logits in (one, two)]
            self.gap = max(self.gap, float((gaps[0] - gaps[1]).abs()) / 2 / scale)


class Measured(RolloutBatch):
    """A batch all of whose draws are repeated alone."""

    noise: Noise

    def _choose(self, distribution: Distribution, step: int) -> Tensor:
        for cell in self._active.nonzero().squeeze(1).tolist():
            home = int(self._home[cell])
            past = self._tokens[home, :step].tolist()
            self.noise.add(distribution, cell, self._canonical.logits(self._seats[home].sample, past))
        return super()._choose(distribution, step)


def loaded(folder: Path, batch_size: int | None = None, verify: str = "auto") -> HFBackend:
    """A backend with a checkpoint."""
    backend = HFBackend(BackendOptions(batch_size, "cpu", "float32", extra={"verify": verify}))
    backend.load(Checkpoint(folder, "bench", "bench", None, ""))
    return backend


def requests_of(chats: list[Chat], k: int) -> list[Request]:
    """Each chat with k rollouts."""
    return [Request(f"{i}", noise_key("bench", f"{i}"), chat, tuple(range(k))) for i, chat in enumerate(chats)]


def texts(backend: HFBackend, requests: list[Request], spec: SamplingSpec) -> list[str]:
    """All responses, in the order of the requests."""
    answers = {request.sample_id: responses for request, responses in backend.generate(requests, spec)}
    return [response.text for request in requests for response in answers[request.sample_id]]


def random_model(layers: int, width: int, folder: Path) -> Path:
    """A random model with the tokenizer and the image processor of the shipped one."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.copytree(checkpoint_path(), folder)
    config = AutoConfig.from_pretrained(folder)
    heads = width // HEAD_WIDTH
    sizes: dict[str, Any] = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 3 * width}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": max(1, heads // 4)}
    sizes["layer_types"] = ["full_attention"] * layers
    for name, value in sizes.items():
        setattr(config.text_config, name, value)
    config.vision_config.out_hidden_size = width
    # Matrices of unit gain, and logits of a spread of about one.
    config.initializer_range = config.text_config.initializer_range = width**-0.5
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def measure(name: str, folder: Path, chats: list[Chat], k: int) -> None:
    """One row of each table."""
    spec, requests = SamplingSpec(1.0, N_NEW, seed=1), requests_of(chats, k)
    backend = loaded(folder)
    first = texts(backend, requests, spec)
    engine = backend.engine
    settled, drawn = engine.n_settled, engine.n_draws
    Measured.noise = noise = Noise()
    questions = [Question(one, engine.encoder.encode(one.chat)) for one in requests[: max(1, len(requests) // 4)]]
    for _ in Measured(engine, questions, spec).answers():
        pass
    print(f"{name}: {settled:,} of {drawn:,} draws settled ({settled / drawn:.3%})")
    print(
        f"  largest noise over {noise.n_draws:,} draws: single logits {noise.single:.1e}, cumulative probabilities "
        f"{noise.cumulative:.1e}, gaps {noise.gap:.1e} (margin {LOGIT_NOISE:.0e})",
        flush=True,
    )
    for verify in ("auto", "off"):
        different = [
            sum(a != b for a, b in zip(first, texts(loaded(folder, size, verify), requests, spec), strict=True))
            for size in OTHER_BATCHES
        ]
        listed = ", ".join(f"{n} at {size}" for n, size in zip(different, OTHER_BATCHES, strict=True))
        print(f"  verify={verify}: of {len(first):,} texts other than at the default batch size: {listed}", flush=True)
        assert verify == "off" or not any(different), "settling failed"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--random", default="2x96,8x256,28x1024", help="Layers x width of random models; empty: none.")
    arguments = parser.parse_args()
    chats = [sample.chat for sample in get_task("formats_ood").samples()[: arguments.samples]]
    measure("shipped", checkpoint_path(), chats, arguments.rollouts)
    for size in filter(None, arguments.random.split(",")):
        layers, width = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as scratch:
            folder = random_model(layers, width, Path(scratch) / "model")
            few = chats[: max(4, len(chats) * 4 // layers // max(1, width // 128))]
            measure(f"random {size}", folder, few, arguments.rollouts)


if __name__ == "__main__":
    main()
