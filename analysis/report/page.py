"""The report as one HTML file that needs nothing else: no server, no request, no font, no framework."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from string import Template

from specs_eval.analysis.report.document import Cell, Document, Figure, Finding, KeyItem, Section, Table
from specs_eval.analysis.report.embedding import html_text, json_for_script, label, script_hash
from specs_eval.analysis.report.palette import Style, styles
from specs_eval.analysis.report.samples import Candidates, Packed, pack

_SCRIPTS = ("page.js", "samples.js")
_MANY_FIGURES, _FIRST_FIGURES = 9, 9
_MANY_PARTS = 6
_MEGABYTE = 1_000_000
_MANY_TABLES = 6
_MARKS = {
    "circle": '<circle cx="8" cy="6" r="4"/>',
    "square": '<rect x="4.5" y="2.5" width="7" height="7"/>',
    "diamond": '<path d="M8 1l5 5-5 5-5-5z"/>',
    "triangle-up": '<path d="M8 1.5l4.8 8.5H3.2z"/>',
    "cross": '<path d="M6.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"/>',
    "x": '<path d="M4 1l4 3.2L12 1l1 1.2L10 6l3 3.8L12 11 8 7.8 4 11 3 9.8 6 6 3 2.2z"/>',
    "star": '<path d="M8 0.8l1.5 3.6 3.9.3-3 2.5 1 3.8L8 8.9 4.600 11l1-3.8-3-2.5 3.900-.3z"/>',
}
_ICONS = {"good": "\u25b2", "bad": "\u25bc", "open": "\u25c6", "": "\u2022"}


def html_page(document: Document, candidates: Candidates, max_bytes: int) -> str:
    """The whole page.

    Args:
        document: what it shows.
        candidates: samples for its browser.
        max_bytes: of the file; what numbers, figures and plotly.js leave of it goes to the samples.

    Returns:
        HTML. Longer than `max_bytes` only where the page without samples already is.
    """
    frame = _Frame(document)
    samples = pack(candidates, max(0, max_bytes - frame.size()))
    plotly = len(plotly_script()[1]) / _MEGABYTE
    limit = f"The limit of {max_bytes / _MEGABYTE:g} MB is for the whole file, plotly.js ({plotly:.1f} MB) included."
    return frame.page(replace(samples, notes=(*samples.notes, limit)))


class _Frame:
    """The page but for its samples."""

    def __init__(self, document: Document) -> None:
        self._styles = styles(document.methods, document.base)
        self._document = document
        self._scripts = [_asset(name) for name in _SCRIPTS]
        self._html = self._render(Packed("", 0, ("",)))

    def size(self) -> int:
        """Bytes, with room for the sentences on the samples."""
        return len(self._html.encode()) + 2_000

    def page(self, samples: Packed) -> str:
        """With the samples in it."""
        return self._render(samples)

    def _render(self, samples: Packed) -> str:
        document = self._document
        figures = {figure.name: _figure_json(figure) for figure in all_figures(document.sections)}
        *sections, ending = (self._section(section, 2) for section in document.sections)
        plotly, packed, notice = plotly_script()
        # plotly.js adds style elements, so inline styles are allowed; nothing foreign is written as HTML, and with
        # default-src 'none' a style could load nothing anyway. It draws without eval, which stays forbidden.
        sources = " ".join(script_hash(code) for code in (*self._scripts, plotly))
        return Template(_asset("page.html")).substitute(
            policy=html_text(
                f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; "
                "base-uri 'none'; form-action 'none'"
            ),
            title=html_text(document.title),
            subtitle=html_text(document.subtitle),
            style=_asset("page.css"),
            facts=_facts(document.facts),
            nav=_nav(document.sections),
            legend=self._legend(),
            sections="\n".join(sections),
            ending=ending,
            sample_notes="".join(f"<p>{html_text(note)}</p>" for note in samples.notes),
            figures=json_for_script(figures),
            samples=samples.payload,
            plotly=packed,
            notice=html_text(notice.replace("--", "")),
            scripts="\n".join(f"<script>{code}</script>" for code in self._scripts),
            version=html_text(document.version),
        )

    def _legend(self) -> str:
        """A button a method: what it looks like, and a switch for all figures at once."""
        items = []
        for method, style in self._styles.items():
            is_base = method == self._document.base and method != "base"
            name = f"{html_text(method)} (base)" if is_base else html_text(method)
            key = html_text(label(method))
            items.append(
                f'<button type="button" class="method" data-method="{key}" aria-pressed="true">'
                f"{_mark(style)}<bdi>{name}</bdi></button>"
            )
        return "".join(items)

    def _section(self, section: Section, level: int) -> str:
        anchor = html_text(section.anchor)
        tag = "section" if level == 2 else "div"
        head = f'<h{level} id="{anchor}">{html_text(section.title)}</h{level}>'
        body = [head]
        if section.lead:
            body.append(f'<p class="lead">{html_text(section.lead)}</p>')
        if section.findings:
            body.append(f'<ul class="findings">{"".join(map(self._finding, section.findings))}</ul>')
        body.append(self._figures(section.figures))
        if section.key:
            body.append(
                f'<ul class="key" aria-label="What the colours stand for">{"".join(map(_key, section.key))}</ul>'
            )
        body += map(self._table, section.tables)
        more = [_folded(html_text(table.caption), self._table(table)) for table in section.more]
        body += more if len(more) <= _MANY_TABLES else [_folded(f"{len(more)} more tables", "".join(more))]
        body += [f'<p class="note">Note: {html_text(note)}</p>' for note in section.notes]
        parts = [self._section(part, level + 1) for part in section.parts]
        body += parts[:_MANY_PARTS]
        if len(parts) > _MANY_PARTS:
            body.append(_folded(f"{len(parts) - _MANY_PARTS} more", "".join(parts[_MANY_PARTS:])))
        labelled = f' aria-labelledby="{anchor}"' if level == 2 else ' class="part"'
        return f"<{tag}{labelled}>{''.join(body)}</{tag}>"

    def _finding(self, finding: Finding) -> str:
        mark = _mark(self._styles[finding.method]) if finding.method in self._styles else ""
        detail = f" <small>{html_text(finding.detail)}</small>" if finding.detail else ""
        tone = finding.tone or "plain"
        return (
            f'<li class="{tone}"><span class="tone"><span aria-hidden="true">{_ICONS[finding.tone]}</span> '
            f"{html_text(finding.topic)}</span><span>{mark}<bdi>{html_text(finding.text)}</bdi>{detail}</span></li>"
        )

    def _figures(self, figures: Sequence[Figure]) -> str:
        """A grid of figures; of very many the first ones, the others when asked for."""
        drawn = [self._figure(figure) for figure in figures]
        if len(drawn) > _MANY_FIGURES:
            rest = _folded(f"{len(drawn) - _FIRST_FIGURES} more figures", _grid(drawn[_FIRST_FIGURES:]))
            return _grid(drawn[:_FIRST_FIGURES]) + rest
        return _grid(drawn)

    def _figure(self, figure: Figure) -> str:
        wide = " wide" if figure.wide else ""
        return (
            f'<figure class="plot{wide}"><figcaption>{html_text(figure.title)}</figcaption>'
            f'<div class="canvas" role="img" aria-label="{html_text(figure.alt)}" data-figure="{html_text(figure.name)}">'
            f"</div>{_folded('Data of this figure', self._table(figure.table))}</figure>"
        )

    def _table(self, table: Table) -> str:
        caption = html_text(table.caption)
        head = "".join(f'<th scope="col">{html_text(heading)}</th>' for heading in table.headings)
        rows = "".join(f"<tr>{self._row(row)}</tr>" for row in table.rows)
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table><caption>{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )

    def _row(self, row: tuple[Cell, ...]) -> str:
        first, *others = row
        return f'<th scope="row">{self._cell(first)}</th>' + "".join(
            f"<td{f' class={cell.tone}' if cell.tone else ''}>{self._cell(cell)}</td>" for cell in others
        )

    def _cell(self, cell: Cell) -> str:
        mark = _mark(self._styles[cell.method]) if cell.method in self._styles else ""
        detail = f" <small>{html_text(cell.detail)}</small>" if cell.detail else ""
        return f"{mark}<bdi>{html_text(cell.text)}</bdi>{detail}"


def all_figures(sections: Iterable[Section]) -> Iterable[Figure]:
    """Every figure of the sections and their parts, in order."""
    for section in sections:
        yield from section.figures
        yield from all_figures(section.parts)


@lru_cache(maxsize=1)
def plotly_script() -> tuple[str, str, str]:
    """plotly.js as the installed plotly package ships it.

    Returns:
        Its text; the text as base64 of gzip, two fifths of the size, which the page unpacks; and its notice.
    """
    code = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    notice = re.match(r"\s*/\*+(.{0,600}?)\*/", code, re.DOTALL)
    words = re.sub(r"[\s*]+", " ", notice.group(1)).strip() if notice else "plotly.js, MIT license"
    return code, base64.b64encode(gzip.compress(code.encode(), 9, mtime=0)).decode(), words


def _asset(name: str) -> str:
    return (resources.files("specs_eval.analysis.report") / "assets" / name).read_text(encoding="utf-8")


def _figure_json(figure: Figure) -> dict[str, object]:
    return {"data": list(figure.traces), "layout": figure.layout}


def _facts(facts: dict[str, str]) -> str:
    return "".join(f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>" for name, value in facts.items())


def _nav(sections: Iterable[Section]) -> str:
    links = [(section.anchor, section.title) for section in sections]
    # The sample browser stands before the last section, which is the provenance.
    links.insert(-1, ("samples", "Samples"))
    return "".join(f'<li><a href="#{html_text(anchor)}">{html_text(title)}</a></li>' for anchor, title in links)


def _mark(style: Style) -> str:
    return (
        f'<svg class="mark" viewBox="0 0 16 12" aria-hidden="true" fill="{style.colour}">{_MARKS[style.marker]}</svg>'
    )


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def _key(item: KeyItem) -> str:
    """A swatch with the pattern of the bars, and what it stands for."""
    if not item.pattern:
        swatch = f'<rect width="16" height="12" fill="{item.colour}"/>'
    elif item.pattern == ".":
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="1.4"/>' for x in (3, 8, 13) for y in (3, 9))
        swatch = f'<g fill="{item.colour}">{dots}</g>'
    else:
        ends = ((0, 4), (4, 8), (8, 12), (12, 16))
        lines = "".join(
            f"M{left} 12L{right} 0" if item.pattern == "/" else f"M{left} 0L{right} 12" for left, right in ends
        )
        swatch = f'<path d="{lines}" stroke="{item.colour}" stroke-width="1.4" fill="none"/>'
    return f'<li><svg class="mark" viewBox="0 0 16 12" aria-hidden="true">{swatch}</svg>{html_text(item.text)}</li>'


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{summary}</summary>{inside}</details>"
