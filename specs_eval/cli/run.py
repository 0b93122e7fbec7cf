"""``specs-eval run``: checkpoints in, scored rollouts out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from specs_eval.cli.executor_options import executor_options
from specs_eval.cli.judge_options import judge_options
from specs_eval.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, ConfigError

if TYPE_CHECKING:
    from specs_eval.backends.base import BackendOptions
    from specs_eval.checkpoints import Resolution
    from specs_eval.executors.placement import RaySettings
    from specs_eval.runner import Evaluation, RunRequest
    from specs_eval.store import RunStore
    from specs_eval.tasks.judging import Judge
    from specs_eval.tasks.profiles import Profile

STORE_OPTION = click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of the run store."
)


@click.command()
@click.option(
    "--ckpt", "ckpts", multiple=True, required=True, help="Folder, series folder, glob or hub id; repeatable."
)
@click.argument("more_ckpts", nargs=-1, metavar="[CKPT]...")
@click.option("--tasks", "task_list", required=True, help="Comma-separated; see 'specs-eval tasks'.")
@click.option("--rollouts", type=int, default=1, show_default=True, help="Responses a sample.")
@click.option("--temperature", type=float, help="Default: 0 for one rollout, 1 for several.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Nucleus truncation when sampling.")
@click.option("--max-new-tokens", type=int, help="Default: what each task asks for.")
@click.option("--limit", type=int, help="Only the first N samples of each task (a fixed random prefix).")
@STORE_OPTION
@click.option("--backend", default="hf", show_default=True, help="Engine that answers.")
@click.option(
    "--base-url", metavar="URL[,URL]...", help="Endpoint(s) of --backend openai; with --ckpt served:NAME or a folder."
)
@click.option("--batch-size", type=int, help="Samples a batch; changes speed and memory, never a score.")
@click.option("--device", help="cpu, cuda, cuda:1, ...")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: float32 on CPU, bfloat16 on GPU."
)
@click.option(
    "--backend-arg",
    "backend_args",
    multiple=True,
    metavar="KEY=VALUE",
    help="Setting of the backend; a wrong one lists all.",
)
@click.option("--per-position", is_flag=True, help="Store entropy and nucleus size of every position.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA", help="Where benchmark data lies."
)
@click.option(
    "--profile",
    type=click.Choice(["official", "reasoning"]),
    default="official",
    show_default=True,
    help="Scoring of MathVista, MMMU, MEGA-Bench: as the official code, or strictly from the asked format.",
)
@judge_options
@click.option(
    "--include-path",
    "include_paths",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Folder with lmms-eval task YAMLs of your own; repeatable.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--max-unscored", type=float, default=0.0, show_default=True, help="Share of failed rollouts that still exits 0."
)
@click.option(
    "--lock-timeout",
    type=float,
    default=3600.0,
    show_default=True,
    help="Seconds to wait for another process on the same run.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only this share of the checkpoints on tasks; auto: as torchrun or a Slurm array says.",
)
@executor_options
@click.option("--dry-run", is_flag=True, help="Say what would be evaluated and what it would take, and nothing else.")
@click.option("--categories", is_flag=True, help="Also show every category of the samples (see 'specs-eval results').")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON on stdout.")
def run(
    ckpts: tuple[str, ...],
    more_ckpts: tuple[str, ...],
    task_list: str,
    rollouts: int,
    temperature: float | None,
    top_p: float,
    max_new_tokens: int | None,
    limit: int | None,
    store: Path,
    backend: str,
    base_url: str | None,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    backend_args: tuple[str, ...],
    per_position: bool,
    data_dir: Path | None,
    profile: Profile,
    include_paths: tuple[Path, ...],
    seed: int,
    max_unscored: float,
    lock_timeout: float,
    shard: str | None,
    executor: RaySettings | None,
    dry_run: bool,
    categories: bool,
    as_json: bool,
    judge: Judge | None,
) -> None:
    """Evaluate checkpoints on tasks into a run store.

    What is in the store already is not done again; a killed run continues with the same command. A folder with
    checkpoint-N children is a series. NAME=PATH names a series.

    \b
    specs-eval run --ckpt out/dpo --tasks formats_id,formats_ood --rollouts 8
    """
    from specs_eval.backends.base import BackendOptions
    from specs_eval.runner import RunRequest
    from specs_eval.sharding import AUTO, launched_device, parse_shard
    from specs_eval.tasks.registry import parse_task_list

    request = RunRequest(
        tasks=parse_task_list(task_list, data_dir, include_paths, profile, judge),
        n_rollouts=rollouts,
        temperature=temperature,
        limit=limit,
        seed=seed,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        lock_timeout=lock_timeout,
        shard=None if shard is None else parse_shard(shard, os.environ),
    )
    if shard == AUTO and device is None:
        device = launched_device(os.environ)
    extra = dict(key_and_value(text) for text in backend_args)
    if base_url is not None:
        if backend != "openai":
            raise ConfigError(f"--base-url is for --backend openai, not {backend}")
        extra["base_url"] = base_url
    options = BackendOptions(batch_size, device, dtype, per_position, extra)
    if dry_run:
        from specs_eval.cli.run_cost import show_cost

        show_cost([*ckpts, *more_ckpts], request, store, backend, options, as_json)
        return
    evaluation = run_checkpoints([*ckpts, *more_ckpts], request, store, backend, options, executor)
    show(evaluation, as_json=as_json, categories=categories)
    sys.exit(exit_code(evaluation, max_unscored))


def key_and_value(text: str) -> tuple[str, str]:
    """A value of ``--backend-arg``.

    Raises:
        ConfigError: it is not KEY=VALUE.
    """
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise ConfigError(f"--backend-arg takes KEY=VALUE, not {text!r}")
    return key, value


def run_checkpoints(
    ckpts: list[str],
    request: RunRequest,
    store_path: Path,
    backend_name: str,
    options: BackendOptions,
    executor: RaySettings | None = None,
) -> Evaluation:
    """Resolve, evaluate, report progress on stderr."""
    from specs_eval.checkpoints import resolve_checkpoints
    from specs_eval.fingerprint import Fingerprinter
    from specs_eval.store import RunStore

    store = RunStore.create(store_path)
    served = backend_name == "openai"
    resolution = resolve_checkpoints(ckpts, Fingerprinter(store.root / "fingerprints.json"), may_be_served=served)
    if executor is not None:
        from specs_eval.cli.run_on_ray import run_on_ray

        return run_on_ray(resolution, request, store, (backend_name, options), executor)
    return run_resolved(resolution, request, store, backend_name, options)


def run_resolved(
    resolution: Resolution, request: RunRequest, store: RunStore, backend_name: str, options: BackendOptions
) -> Evaluation:
    """Evaluate checkpoints that were found already, report progress on stderr."""
    from rich.console import Console

    from specs_eval.backends.base import usage_line
    from specs_eval.backends.registry import create_backend
    from specs_eval.cli.progress import make_observer
    from specs_eval.runner import evaluate, evaluation_units

    engine = create_backend(backend_name, options)
    console = Console(stderr=True)
    observer = make_observer(console, len(evaluation_units(resolution.checkpoints, request)))
    try:
        with observer.display():
            for note in (*resolution.notes, *resolution.problems):
                observer.problem(note)
            evaluation = evaluate(resolution.checkpoints, request, store, engine, observer)
    except KeyboardInterrupt:
        console.print("Interrupted. Everything finished is stored; the same command continues.", highlight=False)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        engine.close()
        if (usage := usage_line(engine)) is not None:
            console.print(usage, highlight=False, soft_wrap=True)
    evaluation.problems[:0] = resolution.problems
    return evaluation


def exit_code(evaluation: Evaluation, max_unscored: float) -> int:
    """0, or 3 when a checkpoint failed or more rollouts than allowed have no score."""
    total = sum(results.n_rollouts for run in evaluation.runs if (results := run.results()) is not None)
    share = evaluation.n_failed() / total if total else 0.0
    return EXIT_INCOMPLETE if evaluation.problems or share > max_unscored else 0


def show(evaluation: Evaluation, *, as_json: bool, categories: bool = False) -> None:
    """Results on stdout: tables, or JSON."""
    from specs_eval.cli.charts import results_console
    from specs_eval.cli.results import results_facts, show_summaries
    from specs_eval.cli.run_summary import RunSummary

    summaries = [RunSummary(run) for run in evaluation.runs]
    if as_json:
        facts = {**results_facts(summaries, everything=categories), "problems": evaluation.problems}
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    show_summaries(summaries, results_console(), categories=categories)
    for problem in evaluation.problems:
        click.echo(f"not evaluated: {problem}", err=True)
