"""Writing a report in the format that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specs_eval.analysis.report.sections import document
from specs_eval.cli.report_answer import Answer
from specs_eval.cli.report_pictures import Pictures
from specs_eval.errors import ConfigError
from specs_eval.files import write_atomic, write_text_atomic

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """What is written where."""

    output: Path
    """A file; a folder for figures."""
    kind: str
    """html, md, json, parquet, png or svg."""
    max_mb: float
    seed: int
    """Of the random share of samples."""
    pictures: Pictures

    def check(self) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            ConfigError: the output's folder does not exist, the size is none, or figures cannot be exported here.
        """
        if not 0 < self.max_mb <= 1000:
            raise ConfigError(f"--max-mb takes megabytes above 0 and up to 1000, not {self.max_mb:g}")
        if self.kind in ("png", "svg"):
            from specs_eval.analysis.report.images import check_exporter

            check_exporter()
        elif self.output.is_dir():
            raise ConfigError(f"{self.output} is a folder; name a file with -o")
        elif not self.output.parent.is_dir():
            raise ConfigError(f"there is no folder {self.output.parent}; make it, or name another file with -o")


def write_report(answer: Answer, target: Target) -> list[str]:
    """Write it; what was written, one sentence each."""
    if target.kind == "html":
        return _write_html(answer, target)
    if target.kind in ("png", "svg"):
        from specs_eval.analysis.report.images import export_figures

        return [str(path) for path in export_figures(document(answer.content), target.output, target.kind)]
    if target.kind == "parquet":
        import pyarrow.parquet as pq

        from specs_eval.analysis.report.tidy import tidy_table

        table = tidy_table(answer.content)
        write_atomic(target.output, lambda path: pq.write_table(table, path, compression="zstd"))
        return [f"{target.output}: {table.num_rows:,} numbers"]
    if target.kind == "json":
        from specs_eval.analysis.report.tidy import report_json

        write_text_atomic(target.output, report_json(answer.content))
    else:
        from specs_eval.analysis.report.markdown import markdown

        write_text_atomic(target.output, markdown(document(answer.content)))
    return [str(target.output)]


def _write_html(answer: Answer, target: Target) -> list[str]:
    from specs_eval.analysis.report.page import html_page
    from specs_eval.cli.report_samples import candidate_samples

    candidates = candidate_samples(answer, target.pictures, target.seed)
    page = html_page(document(answer.content), candidates, int(target.max_mb * _MEGABYTE))
    write_text_atomic(target.output, page)
    size = len(page.encode()) / _MEGABYTE
    over = "" if size <= target.max_mb else f", over --max-mb {target.max_mb:g}: plotly.js and figures alone need that"
    return [f"{target.output}: {size:.1f} MB{over}"]
