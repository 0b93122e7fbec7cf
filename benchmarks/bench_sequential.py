"""What a sequential gate costs and how often it errs, beside other ways to look early. Prints tables; asserts nothing.

python benchmarks/bench_sequential.py [--checks 2000] [--data DIR]

Synthetic pairs of 0/1 scores and, where recorded outputs lie (``mathvista.jsonl``, ``mmmu.jsonl``, ``megabench.jsonl`` with
model, sample_id and official_score), pairs of real models: their differences are drawn again with replacement, so that the
truth of each simulated check is known, and the bound is put exactly on it, where errors are most likely.

Cost is the median share of the n of the fixed-sample test designed for the bound at 90 % power (857 pairs for a quarter
discordant and a bound of 5 points). Rivals: a plain betting test that learns its bets (aGRAPA of Waudby-Smith and Ramdas 2024), the
asymptotic confidence sequence of Howard et al. 2021 as in the evalsig package (its own code, when it is installed), and
a t test that is looked at after every block, which keeps no promise.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from specs_eval.analysis.betting import Units, bets_on
from specs_eval.analysis.bound_tests import Bound
from specs_eval.analysis.drawing import draw
from specs_eval.analysis.samples import FloatArray, IntArray
from specs_eval.analysis.sequential import evidence
from specs_eval.analysis.statistics import t_tail

ALPHA = 0.05
QUANTILES = (1.6448536 + 1.2815516) ** 2
Method = Callable[[FloatArray, float, IntArray], tuple[FloatArray, FloatArray]]
"""Differences in order, the drop allowed, looks -> p values to pass and to fail, at each look."""


def ours(values: FloatArray, drop: float, looks: IntArray) -> tuple[FloatArray, FloatArray]:
    """As a gate does it."""
    units = Units(values, np.ones(len(values)), -1.0, 1.0, looks)
    found = evidence(units, Bound(-drop), bets_on(drop))
    return found.p_pass, found.p_fail


def plain_betting(values: FloatArray, drop: float, looks: IntArray) -> tuple[FloatArray, FloatArray]:
    """aGRAPA: the stake is the mean over the variance seen so far."""
    return _agrapa(values, -drop)[looks - 1], _agrapa(-values, drop)[looks - 1]


def _agrapa(values: FloatArray, mean: float) -> FloatArray:
    n = np.arange(len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(values**2)[:-1]])
    centre = sums / (n + 1)
    variance = (0.25 + squares - sums**2 / np.maximum(n, 1)) / (n + 1)
    stakes = np.clip((centre - mean) / (variance + (centre - mean) ** 2), 0, 0.5 / (1 + mean))
    wealth = np.cumsum(np.log1p(stakes * (values - mean)))
    p: FloatArray = np.exp(-np.maximum(np.maximum.accumulate(wealth), 0))
    return p


def asymptotic(values: FloatArray, drop: float, looks: IntArray) -> tuple[FloatArray, FloatArray]:
    """The rival package's confidence sequence, looked at from 30 pairs on; p is below alpha where it excludes the bound."""
    from evalsig.inference.sequential import confidence_sequence

    kept, broken = np.ones(len(looks)), np.ones(len(looks))
    for number, n in enumerate(looks.tolist()):
        if n >= 30:
            low, high = confidence_sequence(values[:n], alpha=ALPHA).ci
            kept[number], broken[number] = (0.0 if low > -drop else 1.0), (0.0 if high < -drop else 1.0)
            if low > -drop or high < -drop:
                break
    return np.minimum.accumulate(kept), np.minimum.accumulate(broken)


def peeking(values: FloatArray, drop: float, looks: IntArray) -> tuple[FloatArray, FloatArray]:
    """A t test after every look, from 30 pairs on."""
    n = looks.astype(float)
    means = np.cumsum(values)[looks - 1] / n
    spread = np.sqrt(np.maximum(np.cumsum(values**2)[looks - 1] / n - means**2, 1e-12) / (n - 1))
    above = np.array(
        [t_tail((m + drop) / s, int(k) - 1) if k >= 30 else 1.0 for m, s, k in zip(means, spread, n, strict=True)]
    )
    below = np.where(n >= 30, 1 - above, 1.0)
    return np.minimum.accumulate(above), np.minimum.accumulate(below)


def methods() -> dict[str, Method]:
    """Those that can run here."""
    found: dict[str, Method] = {"ours": ours, "plain betting": plain_betting}
    try:
        import evalsig  # noqa: F401

        found["asymptotic sequence"] = asymptotic
    except ImportError:
        print("(evalsig is not installed: pip install evalsig shows it beside ours)")
    return found | {"peeking t test": peeking}


def decide(method: Method, values: FloatArray, drop: float, looks: IntArray) -> tuple[str, int]:
    """Verdict and pairs used of one check."""
    kept, broken = method(values, drop, looks)
    passed, failed = np.flatnonzero(kept <= ALPHA), np.flatnonzero(broken <= ALPHA)
    first = [(int(found[0]), word) for found, word in ((passed, "pass"), (failed, "fail")) if len(found)]
    if not first:
        return "undecided", len(values)
    place, word = min(first)
    return word, int(looks[place])


def synthetic(generator: np.random.Generator, mean: float, discordant: float, n: int) -> FloatArray:
    """Differences of two 0/1 scores."""
    u = generator.random(n)
    return np.where(u < (discordant + mean) / 2, 1.0, np.where(u < discordant, -1.0, 0.0))


def costs(checks: int) -> None:
    """Median share of the fixed design's n, and what came of the checks."""
    print(f"\nSynthetic pairs, {checks:,} checks each; blocks of 8, at most the fixed design's n")
    for discordant, drop in ((0.25, 0.05), (0.10, 0.02), (0.40, 0.05)):
        n = math.ceil(QUANTILES * discordant / drop**2)
        print(f"\ndiscordant {discordant:g}, bound {drop:g}: fixed design n = {n}")
        print(f"{'':22}" + "".join(f"{f'truth {times:+d} bounds':>32}" for times in (1, 0, -2, -3)))
        for name, method in methods().items():
            cells = []
            for times in (1, 0, -2, -3):
                if abs(times * drop) > discordant:
                    cells.append("-")
                    continue
                found = [
                    _synthetic_check(method, times * drop, discordant, n, drop, i) for i in range(_fewer(name, checks))
                ]
                used = float(np.median([pairs for _, pairs in found])) / n
                shares = {word: np.mean([word == one for one, _ in found]) for word in ("pass", "fail")}
                cells.append(f"{used:.3f} (pass {100 * shares['pass']:.1f}, fail {100 * shares['fail']:.1f} %)")
            print(f"{name:22}" + "".join(f"{cell:>32}" for cell in cells))


def _fewer(name: str, checks: int) -> int:
    """The rival package recomputes everything at every look."""
    return min(checks, 500) if name == "asymptotic sequence" else checks


def _synthetic_check(method: Method, mean: float, discordant: float, n: int, drop: float, seed: int) -> tuple[str, int]:
    generator = np.random.default_rng([seed, 1])
    looks = draw([""] * n, seed).looks
    return decide(method, synthetic(generator, mean, discordant, n), drop, looks)


def interval(wrong: int, n: int) -> str:
    """Share in percent with its exact 95 % binomial interval."""
    from scipy.stats import binomtest

    ends = binomtest(wrong, n).proportion_ci()
    return f"{100 * wrong / n:.2f} % [{100 * ends.low:.2f}, {100 * ends.high:.2f}]"


def errors_at_the_bound(name: str, pool: FloatArray, checks: int, all_methods: dict[str, Method]) -> None:
    """False verdicts where the truth is exactly at the bound: differences drawn again from `pool`, whose mean is known."""
    n = min(len(pool), 857)
    drop = -float(pool.mean())
    row = []
    for label, method in all_methods.items():
        words = []
        for seed in range(_fewer(label, checks)):
            values = np.random.default_rng([seed, 2]).choice(pool, n)
            words.append(decide(_at(method, drop), values, drop, draw([""] * n, seed).looks)[0])
        row.append(f"{interval(words.count('pass'), len(words)):>24}{interval(words.count('fail'), len(words)):>24}")
    print(f"{name:44.44}{n:>5} {-drop:>+6.3f}" + "".join(row))


def _at(method: Method, drop: float) -> Method:
    """Bets need an effect: where the bound is not a drop, five points."""
    if method is not ours or drop > 0.01:
        return method

    def at_any_bound(values: FloatArray, bound: float, looks: IntArray) -> tuple[FloatArray, FloatArray]:
        units = Units(values, np.ones(len(values)), -1.0, 1.0, looks)
        found = evidence(units, Bound(-bound), bets_on(0.05))
        return found.p_pass, found.p_fail

    return at_any_bound


def real_scores(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Benchmark -> model -> sample -> official score."""
    for name in ("mathvista", "mmmu", "megabench"):
        path = folder / f"{name}.jsonl"
        if path.is_file():
            models: dict[str, dict[str, float]] = defaultdict(dict)
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    models[row["model"]][row["sample_id"]] = float(row["official_score"])
            yield name, models


def real(folder: Path, checks: int) -> None:
    """Real pairs at their own difference, a model against itself, and against itself with noise."""
    chosen = {"ours": ours, "peeking t test": peeking}
    print(f"\nReal pairs, {checks:,} checks each, bound = the pair's own difference; false pass and false fail:")
    print(
        f"{'':44}{'n':>5} {'truth':>6}" + "".join(f"{name + ': false pass':>24}{'false fail':>24}" for name in chosen)
    )
    for benchmark, models in real_scores(folder):
        pairs = [
            (len(models[a].keys() & models[b].keys()), a, b)
            for a, b in combinations(sorted(models), 2)
            if len(models[a].keys() & models[b].keys()) >= 150
        ]
        for _, a, b in sorted(pairs, reverse=True)[:4]:
            common = sorted(models[a].keys() & models[b].keys())
            pool = np.array([models[b][one] - models[a][one] for one in common])
            errors_at_the_bound(f"{benchmark}: {a} / {b}", pool, checks, chosen)
        largest = max(models, key=lambda name: len(models[name]))
        itself(f"{benchmark}: {largest}", np.array(list(models[largest].values())), checks)


def itself(name: str, scores: FloatArray, checks: int) -> None:
    """A model against itself, as it is and with a tenth of the scores drawn anew; the bound is 5 points."""
    for noise in (0.0, 0.1):
        words, used = [], []
        for seed in range(checks):
            generator = np.random.default_rng([seed, 3])
            order = draw([""] * len(scores), seed)
            redrawn = np.where(generator.random(len(scores)) < noise, generator.choice(scores, len(scores)), scores)
            word, n = decide(ours, (redrawn - scores)[order.order], 0.05, order.looks)
            words.append(word)
            used.append(n)
        print(
            f"{name:44.44}{len(scores):>5} itself{f' + {noise:.0%} noise' if noise else '':>12}, bound 5 points: "
            f"pass {100 * words.count('pass') / checks:.1f} %, false fail {interval(words.count('fail'), checks)}, "
            f"median n {np.median(used):.0f}"
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=2000)
    parser.add_argument("--data", type=Path, help="folder with recorded outputs")
    arguments = parser.parse_args()
    costs(arguments.checks)
    print("\nFalse verdicts at the bound, synthetic, 857 pairs: false pass and false fail")
    generator = np.random.default_rng(0)
    for discordant in (0.1, 0.25, 0.5):
        pool = synthetic(generator, -0.05, discordant, 20_000)
        errors_at_the_bound(f"synthetic, discordant {discordant:g}", pool, arguments.checks, methods())
    if arguments.data:
        real(arguments.data, arguments.checks)


if __name__ == "__main__":
    main()
