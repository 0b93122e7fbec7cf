"""Progress for people (bars on a terminal) and for logs (a line a run when piped)."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from specs_eval.checkpoints import Checkpoint
from specs_eval.store import StoredRun


class LineObserver:
    """One line when a run begins and one when it ends: for pipes and logs."""

    def __init__(self, console: Console, n_runs: int, first: int = 0) -> None:
        self.console = console
        self.n_runs = n_runs
        self._index = first
        self._started = 0.0
        self._tokens = 0
        self._rollouts = 0
        self._label = ""

    def display(self) -> AbstractContextManager[object]:
        """What must be open while the observer is used."""
        return nullcontext()

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """Announce a run."""
        self._index += 1
        self._label = f"[{self._index}/{self.n_runs}] {checkpoint.name} {task}"
        self._started, self._tokens, self._rollouts = time.monotonic(), 0, 0
        state = f"{owed:,} rollouts owed of {total:,}" if owed else f"all {total:,} rollouts are in the store"
        self._line(f"{self._label}: {state}")

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Count."""
        self._tokens += n_tokens
        self._rollouts += n_rollouts

    def run_finished(self, run: StoredRun) -> None:
        """Announce the result."""
        results = run.results()
        if not self._rollouts or results is None:
            return
        seconds = max(time.monotonic() - self._started, 1e-9)
        failed = f", {results.n_failed:,} failed" if results.n_failed else ""
        self._line(f"{self._label}: done in {seconds:.1f} s, {self._tokens / seconds:,.0f} tokens/s{failed}")

    def problem(self, text: str) -> None:
        """Say it at once."""
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class BarObserver:
    """Bars over runs and rollouts, with tokens/s and time left."""

    def __init__(self, console: Console, n_runs: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._runs = self._progress.add_task("checkpoints x tasks", total=n_runs, rate="")
        self._current: TaskID | None = None
        self._started = 0.0
        self._tokens = 0
        self._failed = 0

    def display(self) -> AbstractContextManager[object]:
        """The live display."""
        return self._progress

    def run_started(self, checkpoint: Checkpoint, task: str, owed: int, total: int) -> None:
        """A new bar for the run; what is in the store already counts as done."""
        self._current = self._progress.add_task(
            f"{checkpoint.name} {task}", total=total, completed=total - owed, rate=""
        )
        self._started, self._tokens, self._failed = time.monotonic(), 0, 0

    def rollouts_done(self, n_rollouts: int, n_tokens: int, n_failed: int) -> None:
        """Move the bar."""
        self._tokens += n_tokens
        self._failed += n_failed
        if self._current is not None:
            rate = f"{self._tokens / max(time.monotonic() - self._started, 1e-9):,.0f} tok/s"
            failed = f" {self._failed:,} failed" if self._failed else ""
            self._progress.update(self._current, advance=n_rollouts, rate=rate + failed)

    def run_finished(self, run: StoredRun) -> None:
        """Fold the bar."""
        if self._current is not None:
            self._progress.remove_task(self._current)
            self._current = None
        self._progress.advance(self._runs)

    def problem(self, text: str) -> None:
        """Print above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)


def make_observer(console: Console, n_runs: int) -> LineObserver | BarObserver:
    """Bars on a terminal, lines elsewhere."""
    return BarObserver(console, n_runs) if console.is_terminal else LineObserver(console, n_runs)
