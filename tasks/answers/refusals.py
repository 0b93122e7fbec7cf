"""Responses that do not answer, and what the official extraction step tends to type for them.

The official code takes the choice nearest to whatever GPT-4 typed, so even for a refusal it matters which words were
typed. Under the reasoning profile none of this is used: a refusal earns nothing.
"""

from __future__ import annotations

import re

from specs_eval.tasks.answers.numbers import sentences

_REFUSED = re.compile(
    r"cannot (?:be )?(?:accurately |definitively |conclusively |currently )?(?:determine|answer|be )"
    r"|can't (?:be )?(?:determine|help|process|answer|tell)"
    r"|\bnot (?:able|possible|enough|provide|clear|valid|specif|in the|among|on the list|one of|available|listed|given"
    r"|an option)"
    r"|cannot provide|n't (?:able|possible|enough|provide|clear|have|know)|do not know|do not have (?:enough|sufficient|the)|no idea|not sure|cannot (?:help|assist|see)|insufficient|impossible|(?:a|an) (?:mistake|error) in"
    r"|none of the|unable|sorry|\bmissing\b(?! (?:number|shape|picture|piece|figure is))|incomplete|subjective|unclear|\black(?:s|ing)\b|no information|match(?:es)?"
    r" (?:any|this|the) |无法|没有|不能确定|无选项",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:answer|option)[^.\n:]{0,30}(?:is|:)\s{0,3}:?\s{0,3}(cannot be determined|not provided|n/?a\b|none of [^.\n]{0,30}"
    r"|insufficient [^.\n]{0,80})",
    re.IGNORECASE,
)
_NO_OPTION = re.compile(
    r"(?:might|may|seems to|must) be (?:a |an )?(?:mistake|error)|none of the|\bmatch"
    r"|not (?:in|among|one of|available|listed|given|an option)",
    re.IGNORECASE,
)
_CONCLUDED = re.compile(r"\b(?:therefore|thus|hence)\b[^.\n]{0,80}?cannot be determined", re.IGNORECASE)
_ABOUT_QUESTION = re.compile(r"(?:The (?:text|question|answer|image|problem)(?! is\b)|This question|Sorry)\b")
_CONCLUDED_AS = re.compile(
    r"(?:Therefore|Thus|Hence|So),? the( (?:answer|question|problem) cannot be \w{1,20} (?:from|with) [^.\n]{1,60}\.)"
)
_NOT_ENOUGH = re.compile(r"The (?:question|problem) does not provide (?:enough|sufficient)\b")
_INFERENCES = ("Therefore", "Thus", "Hence", "So,")
_INCOMPLETE = re.compile(r"The question (?:is|seems to be) incomplete( as\b)?")
_NONE_TYPED = frozenset({"", "n/a", "na", "none", "null", "unknown", "not provided", "not applicable", "无"})
MAX_COPIED_CHARS = 170
END_CHARS = 250
"""What is called the end of a response."""


def refuses(text: str) -> bool:
    """Whether a response says that it cannot answer or that no choice fits."""
    return _REFUSED.search(text) is not None


def says_none(answer: str) -> bool:
    """Whether an answer is nothing but a word for having none."""
    return len(answer) < 40 and answer.strip(" \t\r\n.!*'\"").lower() in _NONE_TYPED


def is_no_answer(extraction: str) -> bool:
    """Whether what was typed as the answer says that there is none."""
    return says_none(extraction) or refuses(extraction)


def states_refusal(text: str) -> bool:
    """Whether the stated answer itself is that there is none."""
    return _STATED.search(text) is not None


def refuses_at_end(text: str) -> bool:
    """Whether the end of a response takes back that there is an answer among the choices."""
    return _REFUSED.search(text[-END_CHARS:]) is not None


def typed_for_refusal(text: str) -> str:
    """What is typed for a response that does not answer: its own words when they are short, else ``N/A``."""
    stated = _STATED.search(text)
    if stated:
        return stated.group(1)[0].upper() + stated.group(1)[1:]
    parts = sentences(text)
    if not parts:
        return "N/A"
    concluded = _CONCLUDED_AS.match(parts[-1])
    if concluded and _NOT_ENOUGH.match(parts[0]):
        return f"The{concluded.group(1)}"
    if _CONCLUDED.search(text):
        return "Cannot be determined"
    inferred = len(parts) > 1 and parts[-1].startswith(_INFERENCES)
    incomplete = _INCOMPLETE.match(parts[0])
    if incomplete and not inferred:
        return "Incomplete question." if incomplete.group(1) else "The question is incomplete."
    if parts[0].startswith("The text does not") and inferred:
        return "N/A"
    if len(parts) <= 2 and parts[0].startswith(("The question does not provide enough", "The text does not")):
        return parts[0]
    if len(parts) > 1 and _NO_OPTION.search(text[-400:]):
        return "None"
    if "not provided" in text[-200:]:
        return "Not provided"
    if len(parts) == 1 and len(text) < MAX_COPIED_CHARS and _ABOUT_QUESTION.match(text):
        return parts[0]
    return "N/A"
