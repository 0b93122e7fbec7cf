"""The loop of ``specs-eval watch``: wait, evaluate, log, judge, until something ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from specs_eval.backends.base import Backend, BackendOptions
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli.watch_gate import WatchGate
from specs_eval.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_PASS, EXIT_REGRESSION
from specs_eval.fingerprint import Fingerprinter
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore, StoredRun
from specs_eval.tracking import Trackers, TrackerSettings
from specs_eval.watching import Watch

if TYPE_CHECKING:
    from specs_eval.analysis.checks.answer import Answer


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends the watch, besides Ctrl-C and a closed gate."""

    once: bool
    until_step: int | None
    idle_timeout: float | None
    """Seconds."""
    stop_file: Path


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """Everything that was asked."""

    folder: Path
    series: str
    request: RunRequest
    store: Path
    backend: str
    options: BackendOptions
    policy_path: Path | None
    baseline: str
    stop_on_fail: bool
    trackers: tuple[str, ...]
    tracker_settings: TrackerSettings
    poll: float
    """Seconds between looks."""
    settle: float
    ending: Ending


@dataclass(slots=True)
class _Progress:
    """What came of the watch so far."""

    last_news: float
    done_step: int = -1
    """The latest step that was evaluated."""
    problems: dict[Path, str] = field(default_factory=dict)
    """Why checkpoints that are still there could not be evaluated."""
    exit_codes: set[int] = field(default_factory=set)

    def exit_code(self) -> int:
        """A closed gate outweighs what is undecided or failed."""
        if EXIT_REGRESSION in self.exit_codes:
            return EXIT_REGRESSION
        return EXIT_INCOMPLETE if self.problems or EXIT_INCOMPLETE in self.exit_codes else EXIT_PASS


def run_watch(plan: WatchPlan) -> int:
    """Watch until something ends it; the exit code."""
    from specs_eval.backends.registry import create_backend

    console = Console(stderr=True)
    store = RunStore.create(plan.store)
    gate = None
    if plan.policy_path is not None:
        gate = WatchGate(plan.store, plan.policy_path, plan.baseline, [task.name for task in plan.request.tasks])
    engine = create_backend(plan.backend, plan.options)
    watch = Watch(plan.folder, Fingerprinter(store.root / "fingerprints.json"), plan.series, plan.settle)
    trackers = Trackers(plan.trackers, plan.tracker_settings)
    watcher = Watcher(plan, store, engine, watch, trackers, gate, console)
    try:
        with _terminable():
            return watcher.run()
    except KeyboardInterrupt:
        _say(console, "Interrupted. Everything finished is stored; the same command continues.")
        return EXIT_INTERRUPTED
    finally:
        trackers.close()
        engine.close()


@dataclass(slots=True)
class Watcher:
    """A watch with everything that it needs."""

    plan: WatchPlan
    store: RunStore
    engine: Backend
    watch: Watch
    trackers: Trackers
    gate: WatchGate | None
    console: Console
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> int:
        """Evaluate what comes until something ends it; the exit code."""
        progress = _Progress(self.clock())
        _say(self.console, f"watching {self.plan.folder} (stop with Ctrl-C, or by making {self.plan.ending.stop_file})")
        while True:
            if self.plan.ending.stop_file.exists():
                _say(self.console, f"{self.plan.ending.stop_file} is there: stopped")
                break
            checkpoint = self.watch.next()
            if checkpoint is not None:
                self._take(checkpoint, progress)
                if self.plan.stop_on_fail and EXIT_REGRESSION in progress.exit_codes:
                    break
                progress.last_news = self.clock()
            elif reason := self._ended(progress):
                _say(self.console, reason)
                break
            else:
                self.sleep(self.plan.poll)
        for path, problem in self.watch.unfinished().items():
            _say(self.console, f"not evaluated: {path.name}: {problem}")
        return progress.exit_code()

    def _take(self, checkpoint: Checkpoint, progress: _Progress) -> None:
        """Evaluate one checkpoint, log and judge it."""
        from specs_eval.cli.progress import make_observer

        observer = make_observer(self.console, len(self.plan.request.tasks))
        with observer.display():
            evaluation = evaluate([checkpoint], self.plan.request, self.store, self.engine, observer)
        progress.problems.pop(checkpoint.path, None)
        if evaluation.problems:
            if self.watch.give_back(checkpoint):
                progress.problems[checkpoint.path] = "; ".join(evaluation.problems)
            else:
                _say(self.console, f"{checkpoint.name} was deleted before it was evaluated; going on")
            return
        if evaluation.n_failed():
            progress.exit_codes.add(EXIT_INCOMPLETE)
        progress.done_step = max(progress.done_step, -1 if checkpoint.step is None else checkpoint.step)
        answer = None
        if self.gate is not None:
            answer = self.gate.answer(checkpoint)
            progress.exit_codes.add(answer.exit_code)
            _say(self.console, f"gate: {answer.summary()}")
        self.trackers.log(checkpoint.step, numbers_of(evaluation.runs, answer))
        _say(self.console, summary_of(checkpoint, evaluation.runs))

    def _ended(self, progress: _Progress) -> str | None:
        """Why the watch ends, now that nothing is to be taken; None: it goes on."""
        ending = self.plan.ending
        if ending.until_step is not None and progress.done_step >= ending.until_step:
            return f"step {progress.done_step} is evaluated: done"
        if ending.once and self.watch.is_settled():
            return "everything that is there is evaluated"
        idle = self.clock() - progress.last_news
        if ending.idle_timeout is not None and idle >= ending.idle_timeout:
            return f"no new checkpoint for {idle:,.0f} seconds: stopped"
        return None


def numbers_of(runs: Sequence[StoredRun], answer: Answer | None) -> dict[str, float | None]:
    """What trackers are given: each metric of each task with its interval, failed rollouts, and the gates."""
    from specs_eval.analysis.stored.reading import score_summaries

    numbers: dict[str, float | None] = {}
    for run in runs:
        task = run.manifest.task
        for name, estimate in score_summaries(run).items():
            numbers[f"{task}/{name}"] = estimate.value
            if estimate.interval is not None:
                numbers[f"{task}/{name}_low"] = estimate.interval.low
                numbers[f"{task}/{name}_high"] = estimate.interval.high
        results = run.results()
        if results is not None:
            numbers[f"{task}/n_failed"] = float(results.n_failed)
            numbers[f"{task}/tokens_per_rollout"] = results.n_tokens / results.n_rollouts if results.n_tokens else None
    for verdict in () if answer is None else answer.verdicts:
        numbers[f"gate/{verdict.gate}"] = verdict.estimate
        numbers[f"gate/{verdict.gate}/passed"] = float(verdict.outcome == "pass")
    return numbers


def summary_of(checkpoint: Checkpoint, runs: Sequence[StoredRun]) -> str:
    """A checkpoint's mean scores in a line."""
    parts = []
    for run in runs:
        results = run.results()
        mean = None if results is None else results.metrics["score"].mean
        parts.append(f"{run.manifest.task} {'-' if mean is None else f'{100 * mean:.1f} %'}")
    return f"{checkpoint.name}: {', '.join(parts)}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Being asked to terminate, as by a scheduler, is as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
