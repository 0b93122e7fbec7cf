"""How fast responses are rewarded, beside the two lines that one would write without a strict parser and a scorer.

    python benchmarks/bench_rewards.py [--repeats 5]

One core, CPU time of a response, best of the repeats. The naive reward is a regular expression for the tags and equality
of texts. ``hostile`` are the responses of tests/fixtures/hostile.py, written to hurt a scorer; of them also the slowest.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from specs_eval.training.questions.question import Question
from specs_eval.training.questions.reading import collect
from specs_eval.training.questions.task import QuestionTask
from specs_eval.training.rewards import TaskReward

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
from hostile import CORPUS

NAIVE = re.compile(r"\s*<think>(.+?)</think>\s*<answer>(.+?)</answer>\s*", re.DOTALL)
LONG = "We look at the figure and add the two sides, which gives 12 cm in all. " * 40
GOLDS = {
    "word": Question("word", "What color?", (), "teal"),
    "number": Question("number", "How long?", (), "12 cm", "number"),
    "latex": Question("latex", "Which share?", (), "\\frac{1}{2}", "number"),
    "choice": Question("choice", "Which?", (), "12 cm", "choice", ("10 cm", "11 cm", "12 cm", "13 cm")),
    "letter": Question("letter", "Which? A. 1 B. 2", (), "B", "letter"),
}
ANSWERS = {
    "word": ("teal", "red"),
    "number": ("12", "The answer is 11."),
    "latex": ("0.5", "\\sqrt{2}"),
    "choice": ("C", "The answer is (B)."),
    "letter": ("B", "A"),
}


def best(call: Callable[[str], object], responses: Sequence[str], repeats: int) -> float:
    """Microseconds of CPU time a response."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        for response in responses:
            call(response)
        times.append(time.process_time() - started)
    return min(times) / len(responses) * 1e6


def naive(gold: str) -> Callable[[str], float]:
    """0.5 for a match of the whole text, 1.0 for an equal answer."""

    def reward(response: str) -> float:
        found = NAIVE.fullmatch(response)
        return 0.0 if found is None else 0.5 + float(found.group(2).strip() == gold)

    return reward


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    reward = TaskReward(QuestionTask(collect("bench", GOLDS.values(), place="the benchmark")))
    print(f"{'kind':8}{'responses':26}{'us':>9}{'naive us':>10}{'ratio':>8}")
    for kind, (right, wrong) in ANSWERS.items():
        whole = f"<think>{LONG}</think>\n<answer>%s</answer>"
        groups = {
            "in the format, 2,900 chars": [whole % right, whole % wrong] * 200,
            "no tags, 2,900 chars": [f"{LONG}\nAnswer: {right}", f"{LONG}\n{wrong}"] * 200,
            "hostile": [*CORPUS, *(f"<think>x</think><answer>{text}</answer>" for text in CORPUS)],
        }
        for name, responses in groups.items():
            ours = best(lambda text, kind=kind: reward.score(f"{kind}/think_answer", text), responses, repeats)
            theirs = best(naive(GOLDS[kind].answer), responses, repeats)
            print(f"{kind:8}{name:26}{ours:9.1f}{theirs:10.1f}{ours / theirs:8.1f}")
        slowest = max(
            (best(lambda text, kind=kind: reward.score(f"{kind}/think_answer", text), [text], repeats), text[:20])
            for text in groups["hostile"]
        )
        print(f"{kind:8}{'slowest hostile':26}{slowest[0]:9.1f}   {slowest[1]!r}")


if __name__ == "__main__":
    main()
