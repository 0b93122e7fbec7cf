"""k rollouts on prompts with images: the hf backend, lmms-eval's repeats and bare `generate`, side by side.

    python benchmarks/bench_rollouts.py [--checkpoint DIR] [--rounds 3] [--threads 1]

Two shapes: the tiny VLM's own (16 visual tokens, 24 new ones) and a long one (1,024 visual tokens, 64 new ones), with
k = 8 at T = 1. All three routes answer the same questions with the same weights in float32 on the CPU, in rounds that
take turns; the best round counts. The end token is replaced by one that is never drawn, so that every rollout has
the same length and none gains by ending early.

- `hf backend`: ours, from chat to text and statistics, at its default batch size.
- `lmms-eval`: its qwen2_5_vl chat class, given every request k times, as `repeats: k` does; at its default batch size
  of 1, to which the goal refers, and at others. Its own evaluator, which adds to this, is left out.
- `generate`: `num_return_sequences=k` on batches, with the processor's and the tokenizer's work; the best of several
  batch sizes. No statistics, no noise of its own for each rollout.

Greedy texts of all three are compared. For ours, the time is broken down, and compared with the model's forward passes
alone: the same passes, on the same shapes, with nothing between them.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from specs_eval.backends.base import BackendOptions, Request, Timing
from specs_eval.backends.hf import HFBackend
from specs_eval.chat import Chat, ImagePart, TextPart, images_of, user_chat
from specs_eval.checkpoints import Checkpoint
from specs_eval.sampling import SamplingSpec, noise_key
from specs_eval.tasks.easyvqa.task import EasyVQA

K = 8
PATCH_PIXELS = 8
"""Patch edge of the tiny VLM's image processor."""
SHIPPED = Path(__file__).parents[1] / "training" / "tiny" / "checkpoint"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked."""

    name: str
    image_edge: int
    n_new: int
    n_ours: int
    """Questions for our backend and generate; lmms-eval gets fewer, as it takes long."""
    n_lmms: int
    generate_batches: tuple[int, ...]
    """Samples a batch."""
    lmms_batches: tuple[int, ...]
    """Requests a batch."""
    goal: float


SHAPES = (
    Shape("short: 16 visual tokens, 24 new", 64, 24, 128, 16, (8, 16, 32), (1, 8, 64), 15),
    Shape("long: 1,024 visual tokens, 64 new", 512, 64, 16, 4, (1, 4), (1, 8), 4),
)


def endless_copy(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with an end token that the model never draws."""
    shutil.copytree(checkpoint, folder)
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        path = folder / name
        text = path.read_text()
        text = text.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|video_pad|>"')
        path.write_text(text)
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    return folder


def chats_of(image_edge: int, n_questions: int) -> list[Chat]:
    """Easy-VQA questions, images scaled to an edge."""
    chats = []
    for sample in EasyVQA().samples()[:n_questions]:
        (picture,) = images_of(sample.chat)
        image = picture.load().resize((image_edge, image_edge), Image.Resampling.BICUBIC)
        text = next(part.text for part in sample.chat[0].parts if isinstance(part, TextPart))
        chats.append(user_chat(ImagePart(image), text))
    return chats


class Ours:
    """The hf backend."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.backend = HFBackend(BackendOptions(device="cpu", **options))
        self.backend.load(Checkpoint(folder, "bench", "bench", None, ""))

    def texts(self, chats: list[Chat], k: int, temperature: float, n_new: int) -> list[str]:
        """Draw k responses to each chat, chat by chat."""
        requests = [Request(f"{i}", noise_key("bench", f"{i}"), chat, tuple(range(k))) for i, chat in enumerate(chats)]
        answers = dict[str, list[str]]()
        for request, responses in self.backend.generate(requests, SamplingSpec(temperature, n_new)):
            answers[request.sample_id] = [response.text for response in responses]
        return [text for i in range(len(chats)) for text in answers[f"{i}"]]


class Generate:
    """Transformers' generate, bare."""

    def __init__(self, folder: Path, batch: int) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.batch = batch

    def texts(self, chats: list[Chat], k: int, temperature: float, n_new: int) -> list[str]:
        """Draw k responses to each chat, chat by chat."""
        texts: list[str] = []
        draw = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        for start in range(0, len(chats), self.batch):
            inputs = self._inputs(chats[start : start + self.batch])
            with torch.inference_mode():
                rows = self.model.generate(**inputs, max_new_tokens=n_new, num_return_sequences=k, **draw)
            new = rows[:, inputs["input_ids"].shape[1] :]
            texts += self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    def _inputs(self, chats: list[Chat]) -> Any:
        prompts = [self.processor.apply_chat_template(m, add_generation_prompt=True) for m in map(messages, chats)]
        images = [[part.load() for part in images_of(chat)] for chat in chats]
        return self.processor(text=prompts, images=images, padding=True, padding_side="left", return_tensors="pt")


class LmmsEval:
    """lmms-eval's own model class, asked k times for each sample."""

    def __init__(self, folder: Path, batch: int) -> None:
        lm = lmms_class()(
            pretrained=str(folder),
            device="cpu",
            device_map="cpu",
            batch_size=batch,
            min_pixels=4 * (2 * PATCH_PIXELS) ** 2,
            max_pixels=4096 * (2 * PATCH_PIXELS) ** 2,
        )
        # It loads in bfloat16, which on most CPUs is slower and draws other tokens than float32; the weights are the same.
        lm._model = lm._model.float()
        self.lm = lm

    def texts(self, chats: list[Chat], k: int, temperature: float, n_new: int) -> list[str]:
        """Draw k responses to each chat, chat by chat."""
        from lmms_eval.api.instance import Instance

        self.lm.task_dict = {"bench": {"test": dict(enumerate(chats))}}
        options = {"max_new_tokens": n_new, "temperature": temperature, "until": []}
        once = [
            Instance(
                "generate_until",
                (f"{i}", lmms_messages, options, i, "bench", "test"),
                0,
                {"task": "bench", "doc_id": i, "repeats": k},
            )
            for i in range(len(chats))
        ]
        requests = [request for request in once for _ in range(k)]
        return [result.text for result in self.lm.generate_until(requests)]


def lmms_class() -> Any:
    """lmms-eval's qwen2_5_vl chat class."""
    if "decord" not in sys.modules:
        try:
            import decord  # noqa: F401
        except ImportError:
            # The class imports decord at module level for videos, which nothing here asks for: an empty stand-in.
            sys.modules["decord"] = types.ModuleType("decord")
    import lmms_eval.models.chat.qwen2_5_vl as module

    # Its resize assumes patches of 14 pixels; the tiny VLM's have 8, and images must reach the model as they are.
    if not isinstance(module.process_vision_info, partial):
        module.process_vision_info = partial(module.process_vision_info, image_patch_size=PATCH_PIXELS)
    return module.Qwen2_5_VL


def lmms_messages(chat: Chat) -> list[dict[str, Any]]:
    """A chat as lmms-eval's tasks write it."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "image", "url": part.load()}
                for part in message.parts
            ],
        }
        for message in chat
    ]


def messages(chat: Chat) -> list[dict[str, Any]]:
    """A chat as transformers' templates take it."""
    return [
        {"role": m["role"], "content": [p if p["type"] == "text" else {"type": "image"} for p in m["content"]]}
        for m in lmms_messages(chat)
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class ForwardClock:
    """Adds up the seconds that a model spends in its forward passes."""

    def __init__(self, model: Any) -> None:
        self.seconds, self._started = 0.0, 0.0
        model.register_forward_pre_hook(lambda *_: self._start())
        model.register_forward_hook(lambda *_: self._stop())

    def _start(self) -> None:
        self._started = time.perf_counter()

    def _stop(self) -> None:
        self.seconds += time.perf_counter() - self._started


def best_rates(routes: dict[str, tuple[Any, list[Chat]]], shape: Shape, rounds: int) -> dict[str, float]:
    """Rollouts a second of each route, the best of several rounds that take turns."""
    rates = dict.fromkeys(routes, 0.0)
    for _ in range(rounds):
        for name, (route, chats) in routes.items():
            took = seconds(partial(route.texts, chats, K, 1.0, shape.n_new))
            rates[name] = max(rates[name], len(chats) * K / took)
    return rates


def best_of(rates: dict[str, float], kind: str) -> tuple[str, float]:
    """The fastest of the routes whose name starts with `kind`."""
    return max(((name, rate) for name, rate in rates.items() if name.startswith(kind)), key=lambda item: item[1])


def where_the_time_goes(ours: Ours, clock: ForwardClock, chats: list[Chat], shape: Shape) -> list[str]:
    """The parts of one more run of our backend."""
    backend = ours.backend
    backend.timing = backend.engine.timing = timing = Timing()
    settled, drawn = backend.engine.n_settled, backend.engine.n_draws
    clock.seconds = 0.0
    total = seconds(partial(ours.texts, chats, K, 1.0, shape.n_new))
    parts = {
        "image processing and chat template": timing.preprocess,
        "prefill": timing.prefill,
        "decode and draws": timing.decode,
        "statistics": timing.statistics,
    }
    lines = [f"    {name:36} {part:7.3f} s  {part / total:6.1%}" for name, part in parts.items()]
    lines.append(f"    {'all':36} {total:7.3f} s")
    lines.append(f"    in the model's forward passes: {clock.seconds:.3f} s, {clock.seconds / total:.1%} of all")
    settled, drawn = backend.engine.n_settled - settled, backend.engine.n_draws - drawn
    lines.append(f"    draws settled on a pass of their own: {settled} of {drawn} ({settled / drawn:.3%})")
    return lines


def measure(shape: Shape, folder: Path, rounds: int) -> None:
    """One shape: rates, ratios, parts, texts."""
    chats = chats_of(shape.image_edge, shape.n_ours)
    few = chats[: shape.n_lmms]
    ours = Ours(folder)
    routes: dict[str, tuple[Any, list[Chat]]] = {"hf backend": (ours, chats)}
    routes |= {f"generate, {b} samples a batch": (Generate(folder, b), chats) for b in shape.generate_batches}
    routes |= {f"lmms-eval, {b} requests a batch": (LmmsEval(folder, b), few) for b in shape.lmms_batches}
    for route, _ in routes.values():
        route.texts(chats[:2], 2, 1.0, 2)  # first calls load things
    rates = best_rates(routes, shape, rounds)
    print(f"\n{shape.name}; k = {K}")
    for name, rate in rates.items():
        print(f"  {name:36} {rate:8.1f} rollouts/s  {rate * shape.n_new:8.0f} tokens/s")
    own, default = rates["hf backend"], rates["lmms-eval, 1 requests a batch"]
    lmms_name, lmms_rate = best_of(rates, "lmms-eval")
    bare_name, bare_rate = best_of(rates, "generate")
    verdict = "met" if own >= shape.goal * default else "NOT met"
    print(
        f"  ratio to lmms-eval at its default batch size of 1: {own / default:.1f}x (goal {shape.goal:g}x: {verdict})"
    )
    print(f"  ratio to {lmms_name}, its best: {own / lmms_rate:.1f}x")
    print(f"  ratio to {bare_name}, its best: {own / bare_rate:.1f}x")
    print("  where the time of the hf backend goes:")
    print("\n".join(where_the_time_goes(ours, ForwardClock(ours.backend.engine.model), chats, shape)))
    greedy = [
        route.texts(few, 1, 0.0, shape.n_new) for route in (ours, *(routes[n][0] for n in (lmms_name, bare_name)))
    ]
    for name, texts in zip((lmms_name, bare_name), greedy[1:], strict=True):
        equal = sum(one == other for one, other in zip(greedy[0], texts, strict=True))
        print(f"  greedy text equal to {name}: {equal} of {len(few)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="a Qwen2.5-VL checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", choices=["short", "long"], help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = endless_copy(options.checkpoint, Path(scratch) / "endless")
        for shape in SHAPES:
            if options.shape in (None, shape.name.split(":")[0]):
                measure(shape, folder, options.rounds)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
