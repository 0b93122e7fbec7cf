"""The summary in plain words: what improved, what regressed, what is undecided, which checkpoint is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specs_eval.analysis.movement import Movement
from specs_eval.analysis.report.content import Change, Content, Pair
from specs_eval.analysis.report.document import Cell, Finding, Table, Tone
from specs_eval.analysis.report.wording import (
    checkpoint_label,
    counted,
    estimate_cell,
    interval_text,
    listed,
    number,
    signed,
)
from specs_eval.analysis.series import GeneralizationSeries
from specs_eval.analysis.series_difference import SeriesDifference

_TONES: dict[str, Tone] = {"improved": "good", "regressed": "bad", "undecided": "open"}
_VERBS = {"improved": "over", "regressed": "against", "undecided": "against"}
_WHY_NOTHING = (
    "Nothing: there is no base, and no series with two checkpoints of the same task. Name a base with --base."
)
_SAID_AT_MOST = 6
"""Tasks that one sentence names."""
_UNDECIDED_AT_MOST = 3


def findings(content: Content) -> tuple[Finding, ...]:
    """The sentences of the summary: changes, generalization, exploration, then what is missing."""
    found = [
        finding
        for verdict in _TONES
        for finding in _changes([change for change in content.changes if change.verdict == verdict], verdict)
    ]
    if not content.changes:
        found.append(Finding("", "Compared", _WHY_NOTHING))
    for pair in content.pairs:
        found += [_best(series, pair) for series in pair.series]
        found += [finding for one in pair.differences if (finding := _ahead(one, pair)) is not None]
    found += _exploration(content.movements)
    return (*found, *_unscored(content), *_incomplete(content))


def change_table(content: Content) -> Table | None:
    """Every difference that the summary speaks of, with its interval and test."""
    if not content.changes:
        return None
    rows = tuple(
        (
            Cell(change.checkpoint, f"against {change.against}", method=change.series),
            Cell(_name(change)),
            _difference(change),
            Cell(change.verdict, tone=_TONES.get(change.verdict, "")),
            Cell(_flips(change)),
            Cell(f"{change.difference.n_samples:,}"),
            Cell("", change.detail),
        )
        for change in content.changes
    )
    headings = ("Checkpoint", "Task", "Difference, points", "Verdict", "Flipped", "n", "Test")
    return Table("Differences behind the summary, paired by sample", headings, rows)


def _changes(changes: Sequence[Change], verdict: str) -> list[Finding]:
    """One sentence a checkpoint pair."""
    together: dict[tuple[str, str, str], list[Change]] = {}
    for change in changes:
        together.setdefault((change.series, change.checkpoint, change.against), []).append(change)
    found = []
    for (series, checkpoint, against), ones in together.items():
        limit = _UNDECIDED_AT_MOST if verdict == "undecided" else _SAID_AT_MOST
        shown = [f"{_name(change)} {_points(change)}" for change in ones[:limit]]
        more = f"; and {len(ones) - len(shown)} more" if len(ones) > len(shown) else ""
        text = f"{checkpoint} {_VERBS[verdict]} {against}, points: {'; '.join(shown)}{more}."
        ns = listed([f"{one.difference.n_samples:,}" for one in ones])
        found.append(Finding(_TONES[verdict], verdict.capitalize(), text, f"n = {ns}, paired by sample", series))
    return found


def _name(change: Change) -> str:
    """The task, with the metric where it is not the score."""
    return change.task if change.metric == "score" else f"{change.task} ({change.metric})"


def _points(change: Change) -> str:
    value = change.difference.value
    if value is None:
        return f"({change.difference.reason})"
    return f"{signed(value, 'difference')} {interval_text(change.difference.interval, 'difference')}".rstrip()


def _difference(change: Change) -> Cell:
    value = change.difference.value
    cell = estimate_cell(change.difference, "difference")
    return cell if value is None else Cell(signed(value, "difference"), cell.detail)


def _flips(change: Change) -> str:
    return "" if change.gained is None or change.lost is None else f"{change.gained:,} up, {change.lost:,} down"


def _best(series: GeneralizationSeries, pair: Pair) -> Finding:
    """The checkpoint with the highest GF, and how far the choice can be trusted."""
    best = series.best
    topic = "Best by GF"
    if best.checkpoint is None or best.gf is None:
        return Finding("open", topic, f"{series.series}: {best.reason or 'no GF'}.", method=series.series)
    point = next(one for one in series.points if one.checkpoint == best.checkpoint)
    name = checkpoint_label(best.checkpoint, series.series, best.step)
    text = f"{name}, GF {number(best.gf, 'gf')} {interval_text(best.interval, 'gf')}".rstrip()
    text += f" from ID {_share(point.id.value)} and OOD {_share(point.ood.value)}."
    others = [checkpoint_label(one.checkpoint, series.series, one.step) for one in best.not_told_apart]
    if others:
        text += f" The data do not tell it apart from {listed(others)}."
    if point.regressed:
        text += f" Even it regressed against the base: {', '.join(role.upper() for role in point.regressed)}."
    n = f"n = {point.id.n_samples:,} ID and {point.ood.n_samples:,} OOD samples; gain: {pair.gain}; {_where(pair)}"
    return Finding("", topic, text, n, series.series)


def _ahead(one: SeriesDifference, pair: Pair) -> Finding | None:
    """Which of two methods has the larger area under its GF curve."""
    area = one.area
    if area.value is None:
        return None
    points = f"{number(abs(area.value), 'gf')} points"
    interval = interval_text(area.interval, "gf")
    between = f"area between the GF curves {signed(area.value, 'gf')} {interval}".rstrip()
    detail = f"{between}; steps {_steps(one)}; {_where(pair)}"
    if not area.excludes_zero:
        text = f"{one.first} and {one.second} do not differ for certain in GF over the whole curve."
        return Finding("open", "Methods", text, detail)
    ahead, behind = (one.first, one.second) if area.value > 0 else (one.second, one.first)
    text = f"{ahead} is ahead of {behind} in GF by {points} on average over the curve."
    return Finding("", "Methods", text, detail, ahead)


def _steps(one: SeriesDifference) -> str:
    area = one.first_area
    return "none" if area.first_step is None else f"{area.first_step:,} to {area.last_step:,}"


def _where(pair: Pair) -> str:
    return f"{pair.id_task} / {pair.ood_task}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{number(value, 'score')} %"


def _exploration(movements: Iterable[Movement]) -> list[Finding]:
    """Where branching fell or rose for certain, a sentence a compared pair."""
    together: dict[tuple[str, str, str], list[Movement]] = {}
    for one in movements:
        key = (one.series, checkpoint_label(one.last, one.series, one.last_step), one.first)
        together.setdefault(key, []).append(one)
    found = []
    for (series, last, first), ones in together.items():
        said = [text for one in ones if (text := _moved(one)) is not None]
        if said:
            text = f"{last} against {first}, branching (RBF): {'; '.join(said[:_SAID_AT_MOST])}."
            detail = (
                f"n = {listed([f'{one.n_samples:,}' for one in ones])} samples; intervals of the difference, paired"
            )
            found.append(Finding("", "Exploration", text, detail, series))
    return found


def _moved(one: Movement) -> str | None:
    """RBF before and after; None where it is not measured or its change is not certain."""
    change = next(change for change in one.changes if change.quantity == "rbf")
    before, after, difference = change.first.value, change.last.value, change.difference
    interval = difference.interval
    if before is None or after is None or interval is None or interval.low <= 0 <= interval.high:
        return None
    difference_text = f"{signed(difference.value or 0.0, 'rbf')} {interval_text(interval, 'rbf')}"
    return f"{one.task} {number(before, 'rbf')} to {number(after, 'rbf')}, {difference_text}"


def _unscored(content: Content) -> list[Finding]:
    lacking = [run for run in content.runs if run.n_unscored]
    total = sum(run.n_present for run in content.runs)
    if not lacking:
        text = f"All {counted(total, 'rollout')} in {counted(len(content.runs), 'run')} have a score."
        return [Finding("", "Unscored", text)]
    n = sum(run.n_unscored for run in lacking)
    where = listed([f"{run.label} on {run.task} ({run.n_unscored:,})" for run in lacking])
    text = f"{counted(n, 'rollout')} of {total:,} without a score are left out, never counted as wrong: {where}."
    return [Finding("open", "Unscored", text)]


def _incomplete(content: Content) -> list[Finding]:
    started = [f"{run.label} on {run.task}" for run in content.runs if not run.complete]
    if not started:
        return []
    text = f"{counted(len(started), 'run')} shown as far as they are: {listed(started)}."
    return [Finding("open", "Not complete", text)]
