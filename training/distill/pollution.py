"""Five ways to spoil the form of a response and leave its reasoning and its answer alone.

``no_tags``         all tags removed
``no_answer_tags``  only the answer's tags removed
``moved_tags``      tags in the wrong place: the answer inside the reasoning, empty tags before the text, tags that cross
``plain_text``      tags replaced by plain text such as "Answer:"
``unclosed_tags``   closing tags missing

SPECS (arXiv 2510.25801) names the first four; the fifth is our choice: responses that forget to close a tag are the
commonest failures of a strict parser that are not among the four.

A rejected response must never be a good response to another instruction: whoever learns to avoid it would unlearn what
the OOD evaluation asks. So nothing that any evaluated format accepts comes out of here (no other tags, no swapped order,
no "Final answer:" line, no box).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from specs_eval.tasks.formats.styles import FORMATS

Pollution = Literal["no_tags", "no_answer_tags", "moved_tags", "plain_text", "unclosed_tags"]
POLLUTIONS: tuple[Pollution, ...] = get_args(Pollution)

Variant = Callable[[str, str], str]
"""(reasoning, answer) -> a response that is in no evaluated format."""

VARIANTS: dict[Pollution, tuple[Variant, ...]] = {
    "no_tags": (lambda reasoning, answer: f"{reasoning}\n{answer}",),
    "no_answer_tags": (lambda reasoning, answer: f"<think>{reasoning}</think>\n{answer}",),
    "moved_tags": (
        lambda reasoning, answer: f"<think>{reasoning}\n<answer>{answer}</answer></think>",
        lambda reasoning, answer: f"<think></think>{reasoning}\n<answer></answer>{answer}",
        lambda reasoning, answer: f"<think>{reasoning}\n<answer></think>{answer}</answer>",
    ),
    "plain_text": (
        lambda reasoning, answer: f"Reasoning: {reasoning}\nAnswer: {answer}",
        lambda reasoning, answer: f"Thought: {reasoning}\nAnswer: {answer}",
        lambda reasoning, answer: f"{reasoning}\nAnswer: {answer}",
    ),
    "unclosed_tags": (
        lambda reasoning, answer: f"<think>{reasoning}</think>\n<answer>{answer}",
        lambda reasoning, answer: f"<think>{reasoning}\n<answer>{answer}</answer>",
        lambda reasoning, answer: f"<think>{reasoning}\n<answer>{answer}",
    ),
}


def pollute(pollution: Pollution, reasoning: str, answer: str, draw: int) -> str | None:
    """A polluted response with this reasoning and answer, both word for word.

    Args:
        pollution: which way.
        reasoning: what stood between the think tags, stripped.
        answer: what stood between the answer tags, stripped.
        draw: any number; chooses the variant.

    Returns:
        The response; None where every variant would be a good response to some evaluated instruction.
    """
    variants = VARIANTS[pollution]
    for turn in range(len(variants)):
        text = variants[(draw + turn) % len(variants)](reasoning, answer)
        if not any(style.parse(text).ok for style in FORMATS.values()):
            return text
    return None
