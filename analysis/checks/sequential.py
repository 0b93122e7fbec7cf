"""Checks that ask sample by sample and stop early: which samples are needed next, and when each gate is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from specs_eval.analysis.bound_tests import BoundTest
from specs_eval.analysis.checks.measures import measure, read_gate_values
from specs_eval.analysis.checks.sources import Source
from specs_eval.analysis.checks.stream_choice import at_the_end, choose_stream
from specs_eval.analysis.checks.streams import METHOD, Read, Stream
from specs_eval.analysis.checks.units import Order, Shares, shares_of
from specs_eval.analysis.drawing import DEFAULT_BLOCK
from specs_eval.analysis.gates import SMALLEST_P, Measured, levels_of, outcome_of, verdicts
from specs_eval.analysis.generalization import choose_gain
from specs_eval.analysis.multiplicity import holm
from specs_eval.analysis.statistics import undefined
from specs_eval.errors import ConfigError
from specs_eval.policy import Gate, Policy
from specs_eval.splits import Split, parse_split
from specs_eval.verdicts import Outcome, Verdict

FIRST_SAMPLES = 32
"""Samples before the first look, in whole blocks of units: fewer fill no engine, and decide next to nothing."""

GROWTH = 1.1
"""Each round is a tenth of what there is: few rounds, and little is asked in vain."""


AHEAD = 2
"""A checkpoint whose answers will be wanted again, such as the baseline, may be asked for this many times as many units."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A budget: reaching it leaves gates undecided, and a larger one later continues."""

    max_samples: int | None = None
    """Samples that the candidate is asked, over all gates, those asked earlier included."""
    time_is_up: Callable[[], bool] = lambda: False
    max_minutes: float | None = None
    """For messages."""

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise ConfigError(f"--max-samples must be at least 1, not {self.max_samples}")
        if self.max_minutes is not None and not 0 < self.max_minutes < float("inf"):
            raise ConfigError(f"--max-minutes must be above 0, not {self.max_minutes:g}")


@dataclass(slots=True)
class _State:
    """How far a gate is."""

    gate: Gate
    stream: Stream | None
    """None: nobody can bet on it."""
    why_not: str = ""
    n_units: int = 0
    p_values: tuple[float, float] = (1.0, 1.0)
    outcome: Outcome = "undecided"

    @property
    def open(self) -> bool:
        return self.stream is not None and self.outcome == "undecided" and self.n_units < self.stream.order.n_units


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a sequential check."""

    verdicts: tuple[Verdict, ...]
    n_asked: int
    """Samples that the candidate was asked by the gates that stop early."""
    n_all: int
    """Samples that these gates might have asked."""
    stopped: str
    """Why it stopped, in words."""
    complete: bool
    """Whether every gate that can stop early was decided."""
    notes: tuple[str, ...] = ()


def decide(
    policy: Policy, source: Source, limits: Limits, n_draws: int, bases: Mapping[str, str] | None = None
) -> Decided:
    """Ask, look, and stop each gate when it is decided and the check when all are.

    Args:
        policy: gates and error levels.
        source: of samples and answers.
        limits: the budget.
        n_draws: of the bootstrap, for gates that nobody can bet on.
        bases: base of a GF gate -> another name of it that the store knows.

    Raises:
        ConfigError: a task, metric or category that does not exist.
        ComparisonError: runs that do not compare.
    """
    states = [_State(gate, *choose_stream(gate, source, policy.seed)) for gate in policy.gates]
    asked, stopped = _ask(states, policy, source, limits)
    everything = {(split.task, one) for state in states if state.stream for split, one in _all_samples(state.stream)}
    measured = [_measured(state, policy, source, _Leftover(n_draws, bases or {}, stopped)) for state in states]
    found = [_kept(verdict, state) for verdict, state in zip(verdicts(measured, policy), states, strict=True)]
    notes = [f"{state.gate.title}: {state.why_not}" for state in states if state.stream is None]
    complete = all(state.outcome != "undecided" for state in states if state.stream is not None)
    return Decided(tuple(found), len(asked), len(everything), stopped, complete, tuple(notes))


def _ask(states: Sequence[_State], policy: Policy, source: Source, limits: Limits) -> tuple[set[tuple[str, str]], str]:
    """Round after round until all gates are decided, all samples asked, or the budget spent."""
    asked: set[tuple[str, str]] = set()
    target = first_round([state.stream.order for state in states if state.stream])
    while open_states := [state for state in states if state.open]:
        if limits.time_is_up():
            return asked, f"--max-minutes {limits.max_minutes:g} were over"
        fitting = _within(open_states, target, asked, limits.max_samples)
        if fitting is None:
            return asked, _spent(open_states, asked, limits.max_samples or 0)
        source.fetch(_wanted(open_states, fitting), _wanted(open_states, AHEAD * fitting))
        read = gate_reader(source)
        for state in open_states:
            asked |= _samples(state, fitting)
            _look(state, fitting, read)
        _decide(states, policy)
        target = next_round(fitting)
    undecided = [state for state in states if state.stream is not None and state.outcome == "undecided"]
    return asked, "all samples were asked" if undecided else "every gate that can stop early was decided"


def first_round(orders: Sequence[Order]) -> int:
    """The first round's number of units: several blocks of single samples, one block of large groups."""
    sizes = [sum(map(len, order.ids)) / order.n_units for order in orders]
    blocks = math.ceil(FIRST_SAMPLES / (DEFAULT_BLOCK * min(sizes, default=1.0)))
    return DEFAULT_BLOCK * max(blocks, 1)


def next_round(units: int) -> int:
    """The next round's number of units, in whole blocks."""
    grown = max(int(units * GROWTH), units + DEFAULT_BLOCK)
    return max(grown - grown % DEFAULT_BLOCK, units + 1)


def _within(states: Sequence[_State], target: int, asked: set[tuple[str, str]], max_samples: int | None) -> int | None:
    """The largest number of units up to the target that the budget has samples for; None: none that is news."""
    while True:
        news = [state for state in states if state.stream and state.stream.order.reach(target) > state.n_units]
        if not news:
            return None if max_samples is not None else target
        new = asked.union(*(_samples(state, target) for state in news))
        if max_samples is None or len(new) <= max_samples:
            return target
        target -= DEFAULT_BLOCK
        if target < 1:
            return None


def _spent(states: Sequence[_State], asked: set[tuple[str, str]], max_samples: int) -> str:
    """Why a budget of samples ended a check, and what it was too small for."""
    target = DEFAULT_BLOCK + min(state.n_units for state in states)
    needed = len(asked.union(*(_samples(state, target) for state in states)))
    which = "next" if asked else "first"
    return f"--max-samples {max_samples:,} ended the check (the {which} look is at {needed:,} samples)"


def _samples(state: _State, target: int) -> set[tuple[str, str]]:
    stream = state.stream
    assert stream is not None, "open states have a stream"
    n = stream.order.reach(target)
    return {(split.task, one) for role, split in enumerate(stream.splits) for one in stream.order.samples(role, n)}


def _all_samples(stream: Stream) -> list[tuple[Split, str]]:
    return [(split, one) for role, split in enumerate(stream.splits) for one in stream.order.ids[role]]


def _wanted(states: Sequence[_State], target: int) -> dict[str, dict[str, list[str]]]:
    """Side -> task -> samples, each once, in the order drawn."""
    wanted: dict[str, dict[str, dict[str, None]]] = {}
    for state in states:
        stream = state.stream
        assert stream is not None, "open states have a stream"
        n = stream.order.reach(target)
        for side in stream.sides:
            for role, split in enumerate(stream.splits):
                tasks = wanted.setdefault(side, {}).setdefault(split.task, {})
                tasks.update(dict.fromkeys(stream.order.samples(role, n)))
    return {side: {task: list(ids) for task, ids in tasks.items()} for side, tasks in wanted.items()}


def _look(state: _State, target: int, read: Callable[[Gate], Read]) -> None:
    stream = state.stream
    assert stream is not None, "open states have a stream"
    n = stream.order.reach(target)
    if n <= state.n_units:
        return
    state.n_units = n
    try:
        state.p_values = stream.evidence(read(state.gate), n).last
    except _NoBounds as error:
        state.stream, state.why_not, state.p_values = None, at_the_end(str(error)), (1.0, 1.0)


def _decide(states: Sequence[_State], policy: Policy) -> None:
    """Word for the gates that are decided now; what was decided stays so."""
    adjusted = holm([min(max(state.p_values[1], SMALLEST_P), 1.0) for state in states])
    for state, p_fail in zip(states, adjusted, strict=True):
        if state.stream is not None and state.outcome == "undecided":
            state.outcome = outcome_of(state.p_values[0], p_fail, policy)


@dataclass(frozen=True, slots=True)
class _Leftover:
    """What the last step must know."""

    n_draws: int
    bases: Mapping[str, str]
    stopped: str


def _measured(state: _State, policy: Policy, source: Source, leftover: _Leftover) -> Measured:
    stream, gate, stopped = state.stream, state.gate, leftover.stopped
    if stream is None:
        return _measured_at_the_end(state, policy, source, leftover)
    measures = f"{gate.metric} of {stream.splits[0]}"
    if gate.metric == "gf":
        gain = choose_gain(gate.gain, gate.base is not None)
        measures = f"GF ({gain}) of {stream.splits[0]} / {stream.splits[1]}"
    n_all = sum(len(ids) for ids in stream.order.ids)
    if not state.n_units:
        nothing = undefined(f"nothing was asked: {stopped}")
        return Measured(gate, BoundTest(nothing, 1.0, 1.0, METHOD), measures, n_all, (), True)
    levels = levels_of(policy)
    test = stream.test(gate_reader(source)(gate), state.n_units, levels)
    runs = dict.fromkeys(source.run(side, split.task).run_id for side in stream.sides for split in stream.splits)
    return Measured(gate, test, measures, n_all, tuple(runs), True, _reason(state, test.estimate.n_unscored, stopped))


def _measured_at_the_end(state: _State, policy: Policy, source: Source, leftover: _Leftover) -> Measured:
    gate = state.gate
    needs = ["candidate", *(["baseline"] if gate.on_change else []), *([f"base {gate.base}"] if gate.base else [])]
    for text in (gate.id, gate.ood) if gate.metric == "gf" else (gate.task,):
        source.fetch_rest(parse_split(text or "").task, needs)
    named = gate.model_copy(update={"base": leftover.bases.get(gate.base, gate.base)}) if gate.base else gate
    measured = measure(named, replace(source.sides(), overlap=True), policy, leftover.n_draws)
    return replace(measured, gate=gate, reason=state.why_not)


def _reason(state: _State, n_unscored: int, stopped: str) -> str | None:
    """What a reader must know: why it is undecided, and what failed."""
    parts = []
    if state.outcome == "undecided":
        parts.append(f"neither that the bound is kept nor that it is broken was shown when {stopped}")
    if n_unscored:
        parts.append(f"{n_unscored:,} failed rollouts count as the worst for each claim")
    return "; ".join(parts) or None


def _kept(verdict: Verdict, state: _State) -> Verdict:
    """What was decided when the gate stopped stays decided."""
    return verdict if state.stream is None else replace(verdict, outcome=state.outcome)


class _NoBounds(Exception):
    """A metric that leaves [0, 1]."""


def gate_reader(source: Source) -> Callable[[Gate], Read]:
    """A gate -> how its metric is read; each run once."""

    def of(gate: Gate) -> Read:
        @cache
        def read(side: str, split: Split) -> Shares:
            wanted = gate.model_copy(update={"metric": gate.of}) if gate.metric == "gf" else gate
            rollouts = read_gate_values(wanted, source.run(side, split.task), split)
            try:
                return shares_of(rollouts, gate.metric)
            except ConfigError as error:
                raise _NoBounds(str(error)) from error

        return read

    return of
