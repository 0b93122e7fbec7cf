"""Options that the analysis commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder of the run store.",
)
_SERIES = click.option("--series", multiple=True, metavar="NAME", help="Only this series; repeatable. Default: all.")
_SELECT = click.option(
    "--select",
    "selects",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only runs with this temperature, top_p, max_new_tokens, seed, backend, task_version or fingerprint.",
)
_INCOMPLETE = click.option("--allow-incomplete", is_flag=True, help="Also use runs that are not finished.")
_BOOTSTRAP = click.option(
    "--bootstrap", type=int, default=2000, show_default=True, metavar="N", help="Draws of the bootstrap."
)
_LEVEL = click.option("--level", type=float, default=0.95, show_default=True, help="Coverage of the intervals.")
_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")

_OPTIONS = (_STORE, _SERIES, _SELECT, _INCOMPLETE, _BOOTSTRAP, _LEVEL, _SEED, _JSON)
_COMPARISON_OPTIONS = (_STORE, _SELECT, _INCOMPLETE, _LEVEL, _SEED, _JSON)


def analysis_options(command: Command) -> Command:
    """Add --store, --series, --select, --allow-incomplete, --bootstrap, --level, --seed and --json."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def comparison_options(command: Command) -> Command:
    """Add those of them that a comparison of two checkpoints has: all but --series and --bootstrap."""
    for option in reversed(_COMPARISON_OPTIONS):
        command = option(command)
    return command
