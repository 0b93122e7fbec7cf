"""Practice formats: answer formats that exist in training only, each a sibling of an evaluated one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PracticeFormat:
    """An answer format that is used in training only: a sibling of an evaluated one, with other words."""

    name: str
    instruction: str
    render: Callable[[str, str], str]


PRACTICE_FORMATS = (
    PracticeFormat(
        "practice_tags",
        "First think between <work> and </work>, then give the answer between <result> and </result>.",
        lambda reasoning, answer: f"<work>{reasoning}</work>\n<result>{answer}</result>",
    ),
    PracticeFormat(
        "practice_json",
        'Reply with one JSON object that has the keys "steps" and "result", and nothing else.',
        lambda reasoning, answer: json.dumps({"steps": reasoning, "result": answer}),
    ),
    PracticeFormat(
        "practice_sections",
        'Write your reasoning under the heading "## Notes", then the answer under the heading "## Result".',
        lambda reasoning, answer: f"## Notes\n{reasoning}\n## Result\n{answer}",
    ),
    PracticeFormat(
        "practice_line",
        'Explain your reasoning without tags, then end with a last line "Result: " and the answer.',
        lambda reasoning, answer: f"{reasoning}\nResult: {answer}",
    ),
    PracticeFormat(
        "practice_swapped",
        "First give the answer between [answer] and [/answer], then explain it between [why] and [/why].",
        lambda reasoning, answer: f"[answer]{answer}[/answer]\n[why]{reasoning}[/why]",
    ),
)
"""Not one of them is evaluated, and no evaluated parser accepts their responses."""
