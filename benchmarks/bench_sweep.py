"""Ten checkpoints on one task: one engine that takes them in turn, against a process for each.

    python benchmarks/bench_sweep.py [--checkpoints 10] [--limit 64] [--lmms-batch 64]
    .venv-vllm/bin/python benchmarks/bench_sweep.py --engine vllm --checkpoints 4    # after make test-vllm

All routes answer the same questions of easy-VQA greedily, in float32 on the CPU with one thread, with the same ten
checkpoints: the tiny VLM with a little noise on its weights, as a training would change them. Everything a user waits
for is counted: Python's start, imports, loading, evaluating, writing.

- `specs-eval run`, one command: the weights of each checkpoint go into the live model.
- `specs-eval run`, a command for each checkpoint: what of the difference is due to starting over.
- `lmms-eval`, a command line for each: our task inside it, its own qwen2_5_vl model class, or its vllm one.

With `--engine vllm` both sides run vLLM with the same engine arguments in the process that was started (a core in a process
of its own takes longer to start, of which lmms-eval would have more), and lmms-eval gets all questions in one batch.

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

LMMS_EVAL_VLLM = """
import sys, types
try:
    import decord
except ImportError:
    sys.modules["decord"] = types.ModuleType("decord")
from lmms_eval.__main__ import cli_evaluate
cli_evaluate()
"""

VLLM_ENGINE = {"enforce_eager": "True", "max_num_seqs": "64", "max_model_len": "1024"}
VLLM_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Took:
    """What some processes took, in seconds."""

    wall: float
    user: float
    """CPU time in user mode: other work on the machine does not enter."""


def measured(commands: list[list[str]]) -> Took:
    """Run processes one after the other."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | VLLM_ENVIRONMENT
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


def ours(folders: list[Path], store: Path, limit: int, engine: str) -> list[str]:
    """A command of specs-eval."""
    program = str(Path(sys.executable).with_name("specs-eval"))
    checkpoints = [text for folder in folders for text in ("--ckpt", str(folder))]
    command = [program, "run", *checkpoints, "--tasks", TASK, "--limit", str(limit), "--store", str(store)]
    if engine == "hf":
        return command
    arguments = [text for name, value in VLLM_ENGINE.items() for text in ("--backend-arg", f"{name}={value.lower()}")]
    return [*command, "--backend", "vllm", "--dtype", "float32", *arguments]


def theirs(folder: Path, output: Path, limit: int, batch: int, engine: str) -> list[str]:
    """A command of lmms-eval."""
    import specs_eval.tasks
    from specs_eval.tasks.registry import get_task

    if engine == "hf":
        script, pixels = LMMS_EVAL, f"min_pixels={4 * 16**2},max_pixels={4096 * 16**2}"
        model = f"pretrained={folder},device=cpu,device_map=cpu,{pixels}"
        options = ["--model", "qwen2_5_vl", "--model_args", model, "--batch_size", str(batch)]
    else:
        script, settings = LMMS_EVAL_VLLM, ",".join(f"{name}={value}" for name, value in VLLM_ENGINE.items())
        # Without a limit of its own it would generate up to 4,096 tokens, whatever the task asks for.
        limits = f"max_new_tokens={get_task(TASK).max_new_tokens},min_image_pixels=1"
        model = f"model={folder},dtype=float32,trust_remote_code=False,{limits},{settings}"
        options = ["--model", "vllm", "--model_args", model, "--batch_size", str(limit)]
    tasks = ["--include_path", specs_eval.tasks.__path__[0], "--tasks", f"specs_{TASK}", "--limit", str(limit)]
    return [sys.executable, "-c", script, *options, *tasks, "--output_path", str(output)]


def our_scores(store: Path) -> list[float | None]:
    """The mean score of each checkpoint, in step order."""
    from specs_eval.store import RunStore

    runs = sorted(RunStore.open(store).runs(), key=lambda run: run.manifest.checkpoint.step or 0)
    return [results.metrics["score"].mean for run in runs if (results := run.results()) is not None]


def their_score(output: Path) -> float:
    """The score in the one result file below a folder."""
    path = next(output.rglob("*_results.json"), None)
    if path is None:
        sys.exit(f"lmms-eval wrote no results into {output}, although it ended with code 0")
    return float(json.loads(path.read_text())["results"][f"specs_{TASK}"]["score,none"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--limit", type=int, default=64, help="questions")
    parser.add_argument("--lmms-batch", type=int, default=64)
    parser.add_argument("--engine", choices=["hf", "vllm"], default="hf")
    parser.add_argument("--skip-each", action="store_true", help="leave our own command for each checkpoint out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folders = write_series(root / "series", options.checkpoints)
        outputs = [root / "lmms" / folder.name for folder in folders]
        took = {
            "specs-eval, one command": measured([ours(folders, root / "one", options.limit, options.engine)]),
            "specs-eval, a command each": measured(
                [] if options.skip_each else [ours([f], root / "each", options.limit, options.engine) for f in folders]
            ),
            "lmms-eval, a command each": measured(
                [
                    theirs(f, output, options.limit, options.lmms_batch, options.engine)
                    for f, output in zip(folders, outputs, strict=True)
                ]
            ),
        }
        scores = our_scores(root / "one")
        # vLLM rounds otherwise in another batch; the hf backend answers alike, however it came to be asked.
        assert options.skip_each or options.engine == "vllm" or scores == our_scores(root / "each")
        equal = sum(one == their_score(output) for one, output in zip(scores, outputs, strict=True))
    print(f"{options.checkpoints} checkpoints, {options.limit} questions each, engine {options.engine}")
    for name, one in took.items():
        if one.wall < 1:
            continue  # left out
        print(f"  {name:28} {one.wall:7.1f} s wall  {one.user:7.1f} s user CPU")
    single, each, lmms = took.values()
    verdict = "met" if lmms.wall >= GOAL * single.wall else "NOT met"
    print(f"  lmms-eval over ours: {lmms.wall / single.wall:.1f}x wall, {lmms.user / single.user:.1f}x CPU ", end="")
    print(f"(goal {GOAL:g}x wall: {verdict})")
    if not options.skip_each:
        print(f"  starting over costs ours {each.wall / single.wall:.1f}x wall")
    print(f"  equal mean scores: {equal} of {options.checkpoints}; ours run from {min(scores)} to {max(scores)}")


if __name__ == "__main__":
    main()
