"""``specs-eval watch``: evaluate each new checkpoint of a training that is still running."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specs_eval.cli.judge_options import judge_options
from specs_eval.cli.run import STORE_OPTION, key_and_value

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge
    from specs_eval.tasks.profiles import Profile


@click.command()
@click.argument("out", metavar="OUT")
@click.option("--tasks", "task_list", required=True, help="Comma-separated; see 'specs-eval tasks'.")
@click.option("--rollouts", type=int, default=1, show_default=True, help="Responses a sample.")
@click.option("--temperature", type=float, help="Default: 0 for one rollout, 1 for several.")
@click.option("--max-new-tokens", type=int, help="Default: what each task asks for.")
@click.option("--limit", type=int, help="Only the first N samples of each task (a fixed random prefix).")
@click.option("--seed", type=int, default=0, show_default=True)
@STORE_OPTION
@click.option("--backend", default="hf", show_default=True, help="Engine that answers.")
@click.option("--batch-size", type=int, help="Samples a batch; changes speed and memory, never a score.")
@click.option("--device", help="cpu, cuda, cuda:1, ...; one that the training leaves free.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: float32 on CPU, bfloat16 on GPU."
)
@click.option("--backend-arg", "backend_args", multiple=True, metavar="KEY=VALUE", help="Setting of the backend.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA", help="Where benchmark data lies."
)
@click.option("--profile", type=click.Choice(["official", "reasoning"]), default="official", show_default=True)
@judge_options
@click.option(
    "--include-path",
    "include_paths",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Folder with lmms-eval task YAMLs of your own; repeatable.",
)
@click.option("--policy", "policy_path", type=click.Path(path_type=Path), help="Judge each checkpoint by this policy.")
@click.option("--baseline", metavar="CKPT", help="With --policy: a pinned name, or a checkpoint of the store.")
@click.option("--stop-on-fail", is_flag=True, help="With --policy: end with exit code 1 when a gate closes.")
@click.option("--log", "trackers", multiple=True, metavar="TRACKER", help="tensorboard, wandb or trackio; repeatable.")
@click.option("--log-project", default="specs-eval", show_default=True, help="Project of wandb and trackio.")
@click.option(
    "--log-dir", type=click.Path(path_type=Path), help="Folder for TensorBoard.  [default: OUT/specs-eval-tensorboard]"
)
@click.option("--poll", type=click.FloatRange(min=0.05), default=10.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds for which a checkpoint's files must not have changed.",
)
@click.option("--once", is_flag=True, help="Evaluate what is there, then end.")
@click.option("--until-step", type=click.IntRange(min=0), help="End when a checkpoint of this step or later is done.")
@click.option("--idle-timeout", type=click.FloatRange(min=0), help="End when nothing came for so many seconds.")
@click.option(
    "--stop-file", type=click.Path(path_type=Path), help="End when this file exists.  [default: OUT/specs-eval-stop]"
)
def watch(
    out: str,
    task_list: str,
    rollouts: int,
    temperature: float | None,
    max_new_tokens: int | None,
    limit: int | None,
    seed: int,
    store: Path,
    backend: str,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    backend_args: tuple[str, ...],
    data_dir: Path | None,
    profile: Profile,
    include_paths: tuple[Path, ...],
    judge: Judge | None,
    policy_path: Path | None,
    baseline: str | None,
    stop_on_fail: bool,
    trackers: tuple[str, ...],
    log_project: str,
    log_dir: Path | None,
    poll: float,
    settle: float,
    once: bool,
    until_step: int | None,
    idle_timeout: float | None,
    stop_file: Path | None,
) -> None:
    """Evaluate each new, whole checkpoint in the training output folder OUT (or NAME=OUT); the newest first when behind.

    Exit codes: 0 every gate passed or none was asked, 1 a gate closed, 3 undecided or a checkpoint failed.

    \b
    specs-eval watch out/dpo --tasks formats_id,formats_ood --rollouts 8
    specs-eval watch out/dpo --tasks mmmu --policy specs-eval.toml --baseline main --stop-on-fail --log wandb
    """
    from specs_eval.backends.base import BackendOptions
    from specs_eval.cli.watch_loop import Ending, WatchPlan, run_watch
    from specs_eval.errors import ConfigError
    from specs_eval.runner import RunRequest
    from specs_eval.tasks.registry import parse_task_list
    from specs_eval.tracking import TrackerSettings

    if (baseline is None) != (policy_path is None) or (stop_on_fail and policy_path is None):
        raise ConfigError("--policy and --baseline go together, and --stop-on-fail with both")
    series, folder = _series_and_folder(out)
    if once and not folder.is_dir():
        raise ConfigError(f"{folder} is not there; with --once there is nothing to wait for")
    request = RunRequest(
        parse_task_list(task_list, data_dir, include_paths, profile, judge),
        rollouts,
        temperature,
        limit,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    plan = WatchPlan(
        folder=folder,
        series=series,
        request=request,
        store=store,
        backend=backend,
        options=BackendOptions(batch_size, device, dtype, extra=dict(map(key_and_value, backend_args))),
        policy_path=policy_path,
        baseline=baseline or "",
        stop_on_fail=stop_on_fail,
        trackers=trackers,
        tracker_settings=TrackerSettings(
            log_project, series or folder.resolve().name, log_dir or folder / "specs-eval-tensorboard"
        ),
        poll=poll,
        settle=settle,
        ending=Ending(once, until_step, idle_timeout, stop_file or folder / "specs-eval-stop"),
    )
    sys.exit(run_watch(plan))


def _series_and_folder(text: str) -> tuple[str, Path]:
    """``NAME=OUT`` or ``OUT``, which need not exist yet."""
    series, _, path = text.rpartition("=")
    if not series or Path(text).exists():
        series, path = "", text
    return series, Path(path).expanduser()
