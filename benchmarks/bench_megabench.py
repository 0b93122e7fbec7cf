"""Rows per second of the MEGA-Bench scorer over a file of recorded outputs. Prints figures; asserts nothing.

python benchmarks/bench_megabench.py ROWS.jsonl [--processes 2]

The official code scores 125 rows/s on one core (measured on the same rows, imports not counted): it forks a process per
number and parses LaTeX with ANTLR. The goal is 20 times that, 2,500 rows/s, on two cores at equal scores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import defaultdict
from pathlib import Path

OFFICIAL_RATE, GOAL = 125.0, 2500.0


def score_lines(lines: list[str]) -> tuple[int, int, dict[str, tuple[int, float]]]:
    """Rows scored, rows that agree with the recorded score, and metric -> (rows, seconds)."""
    from specs_eval.tasks.megabench.rows import score_row

    agree, seconds = 0, defaultdict(lambda: [0, 0.0])
    for line in lines:
        row = json.loads(line)
        started = time.perf_counter()
        score = score_row(row).score
        spent = seconds[row["metric"]]
        spent[0] += 1
        spent[1] += time.perf_counter() - started
        agree += score is not None and abs(score - row["official_score"]) <= 1e-6
    return len(lines), agree, {metric: (count, total) for metric, (count, total) in seconds.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    lines = arguments.rows.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if '"metric": "program_judge"' not in line]
    # rows of one metric to one process: word lists are then loaded once
    lines.sort(key=lambda line: json.loads(line)["metric"])
    middle = [lines[start :: arguments.processes] for start in range(arguments.processes)]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        pool.map(score_lines, [lines[:1]] * arguments.processes)  # starts the processes
        for name in ("cold (word lists, dictionaries and computer algebra loaded inside)", "warm"):
            started = time.perf_counter()
            results = pool.map(score_lines, middle, chunksize=1)
            rate = len(lines) / (time.perf_counter() - started)
            agree = sum(result[1] for result in results)
            verdict = "met" if rate >= GOAL else "MISSED"
            print(
                f"{name}: {rate:,.0f} rows/s on {arguments.processes} processes, {rate / OFFICIAL_RATE:.1f}x official"
            )
            print(f"  goal {GOAL:,.0f}: {verdict}; {agree} of {len(lines)} rows with the recorded score")
    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for _, _, metrics in results:
        for metric, (count, seconds) in metrics.items():
            totals[metric][0] += count
            totals[metric][1] += seconds
    for metric, (count, seconds) in sorted(totals.items(), key=lambda item: -item[1][1])[:12]:
        print(f"  {metric:48} {count:6.0f} rows {count / seconds:10,.0f} rows/s")


if __name__ == "__main__":
    main()
