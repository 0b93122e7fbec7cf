"""``specs-eval demo``: the main job on the embedded default, as the very commands that a user would type."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from specs_eval.errors import ConfigError

METHODS = ("sft", "mixed")
N_QUESTIONS = 80
N_FORMATS = 6

_NEXT = """
What you saw
  A tiny VLM (0.7 M parameters, trained on easy-VQA, shipped with specs-eval) was trained further on the spot, in two
  ways: sft sees the trained output format alone, mixed half the time some other formats (none of those evaluated).
  Each checkpoint answered {questions} real questions {rollouts} times, sampled at T = 1, under the trained format (ID) and under
  six changed ones (OOD). A rising ID curve looks like success; whether OOD rises with it is what GF tells apart. pass@k
  and RBF say how much room for exploration, and so for RL, is left.
  report.html shows all of it on one page, with every sample; open it in a browser.
  Everything is in {store}/; the same command again has nothing left to do.

Now with your own checkpoints
  specs-eval run --ckpt out/your-run --tasks formats_id,formats_ood,easyvqa --rollouts 8
  specs-eval gf --id formats_id --ood formats_ood --series your-run --base path/to/base
  specs-eval explore --tasks formats_ood --series your-run
  specs-eval tasks        # what else can be asked; any lmms-eval generate task works too
  python -c "import specs_eval; print(specs_eval.load_runs('{store}').head())"
"""


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Trained series."
)
@click.option("--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--questions", type=int, default=N_QUESTIONS, show_default=True, help="Questions a task and checkpoint.")
@click.option("--rollouts", type=int, default=8, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def demo(output: Path, store: Path, questions: int, rollouts: int, seed: int) -> None:
    """Train a short series from the tiny VLM, evaluate it, and show GF and exploration. No network, no GPU."""
    from specs_eval.training.tiny import checkpoint_path

    if questions < 1:
        raise ConfigError(f"--questions must be >= 1, not {questions}")
    started = time.monotonic()
    for method in METHODS:
        _step("tiny", "series", str(output / method), "--method", method, "--seed", str(seed))
    ckpts = [
        part
        for path in (checkpoint_path(), *(output / method for method in METHODS))
        for part in ("--ckpt", _name(path))
    ]
    common = ("--rollouts", str(rollouts), "--seed", str(seed), "--store", str(store))
    _step("run", *ckpts, "--tasks", "formats_id,easyvqa", "--limit", str(questions), *common)
    _step("run", *ckpts, "--tasks", "formats_ood", "--limit", str(questions * N_FORMATS), *common)
    series = [part for method in METHODS for part in ("--series", method)]
    _step("explore", "--tasks", "formats_ood", "--store", str(store))
    _step("gf", "--id", "formats_id", "--ood", "formats_ood", "--base", "base", *series, "--store", str(store))
    trained = [part for method in METHODS for part in ("--training", str(output / method))]
    _step("report", "--store", str(store), "--base", "base", *trained, "-o", "report.html")
    click.echo(_NEXT.format(questions=questions, rollouts=rollouts, store=store))
    click.echo(f"Demo done in {time.monotonic() - started:.0f} s.")


def _name(path: Path) -> str:
    return f"base={path}" if path.name == "checkpoint" else str(path)


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
