"""A check for machines and for pull requests: JUnit, Markdown, GitHub's annotations, GitLab's metrics."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from specs_eval.analysis.checks.answer import Answer
from specs_eval.cli.charts import printable
from specs_eval.policy import WITHOUT_BOUNDS
from specs_eval.verdicts import Outcome, Verdict

_MARKS: dict[Outcome, str] = {"pass": "pass", "fail": "**FAIL**", "undecided": "undecided"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_share(verdict: Verdict) -> bool:
    """Whether the estimate is a share (or a difference of shares), shown in percent (or points)."""
    return verdict.measures.split(" ", 1)[0] not in WITHOUT_BOUNDS


def number(value: float | None, verdict: Verdict) -> str:
    """A number of a verdict as shown: points with sign for a change, percent for a level."""
    if value is None:
        return "-"
    if not is_share(verdict):
        return f"{value:+.3f}" if _is_change(verdict) else f"{value:.3f}"
    return f"{100 * value:+.1f}" if _is_change(verdict) else f"{100 * value:.1f}"


def estimate_text(verdict: Verdict) -> str:
    """Estimate with its interval."""
    text = number(verdict.estimate, verdict)
    if verdict.low is None or verdict.high is None:
        return text
    return f"{text} [{number(verdict.low, verdict)}, {number(verdict.high, verdict)}]"


def samples_text(verdict: Verdict) -> str:
    """Samples used of those there are, and how many would likely decide."""
    used = f"{verdict.n_used:,}" if verdict.n_used == verdict.n_all else f"{verdict.n_used:,} of {verdict.n_all:,}"
    return used if verdict.n_needed is None else f"{used} (about {verdict.n_needed:,} needed)"


def p_text(p: float) -> str:
    """A p value."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def to_junit(answer: Answer) -> str:
    """JUnit XML: a test case a gate; failed gates fail, undecided ones are errors, or skipped where the policy allows them."""
    undecided_is_error = answer.policy.undecided == "fail"
    failures, open_ones = len(answer.of_outcome("fail")), len(answer.of_outcome("undecided"))
    suite = ET.Element(
        "testsuite",
        name="specs-eval check",
        tests=str(len(answer.verdicts)),
        failures=str(failures),
        errors=str(open_ones if undecided_is_error else 0),
        skipped=str(0 if undecided_is_error else open_ones),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("baseline", "candidate", "baseline_fingerprint", "candidate_fingerprint", "policy_file"):
        ET.SubElement(properties, "property", name=name, value=_xml(str(getattr(answer, name))))
    for verdict in answer.verdicts:
        case = ET.SubElement(suite, "testcase", classname="specs-eval.check", name=_xml(verdict.gate))
        if verdict.outcome == "fail":
            ET.SubElement(case, "failure", message=_xml(sentence(verdict)))
        elif verdict.outcome == "undecided":
            ET.SubElement(case, "error" if undecided_is_error else "skipped", message=_xml(sentence(verdict)))
        ET.SubElement(case, "system-out").text = _xml(sentence(verdict))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_markdown(answer: Answer) -> str:
    """A summary and a table, for a pull request."""
    lines = [f"### specs-eval check: {_cell(answer.summary())}", ""]
    if answer.verdicts:
        lines += [
            "| gate | verdict | estimate | rule | p to pass / to fail (Holm) | samples |",
            "|---|---|---|---|---|---|",
        ]
    for one in answer.verdicts:
        cells = (
            one.gate,
            _MARKS[one.outcome],
            estimate_text(one),
            one.rule,
            f"{p_text(one.p_pass)} / {p_text(one.p_fail_adjusted)}",
            samples_text(one),
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    reasons = [f"- {_cell(f'{one.gate}: {one.reason}')}" for one in answer.verdicts if one.reason]
    lines += ["", *reasons, *(f"- {_cell(note)}" for note in answer.notes)] if reasons or answer.notes else []
    policy = answer.policy
    promise = (
        f"Baseline `{_code(answer.baseline)}` ({answer.baseline_fingerprint[:16]}), candidate `{_code(answer.candidate)}` "
        f"({answer.candidate_fingerprint[:16]}); a bad candidate passes with at most {100 * policy.alpha:g} %, a good one fails "
        f"with at most {100 * policy.beta:g} %."
    )
    lines += ["", promise]
    return "\n".join(lines) + "\n"


def github_lines(answer: Answer) -> Iterator[str]:
    """Workflow commands that annotate a run on GitHub: an error for each failed gate, warnings for undecided ones."""
    for verdict in answer.verdicts:
        if verdict.outcome != "pass":
            is_error = verdict.outcome == "fail" or answer.policy.undecided == "fail"
            level = "error" if is_error else "warning"
            yield f"::{level} title={_property(f'specs-eval: {verdict.gate}')}::{_data(sentence(verdict))}"


def to_openmetrics(answer: Answer) -> str:
    """OpenMetrics text, as GitLab's metrics report reads it."""
    lines = []
    for name, help_text, value_of in (
        ("specs_eval_gate_estimate", "estimate of the gate", lambda one: one.estimate),
        ("specs_eval_gate_low", "lower end of its interval", lambda one: one.low),
        ("specs_eval_gate_high", "upper end of its interval", lambda one: one.high),
        ("specs_eval_gate_passed", "1 passed, 0 failed or undecided", lambda one: float(one.outcome == "pass")),
        ("specs_eval_gate_samples", "samples used", lambda one: float(one.n_used)),
    ):
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
        for one in answer.verdicts:
            value = value_of(one)
            if value is not None:
                lines.append(f'{name}{{gate="{_label(one.gate)}"}} {value:.6g}')
    return "\n".join([*lines, "# EOF"]) + "\n"


def sentence(verdict: Verdict) -> str:
    """One verdict in one line."""
    reason = f"; {verdict.reason}" if verdict.reason else ""
    return (
        f"{verdict.gate}: {verdict.outcome}; {verdict.measures} {estimate_text(verdict)}, {verdict.rule}; p to pass "
        f"{p_text(verdict.p_pass)}, p to fail {p_text(verdict.p_fail_adjusted)}, n {samples_text(verdict)}{reason}"
    )


def _is_change(verdict: Verdict) -> bool:
    return verdict.rule.startswith(("may drop", "may rise", "must gain"))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _cell(text: str) -> str:
    """Text in a Markdown table: one line, no pipes, no HTML."""
    plain = printable(text.replace("\n", " "))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def _code(text: str) -> str:
    return printable(text).replace("`", "'")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
