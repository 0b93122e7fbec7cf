"""Options of ``specs-eval check`` that say that, and where, missing evaluations are made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specs_eval.cli.judge_options import judge_options
from specs_eval.errors import ConfigError

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Running:
    """Evaluate what is missing, and where."""

    dry_run: bool = False
    data_dir: Path | None = None
    include_paths: tuple[Path, ...] = ()
    device: str | None = None
    batch_size: int | None = None
    base_url: str | None = None
    """Of the endpoint, for what ``--backend openai`` evaluated."""
    backend_args: tuple[str, ...] = ()
    """``KEY=VALUE`` each."""
    rollouts: int | None = None
    """This and the next two: only for tasks that no checkpoint of the check has answered."""
    limit: int | None = None
    temperature: float | None = None
    judge: Judge | None = None

    def backend_settings(self) -> dict[str, str]:
        """Settings of the backend by name.

        Raises:
            ConfigError: one is not ``KEY=VALUE``.
        """
        from specs_eval.cli.run import key_and_value

        settings = dict(key_and_value(text) for text in self.backend_args)
        return settings if self.base_url is None else {**settings, "base_url": self.base_url}


_OPTIONS = (
    click.option("--run", "run", is_flag=True, help="First evaluate what is missing, as the baseline was evaluated."),
    click.option(
        "--dry-run",
        is_flag=True,
        help="With --run: say what would be evaluated and what it would take, and nothing else.",
    ),
    click.option(
        "--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA", help="Where benchmark data lies."
    ),
    click.option(
        "--include-path",
        "include_paths",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        multiple=True,
        help="Folder with lmms-eval task YAMLs of your own; repeatable.",
    ),
    click.option("--device", help="cpu, cuda, cuda:1, ..."),
    click.option("--batch-size", type=int, help="Samples a batch; changes speed and memory, never a score."),
    click.option(
        "--base-url", metavar="URL", help="Where the endpoint is, for models that --backend openai evaluated."
    ),
    click.option(
        "--backend-arg", "backend_args", multiple=True, metavar="KEY=VALUE", help="Setting of the backend; repeatable."
    ),
    click.option("--rollouts", type=int, help="With --run, where nothing is stored yet: responses a sample."),
    click.option("--limit", type=int, help="With --run, where nothing is stored yet: the first N samples."),
    click.option("--temperature", type=float, help="With --run, where nothing is stored yet."),
)


_SPELLED = {"include_paths": "--include-path", "backend_args": "--backend-arg"}


def run_options(command: Command) -> Command:
    """Add the options to a command, which gets them as one argument ``running``: a `Running`, or None without ``--run``."""

    @functools.wraps(command)
    def with_running(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in Running.__dataclass_fields__}
        if options.pop("run"):
            return command(*arguments, running=Running(**given), **options)
        # A folder for data may come from the environment, where it harms nobody.
        unused = [
            _SPELLED.get(name, f"--{name.replace('_', '-')}") for name in given if given[name] and name != "data_dir"
        ]
        if unused:
            raise ConfigError(f"{', '.join(unused)}: only with --run, which evaluates what is missing")
        return command(*arguments, running=None, **options)

    for option in reversed(_OPTIONS):
        with_running = option(with_running)
    return judge_options(with_running)  # type: ignore[return-value]
