"""``specs-eval score``: official and other scores for outputs that exist already, without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specs_eval.cli.judge_options import judge_facts, judge_options
from specs_eval.cli.score_tables import show, summary
from specs_eval.cli.score_totals import Totals
from specs_eval.errors import EXIT_INCOMPLETE, ConfigError

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge
    from specs_eval.tasks.profiles import Profile
    from specs_eval.tasks.row_workers import RowWorkers
    from specs_eval.tasks.rows import RowJudge, ScoredRow, Source

BLOCK_ROWS = 4_096
BLOCK_BYTES = 32_000_000
"""Rows that are read before they are scored together, and their size in the file."""

MAX_DEFAULT_WORKERS = 8
MIN_ROWS_FOR_WORKERS = 200
"""With fewer rows in a block, starting processes costs more than it saves."""

Line = tuple[int, dict[str, Any], str | None]
"""Line number, row, and what is wrong with the line."""


@click.command()
@click.argument("rows", type=click.Path(path_type=Path), metavar="ROWS.jsonl")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the scored rows go.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["response", "extraction", "auto"]),
    default="auto",
    show_default=True,
    help="What is scored. auto: the response where the official path is a rule, what was recorded where it asked a "
    "model.",
)
@click.option(
    "--profile",
    type=click.Choice(["official", "reasoning"]),
    default="official",
    show_default=True,
    help="Whose rules.",
)
@click.option(
    "--allow-code-execution",
    "allow_code",
    is_flag=True,
    help="Let metrics that run programs from the responses run them, sandboxed.",
)
@judge_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="SPECS_EVAL_DATA",
    help="Where benchmark data lies, for the images that a judge is shown.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes that score MEGA-Bench rows. The scores do not depend on it.  [default: one a processor, up to 8]",
)
@click.option("--breakdown", is_flag=True, help="Also show the categories of the benchmarks.")
@click.option("--json", "as_json", is_flag=True, help="Print totals and categories as JSON on stdout.")
def score(
    rows: Path,
    output: Path,
    source: Source,
    profile: Profile,
    allow_code: bool,
    data_dir: Path | None,
    workers: int | None,
    breakdown: bool,
    as_json: bool,
    judge: Judge | None,
) -> None:
    """Score model outputs that exist already: one JSON object a line in, one a line out, in the same order.

    Exits 3 when rows could not be scored; they are in the output with a reason and without a score.

    \b
    specs-eval score outputs.jsonl -o scored.jsonl --from response
    """
    options = Options(source, profile, allow_code, workers)
    if judge is not None:
        from specs_eval.tasks.rows import RowJudge

        options.judge = RowJudge(judge, data_dir)
    totals = score_file(rows, output, options)
    if as_json:
        facts = summary(totals, output, source, profile)
        if judge is not None:
            facts["judge"] = judge_facts(judge)
        click.echo(json.dumps(facts, indent=2))
    else:
        show(totals, output, profile, with_categories=breakdown)
    sys.exit(EXIT_INCOMPLETE if totals.problems else 0)


class Options:
    """How rows are scored."""

    def __init__(self, source: Source, profile: Profile, allow_code: bool, workers: int | None = 1) -> None:
        self.source: Source = source
        self.profile: Profile = profile
        self.allow_code = allow_code
        self.workers = workers
        """Processes for MEGA-Bench rows; None: as many as there are processors."""
        self.judge: RowJudge | None = None


def score_file(rows: Path, output: Path, options: Options) -> Totals:
    """Score a file line by line into another, which appears whole or not at all.

    Raises:
        ConfigError: the input cannot be read or holds no rows, or the output's folder does not exist.
        StoreError: the output cannot be written.
    """
    from specs_eval.files import write_atomic

    if not rows.is_file():
        raise ConfigError(f"no such file: {rows}; give a JSON Lines file with one row a line")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent} is not a folder; make it, or choose another -o")
    if output.is_dir() or (output.exists() and output.samefile(rows)):
        raise ConfigError(f"{output} cannot be the output; choose another -o")
    totals = Totals()

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="ascii") as stream:
            stream.writelines(line + "\n" for line in _scored_lines(rows, options, totals))
        if not totals.n_rows:
            raise ConfigError(f"{rows} holds no rows; give a JSON Lines file with one row a line")

    write_atomic(output, write)
    return totals


def _scored_lines(rows: Path, options: Options, totals: Totals) -> Iterator[str]:
    from specs_eval.tasks.row_workers import RowRules, RowWorkers, usable_processors
    from specs_eval.tasks.rows import encode_scored

    n_workers = options.workers or min(usable_processors(), MAX_DEFAULT_WORKERS)
    with RowWorkers(n_workers, RowRules(options.source, options.profile, options.allow_code)) as workers:
        for block in _blocks(_read_rows(rows)):
            for (number, row, _), scored in zip(block, _scored_block(block, options, workers), strict=True):
                totals.add(row, scored)
                if scored.score is None:
                    totals.problems.append(f"{rows.name}:{number}: {scored.reason}")
                yield encode_scored(scored)


def _scored_block(block: list[Line], options: Options, workers: RowWorkers) -> Iterator[ScoredRow]:
    from specs_eval.tasks.rows import score_row, unscored

    judged = _judged(block, options)
    slow = [number for number, row, _ in block if row.get("benchmark") == "megabench" and number not in judged]
    by_workers = {}
    if workers.n_processes > 1 and len(slow) >= MIN_ROWS_FOR_WORKERS:
        wanted = set(slow)
        by_workers = dict(zip(slow, workers.score([row for number, row, _ in block if number in wanted]), strict=True))
    for number, row, problem in block:
        if problem is not None:
            yield unscored(row, f"line {number}: {problem}")
        elif number in judged:
            yield judged[number]
        elif number in by_workers:
            yield by_workers[number]
        else:
            yield score_row(row, source=options.source, profile=options.profile, allow_code=options.allow_code)


def _blocks(lines: Iterator[tuple[Line, int]]) -> Iterator[list[Line]]:
    block: list[Line] = []
    size = 0
    for line, n_bytes in lines:
        block.append(line)
        size += n_bytes
        if len(block) == BLOCK_ROWS or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _judged(block: list[Line], options: Options) -> dict[int, ScoredRow]:
    """Line number -> the scored row, for the rows of a block that may have to wait for a judge: in threads."""
    from specs_eval.in_order import in_order
    from specs_eval.tasks.rows import may_need_judge, score_row

    if options.judge is None:
        return {}
    score = partial(
        score_row, source=options.source, profile=options.profile, allow_code=options.allow_code, judge=options.judge
    )
    rows = {number: row for number, row, problem in block if problem is None and may_need_judge(row)}
    scored = in_order(([row] for row in rows.values()), score, options.judge.judge.options.concurrency)
    return dict(zip(rows, (found for (found,) in scored), strict=True))


def _read_rows(path: Path) -> Iterator[tuple[Line, int]]:
    """A line and its length in bytes; one that is no JSON object is an empty row with a problem."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield (number, {}, f"not a JSON object: {error}"[:300]), len(line)
                continue
            if isinstance(row, dict):
                yield (number, row, None), len(line)
            else:
                yield (number, {}, f"not a JSON object but {type(row).__name__}"), len(line)
