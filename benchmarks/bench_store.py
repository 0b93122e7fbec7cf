"""The run store at a million rollouts: journaling, and the scan when a run is resumed.

    python benchmarks/bench_store.py [--rollouts 1000000] [--per-sample 8]

Rollouts look like those of a reasoning task: a response of 200 characters, an answer, two metrics, token statistics. They
are appended a sample at a time, as the runner does. Then the run is opened again, as after a kill: every line is read
and what is done is known. Closing the run (table and totals) is shown beside it. CPU seconds: other work on the machine
does not enter; the disk's waiting is in the wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from specs_eval.records import CheckpointRecord, Rollout, RunIdentity, SampleRecord, SamplingRecord
from specs_eval.store import OpenRun, RunStore

JOURNAL_GOAL = 20_000.0
"""Rollouts a second."""
SCAN_GOAL = 10.0
"""Seconds of wall time for a million."""

IDENTITY = RunIdentity(
    CheckpointRecord(name="s/checkpoint-1", series="s", step=1, fingerprint="f" * 64, path="s/checkpoint-1"),
    "bench",
    "1-bench",
    SamplingRecord(temperature=1.0, max_new_tokens=512, seed=0, top_p=1.0, stop=()),
    "hf/float32",
)


def open_run(root: Path, n_samples: int, n_rollouts: int) -> OpenRun:
    """The run, as the runner opens it."""
    samples = [
        SampleRecord(f"sample-{i:07d}", "What is shown? " * 8, "0" * 64, "yes", f"g{i // 3}", {"kind": str(i % 7)})
        for i in range(n_samples)
    ]
    return RunStore.create(root).open_run(
        IDENTITY, samples, n_task_samples=n_samples, n_rollouts=n_rollouts, environment={}
    )


def rollouts_of(sample: int, n_rollouts: int) -> list[Rollout]:
    """What a sample's rollouts come to."""
    text = "<think>The image shows a circle, and the question asks for its color.</think><answer>yes</answer>"
    return [
        Rollout(
            f"sample-{sample:07d}",
            number,
            f"{text} {sample * n_rollouts + number:>100}",
            float((sample + number) % 3 == 0),
            "yes",
            "exact match",
            n_tokens=60 + number,
            entropy=0.123456 + number,
            nucleus=1.654321,
            metrics={"format": 1.0, "accuracy": float(number % 2)},
        )
        for number in range(n_rollouts)
    ]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def made(n_samples: int, n_rollouts: int) -> Iterator[list[Rollout]]:
    """All rollouts, a sample at a time."""
    return (rollouts_of(sample, n_rollouts) for sample in range(n_samples))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--per-sample", type=int, default=8)
    options = parser.parse_args()
    n_samples = options.rollouts // options.per_sample
    total = n_samples * options.per_sample
    make = timed(lambda: sum(map(len, made(n_samples, options.per_sample))))
    with tempfile.TemporaryDirectory() as scratch:

        def journal() -> None:
            with open_run(Path(scratch) / "runs", n_samples, options.per_sample) as run:
                for rollouts in made(n_samples, options.per_sample):
                    run.append(rollouts)

        cpu, wall = (took - base for took, base in zip(timed(journal), make, strict=True))
        verdict = "met" if total / wall >= JOURNAL_GOAL else "NOT met"
        print(f"journaled {total:,} rollouts: {total / cpu:,.0f}/s CPU, {total / wall:,.0f}/s wall ", end="")
        print(f"(goal {JOURNAL_GOAL:,.0f}/s wall: {verdict})")
        opened = open_run(Path(scratch) / "runs", n_samples, options.per_sample)
        cpu, wall = timed(opened.__enter__)
        assert len(opened.done) == total
        verdict = "met" if wall * 1e6 / total < SCAN_GOAL else "NOT met"
        print(
            f"resume scan of {total:,}: {cpu:.1f} s CPU, {wall:.1f} s wall (goal {SCAN_GOAL:g} s wall a million: {verdict})"
        )
        cpu, wall = timed(lambda: opened.finish(1.0))
        print(f"table and totals: {cpu:.1f} s CPU, {wall:.1f} s wall")
        opened.__exit__(None, None, None)


if __name__ == "__main__":
    main()
