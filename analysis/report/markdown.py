"""The report in short, for a pull request: summary, scores and GF as Markdown."""

from __future__ import annotations

import re

from specs_eval.analysis.report.document import Cell, Document, Section, Table
from specs_eval.analysis.report.embedding import visible

SECTIONS = ("summary", "scores", "gf")
"""Sections that a pull request needs; the rest is one command away."""
_MAX_ROWS = 60
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def markdown(document: Document) -> str:
    """The summary, the score table and the GF tables."""
    lines = [f"## specs-eval: {markdown_text(document.subtitle)}", ""]
    for section in document.sections:
        if section.anchor in SECTIONS:
            lines += _section(section, 3)
    facts = ", ".join(f"{name.lower()} {value}" for name, value in document.facts.items())
    lines += ["", f"<sub>{markdown_text(facts)}</sub>", ""]
    return "\n".join(lines)


def markdown_text(text: str) -> str:
    """Text that Markdown and the HTML inside it leave as it is, on one line.

    A word joiner after ``@`` keeps names from notifying people.
    """
    return _SPECIAL.sub(r"\\\1", visible(" ".join(text.split()))).replace("@", "@\u2060")


def _section(section: Section, level: int) -> list[str]:
    lines = [f"{'#' * level} {markdown_text(section.title)}", ""]
    for finding in section.findings:
        detail = f" ({markdown_text(finding.detail)})" if finding.detail else ""
        lines.append(f"- **{markdown_text(finding.topic)}**: {markdown_text(finding.text)}{detail}")
    lines += [""] if section.findings else []
    for table in section.tables:
        lines += [*_table(table), ""]
    lines += [f"> {markdown_text(note)}\n" for note in section.notes]
    for part in section.parts:
        lines += _section(part, level + 1)
    return lines


def _table(table: Table) -> list[str]:
    lines = [
        f"| {' | '.join(map(markdown_text, table.headings))} |",
        f"|{'|'.join([' --- ', *(' ---: ' for _ in table.headings[1:])])}|",
    ]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows[:_MAX_ROWS]]
    if len(table.rows) > _MAX_ROWS:
        lines.append(f"\n{len(table.rows) - _MAX_ROWS} more rows are in the HTML report.")
    return lines


def _cell(cell: Cell) -> str:
    detail = f" {markdown_text(cell.detail)}" if cell.detail else ""
    return f"{markdown_text(cell.text)}{detail}"
