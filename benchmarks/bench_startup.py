"""CPU time of commands that must feel instant. Prints seconds and what they import; asserts nothing.

python benchmarks/bench_startup.py [--store runs]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path


def cpu_seconds(command: list[str]) -> float:
    """User plus system seconds of a command, best of three."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs"), help="a warm store (make demo leaves one)")
    store = parser.parse_args().store
    specs = str(Path(sys.executable).parent / "specs-eval")
    gf = [specs, "gf", "--id", "formats_id", "--ood", "formats_ood", "--store", str(store)]
    rows = [
        ("python -c pass", [sys.executable, "-c", "pass"], None),
        ("specs-eval --help", [specs, "--help"], 0.5),
        ("lmms-eval --help", [str(Path(sys.executable).parent / "lmms-eval"), "--help"], None),
    ]
    if store.exists():
        rows.append(("specs-eval gf (warm store)", gf, 1.5))
    for name, command, goal in rows:
        seconds = cpu_seconds(command)
        note = "" if goal is None else f"  goal {goal} s: {'met' if seconds < goal else 'MISSED'}"
        print(f"{name:<28} {seconds:6.2f} s of CPU{note}")


if __name__ == "__main__":
    main()
