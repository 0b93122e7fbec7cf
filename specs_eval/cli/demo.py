"""``specs-eval demo``: the whole method on the embedded default, as the very commands that a user would type."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

RECIPE = "tiny_cpu"
COLD_STARTS = ("sft", "dpo", "dpo+sft")

_NEXT = """
What you saw
  A tiny VLM (0.7 M parameters, trained on easy-VQA, shipped with specs-eval) went through the stages of SPECS on the spot:
    zero         a short GRPO run from the base; it learns the trained output format (ID: think/answer tags)
    distill      preference pairs from its own answers: chosen in the format, rejected right as well but out of it
    cold start   three series from the base: SFT, DPO and DPO+SFT on these pairs
    rl           GRPO from the cold start that generalized best
  Each checkpoint answered real questions under the trained format (ID) and under six changed ones (OOD), sampled at T = 1.
  A rising ID curve looks like success; whether OOD rises with it is what GF tells apart. pass@k and RBF say how much
  room for exploration, and so for RL, is left. One seed of a toy: what holds over seeds is in docs/study.md.
  report.html shows all of it on one page, with training curves and every sample; open it in a browser.
  Checkpoints and results are in {output}/; the same command again has nothing left to do.

Now with your own checkpoints
  specs-eval run --ckpt out/your-run --tasks formats_id,formats_ood,easyvqa --rollouts 8
  specs-eval gf --id formats_id --ood formats_ood --series your-run --base path/to/base
  specs-eval explore --tasks formats_ood --series your-run
  specs-eval train your_recipe.yaml       # the same stages, gated; start from the recipe lora_single_gpu
  specs-eval tasks        # what else can be asked; any lmms-eval generate task works too
  python -c "import specs_eval; print(specs_eval.load_runs('{store}').head())"
"""


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Checkpoints and store."
)
@click.option("--report", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of training.")
def demo(output: Path, report: Path, seed: int) -> None:
    """Take the tiny VLM through all stages of training, and show GF and exploration. No network, no GPU."""
    started = time.monotonic()
    store = output / "runs"
    _step("train", RECIPE, "--output", str(output), "--seed", str(seed), "--no-report")
    cold = [part for name in COLD_STARTS for part in ("--series", name)]
    common = ("--base", "base", "--store", str(store))
    _step("gf", "--id", "formats_id", "--ood", "formats_ood", "--gain", "score", *cold, *common)
    _step("explore", "--tasks", "formats_ood", "--series", "rl", *common)
    _step("stuck", "--id", "formats_id", "--ood", "formats_ood", "--series", "rl", "--list", "0", *common)
    trained = [part for name in ("zero", *COLD_STARTS, "rl") for part in ("--training", str(output / name))]
    asked: tuple[str, ...] = ("--tasks", "formats_id,formats_ood,easyvqa")
    asked += tuple(part for text in _starts(output) for part in ("--start", text))
    _step("report", *asked, *common, "--gain", "score", *trained, "-o", str(report))
    click.echo(_NEXT.format(output=output, store=store))
    click.echo(f"Demo done in {time.monotonic() - started:.0f} s.")


def _starts(output: Path) -> list[str]:
    from specs_eval.cli.train import starts_of
    from specs_eval.training.state import load_state

    return starts_of(load_state(output))


def _step(*arguments: str) -> None:
    """Show a command as one would type it, and run it in this process."""
    from specs_eval.cli import main

    click.secho(f"\n$ specs-eval {' '.join(arguments)}", bold=True)
    sys.stdout.flush()
    try:
        code = main(list(arguments), standalone_mode=False)
    except SystemExit as stop:
        code = stop.code
    if code:
        # click gives the code of a step that ended early (Ctrl-C, a fault) back instead of raising it.
        sys.exit(code)
