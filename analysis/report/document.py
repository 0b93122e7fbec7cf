"""A report before it is written: sections of sentences, figures and tables. All text is plain; writers escape it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["", "good", "bad", "open"]
"""What a cell or finding says: improved, regressed, undecided."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""
    """Shown small below or beside the text: an interval, a reason."""
    tone: Tone = ""
    method: str = ""
    """The method whose mark stands before the text; empty: none."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; the first cell of a row names it."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plotly figure as plain JSON types, with the numbers that it draws as a table."""

    name: str
    """Unique in the document; the file name of an exported figure."""
    title: str
    alt: str
    """One sentence for those who do not see it."""
    traces: tuple[dict[str, Any], ...]
    layout: dict[str, Any]
    table: Table
    wide: bool = False
    """Takes the whole width of the page instead of standing beside others."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence of the summary, and what kind of news it is."""

    tone: Tone
    topic: str
    """A word or two that say what it is about, such as ``Improved``."""
    text: str
    detail: str = ""
    """n, interval, seed and where it comes from."""
    method: str = ""


@dataclass(frozen=True, slots=True)
class KeyItem:
    """One entry of a legend."""

    text: str
    colour: str
    pattern: str = ""
    """As plotly names it: ``/``, ``.`` and so on."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under a heading."""

    anchor: str
    title: str
    lead: str = ""
    """What the section shows and how to read it."""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    more: tuple[Table, ...] = ()
    """Tables that are closed until asked for; on paper only where they are open."""
    notes: tuple[str, ...] = ()
    """What is missing or was left out, one sentence each."""
    findings: tuple[Finding, ...] = ()
    key: tuple[KeyItem, ...] = ()
    """What the colours of the figures stand for, where they are not methods."""
    parts: tuple[Section, ...] = ()
    """Sub-sections."""


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    version: str
    """Of specs-eval."""
    methods: tuple[str, ...]
    """In the order of their colours, the base first where there is one."""
    base: str | None
    sections: tuple[Section, ...]
    facts: dict[str, str] = field(default_factory=dict)
    """Store, level, draws, seed ...: the line of provenance below the title."""
