"""What the whole of `specs-eval run` costs over the bare thing: store, scoring, statistics, progress.

Three ways to the same rollouts on the shipped tiny VLM, one after the other in one process, ratios printed:

1. bare: a plain loop over batches, `processor(...)` and transformers' `generate(num_return_sequences=k)`, nothing kept;
2. engine: our hf backend's `generate` alone, nothing kept;
3. run: everything that `specs-eval run` does, into a fresh store.

The tiny model makes everything but the model expensive; `--pixels 512` gives prompts of about 1,000 visual tokens.

python benchmarks/bench_overhead.py [--samples 128] [--rollouts 8] [--pixels 64] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.registry import create_backend
from specs_eval.chat import Chat, ImagePart, Message, TextPart
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.fingerprint import Fingerprinter
from specs_eval.runner import RunRequest, evaluate
from specs_eval.sampling import noise_key
from specs_eval.store import RunStore, StoredRun
from specs_eval.task import Sample, Score, Task
from specs_eval.tasks.registry import get_task
from specs_eval.training.tiny import checkpoint_path

BATCH = 16


class Enlarged:
    """A task with its images scaled up: the same questions, more visual tokens."""

    def __init__(self, task: Task, pixels: int, n_samples: int, max_new_tokens: int) -> None:
        self.name, self.version = f"{task.name}_{pixels}", task.version
        self.task, self.max_new_tokens = task, max_new_tokens
        self._samples = [replace(sample, chat=_enlarge(sample.chat, pixels)) for sample in task.samples()[:n_samples]]

    def samples(self) -> Sequence[Sample]:
        """The enlarged samples."""
        return self._samples

    def score(self, sample: Sample, response: str) -> Score:
        """As the task scores."""
        return self.task.score(sample, response)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """As the task scores."""
        return self.task.score_answer(sample, answer)


def _enlarge(chat: Chat, pixels: int) -> Chat:
    parts = [
        ImagePart(part.load().resize((pixels, pixels), Image.Resampling.NEAREST))
        if isinstance(part, ImagePart)
        else part
        for part in chat[0].parts
    ]
    return (Message("user", tuple(parts)),)


class Quiet:
    """An observer that keeps nothing."""

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """Nothing."""

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Nothing."""

    def run_finished(self, run: StoredRun) -> None:
        """Nothing."""

    def problem(self, text: str) -> None:
        """Print."""
        print(text)


def bare(checkpoint: Checkpoint, task: Enlarged, k: int) -> Callable[[], int]:
    """Transformers alone."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint.path)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint.path, dtype=torch.float32).eval()

    def once() -> int:
        n_tokens = 0
        samples = task.samples()
        for start in range(0, len(samples), BATCH):
            chats = [sample.chat for sample in samples[start : start + BATCH]]
            texts = [processor.apply_chat_template(_messages(chat), add_generation_prompt=True) for chat in chats]
            images = [[part.load() for part in chat[0].parts if isinstance(part, ImagePart)] for chat in chats]
            inputs = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
            with torch.inference_mode():
                output = model.generate(
                    **inputs,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    num_return_sequences=k,
                    max_new_tokens=task.max_new_tokens,
                )
            new = output[:, inputs["input_ids"].shape[1] :]
            processor.batch_decode(new, skip_special_tokens=True)
            n_tokens += int((new != processor.tokenizer.pad_token_id).sum())
        return n_tokens

    return once


def _messages(chat: Chat) -> list[dict[str, object]]:
    content = [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in chat[0].parts
    ]
    return [{"role": "user", "content": content}]


def engine(checkpoint: Checkpoint, task: Enlarged, k: int) -> Callable[[], int]:
    """Our backend alone."""
    backend = create_backend("hf", BackendOptions(batch_size=BATCH))
    backend.load(checkpoint)
    spec = RunRequest(tasks=[task], n_rollouts=k).spec(task)
    requests = [
        Request(sample.sample_id, noise_key(task.name, sample.sample_id), sample.chat, tuple(range(k)))
        for sample in task.samples()
    ]
    return lambda: sum(r.n_tokens or 0 for _, responses in backend.generate(requests, spec) for r in responses)


def whole_run(checkpoint: Checkpoint, task: Enlarged, k: int) -> Callable[[], int]:
    """Everything; the model is loaded before, as in the other two."""
    backend = create_backend("hf", BackendOptions(batch_size=BATCH))
    backend.load(checkpoint)

    def once() -> int:
        with tempfile.TemporaryDirectory() as folder:
            request = RunRequest(tasks=[task], n_rollouts=k)
            evaluation = evaluate([checkpoint], request, RunStore.create(Path(folder) / "runs"), backend, Quiet())
            results = evaluation.runs[0].results()
            assert results is not None and results.n_failed == 0
            return results.n_tokens

    return once


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=64, help="side of the (square) images; 64 = 16 visual tokens")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    (checkpoint,) = resolve_checkpoints([str(checkpoint_path())], Fingerprinter()).checkpoints
    task = Enlarged(get_task("formats_id"), options.pixels, options.samples, options.max_new_tokens)
    ways = {"bare generate": bare, "our engine": engine, "whole run": whole_run}
    prepared = {name: make(checkpoint, task, options.rollouts) for name, make in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in prepared}
    n_rollouts = options.samples * options.rollouts
    for once in prepared.values():
        once()
    for _ in range(options.repeats):
        for name, once in prepared.items():
            started = time.perf_counter()
            once()
            seconds[name].append(time.perf_counter() - started)
    best = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"{n_rollouts} rollouts, {options.pixels} px images, {torch.get_num_threads()} threads, median of {options.repeats}"
    )
    for name, value in best.items():
        spread = (max(seconds[name]) - min(seconds[name])) / value
        print(f"{name:<14} {value:7.2f} s  {n_rollouts / value:7.0f} rollouts/s  (spread {spread:.0%})")
    print(f"whole run over bare generate: {best['whole run'] / best['bare generate'] - 1:+.1%}")
    print(f"whole run over our engine:    {best['whole run'] / best['our engine'] - 1:+.1%}")


if __name__ == "__main__":
    main()
