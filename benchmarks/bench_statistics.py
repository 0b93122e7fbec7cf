"""What entropy and nucleus size of every token cost in the hf backend, against not measuring them.

    python benchmarks/bench_statistics.py [--rounds 5] [--threads 1] [--case NAME]

The same engine answers the same questions with the measuring and without, in rounds that take turns; the median over
rounds of the ratio of each pair counts, in CPU time, which other work on the machine disturbs least. Without means: neither is computed, and at temperature 0 the exponentials, which
then only they need, are not either (at other temperatures drawing needs them anyhow). Everything else is as it is.

- `short` and `long`: the shipped tiny VLM (575 tokens in its vocabulary), 16 and 1,024 visual tokens, k = 8, T = 1.
- `greedy`: the short one, k = 1, T = 0.
- `large`: random weights, about 100 M parameters, a vocabulary of 151,936, and an output layer scaled so that few
  tokens hold the mass, as in trained models; k = 8, T = 1.
- `flat`: the same with next to uniform distributions, in which tens of thousands of tokens are in the nucleus: the worst.

The end token is one that is never drawn, so that every rollout has the same length.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from bench_rollouts import SHIPPED, chats_of, endless_copy
from torch import Tensor

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.hf import HFBackend, rollouts
from specs_eval.backends.hf.choosing import Distribution
from specs_eval.checkpoints import Checkpoint
from specs_eval.sampling import SamplingSpec, noise_key

GOAL = 1.10


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, and of which model."""

    name: str
    image_edge: int
    n_new: int
    n_samples: int
    k: int = 8
    temperature: float = 1.0
    spread: float | None = None
    """Standard deviation of the logits of the large random model; None: the shipped one."""


CASES = (
    Case("short", 64, 24, 128),
    Case("long", 512, 64, 16),
    Case("greedy", 64, 24, 256, k=1, temperature=0.0),
    Case("large", 64, 12, 8, spread=8.0),
    Case("flat", 64, 12, 4, spread=0.5),
)


def large_model(folder: Path, scratch: Path, spread: float) -> Path:
    """A random Qwen2.5-VL with a large vocabulary, with the tokenizer and processor of the shipped one."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.copytree(folder, scratch)
    facts = json.loads((scratch / "config.json").read_text())
    facts["tie_word_embeddings"] = False
    facts["vision_config"]["out_hidden_size"] = 384
    facts["text_config"] |= {
        "vocab_size": 151_936,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "num_hidden_layers": 8,
        "tie_word_embeddings": False,
        "layer_types": ["full_attention"] * 8,
    }
    (scratch / "config.json").write_text(json.dumps(facts))
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(scratch), dtype=torch.float32)
    # The last norm gives vectors of length sqrt(width).
    torch.nn.init.normal_(model.lm_head.weight, std=spread / 384**0.5)
    model.save_pretrained(scratch)
    return scratch


class Bare(Distribution):
    """Without what only the statistics need."""

    def __init__(self, logits: Tensor) -> None:
        with patch.object(Tensor, "exp", lambda shifted: shifted):
            super().__init__(logits)


def nothing(distribution: Distribution) -> Tensor:
    """In place of a statistic, a number a row."""
    return torch.zeros(distribution.shifted.shape[0])


@contextmanager
def without_statistics(greedy: bool) -> Iterator[None]:
    """The engine, not measuring."""
    with (
        patch.object(rollouts, "entropy_nats", nothing),
        patch.object(rollouts, "nucleus_sizes", nothing),
        patch.object(rollouts, "Distribution", Bare if greedy else Distribution),
    ):
        yield


class Engine:
    """The hf backend with the questions of a case."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.spec = SamplingSpec(case.temperature, case.n_new)
        self.backend = HFBackend(BackendOptions(device="cpu", dtype="float32"))
        self.backend.load(Checkpoint(folder, case.name, case.name, None, "0" * 64))
        chats = chats_of(case.image_edge, case.n_samples)
        numbers = tuple(range(case.k))
        self.requests = [Request(f"{i}", noise_key("bench", f"{i}"), chat, numbers) for i, chat in enumerate(chats)]

    def answer(self) -> tuple[float, list[str], float]:
        """Seconds of CPU time, texts in order, and the mean nucleus size."""
        started = time.process_time()
        answers = {asked.sample_id: found for asked, found in self.backend.generate(self.requests, self.spec)}
        took = time.process_time() - started
        found = [response for request in self.requests for response in answers[request.sample_id]]
        assert all(response.n_tokens == self.spec.max_new_tokens for response in found)
        return took, [response.text for response in found], statistics.fmean(r.nucleus or 0.0 for r in found)


def measure(case: Case, folder: Path, rounds: int) -> None:
    """One case: ratios of pairs, and their median."""
    engine = Engine(case, folder)
    greedy = case.temperature == 0
    engine.answer()
    pairs, nucleus = [], 0.0
    for number in range(rounds):
        results = {}
        for measuring in (True, False) if number % 2 else (False, True):
            if measuring:
                results[measuring] = engine.answer()
            else:
                with without_statistics(greedy):
                    results[measuring] = engine.answer()
        assert results[True][1] == results[False][1], "measuring changed an answer"
        pairs.append((results[True][0], results[False][0]))
        nucleus = results[True][2]
    ratios = sorted(one / other for one, other in pairs)
    ratio = statistics.median(ratios)
    n_tokens = len(engine.requests) * case.k * case.n_new
    best = min(one for one, _ in pairs)
    verdict = "met" if ratio < GOAL else "NOT met"
    print(
        f"{case.name:8} {n_tokens / best:8,.0f} tokens/s of CPU; mean nucleus {nucleus:,.1f}; measuring takes {ratio:.3f}x the time "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}; goal under {GOAL:.2f}x: {verdict})"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        tiny = endless_copy(SHIPPED, Path(scratch) / "tiny")
        for case in CASES:
            if options.case in (None, case.name):
                small = case.spread is None
                folder = tiny if small else large_model(tiny, Path(scratch) / case.name, case.spread or 0.0)
                measure(case, folder, options.rounds)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
