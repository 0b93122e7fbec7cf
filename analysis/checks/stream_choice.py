"""Which gates can stop early, and what each of them draws."""

from __future__ import annotations

from collections.abc import Sequence

from specs_eval.analysis.checks.factor_streams import FactorStream
from specs_eval.analysis.checks.sources import Source
from specs_eval.analysis.checks.streams import MeanStream, Stream
from specs_eval.analysis.checks.units import Asked, order_units
from specs_eval.analysis.gate_measures import UNSCORED
from specs_eval.analysis.generalization import choose_gain
from specs_eval.errors import ConfigError
from specs_eval.policy import WITHOUT_BOUNDS, Gate
from specs_eval.splits import Split, parse_split


def at_the_end(why: str) -> str:
    """What a reader must know of a gate that did not stop early."""
    return (
        f"tested like a fixed sample, on what there was when the other gates stopped, as {why}; its error levels hold for a "
        "number of samples that is fixed before"
    )


def choose_stream(gate: Gate, source: Source, seed: int) -> tuple[Stream | None, str]:
    """How a gate is drawn; None and why for those that nobody can bet on."""
    if gate.metric in WITHOUT_BOUNDS:
        return None, at_the_end(f"{gate.metric} has no bounds")
    if gate.metric == UNSCORED:
        return None, "counted over what there was when the other gates stopped"
    sides = ("candidate", *(("baseline",) if gate.on_change else ()))
    if gate.metric != "gf":
        split, samples = _part(gate, gate.task or "", source, sides)
        return MeanStream(gate, order_units([samples], seed), (split,), sides), ""
    if choose_gain(gate.gain, gate.base is not None) == "normalized":
        return None, at_the_end("a normalized gain is no mean")
    if choose_gain(gate.gain, gate.base is not None) == "difference":
        sides = (*sides, f"base {gate.base}")
    parts = [_part(gate, text or "", source, sides) for text in (gate.id, gate.ood)]
    (one, first), (other, second) = parts
    shared = {sample.sample_id for sample in first} & {sample.sample_id for sample in second}
    if one.task == other.task and shared:
        raise ConfigError(f"{gate.title}: id and ood share {len(shared):,} samples (such as {min(shared)!r})")
    return FactorStream(gate, order_units([first, second], seed), (one, other), sides), ""


def _part(gate: Gate, text: str, source: Source, sides: Sequence[str]) -> tuple[Split, list[Asked]]:
    split = parse_split(text)
    samples = source.asked(split.task, sides)
    resolved = split.resolved(sample.category for sample in samples)
    kept = [sample for sample in samples if resolved.holds(sample.category)]
    if not kept:
        raise ConfigError(f"{gate.title}: no sample of {split.task} meets all of {resolved}")
    return resolved, kept
