"""Seconds and memory of the analysis commands over one million rollouts. Prints; asserts nothing.

python benchmarks/bench_analysis.py [--store FOLDER] [--rollouts 8] [--only gf,stuck]

The store is synthetic: 2 series of 10 checkpoints, 1,250 questions asked in the trained format (ID) and in four changed
ones (OOD), 8 rollouts each: 20 x 6,250 x 8 = 1,000,000. Manifests and totals are made by the store's own records and
functions and the tables have the store's schema, but they are written at once: no journal, which the analysis of complete
runs does not read. A store that is there already is used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specs_eval.records import SCHEMA_VERSION, CheckpointRecord, RunIdentity, RunManifest, SamplingRecord
from specs_eval.store import RunStore
from specs_eval.tables import METRIC_PREFIX, results_of, rollout_table

GOAL_SECONDS, GOAL_GIB = {"report": 30.0}, 1.5
OTHER_GOAL = 5.0
"""Seconds for the commands without a goal of their own."""
N_QUESTIONS = 1250
SERIES = ("sft", "dpo")
STEPS = tuple(range(20, 220, 20))
TASKS = {"easyvqa_formats_id": ("think_answer",), "easyvqa_formats_ood": ("boxed", "json", "sections", "other_tags")}
LETTERS = np.array(list("ABCDE"))
SKILLS = ("algebra", "geometry", "algebra; geometry", "counting", "charts")


@dataclass(frozen=True)
class Questions:
    """What all checkpoints are asked."""

    hardness: NDArray[np.float64]
    gold: NDArray[np.int64]
    tempting: NDArray[np.int64]
    """The wrong answer that most wrong rollouts give."""


def make_store(root: Path, n_rollouts: int) -> None:
    """Write all runs."""
    store = RunStore.create(root)
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 5, N_QUESTIONS)
    questions = Questions(generator.normal(0, 2, N_QUESTIONS), gold, (gold + generator.integers(1, 5, N_QUESTIONS)) % 5)
    for series in SERIES:
        for step in STEPS:
            for task, styles in TASKS.items():
                write_run(store, questions, series, step, task, styles, n_rollouts)


def write_run(
    store: RunStore, questions: Questions, series: str, step: int, task: str, styles: tuple[str, ...], n_rollouts: int
) -> None:
    """One run: manifest, table and totals."""
    name = f"{series}/checkpoint-{step}"
    fingerprint = hashlib.sha256(name.encode()).hexdigest()
    checkpoint = CheckpointRecord(name=name, series=series, step=step, fingerprint=fingerprint, path=f"/models/{name}")
    sampling = SamplingRecord(temperature=1.0, max_new_tokens=1024, seed=0, top_p=1.0, stop=())
    identity = RunIdentity(checkpoint, task, "1-synthetic", sampling, "hf/bfloat16")
    folder = store.root / identity.run_id
    folder.mkdir(exist_ok=True)
    table = rollouts(questions, series, step, styles, n_rollouts)
    pq.write_table(table, folder / "rollouts.parquet", compression="zstd")
    results = results_of(identity.run_id, table)
    (folder / "results.json").write_text(results.model_dump_json(indent=2) + "\n")
    n_samples = N_QUESTIONS * len(styles)
    manifest = RunManifest(
        schema_version=SCHEMA_VERSION,
        run_id=identity.run_id,
        status="complete",
        checkpoint=checkpoint,
        task=task,
        task_version=identity.task_version,
        sampling=sampling,
        backend=identity.backend,
        n_samples=n_samples,
        n_task_samples=n_samples,
        rollout_units=(n_rollouts,),
        environment={},
        started="2025-01-01T00:00:00+00:00",
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / "samples.jsonl").write_text("".join(sample_lines(questions, styles)))


def rollouts(questions: Questions, series: str, step: int, styles: tuple[str, ...], n_rollouts: int) -> pa.Table:
    """The table of one run, in the store's schema."""
    generator = np.random.default_rng([step, len(series), ord(series[0]), len(styles)])
    n_styles, changed = len(styles), len(styles) > 1
    shape = (N_QUESTIONS * n_styles, n_rollouts)
    question = np.repeat(np.arange(N_QUESTIONS), n_styles)
    skill = 0.5 + step / 100 - 0.5 * changed
    right = generator.random(shape) < (1 / (1 + np.exp(questions.hardness[question] - skill)))[:, None]
    tempted = generator.random(shape) < 0.85
    wrong = np.where(tempted, questions.tempting[question][:, None], generator.integers(0, 5, shape))
    letters = np.where(right, questions.gold[question][:, None], wrong)
    silent = generator.random(shape) < 0.03
    right = ((letters == questions.gold[question][:, None]) & ~silent).ravel()
    followed = generator.random(shape) < (0.98 if not changed else 0.6 if series == "sft" else 0.9)
    locked = ~followed & (generator.random(shape) < 0.7)
    failed = generator.random(shape).ravel() < 0.001
    n = right.size
    ids = [f"q{i:05d}/{style}" for i in range(N_QUESTIONS) for style in styles]
    texts = np.array([f"<think>{'because ' * (i % 40)}</think><answer>{i}</answer>" for i in range(997)])
    tokens = generator.integers(20, 400, n)
    entropy = generator.gamma(2, 0.2 + 0.1 * (series == "dpo"), n)

    def each(values: list[str]) -> list[str]:
        return [value for value in values for _ in range(n_rollouts)]

    columns = {
        "sample_id": each(ids),
        "rollout": np.tile(np.arange(n_rollouts), shape[0]),
        "response": texts[generator.integers(0, 997, n)],
        "answer": pa.array(LETTERS[letters.ravel()], mask=silent.ravel() | failed),
        "target": each(LETTERS[questions.gold[question]].tolist()),
        "score": pa.array(followed.ravel().astype(float), mask=failed),
        "rule": ["format"] * n,
        "reason": pa.array(np.where(failed, "engine failed", ""), mask=~failed),
        "finish_reason": ["stop"] * n,
        "n_tokens": tokens,
        "entropy": entropy,
        "nucleus": 1 + entropy,
        "group": each([f"q{i:05d}" for i in question.tolist()]),
        "category": each(
            [json.dumps(category(i, style), sort_keys=True) for i in range(N_QUESTIONS) for style in styles]
        ),
        "prompt_hash": each([hashlib.sha256(sample_id.encode()).hexdigest() for sample_id in ids]),
    }
    schema = rollout_table({}, []).schema
    arrays = {
        name: pa.array(columns[name], type=schema.field(name).type) if name in columns else pa.nulls(n, schema.field(name).type)
        for name in schema.names
    }  # fmt: skip
    arrays[METRIC_PREFIX + "accuracy"] = pa.array(right.astype(float), mask=failed)
    arrays[METRIC_PREFIX + "format"] = pa.array(followed.ravel().astype(float), mask=failed)
    if changed:
        arrays[METRIC_PREFIX + "lock_in"] = pa.array(locked.ravel().astype(float), mask=failed)
    return pa.table(arrays)


def category(question: int, style: str) -> dict[str, str]:
    """Dimensions of a sample."""
    return {"format": style, "grade": str(question % 5 + 1), "skill": SKILLS[question % len(SKILLS)]}


def sample_lines(questions: Questions, styles: tuple[str, ...]) -> Iterator[str]:
    """The file of samples."""
    for i, gold in enumerate(questions.gold.tolist()):
        for style in styles:
            sample_id = f"q{i:05d}/{style}"
            record = {
                "sample_id": sample_id,
                "prompt": f"Question {i}?",
                "prompt_hash": hashlib.sha256(sample_id.encode()).hexdigest(),
                "target": str(LETTERS[gold]),
                "group": f"q{i:05d}",
                "category": category(i, style),
                "images": [],
                "meta": {},
            }
            yield json.dumps(record) + "\n"


def measure(name: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Run one command and print what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "specs-eval"), name, *arguments], stdout=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    gib = usage.ru_maxrss / 2**20  # KiB on Linux
    met = "met" if seconds < GOAL_SECONDS.get(name, OTHER_GOAL) and gib < GOAL_GIB else "MISSED"
    failed = "" if process.returncode == 0 else f"  exit code {process.returncode}"
    print(
        f"{name:<8} {seconds:6.2f} s  user CPU {usage.ru_utime:6.2f} s  system {usage.ru_stime:5.2f} s  "
        f"peak {gib:5.2f} GiB  goal {met}{failed}",
        flush=True,
    )


def main() -> None:
    """Build the store and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="keep the store here; default: a temporary folder")
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--only", help="gf,explore,stuck,compare,report")
    options = parser.parse_args()
    from specs_eval.cli import COMMANDS

    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "store"
        if not store.exists():
            started = time.perf_counter()
            make_store(store, options.rollouts)
            print(f"wrote {store} in {time.perf_counter() - started:.1f} s")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        pair = ["--id", "formats_id", "--ood", "formats_ood", "--store", str(store)]
        commands = {
            "gf": pair,
            "explore": ["--store", str(store)],
            "stuck": pair,
            "compare": ["sft/checkpoint-200", "dpo/checkpoint-200", "--store", str(store)],
            "report": ["--store", str(store), "-o", str(Path(folder) / "report.html")],
        }
        for name, arguments in commands.items():
            if name in COMMANDS and (options.only is None or name in options.only.split(",")):
                measure(name, arguments, dict(os.environ))


if __name__ == "__main__":
    main()
