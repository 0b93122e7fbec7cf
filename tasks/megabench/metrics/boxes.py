"""Boxes and points in coordinates that are normalized to [0, 1]."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np

from specs_eval.tasks.megabench.literals import LITERAL_ERRORS, literal

_GEOMETRY_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError)
KEYPOINT_DECAY = 10


def boxes_in(text: Any) -> list[Any]:
    """The boxes of a literal or JSON list of boxes; one bare box is a list of one; malformed boxes are dropped.

    Raises:
        TypeError, LookupError: the text is a value that is no sequence.
    """
    if not isinstance(text, str):
        return []
    try:
        boxes = literal(text)
    except (SyntaxError, ValueError):
        try:
            boxes = json.loads(text)
        except ValueError:
            return []
    if len(boxes) == 4 and isinstance(boxes[0], Number):
        boxes = [boxes]
    return [box for box in boxes if _is_tuple_of(box, 4)] if isinstance(boxes, (tuple, list)) else []


def _is_tuple_of(value: Any, size: int) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) != size:
        return False
    return all(isinstance(item, (float, int)) for item in value)


def overlap(box: Any, other: Any) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2); 0 where the union has no area."""
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    common = width * height
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - common
    return common / union if union > 0 else 0


def best_overlaps(boxes: Any, targets: Any) -> list[float]:
    """For each box its largest overlap with a target."""
    return [max([0, *(overlap(box, target) for target in targets)]) for box in boxes]


def _mean_of_best(boxes: Any, targets: Any) -> float:
    scores = best_overlaps(boxes, targets)
    return sum(scores) / len(scores) if scores else 0.0


def mean_best_overlap(response: Any, gold: Any) -> float:
    """Mean over the answered boxes of the best overlap with a gold box."""
    boxes = response if isinstance(response, (tuple, list)) else boxes_in(response)
    targets = gold if isinstance(gold, (tuple, list)) else boxes_in(gold)
    try:
        return _mean_of_best(boxes, targets)
    except _GEOMETRY_ERRORS:
        return 0.0


def single_overlap(response: Any, gold: Any) -> float:
    """Overlap of one box with one box."""
    return _mean_of_best([literal(response)], [literal(gold)])


def sequence_overlap(response: Any, gold: Any) -> float:
    """Mean overlap of two sequences of boxes, position by position; 0 for another length."""
    boxes = response if isinstance(response, (tuple, list)) else boxes_in(str(response))
    targets = gold if isinstance(gold, (tuple, list)) else boxes_in(gold)
    if len(boxes) != len(targets):
        return 0.0
    with np.errstate(all="ignore"):
        scores = [best_overlaps([box], [target]) for box, target in zip(boxes, targets, strict=True)]
        return float(np.mean(scores)) if scores else math.nan


def tagged(text: Any, tag: str) -> list[str]:
    """The contents of ``<tag>...</tag>`` on single lines, in linear time."""
    found: list[str] = []
    if not isinstance(text, str):
        return found
    opening, closing = f"<{tag}>", f"</{tag}>"
    for line in text.split("\n"):
        start = line.find(opening)
        while start >= 0:
            end = line.find(closing, start + len(opening))
            if end < 0:
                break
            found.append(line[start + len(opening) : end])
            start = line.find(opening, end + len(closing))
    return found


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    parts = text.split(",")
    if len(parts) != count:
        return None
    try:
        return tuple(float(part.strip()) for part in parts)
    except ValueError:
        return None


def xml_overlap(response: Any, gold: Any) -> float:
    """Mean best overlap of boxes written as ``<box>x1, y1, x2, y2</box>``."""
    boxes, targets = _xml_boxes(response), _xml_boxes(gold)
    if len(boxes) == 4 and isinstance(boxes[0], Number):
        boxes = [boxes]
    return _mean_of_best(boxes, targets)


def _xml_boxes(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return value
    return [box for box in (_numbers(text, 4) for text in tagged(value, "box")) if box is not None]


def _xml_point(value: Any) -> tuple[float, ...] | None:
    """The one point of a text; None for no point, several points or a malformed one."""
    points = tagged(value, "point")
    return _numbers(points[0], 2) if len(points) == 1 else None


def point_closeness(response: Any, gold: Any) -> float:
    """1 - distance of two points ``<point>x, y</point>``, at least 0; 0 for a point outside the unit square."""
    point, target = _unit_point(response), _unit_point(gold)
    if point is None or target is None:
        return 0.0
    distance = math.sqrt(sum((one - other) ** 2 for one, other in zip(point, target, strict=True)))
    return max(0.0, 1 - distance)


def _unit_point(value: Any) -> Sequence[float] | None:
    point = value if isinstance(value, (tuple, list)) else _xml_point(value)
    if point is None or len(point) != 2 or not all(0 <= item <= 1 for item in point):
        return None
    return point


def point_in_box(response: Any, context: Mapping[str, Any]) -> float:
    """1 when the point lies in one of the boxes of the evaluation context, edges included."""
    boxes = [boxes_in(text)[0] for text in context["bounding_boxes"]]
    point = response if isinstance(response, (tuple, list)) else _xml_point(response)
    if not boxes or point is None or len(point) != 2:
        return 0.0
    x, y = point
    return float(any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes))


def keypoint_similarity(response: Any, gold: Any) -> float:
    """Mean over keypoints of exp(-10 d / sqrt 2), d the distance of a point from its gold point."""
    points = response if isinstance(response, (tuple, list)) else _points_in(response)
    targets = gold if isinstance(gold, (tuple, list)) else _points_in(gold)
    answered, wanted = np.array(points), np.array(targets)
    if answered.shape != wanted.shape:
        return 0.0
    with np.errstate(all="ignore"):
        distances = np.linalg.norm(answered - wanted, axis=1) / np.sqrt(2)
        return float(np.mean(np.exp(-KEYPOINT_DECAY * distances)))


def _points_in(text: Any) -> list[Any]:
    if not isinstance(text, str):
        return []
    try:
        points = literal(text)
    except SyntaxError:
        try:
            points = json.loads(text)
        except ValueError:
            return []
    return [point for point in points if _is_tuple_of(point, 2)]


BOX_ERRORS = (*LITERAL_ERRORS, *_GEOMETRY_ERRORS)
