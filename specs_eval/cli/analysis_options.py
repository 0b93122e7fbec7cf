"""Options that the analysis commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--store",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of the run store.",
    ),
    click.option("--series", multiple=True, metavar="NAME", help="Only this series; repeatable. Default: all."),
    click.option(
        "--select",
        "selects",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only runs with this temperature, top_p, max_new_tokens, seed, backend, task_version or fingerprint.",
    ),
    click.option("--allow-incomplete", is_flag=True, help="Also use runs that are not finished."),
    click.option("--bootstrap", type=int, default=2000, show_default=True, metavar="N", help="Draws of the bootstrap."),
    click.option("--level", type=float, default=0.95, show_default=True, help="Coverage of the intervals."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else."),
)


def analysis_options(command: Command) -> Command:
    """Add --store, --series, --select, --allow-incomplete, --bootstrap, --level, --seed and --json."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
