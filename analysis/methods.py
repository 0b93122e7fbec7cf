"""Several training methods at once: their GF curves from one bootstrap, and what each pair differs by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from specs_eval.analysis.checkpoint_scores import ROLES, CheckpointScores, check_same_samples, samples_differ
from specs_eval.analysis.curve_area import CurveArea
from specs_eval.analysis.curve_draws import CurveDraws, Reading, SeriesDraws, draw_curves
from specs_eval.analysis.generalization import check_beta
from specs_eval.analysis.series import GeneralizationSeries, series_of, why_no_interval, with_base
from specs_eval.analysis.series_difference import Difference, SeriesDifference, Side, series_difference

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """GF curves of several series, and pairs of them."""

    series: tuple[GeneralizationSeries, ...]
    differences: tuple[SeriesDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The curves and differences as plain JSON types."""
        return {
            "series": [one.to_dict() for one in self.series],
            "differences": [one.to_dict() for one in self.differences],
        }


def compare_methods(
    methods: Mapping[str, Sequence[CheckpointScores]],
    base: CheckpointScores | None,
    reading: Reading,
    pairs: Iterable[Pair] = (),
) -> MethodComparison:
    """GF of each series, and the differences of pairs over the same resampled questions.

    Args:
        methods: series -> checkpoints in step order, without the base; at least one series with a checkpoint each.
        base: the model that all started from.
        reading: gain, beta, resampling.
        pairs: (first, second) names; a difference is first minus second.

    Raises:
        ConfigError: beta out of range, a gain without a base, a metric that is not a share.
        ComparisonError: checkpoints of one series, or of one series and the base, that answered different samples.
    """
    check_beta(reading.beta)
    everyone = {name: with_base(checkpoints, base) for name, checkpoints in methods.items()}
    for checkpoints in everyone.values():
        check_same_samples(checkpoints)
    draws: dict[str, SeriesDraws] = {}
    for names in _same_samples(everyone):
        drawn = draw_curves([everyone[name] for name in names], base, reading)
        draws |= dict(zip(names, drawn, strict=True))
    series = {name: series_of(name, everyone[name], base, reading, draws[name]) for name in methods}
    differences = []
    for first, second in pairs:
        why = _why_apart(everyone[first][-1], everyone[second][-1])
        if why is not None:
            differences.append(_not_compared(first, second, why))
            continue
        # The second set of pseudo-observations goes by name, so that swapping the two only turns the sign.
        swapped = second < first
        sides = [
            _side(series[name], draws[name].second if own else draws[name].first)
            for name, own in ((first, swapped), (second, not swapped))
        ]
        differences.append(series_difference(sides[0], sides[1], reading.resampling))
    return MethodComparison(tuple(series.values()), tuple(differences))


def all_pairs(names: Sequence[str], versus: str | None = None) -> list[Pair]:
    """Every pair of series, or each of the others against one: the difference is other minus that one."""
    if versus is None:
        return list(combinations(names, 2))
    return [(name, versus) for name in names if name != versus]


def _same_samples(everyone: Mapping[str, Sequence[CheckpointScores]]) -> list[list[str]]:
    """The series in groups that answered the same samples: each group is resampled together."""
    groups: list[list[str]] = []
    for name, checkpoints in everyone.items():
        for group in groups:
            if _why_apart(checkpoints[-1], everyone[group[0]][-1]) is None:
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _why_apart(one: CheckpointScores, other: CheckpointScores) -> str | None:
    return samples_differ(one, other, ROLES[0]) or samples_differ(one, other, ROLES[1])


def _side(series: GeneralizationSeries, draws: CurveDraws) -> Side:
    points = series.points
    return Side(
        series=series.series,
        checkpoints=tuple(point.checkpoint for point in points),
        steps=tuple(point.step for point in points),
        is_base=tuple(point.is_base for point in points),
        id=tuple(point.id.value for point in points),
        ood=tuple(point.ood.value for point in points),
        gf=tuple(point.gf for point in points),
        draws=draws,
        no_interval=why_no_interval(points),
    )


def _not_compared(first: str, second: str, why: str) -> SeriesDifference:
    area = CurveArea(None, None, None, None, 0, why)
    return SeriesDifference(first, second, (), (), (), area, area, Difference(None, None, None, why), why)
