"""Does GF order SFT, DPO and DPO+SFT on the tiny model as in the paper? Choose on some seeds, report on others.

    python benchmarks/study/study.py --output study                 # everything, hours on two cores
    python benchmarks/study/study.py --output study --part report   # the reported seeds alone
    python benchmarks/study/study.py --output study --part tables   # of what has run

Killed, it goes on where it was. docs/study.md tells what came out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cells import METHODS, run_cold_starts, run_rl
from curves import read_curves
from settings import CHOOSING_SEEDS, REFERENCE, REPORTED, REPORTED_QUESTIONS, REPORTED_SEEDS, SETTINGS, by_name
from tables import differences_table, formats_table, methods_table

FORMATS = ("boxed", "final_line", "json", "other_tags", "sections", "swapped")
SERIES = ("zero", *METHODS, *(f"rl after {method}" for method in METHODS))


def main() -> None:
    """Run the parts that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("study"))
    parser.add_argument("--part", choices=("all", "choose", "report", "tables"), default="all")
    parser.add_argument("--settings", help="of the choosing part, by name with commas; default: all")
    asked = parser.parse_args()
    names = asked.settings.split(",") if asked.settings else [setting.name for setting in SETTINGS]
    if asked.part in ("all", "choose"):
        choose(asked.output, names)
    if asked.part in ("all", "report"):
        report(asked.output)
    show(asked.output)


def choose(output: Path, names: list[str]) -> None:
    """Every setting on the seeds for choosing."""
    for name in names:
        for seed in CHOOSING_SEEDS:
            started = time.monotonic()
            run_cold_starts(output, by_name(name), seed)
            print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)


def report(output: Path) -> None:
    """What was chosen, beside the reference, on the reported seeds; RL from the end of the reference's cold starts."""
    for name in REPORTED:
        for seed in REPORTED_SEEDS:
            started = time.monotonic()
            run_cold_starts(output, by_name(name), seed, REPORTED_QUESTIONS)
            for method in METHODS if name == REFERENCE.name else ():
                run_rl(output, by_name(name), seed, method, REPORTED_QUESTIONS)
            print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)


def show(output: Path) -> None:
    """Print the tables of both parts, write their curves as CSV, and draw what is reported."""
    for part, names, seeds in (
        ("chosen from", [setting.name for setting in SETTINGS], CHOOSING_SEEDS),
        ("reported", list(REPORTED), REPORTED_SEEDS),
    ):
        curves = read_curves(output, [by_name(name) for name in names], seeds)
        if curves.empty:
            continue
        curves.to_csv(output / f"{part.split()[0]}.csv", index=False)
        print(f"\n## {part}, seeds {', '.join(map(str, seeds))}\n")
        print(methods_table(curves, SERIES), differences_table(curves), formats_table(curves, FORMATS), sep="\n\n")
        if part == "reported":
            _draw(curves, output / "study.svg")


def _draw(curves: object, path: Path) -> None:
    try:
        from figure import draw

        draw(curves, list(REPORTED), path)  # type: ignore[arg-type]
    except (ImportError, ValueError, RuntimeError) as error:
        print(f"no figure: {error}")


if __name__ == "__main__":
    main()
