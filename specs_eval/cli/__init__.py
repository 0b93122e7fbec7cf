"""The command line: the composition root. Commands are imported when they are called, and import lazily themselves."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from typing import Any

import click

from specs_eval.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, SpecsEvalError, StoreError

COMMANDS = {
    "run": ("specs_eval.cli.run:run", "Evaluate checkpoints on tasks into a run store."),
    "watch": ("specs_eval.cli.watch:watch", "Evaluate each new checkpoint of a training that is still running."),
    "results": ("specs_eval.cli.results:results", "Show stored runs: scores, missing answers, tables by category."),
    "gf": ("specs_eval.cli.gf:gf", "Generalization Factor of checkpoints: ID against OOD."),
    "explore": ("specs_eval.cli.explore:explore", "Exploration: pass@k, unsolvable share, branching, entropy."),
    "stuck": ("specs_eval.cli.stuck:stuck", "Stuckness: the same wrong answer every time, and format lock-in."),
    "compare": ("specs_eval.cli.compare:compare", "A checkpoint against another: differences, tests, flips."),
    "report": ("specs_eval.cli.report:report", "One offline HTML page on everything; or Markdown, data, figures."),
    "check": ("specs_eval.cli.check:check", "May a candidate replace the baseline? Exit code 0, 1 or 3."),
    "plan": ("specs_eval.cli.plan:plan", "What a check will take: samples, rollouts, minutes; no GPU."),
    "baseline": ("specs_eval.cli.baseline:baseline", "Pin the checkpoint that candidates are checked against."),
    "score": ("specs_eval.cli.score:score", "Score outputs that exist already, without a model."),
    "import": ("specs_eval.cli.import_logs:import_logs", "Import logs of lmms-eval, or rows of scores, as runs."),
    "rescore": ("specs_eval.cli.rescore:rescore", "Score stored runs again and show what changed."),
    "distill": ("specs_eval.cli.distill:distill", "Preference pairs from a model's own answers (self-distillation)."),
    "tasks": ("specs_eval.cli.tasks:tasks", "List the tasks, or print the folder to give to lmms-eval."),
    "train": ("specs_eval.cli.train:train", "Train in gated stages: base, zero, distill, cold start, RL."),
    "tiny": ("specs_eval.cli.tiny:tiny", "The tiny VLM that ships with specs-eval."),
    "demo": ("specs_eval.cli.demo:demo", "The main job on the embedded default, end to end."),
    "doctor": ("specs_eval.cli.doctor:doctor", "What is installed, which backends work, what the store holds."),
}
"""Name -> where it is, and its one line of help: so that ``--help`` imports no command."""

_ONE_THREAD = frozenset({"gf", "explore", "stuck", "compare", "report"})
"""Commands of many small matrix products, in which the threads of the linear algebra library wait for each other: measured
over a million rollouts, two threads take four times the CPU time of one. The user's own setting wins."""


def _failure(error: SpecsEvalError) -> click.ClickException:
    """An error of ours as click shows it: its text, no traceback, its exit code."""
    failure = click.ClickException(str(error))
    vars(failure)["exit_code"] = error.exit_code
    return failure


def _refusal(error: OSError) -> str:
    """What could not be read or written, and why."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}; free space or fix permissions, then run again (-v shows where it happened)"


def _replace_closed_streams() -> None:
    """Write to nowhere what a caller wants nobody to hear (``>&-``).

    Otherwise the next file that is opened takes the closed stream's number, and gets what libraries print.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # for as long as we live


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a working day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in _ONE_THREAD:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported, with the command
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command list from the table above, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever stops it ends with its message and an exit code that says so, and never with 1."""
        try:
            return super().invoke(ctx)
        except SpecsEvalError as error:
            raise _failure(error) from error
        except BrokenPipeError:
            raise  # the reader of a pipe has enough, which click knows
        except OSError as error:
            logging.getLogger(__name__).info("where the operating system refused", exc_info=error)
            raise _failure(StoreError(_refusal(error))) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # Python would end with 1, which says that a checkpoint regressed. A fault of ours decides nothing.
            logging.getLogger(__name__).error("a fault in specs-eval, please report it", exc_info=error)
            raise click.exceptions.Exit(EXIT_INCOMPLETE) from error
        except KeyboardInterrupt as interrupt:
            click.echo("Interrupted.", err=True)  # click would say Aborted, with 1, which means a regression here
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from interrupt


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Log what happens to stderr.")
@click.version_option(package_name="specs-eval")
def main(verbose: bool) -> None:
    """Do your VLM checkpoints generalize, and can they still explore?

    \b
    Exit codes: 0 pass, 1 regression or closed gate, 2 usage, 3 undecided or incomplete.
    """
    _replace_closed_streams()
    level = logging.INFO if verbose else logging.WARNING
    if not verbose:
        # Deprecations inside the libraries we stand on are not for our users.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True)
