"""Options of the commands that may ask a judge: one judge for the command, its cost at the end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specs_eval.errors import ConfigError

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--judge",
        "judge_url",
        metavar="URL",
        help="OpenAI-compatible endpoint to ask where MathVista and MEGA-Bench ask GPT-4. Key: $OPENAI_API_KEY.",
    ),
    click.option("--judge-model", metavar="NAME", help="Model that the endpoint serves."),
    click.option("--judge-cache", type=click.Path(path_type=Path), help="Folder where replies are kept."),
    click.option(
        "--judge-concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at a time."
    ),
    click.option("--judge-timeout", type=float, default=60.0, show_default=True, help="Seconds a request."),
    click.option(
        "--judge-price", type=float, nargs=2, metavar="IN OUT", help="Price of a million prompt and completion tokens."
    ),
)


def judge_options(command: Command) -> Command:
    """Add the judge's options to a command, which gets them as one argument ``judge``: a Judge, or None.

    However the command ends, nothing is asked any more and what asking cost is said on stderr.
    """

    @functools.wraps(command)
    def with_judge(*arguments: Any, **options: Any) -> Any:
        judge = _judge(**{name: options.pop(name) for name in _NAMES})
        try:
            return command(*arguments, judge=judge, **options)
        finally:
            if judge is not None:
                judge.stop()
                click.echo(_cost_line(judge), err=True)

    for option in reversed(_OPTIONS):
        with_judge = option(with_judge)
    return with_judge  # type: ignore[return-value]


_NAMES = ("judge_url", "judge_model", "judge_cache", "judge_concurrency", "judge_timeout", "judge_price")


def _judge(
    judge_url: str | None,
    judge_model: str | None,
    judge_cache: Path | None,
    judge_concurrency: int,
    judge_timeout: float,
    judge_price: tuple[float, float] | None,
) -> Judge | None:
    if judge_url is None:
        if judge_model is not None or judge_cache is not None or judge_price is not None:
            raise ConfigError("the judge's options need --judge URL")
        return None
    from specs_eval.tasks.judging import Judge, JudgeOptions

    return Judge(
        JudgeOptions(
            judge_url,
            judge_model or "",
            concurrency=judge_concurrency,
            timeout=judge_timeout,
            cache=judge_cache,
            price=judge_price,
        )
    )


def judge_facts(judge: Judge) -> dict[str, Any]:
    """What a judge was asked and what it cost, as plain JSON types; without its address and key."""
    facts: dict[str, Any] = {"model": judge.options.model, **asdict(judge.cost)}
    if judge.options.price is not None:
        facts["amount"] = judge.cost.amount(judge.options.price)
    return facts


def _cost_line(judge: Judge) -> str:
    cost = judge.cost
    parts = [
        f"judge {judge.options.model}: {cost.n_asked:,} questions",
        f"{cost.n_cached:,} answered before",
        f"{cost.n_failed:,} failed",
        f"{cost.n_tries:,} requests",
        f"{cost.prompt_tokens:,} + {cost.completion_tokens:,} tokens",
    ]
    if judge.options.price is not None:
        parts.append(f"cost {cost.amount(judge.options.price):,.4f}")
    return ", ".join(parts)
