"""``specs-eval distill``: preference pairs from a model's own answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.judge_options import judge_options
from specs_eval.cli.run import STORE_OPTION
from specs_eval.errors import EXIT_INCOMPLETE, ConfigError

if TYPE_CHECKING:
    from specs_eval.backends.base import BackendOptions
    from specs_eval.runner import RunRequest
    from specs_eval.store import StoredRun
    from specs_eval.task import Task
    from specs_eval.tasks.judging import Judge
    from specs_eval.training.distill.pipeline import Distilled
    from specs_eval.training.distill.settings import PairData, Source


@click.command()
@click.option("--ckpt", required=True, help="The model that answers: folder, hub id, or NAME=PATH.")
@click.option(
    "--questions",
    "source_of_questions",
    required=True,
    metavar="SOURCE",
    help="easyvqa, or orsta:PATH, virl:PATH, mathvista:PATH, jsonl:PATH.",
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the pairs.")
@click.option("--rollouts", type=int, default=8, show_default=True, help="Responses a question.")
@click.option("--limit", type=int, help="Only the first N questions (a fixed random prefix).")
@click.option(
    "--data",
    type=click.Choice(["decoupled", "coupled"]),
    default="decoupled",
    show_default=True,
    help="decoupled: both right, only the form differs; coupled: the rejected is wrong as well.",
)
@click.option(
    "--source",
    type=click.Choice(["zero", "base", "teacher"]),
    default="zero",
    show_default=True,
    help="What kind of model --ckpt is: kept with every pair.",
)
@click.option("--no-filter", is_flag=True, help="Keep right answers whose reasoning concludes otherwise.")
@click.option("--require-conclusion", is_flag=True, help="Also drop reasoning that states no conclusion.")
@click.option(
    "--judge-consistency", is_flag=True, help="Ask --judge whether reasoning and answer agree, not the rules."
)
@click.option("--pairs-per-question", type=int, default=1, show_default=True)
@click.option("--max-pairs", type=int, help="Keep at most so many pairs, chosen at random.")
@click.option("--validation", type=float, default=0.05, show_default=True, help="Share of pairs held out, by question.")
@click.option("--eval-tasks", metavar="TASK,...", help="Drop questions that these tasks ask, by text and image.")
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Nucleus truncation.")
@click.option("--max-new-tokens", type=int, help="Default: what the questions ask for.")
@STORE_OPTION
@click.option("--backend", default="hf", show_default=True, help="Engine that answers.")
@click.option("--batch-size", type=int, help="Questions a batch; changes speed and memory, never a response.")
@click.option("--device", help="cpu, cuda, cuda:1, ...")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Default: float32 on CPU, bfloat16 on GPU."
)
@click.option("--backend-arg", "backend_args", multiple=True, metavar="KEY=VALUE", help="Setting of the backend.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA", help="Where data of --eval-tasks lies."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the responses and of the pairs.")
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as JSON on stdout.")
@judge_options
def distill(
    ckpt: str,
    source_of_questions: str,
    output: Path,
    rollouts: int,
    limit: int | None,
    data: PairData,
    source: Source,
    no_filter: bool,
    require_conclusion: bool,
    judge_consistency: bool,
    pairs_per_question: int,
    max_pairs: int | None,
    validation: float,
    eval_tasks: str | None,
    temperature: float,
    top_p: float,
    max_new_tokens: int | None,
    store: Path,
    backend: str,
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    backend_args: tuple[str, ...],
    data_dir: Path | None,
    seed: int,
    as_json: bool,
    judge: Judge | None,
) -> None:
    """Make preference pairs from a model's own answers: same content, good form against spoiled form.

    Responses go through the run store: a killed command continues, and other pairs from the same responses cost
    nothing. The pairs are a data set for TRL's DPO trainer, with where each comes from.

    \b
    specs-eval distill --ckpt out/zero --questions easyvqa --limit 500 --output out/pairs --eval-tasks easyvqa
    """
    from specs_eval.backends.base import BackendOptions
    from specs_eval.cli.run import key_and_value
    from specs_eval.runner import RunRequest
    from specs_eval.tasks.registry import parse_task_list
    from specs_eval.training.distill.pipeline import check_before_sampling, prepare
    from specs_eval.training.distill.pipeline import distill as distill_run
    from specs_eval.training.distill.settings import DistillSettings
    from specs_eval.training.questions.sources import load_questions

    if no_filter and (judge_consistency or require_conclusion):
        raise ConfigError(
            "--no-filter leaves the consistency filter out; drop --judge-consistency, --require-conclusion"
        )
    settings = DistillSettings(
        n_rollouts=rollouts,
        data=data,
        source=source,
        consistency="off" if no_filter else "judge" if judge_consistency else "rules",
        require_conclusion=require_conclusion,
        pairs_per_question=pairs_per_question,
        max_pairs=max_pairs,
        validation_share=validation,
        seed=seed,
    )
    check_before_sampling(settings, output, judge)
    evaluations: list[Task] = parse_task_list(eval_tasks, data_dir) if eval_tasks else []
    prepared = prepare(load_questions(source_of_questions, limit), evaluations)
    request = RunRequest(
        tasks=[prepared.task(judge)],
        n_rollouts=rollouts,
        temperature=temperature,
        seed=seed,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
    )
    options = BackendOptions(batch_size, device, dtype, extra=dict(key_and_value(text) for text in backend_args))
    run = _sampled(ckpt, request, store, backend, options)
    names = [task.name for task in evaluations]
    _show(distill_run(run, prepared, settings, output, judge=judge, evaluations=names), as_json=as_json)


def _sampled(ckpt: str, request: RunRequest, store: Path, backend: str, options: BackendOptions) -> StoredRun:
    """The one run of the one checkpoint; ends the command where it could not be made.

    Raises:
        ConfigError: the checkpoint is a series.
    """
    from specs_eval.checkpoints import resolve_checkpoints
    from specs_eval.cli.run import run_resolved
    from specs_eval.fingerprint import Fingerprinter
    from specs_eval.store import RunStore

    runs = RunStore.create(store)
    served = backend == "openai"
    resolution = resolve_checkpoints([ckpt], Fingerprinter(runs.root / "fingerprints.json"), may_be_served=served)
    if len(resolution.checkpoints) > 1:
        raise ConfigError(f"--ckpt {ckpt} names {len(resolution.checkpoints)} checkpoints; name the one that answers")
    evaluation = run_resolved(resolution, request, runs, backend, options)
    if evaluation.problems or len(evaluation.runs) != 1:
        for problem in evaluation.problems:
            click.echo(f"not sampled: {problem}", err=True)
        sys.exit(EXIT_INCOMPLETE)
    return evaluation.runs[0]


def _show(made: Distilled, *, as_json: bool) -> None:
    facts = made.summary
    if as_json:
        click.echo(json.dumps({"folder": str(made.folder), "unchanged": made.unchanged, **facts}, indent=2))
        return
    for title in ("questions", "rollouts"):
        click.echo(f"{title}")
        for name, count in facts["counts"][title].items():
            click.echo(f"  {count:>9,}  {name}")
    _show_pairs(facts["counts"]["pairs"])
    state = "holds these pairs already" if made.unchanged else "written"
    click.echo(f"{made.folder}: {state}; load them with specs_eval.training.distill.dataset.load_pairs")


def _show_pairs(pairs: dict[str, dict[str, Any]]) -> None:
    for split, kinds in pairs.items():
        listed = ", ".join(f"{name} {count:,}" for name, count in kinds.items())
        click.echo(f"pairs, {split}: {sum(kinds.values()):,} ({listed})")
