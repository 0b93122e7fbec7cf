"""The sections on exploration: what several rollouts solve, and how much the model branches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specs_eval.analysis.report.content import Content, Measurement
from specs_eval.analysis.report.curves import Frame, Look, at_k_figure, step_figure
from specs_eval.analysis.report.document import Cell, Section, Table
from specs_eval.analysis.report.wording import estimate_cell, quantity_name

_SOLVING = (
    "Share of samples that at least one of k rollouts solves (unbiased estimator). Solid: the last checkpoint of a method; "
    "dotted: its first. A gap between k = 1 and large k is what reinforcement learning can still gain."
)
_BRANCHING = (
    "Rollout branching factor (RBF): tokens in the smallest set that holds 95 % of the probability, averaged over generated "
    "positions. Entropy of the next token, in nats. Both are of the model's own distribution; higher is more room to explore."
)


def solving_section(content: Content, look: Look) -> Section:
    """pass@k: the base, and the first (dotted) and last checkpoint of each method."""
    by_task = by_task_of(of_quantities(content.measurements, "pass@k"))
    figures, notes = [], []
    for place, (task, ones) in enumerate(by_task.items()):
        if max(one.k or 1 for one in ones) < 2:
            notes.append(
                f"{task}: one rollout a sample; draw several with: specs-eval run --rollouts 8 --temperature 1"
            )
            continue
        shown, dotted = _ends(ones)
        correct = content.correctness.get(task, "score")
        frame = Frame(f"pass-{place}", f"{task} (correct: {correct})", "pass@k", "rollouts k", "pass@k %")
        figures.append(at_k_figure(frame, shown, look, dotted))
    more = tuple(_at_k_table(task, content) for task in by_task)
    return Section("pass", "pass@k", _SOLVING, tuple(figures), more=more, notes=tuple(notes))


def branching_section(content: Content, look: Look) -> Section:
    """RBF and entropy along training."""
    figures, notes, more = [], [], []
    by_task = by_task_of(of_quantities(content.measurements, "rbf", "entropy"))
    for place, (task, ones) in enumerate(by_task.items()):
        if all(one.estimate.value is None for one in ones):
            notes.append(f"{task}: {ones[0].estimate.reason}")
            continue
        figures += [
            step_figure(
                Frame(f"{quantity}-{place}", f"{name}: {task}", quantity),
                [one for one in ones if one.quantity == quantity],
                look,
            )
            for quantity, name in (("rbf", "RBF"), ("entropy", "Entropy"))
        ]
        more.append(_variety_table(task, content))
    title = "Branching and entropy"
    return Section("branching", title, _BRANCHING, tuple(figures), more=tuple(more), notes=tuple(notes))


def of_quantities(measurements: Iterable[Measurement], *quantities: str) -> list[Measurement]:
    """Numbers of some quantities, over whole tasks."""
    return [one for one in measurements if one.quantity in quantities and not one.dimension]


def by_task_of(points: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """Numbers by task, in order of appearance."""
    found: dict[str, list[Measurement]] = {}
    for one in points:
        found.setdefault(one.task, []).append(one)
    return found


def _ends(points: Sequence[Measurement]) -> tuple[list[Measurement], frozenset[str]]:
    """First and last checkpoint of each series; the first is dotted where both are shown."""
    by_series: dict[str, list[str]] = {}
    for one in points:
        names = by_series.setdefault(one.series, [])
        if one.label not in names:
            names.append(one.label)
    dotted = frozenset(names[0] for names in by_series.values() if len(names) > 1)
    kept = dotted | {names[-1] for names in by_series.values()}
    return [one for one in points if one.label in kept], dotted


def _at_k_table(task: str, content: Content) -> Table:
    """pass@k for each k; unsolvable share and maj@k for the largest."""
    ones = [one for one in of_quantities(content.measurements, "pass@k", "unsolvable@k", "maj@k") if one.task == task]
    ks = sorted({one.k for one in ones if one.k is not None})
    columns = [("pass@k", k) for k in ks] + [("unsolvable@k", ks[-1]), ("maj@k", ks[-1])]
    headings = tuple(f"{quantity_name(quantity, k)} %" for quantity, k in columns)
    return _wide_table(f"What k rollouts solve: {task}", ones, columns, headings)


def _variety_table(task: str, content: Content) -> Table:
    names = ("rbf", "rbf@samples", "entropy", "distinct", "effective")
    ones = [one for one in of_quantities(content.measurements, *names) if one.task == task]
    sizes = sorted({one.k for one in ones if one.quantity == "rbf@samples" and one.k is not None})
    columns: list[tuple[str, int | None]] = [("rbf", None), *(("rbf@samples", size) for size in sizes)]
    columns += [("entropy", None), ("distinct", None), ("effective", None)]
    headings = tuple(
        f"RBF at {k:,} samples" if quantity == "rbf@samples" else quantity_name(quantity) for quantity, k in columns
    )
    return _wide_table(f"Variety of rollouts: {task}", ones, columns, headings)


def _wide_table(
    caption: str, points: Sequence[Measurement], columns: Sequence[tuple[str, int | None]], headings: tuple[str, ...]
) -> Table:
    """A row a checkpoint, a column a quantity and k."""
    at = {(one.checkpoint, one.quantity, one.k): one.estimate for one in points}
    rows = tuple(
        (
            Cell(label, method=series),
            *(estimate_cell(at.get((checkpoint, quantity, k)), quantity) for quantity, k in columns),
        )
        for checkpoint, label, series in dict.fromkeys((one.checkpoint, one.label, one.series) for one in points)
    )
    return Table(caption, ("Checkpoint", *headings), rows)
