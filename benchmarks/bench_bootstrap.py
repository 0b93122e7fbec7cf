"""The paired cluster bootstrap of a difference of two GFs: ours, and the two loops that one would write, side by side.

    python benchmarks/bench_bootstrap.py [--questions 1000] [--draws 10000]

All three resample the same questions, each with all its samples, for two checkpoints in and out of distribution, and
give the 95 % interval of the difference of GF. Ours adds pseudo-observations, so its ends agree with the others to the
error of the draws and not to the digit (all are printed). CPU seconds; use one thread (OMP_NUM_THREADS=1). Ours is the
best of five, the loops run once.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from specs_eval.analysis.checkpoint_scores import CheckpointScores
from specs_eval.analysis.curve_draws import Reading, draw_curves
from specs_eval.analysis.generalization import generalization_factor
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.samples import SampleValues
from specs_eval.analysis.series_difference import paired_difference

Ends = tuple[float, float]
Role = NDArray[np.float64]
"""Values of one checkpoint on one task, shape (n_questions, samples of each)."""


def python_loop(roles: Sequence[Sequence[Sequence[float]]], n_draws: int) -> Ends:
    """Lists and the standard library: draw questions, gather their samples, take means."""
    generator, n = random.Random(0), len(roles[0])
    differences = []
    for _ in range(n_draws):
        drawn = [generator.randrange(n) for _ in range(n)]
        means = []
        for role in roles:
            values = [value for question in drawn for value in role[question]]
            means.append(sum(values) / len(values))
        first, second = (
            5 * one * other / (4 * one + other) if one and other else 0.0 for one, other in (means[:2], means[2:])
        )
        differences.append(first - second)
    differences.sort()
    return differences[round(0.025 * n_draws)], differences[round(0.975 * n_draws) - 1]


def numpy_loop(roles: Sequence[Role], n_draws: int) -> Ends:
    """One resample at a time, its means by numpy."""
    generator, n = np.random.default_rng(0), len(roles[0])
    differences = np.empty(n_draws)
    for draw in range(n_draws):
        drawn = generator.integers(0, n, n)
        means = [float(role[drawn].mean()) for role in roles]
        differences[draw] = generalization_factor(*means[:2]) - generalization_factor(*means[2:])
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def ours(roles: Sequence[Role], n_draws: int) -> Ends:
    """What ``specs-eval gf`` does, from values by sample to the interval."""
    checkpoints = [
        CheckpointScores(name, 1, _samples(one), _samples(other))
        for name, one, other in (("first", *roles[:2]), ("second", *roles[2:]))
    ]
    resampling = Resampling(n_draws)
    first, second = draw_curves([[one] for one in checkpoints], None, Reading(resampling=resampling))
    means = [float(role.mean()) for role in roles]
    value = generalization_factor(*means[:2]) - generalization_factor(*means[2:])
    interval = paired_difference(first.first.gf[0], second.second.gf[0], value, resampling).interval
    assert interval is not None
    return interval.low, interval.high


def _samples(role: Role) -> SampleValues:
    n, each = role.shape
    ids = tuple(f"q{i}/{j}" for i in range(n) for j in range(each))
    return SampleValues(ids, tuple(f"q{i}" for i in range(n) for _ in range(each)), role.ravel(), n * each, 0)


def timed(run: Callable[[], Ends], repeats: int = 1) -> tuple[float, Ends]:
    """CPU seconds of the fastest, and what it found."""
    best, found = float("inf"), (0.0, 0.0)
    for _ in range(repeats):
        start = time.process_time()
        found = run()
        best = min(best, time.process_time() - start)
    return best, found


def measure(n_questions: int, n_formats: int, n_draws: int) -> None:
    """Time all three on questions with one ID sample and some OOD samples each, and print."""
    generator = np.random.default_rng(1)
    difficulty = generator.normal(0, 1, (n_questions, 1))
    roles = [
        (difficulty + generator.normal(0, 1, (n_questions, each)) < ease).astype(float)
        for ease, each in ((2, 1), (1, n_formats), (2, 1), (0.5, n_formats))
    ]
    lists = [role.tolist() for role in roles]
    rows = [
        ("python loop", *timed(lambda: python_loop(lists, n_draws))),
        ("numpy loop", *timed(lambda: numpy_loop(roles, n_draws))),
        ("ours", *timed(lambda: ours(roles, n_draws), 5)),
    ]
    print(f"{n_draws:,} draws, {n_questions:,} questions, 1 ID and {n_formats} OOD samples each, two checkpoints")
    fastest = rows[-1][1]
    for name, seconds, (low, high) in rows:
        goal = "  goal 50x: " + ("met" if seconds >= 50 * fastest else "MISSED") if name == "python loop" else ""
        print(
            f"{name:<12} {seconds:8.3f} s  {seconds / fastest:6.1f}x ours  [{100 * low:+.2f}, {100 * high:+.2f}]{goal}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=10_000)
    arguments = parser.parse_args()
    for n_formats in (1, 6):
        measure(arguments.questions, n_formats, arguments.draws)


if __name__ == "__main__":
    main()
