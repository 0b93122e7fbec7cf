"""How fast stored answers are scored: MathVista and MMMU, beside naive versions of the same rules.

    python benchmarks/bench_scoring.py [--rows FOLDER] [--repeats 5]

Rows come from ``../shared/data/public`` when it is there, else from a few hundred made-up ones. One core, best of the
repeats; scores of both versions must be equal. The official code was measured at 501,000 rows/s (MathVista, normalise and
compare), 202,000 (MMMU, multiple choice), 49,000 (MMMU, open) and 107,000 to 213,000 (MMMU-Pro, parse only).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from specs_eval.tasks.mathvista.extraction import extract
from specs_eval.tasks.mathvista.profiles import score_reasoning as mathvista_reasoning
from specs_eval.tasks.mathvista.scoring import Problem, decide, parse_problem
from specs_eval.tasks.mmmu.profiles import parse_question
from specs_eval.tasks.mmmu.profiles import score_reasoning as mmmu_reasoning
from specs_eval.tasks.mmmu.scoring import (
    letter_is_right,
    normalise_open,
    open_is_right,
    parse_letter,
    parse_letter_pro,
    parse_open,
)
from specs_eval.tasks.rows import score_row

SHARED = Path(__file__).resolve().parents[2] / "shared/data/public"


def naive_distance(text: str, choice: str) -> int:
    """Levenshtein distance by the textbook table."""
    row = list(range(len(choice) + 1))
    for i, a in enumerate(text, 1):
        below = [i]
        for j, b in enumerate(choice, 1):
            below.append(min(row[j] + 1, below[-1] + 1, row[j - 1] + (a != b)))
        row = below
    return row[-1]


def naive_mathvista(extraction: str, problem: Problem) -> bool:
    """The official normalisation as one would write it down."""
    if problem.multiple_choice:
        text = extraction.strip()
        found = re.findall(r"\(([a-zA-Z])\)", text)
        text = found[0].upper() if found else text
        letters = [chr(65 + index) for index in range(len(problem.choices))]
        if text in letters:
            return problem.choices[letters.index(text)] == problem.gold
        distances = [naive_distance(text, choice) for choice in problem.choices]
        return problem.choices[distances.index(min(distances))] == problem.gold
    try:
        if problem.answer_type == "integer":
            return str(int(float(extraction))) == problem.gold
        if problem.answer_type == "float":
            return str(round(float(extraction), int(problem.precision or 0))) == problem.gold
    except (ValueError, OverflowError):
        return False
    return extraction == problem.gold


def naive_letter(response: str, options: Sequence[str], *, pro: bool) -> str | None:
    """MMMU's and MMMU-Pro's parse as one would write it down."""
    letters = [chr(65 + index) for index in range(len(options))]
    if pro and "Answer:" in response:
        inside = [letter for letter in letters if letter in response.rsplit("Answer:", 1)[1]]
        if len(inside) == 1:
            return inside[0]
    for character in ",.!?;:'":
        response = response.strip(character)
    text = f" {response} "
    steps = [("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")] if pro else [("({})", "({})"), (" {} ", " {} ")]
    for look, place in steps:
        found = [letter for letter in letters if look.format(letter) in text]
        if found:
            places = [text.rfind(place.format(letter)) for letter in found]
            return found[places.index(max(places))]
    if len(text.split()) > 5:
        hits = [(text.lower().rfind(option.lower()), letter) for option, letter in zip(options, letters, strict=True)]
        hits = [hit for hit in hits if hit[0] >= 0]
        if hits:
            return max(hits, key=lambda hit: (hit[0], -ord(hit[1])))[1]
    return None


def naive_open(response: str, gold: Any) -> bool:
    """MMMU's open questions as one would write them down, with the published patterns."""
    text = response.strip().strip(".").lower()
    phrases = []
    lines = text.split("\n")
    words = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
    for index, line in enumerate(lines):
        rests = [line.split(word)[-1].strip() for word in words + ["="] * (index == len(lines) - 1) if word in line]
        rests = [rest for rest in rests if rest]
        if rests and min(rests, key=len) not in ":,.!?;'":
            phrases.append(min(rests, key=len))
    phrases = phrases or [text]
    patterns = (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
    found = phrases + [number for phrase in phrases for pattern in patterns for number in re.findall(pattern, phrase)]
    return open_is_right([item for one in found for item in normalise_open(one)], gold)


def load(folder: Path) -> list[dict[str, Any]]:
    """Rows of both benchmarks."""
    rows = []
    for name in ("mathvista", "mmmu"):
        path = folder / f"{name}.jsonl"
        if path.exists():
            rows += [json.loads(line) for line in path.open(encoding="utf-8")]
    return rows or made_up()


def made_up() -> list[dict[str, Any]]:
    """A few hundred rows for when there are no real ones."""
    texts = ["B", "(B)", "The answer is (C).", "dog", "It must be the dog, I think, of all these.", "12", "x = 3.5"]
    rows: list[dict[str, Any]] = []
    for index in range(60):
        for text in texts:
            base = {"model": "made up", "sample_id": f"{index}", "response": text, "official_extraction": text}
            choices = ["cat", "dog", "horse", "cow"]
            rows.append(
                {**base, "benchmark": "mathvista", "metric": "mathvista_text", "question_type": "multi_choice"}
                | {"answer_type": "text", "choices": choices, "gold": "dog"}
            )
            rows.append(
                {**base, "benchmark": "mathvista", "metric": "mathvista_integer", "question_type": "free_form"}
                | {"answer_type": "integer", "choices": None, "gold": "12"}
            )
            for metric in ("mmmu_multiple_choice", "mmmu_pro_multiple_choice"):
                rows.append(
                    {**base, "benchmark": "mmmu", "metric": metric, "question_type": "multiple-choice"}
                    | {"choices": choices, "gold": "B"}
                )
            rows.append(
                {**base, "benchmark": "mmmu", "metric": "mmmu_open", "question_type": "open"}
                | {"choices": None, "gold": "12"}
            )
    return rows


def rate(work: Callable[[], object], n: int, repeats: int) -> float:
    """Rows a second, best of the repeats."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return n / best


def compare(name: str, ours: Callable[[], list[bool]], naive: Callable[[], list[bool]], n: int, repeats: int) -> None:
    """Print both rates; the scores must agree."""
    equal = ours() == naive()
    fast, slow = rate(ours, n, repeats), rate(naive, n, repeats)
    print(f"{name:34} {n:6,} rows  {fast:11,.0f}/s  naive {slow:11,.0f}/s  {fast / slow:5.2f} x  equal: {equal}")
    if not equal:
        raise SystemExit(f"{name}: scores differ")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=Path, default=SHARED)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows, repeats = load(options.rows), options.repeats

    mathvista = [(row["official_extraction"], parse_problem(row)) for row in rows if row["benchmark"] == "mathvista"]
    compare(
        "MathVista normalise and compare",
        lambda: [decide(text, problem).correct for text, problem in mathvista],
        lambda: [naive_mathvista(text, problem) for text, problem in mathvista],
        len(mathvista),
        repeats,
    )
    for name, metric, parse, pro in (
        ("MMMU multiple choice", "mmmu_multiple_choice", parse_letter, False),
        ("MMMU-Pro multiple choice", "mmmu_pro_multiple_choice", parse_letter_pro, True),
    ):
        asked = [(row["response"], row["choices"], row["gold"]) for row in rows if row["metric"] == metric]
        compare(
            name,
            lambda asked=asked, parse=parse: [letter_is_right(parse(a, b).letter, gold) for a, b, gold in asked],  # type: ignore[misc]
            lambda asked=asked, pro=pro: [letter_is_right(naive_letter(a, b, pro=pro), gold) for a, b, gold in asked],  # type: ignore[misc]
            len(asked),
            repeats,
        )
    opened = [(row["response"], row["gold"]) for row in rows if row["metric"] == "mmmu_open"]
    compare(
        "MMMU open",
        lambda: [open_is_right(parse_open(text), gold) for text, gold in opened],
        lambda: [naive_open(text, gold) for text, gold in opened],
        len(opened),
        repeats,
    )
    texts = [(row["response"], parse_problem(row)) for row in rows if row["benchmark"] == "mathvista"]
    letters = [(row["response"], parse_question(row, "mmmu_pro")) for row in rows if row["benchmark"] == "mmmu"]
    for name, n, work in (
        ("MathVista rules for GPT-4's step", len(texts), lambda: [extract(text, asked) for text, asked in texts]),
        (
            "MathVista reasoning profile",
            len(texts),
            lambda: [mathvista_reasoning(text, asked) for text, asked in texts],
        ),
        ("MMMU reasoning profile", len(letters), lambda: [mmmu_reasoning(text, asked) for text, asked in letters]),
        ("whole rows, official, auto", len(rows), lambda: [score_row(row) for row in rows]),
    ):
        print(f"{name:34} {n:6,} rows  {rate(work, n, max(1, repeats // 2)):11,.0f}/s")


if __name__ == "__main__":
    main()
