"""Programs in answers, judged by test cases. Runs model text, so only on request and only in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs_eval.tasks.megabench.sandbox.isolation import run_program


def share_of_tests_passed(response: Any, context: Mapping[str, Any]) -> float:
    """Share of the test cases whose expected output the program prints, up to trailing white space.

    Raises:
        ScoringError: no sandbox on this machine; nothing was run.
        TypeError, KeyError: the test cases are malformed.
    """
    cases = context["test_case"]
    cases = [cases] if isinstance(cases, Mapping) else list(cases)
    if not cases or not isinstance(response, str):
        return 0.0
    outputs = run_program(response, [list(case["input"]) for case in cases])
    passed = [bool(output == case["expected"].rstrip()) for output, case in zip(outputs, cases, strict=True)]
    return sum(passed) / len(cases)
