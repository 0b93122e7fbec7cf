"""Rows per second of the MEGA-Bench scorer over a file of recorded outputs. Prints figures; asserts nothing.

python benchmarks/bench_megabench.py ROWS.jsonl [--processes 2] [--repeats 5]

The official code scores 125 rows/s on one core (measured on the same rows, imports not counted): it forks a process per
number and parses LaTeX with ANTLR. The goal is 20 times that, 2,500 rows/s, on two cores at equal scores.

``cold``: the whole file in a new interpreter, with everything that is imported, loaded and started inside, as in
``specs-eval score``. ``warm``: the same rows once more in the same processes. ``naive``: the same scorer, one new process
for each row, which says how fast this machine forks just now. Processor time counts all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OFFICIAL_RATE, GOAL = 125.0, 2500.0
NAIVE_ROWS = 300


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows whose metric runs no program."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if '"metric": "program_judge"' not in line]


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def agreement(rows: list[dict[str, Any]], scores: list[float | None]) -> int:
    """Rows with the recorded score."""
    pairs = zip(rows, scores, strict=True)
    return sum(score is not None and abs(score - row["official_score"]) <= 1e-6 for row, score in pairs)


def measure(path: Path, processes: int) -> dict[str, float]:
    """Figures of one new interpreter; call it in one."""
    rows = read_rows(path)
    started, spent = time.perf_counter(), processor_seconds()
    from specs_eval.tasks.row_workers import RowRules, RowWorkers

    with RowWorkers(processes, RowRules()) as workers:
        scored = workers.score(rows)
        cold = time.perf_counter() - started
        warm_started = time.perf_counter()
        workers.score(rows)
        warm = time.perf_counter() - warm_started
    return {
        "rows": len(rows),
        "agree": agreement(rows, [row.score for row in scored]),
        "cold": len(rows) / cold,
        "warm": len(rows) / warm,
        "processor_seconds_cold_and_warm": processor_seconds() - spent,
        "naive": naive_rate(rows),
    }


def naive_rate(rows: list[dict[str, Any]]) -> float:
    """Rows per second with a new process for each row."""
    from specs_eval.tasks.rows import score_row

    sample = rows[:: max(1, len(rows) // NAIVE_ROWS)]
    started = time.perf_counter()
    for row in sample:
        child = os.fork()
        if child == 0:
            score_row(row)
            os._exit(0)
        os.waitpid(child, 0)
    return len(sample) / (time.perf_counter() - started)


def slowest_metrics(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Metric, rows and seconds in one warm process, the slowest first."""
    from specs_eval.tasks.rows import score_row

    for row in rows:
        score_row(row)
    spent: dict[str, tuple[int, float]] = {}
    for row in rows:
        started = time.perf_counter()
        score_row(row)
        count, seconds = spent.get(row["metric"], (0, 0.0))
        spent[row["metric"]] = (count + 1, seconds + time.perf_counter() - started)
    return sorted(((name, *facts) for name, facts in spent.items()), key=lambda item: -item[2])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="measure in this interpreter and print JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure(arguments.rows, arguments.processes)))
        return
    command = [sys.executable, __file__, str(arguments.rows), "--processes", str(arguments.processes), "--once"]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(arguments.repeats)]
    print(f"{runs[0]['rows']:,} rows, {arguments.processes} processes, {len(runs)} new interpreters")
    for name in ("cold", "warm", "naive"):
        rates = sorted(run[name] for run in runs)
        rate = statistics.median(rates)
        verdict = "" if name == "naive" else f"; goal {GOAL:,.0f}: {'met' if rate >= GOAL else 'MISSED'}"
        print(
            f"  {name:6} {rate:8,.0f} rows/s (from {rates[0]:,.0f} to {rates[-1]:,.0f}), "
            f"{rate / OFFICIAL_RATE:.1f}x official{verdict}"
        )
    seconds = statistics.median(run["processor_seconds_cold_and_warm"] for run in runs)
    print(f"  processor time of a cold and a warm pass: {seconds:.2f} s")
    print(f"  rows with the recorded score: {min(run['agree'] for run in runs):,} of {runs[0]['rows']:,}")
    for metric, count, seconds in slowest_metrics(read_rows(arguments.rows))[:10]:
        print(f"  {metric:48} {count:6.0f} rows {count / seconds:10,.0f} rows/s warm")


if __name__ == "__main__":
    main()
