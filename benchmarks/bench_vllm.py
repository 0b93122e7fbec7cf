"""k rollouts on prompts with images: the vllm backend against lmms-eval's vllm model with `repeats`, on one engine setting.

    make test-vllm                                     # builds the environment
    .venv-vllm/bin/python benchmarks/bench_vllm.py [--rounds 2] [--short]

Runs vLLM on whatever the environment has, here the CPU build, one thread, in this process, without compilation. Both routes
answer the same questions with the same weights in float32 and the same engine arguments, T = 1, in engines that take
turns, as a process holds one at a time; the best round counts. The end token is one that is never drawn, so that every
rollout has the same length.

- `vllm backend`: ours, from chat to text and statistics (entropy and exact nucleus size at every position).
- `lmms-eval`: its vllm chat class, given every request k times, as `repeats: k` does, at its default batch size of 1 and with
  everything in one batch. Its own evaluator, which adds to this, is left out; it gives no statistics.

The cost of statistics is measured against the same engine without them, and against vLLM's own sampler.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
}
sys.path.insert(0, str(Path(__file__).parent))

from bench_rollouts import SHIPPED, chats_of, endless_copy, lmms_messages

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.vllm import VLLMBackend
from specs_eval.checkpoints import Checkpoint
from specs_eval.sampling import SamplingSpec, noise_key

ENGINE = {"enforce_eager": True, "max_num_seqs": 64, "max_model_len": 2048}
# Seeds of single requests together with prefills in chunks have killed the engine on the CPU.
UNCHUNKED = {"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked."""

    name: str
    image_edge: int
    n_new: int
    k: int
    n_samples: int


SHAPES = (
    Shape("short (16 visual tokens, 24 new), k = 8", 64, 24, 8, 32),
    Shape("short (16 visual tokens, 24 new), k = 64", 64, 24, 64, 8),
    Shape("long (1,024 visual tokens, 64 new), k = 8", 512, 64, 8, 8),
    Shape("long (1,024 visual tokens, 64 new), k = 64", 512, 64, 64, 2),
)


class Ours:
    """The vllm backend."""

    def __init__(self, folder: Path, engine: dict[str, Any], **extra: str) -> None:
        plain = {key: str(value).lower() for key, value in engine.items()}
        self.backend = VLLMBackend(BackendOptions(dtype="float32", extra=plain | extra))
        self.backend.load(Checkpoint(folder, "tiny", "tiny", None, "0" * 64))

    def answer(self, shape: Shape, temperature: float = 1.0) -> int:
        """Answer everything; the rollouts that were answered."""
        spec = SamplingSpec(temperature, shape.n_new)
        numbers = tuple(range(shape.k))
        requests = [
            Request(str(i), noise_key("b", str(i)), chat, numbers)
            for i, chat in enumerate(chats_of(shape.image_edge, shape.n_samples))
        ]
        answers = [one for _, responses in self.backend.generate(requests, spec) for one in responses]
        assert all(one.error is None and one.n_tokens == shape.n_new for one in answers)
        return len(answers)

    def close(self) -> None:
        """Stop the engine."""
        self.backend.close()


class LmmsEval:
    """lmms-eval's own vllm model, asked k times for each sample."""

    def __init__(self, folder: Path, batch_size: int, n_new: int) -> None:
        if "decord" not in sys.modules:
            # Imported for videos, which nothing here asks for.
            sys.modules["decord"] = types.ModuleType("decord")
        from lmms_eval.models.chat.vllm import VLLM

        self.lm = VLLM(
            model=str(folder),
            batch_size=batch_size,
            max_new_tokens=n_new,  # else 4,096, whatever a task asks for
            trust_remote_code=False,
            dtype="float32",
            **ENGINE,
        )

    def answer(self, shape: Shape) -> int:
        """Answer everything; the rollouts that were answered."""
        from lmms_eval.api.instance import Instance

        chats = chats_of(shape.image_edge, shape.n_samples)
        self.lm.task_dict = {"bench": {"test": dict(enumerate(chats))}}
        options = {"max_new_tokens": shape.n_new, "temperature": 1.0, "top_p": 1.0}
        requests = []
        for i in range(len(chats)):
            arguments = (f"{i}", lmms_messages, options, i, "bench", "test")
            facts = {"task": "bench", "doc_id": i, "repeats": shape.k}
            requests += [Instance("generate_until", arguments, 0, facts)] * shape.k
        return len(self.lm.generate_until(requests))

    def close(self) -> None:
        """Stop the engine."""
        self.lm.client.llm_engine.engine_core.shutdown()
        del self.lm
        gc.collect()


def rate(answer: Callable[[], int]) -> float:
    """Rollouts a second."""
    started = time.perf_counter()
    n = answer()
    return n / (time.perf_counter() - started)


def compare(folder: Path, shapes: tuple[Shape, ...], rounds: int) -> None:
    """Ours against lmms-eval, shape by shape."""
    best: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        for name in ("ours", "lmms-eval, batch 1", "lmms-eval, one batch"):
            for n_new in sorted({shape.n_new for shape in shapes}):
                batch = 1 if name.endswith("1") else 100_000
                route: Any = Ours(folder, ENGINE) if name == "ours" else LmmsEval(folder, batch, n_new)
                for shape in (shape for shape in shapes if shape.n_new == n_new):
                    few = shape if batch > 1 or name == "ours" else smaller(shape)
                    route.answer(Shape("warm-up", few.image_edge, few.n_new, 1, 1))
                    measured = rate(lambda route=route, few=few: route.answer(few))
                    best[shape.name, name] = max(best.get((shape.name, name), 0.0), measured)
                route.close()
    for shape in shapes:
        ours, alone, batched = (best[shape.name, n] for n in ("ours", "lmms-eval, batch 1", "lmms-eval, one batch"))
        print(f"{shape.name}: {ours:.1f} rollouts/s ({ours / shape.k:.2f} samples/s)")
        print(f"  lmms-eval vllm, batch size 1 (its default): {alone:.1f} rollouts/s, ratio {ours / alone:.1f}x")
        print(f"  lmms-eval vllm, everything in one batch:    {batched:.1f} rollouts/s, ratio {ours / batched:.2f}x")


def smaller(shape: Shape) -> Shape:
    """A sixteenth of the rollouts, where one at a time would take too long."""
    k = max(1, shape.k // 8)
    return Shape(shape.name, shape.image_edge, shape.n_new, k, max(1, shape.n_samples // 2))


def statistics_cost(folder: Path, rounds: int) -> None:
    """What measuring costs, and drawing here instead of there."""
    shape = Shape("", 64, 24, 8, 32)
    ways: dict[str, tuple[dict[str, str], dict[str, Any], float]] = {
        "exact statistics, drawn by us (the default)": ({}, ENGINE, 1.0),
        "no statistics, drawn by us": ({"statistics": "none"}, ENGINE, 1.0),
        "exact statistics, drawn by vLLM with seeds": ({"sampling": "native"}, ENGINE | UNCHUNKED, 1.0),
        "no statistics, drawn by vLLM with seeds": (
            {"sampling": "native", "statistics": "none"},
            ENGINE | UNCHUNKED,
            1.0,
        ),
        "no statistics, greedy, nothing of ours in the engine": (
            {"sampling": "native", "statistics": "none"},
            ENGINE | UNCHUNKED,
            0.0,
        ),
        "20 likeliest tokens, drawn by us": ({"statistics": "topk"}, ENGINE, 1.0),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, (extra, engine, temperature) in ways.items():
            ours = Ours(folder, engine, **extra)
            ours.answer(Shape("warm-up", 64, 24, 1, 2), temperature)
            best[name] = max(best[name], rate(lambda ours=ours, t=temperature: ours.answer(shape, t)))
            ours.close()
    default = next(iter(best.values()))
    for name, found in best.items():
        tokens = found * shape.n_new
        print(
            f"  {name}: {found:.1f} rollouts/s, {tokens:,.0f} tokens/s; the default takes {found / default:.2f}x as long"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="Leave the long prompts out.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = endless_copy(SHIPPED, Path(scratch) / "tiny")
        compare(folder, SHAPES[:2] if arguments.short else SHAPES, arguments.rounds)
        print("cost of statistics (k = 8, short):")
        statistics_cost(folder, arguments.rounds)


if __name__ == "__main__":
    main()
