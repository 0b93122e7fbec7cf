"""Options that say where engines run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from specs_eval.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="local: one engine here; ray: an engine on each free GPU of a Ray cluster.",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster; default: one is started here."),
    click.option(
        "--workers", type=click.IntRange(min=1), help="With ray: engines; default: a GPU each, else a CPU each."
    ),
    click.option(
        "--gpus-per-worker",
        type=click.IntRange(min=1),
        help="With ray; default: 1 where the cluster has GPUs, else CPUs.",
    ),
)


def executor_options(command: Command) -> Command:
    """Add the options to a command, which gets them as one argument ``executor``: settings of Ray, or None."""

    @functools.wraps(command)
    def with_executor(
        *arguments: Any,
        executor: str,
        ray_address: str | None,
        workers: int | None,
        gpus_per_worker: int | None,
        **options: Any,
    ) -> Any:
        if executor == "local":
            if ray_address is not None or workers is not None or gpus_per_worker is not None:
                raise ConfigError("--ray-address, --workers and --gpus-per-worker need --executor ray")
            return command(*arguments, executor=None, **options)
        from specs_eval.executors.placement import RaySettings

        return command(*arguments, executor=RaySettings(ray_address, workers, gpus_per_worker), **options)

    for option in reversed(_OPTIONS):
        with_executor = option(with_executor)
    return with_executor  # type: ignore[return-value]
