"""Ten checkpoints on one task: one engine that takes them in turn, against a process for each.

    python benchmarks/bench_sweep.py [--checkpoints 10] [--limit 64] [--lmms-batch 64]

All routes answer the same questions of easy-VQA greedily, in float32 on the CPU with one thread, with the same ten
checkpoints: the tiny VLM with a little noise on its weights, as a training would change them. Everything a user waits
for is counted: Python's start, imports, loading, evaluating, writing.

- `specs-eval run`, one command: the weights of each checkpoint go into the live model.
- `specs-eval run`, a command for each checkpoint: what of the difference is due to starting over.
- `lmms-eval`, a command line for each: our task inside it, its own qwen2_5_vl model class.

On a model this small starting over is nearly all that there is; with a large one it is a smaller share of the time, and
a longer time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SHIPPED = Path(__file__).parents[1] / "training" / "tiny" / "checkpoint"
TASK = "easyvqa"
GOAL = 8.0

LMMS_EVAL = """
import sys, types
from functools import partial
try:
    import decord
except ImportError:
    sys.modules["decord"] = types.ModuleType("decord")  # imported for videos, which nothing here asks for
import lmms_eval.models.chat.qwen2_5_vl as module
# Its resize assumes patches of 14 pixels; the tiny VLM's have 8, and images must reach the model as they are.
module.process_vision_info = partial(module.process_vision_info, image_patch_size=8)
init = module.Qwen2_5_VL.__init__
def in_float32(self, *arguments, **options):
    init(self, *arguments, **options)
    self._model = self._model.float()
module.Qwen2_5_VL.__init__ = in_float32
from lmms_eval.__main__ import cli_evaluate
cli_evaluate()
"""
"""lmms-eval's command line, made to work with the tiny VLM as in bench_rollouts.py."""


@dataclass(frozen=True, slots=True)
class Took:
    """What some processes took, in seconds."""

    wall: float
    user: float
    """CPU time in user mode: other work on the machine does not enter."""


def measured(commands: list[list[str]]) -> Took:
    """Run processes one after the other."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.monotonic()
    for command in commands:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command[:6])} ...\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    wall = time.monotonic() - started
    return Took(wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)


def write_series(root: Path, n: int) -> list[Path]:
    """Checkpoints with weights of their own and the same everything else."""
    folders = []
    for step in range(1, n + 1):
        folder = Path(shutil.copytree(SHIPPED, root / f"checkpoint-{step}"))
        generator = torch.Generator().manual_seed(step)
        tensors = load_file(folder / "model.safetensors")
        for name, tensor in tensors.items():
            noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
            tensors[name] = tensor + 0.06 * step * tensor.float().std().to(tensor.dtype) * noise
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        folders.append(folder)
    return folders


def ours(folders: list[Path], store: Path, limit: int) -> list[str]:
    """A command of specs-eval."""
    program = str(Path(sys.executable).with_name("specs-eval"))
    checkpoints = [text for folder in folders for text in ("--ckpt", str(folder))]
    return [program, "run", *checkpoints, "--tasks", TASK, "--limit", str(limit), "--store", str(store)]


def theirs(folder: Path, output: Path, limit: int, batch: int) -> list[str]:
    """A command of lmms-eval."""
    import specs_eval.tasks

    pixels = f"min_pixels={4 * 16**2},max_pixels={4096 * 16**2}"
    model = f"pretrained={folder},device=cpu,device_map=cpu,{pixels}"
    options = ["--model", "qwen2_5_vl", "--model_args", model, "--batch_size", str(batch), "--limit", str(limit)]
    tasks = ["--include_path", specs_eval.tasks.__path__[0], "--tasks", f"specs_{TASK}"]
    return [sys.executable, "-c", LMMS_EVAL, *options, *tasks, "--output_path", str(output)]


def our_scores(store: Path) -> list[float | None]:
    """The mean score of each checkpoint, in step order."""
    from specs_eval.store import RunStore

    runs = sorted(RunStore.open(store).runs(), key=lambda run: run.manifest.checkpoint.step or 0)
    return [results.metrics["score"].mean for run in runs if (results := run.results()) is not None]


def their_score(output: Path) -> float:
    """The score in the one result file below a folder."""
    (path,) = output.rglob("*_results.json")
    return float(json.loads(path.read_text())["results"][f"specs_{TASK}"]["score,none"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--limit", type=int, default=64, help="questions")
    parser.add_argument("--lmms-batch", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folders = write_series(root / "series", options.checkpoints)
        outputs = [root / "lmms" / folder.name for folder in folders]
        took = {
            "specs-eval, one command": measured([ours(folders, root / "one", options.limit)]),
            "specs-eval, a command each": measured([ours([f], root / "each", options.limit) for f in folders]),
            "lmms-eval, a command each": measured(
                [
                    theirs(f, output, options.limit, options.lmms_batch)
                    for f, output in zip(folders, outputs, strict=True)
                ]
            ),
        }
        scores = our_scores(root / "one")
        assert scores == our_scores(root / "each")
        equal = sum(one == their_score(output) for one, output in zip(scores, outputs, strict=True))
    print(f"{options.checkpoints} checkpoints, {options.limit} questions each")
    for name, one in took.items():
        print(f"  {name:28} {one.wall:7.1f} s wall  {one.user:7.1f} s user CPU")
    single, each, lmms = took.values()
    verdict = "met" if lmms.wall >= GOAL * single.wall else "NOT met"
    print(f"  lmms-eval over ours: {lmms.wall / single.wall:.1f}x wall, {lmms.user / single.user:.1f}x CPU ", end="")
    print(f"(goal {GOAL:g}x wall: {verdict})")
    print(f"  starting over costs ours {each.wall / single.wall:.1f}x wall")
    print(f"  equal mean scores: {equal} of {options.checkpoints}; ours run from {min(scores)} to {max(scores)}")


if __name__ == "__main__":
    main()
