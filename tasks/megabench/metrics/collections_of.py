"""Sets, sequences and dictionaries read from text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any

from specs_eval.tasks.megabench.json_answers import parse_json
from specs_eval.tasks.megabench.literals import listed, to_container
from specs_eval.tasks.megabench.metrics.boxes import mean_best_overlap
from specs_eval.tasks.megabench.metrics.strings import as_text, exact

_LOOSE = str.maketrans("", "", " -\n\t_.")


def frozen(value: Any) -> Any:
    """A hashable image of a nested structure: lists become tuples, dictionaries sets of pairs."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value


def as_set(value: Any) -> Any:
    """A set from a container, or from text by `to_container`."""
    value = frozen(value)
    return set(value) if isinstance(value, (frozenset, tuple)) else to_container(set, value)


def as_dict(value: Any) -> Any:
    """A dictionary (or list) from JSON text, also inside a dictionary; other values as they are."""
    if isinstance(value, dict):
        return {key: as_dict(item) for key, item in value.items()}
    return (parse_json(value) or value) if isinstance(value, str) else value


def set_equality(response: Any, gold: Any) -> float:
    """1 when both hold the same items."""
    return float(as_set(response) == as_set(gold))


def set_equality_ignoring_case(response: Any, gold: Any) -> float:
    """`set_equality` on upper-case texts; 0 when an item is not text."""
    return float({item.upper() for item in as_set(response)} == {item.upper() for item in as_set(gold)})


def line_set_equality(response: Any, gold: Any) -> float:
    r"""The same lines in any order, without case; a written ``\n`` is a line break."""
    return float(_lines(response) == _lines(gold))


def _lines(text: str) -> set[str]:
    return {line.lower() for line in text.replace("\\n", "\n").split("\n")}


def comma_set_equality(response: Any, gold: Any) -> float:
    """The same items of a comma-separated list in any order, without case."""
    return float(_lowered(to_container(set, response)) == _lowered(to_container(set, gold)))


def _lowered(items: Iterable[Any]) -> set[Any]:
    return {item.lower() if isinstance(item, str) else item for item in items}


def _share(pred: set[Any], gold: set[Any], denominator: int) -> float:
    """Common items over a count; 1 when the count is 0 (an empty answer has perfect precision)."""
    return len(pred & gold) / denominator if denominator else 1.0


def _jaccard(pred: set[Any], gold: set[Any]) -> float:
    return _share(pred, gold, len(pred | gold))


def jaccard(response: Any, gold: Any) -> float:
    """Jaccard index of two sets; 1 when both are empty."""
    return 0.0 if response is None else _jaccard(set(as_set(response)), set(as_set(gold)))


def set_precision(response: Any, gold: Any) -> float:
    """Share of the answered items that are right; 1 for an answer without items."""
    if response is None:
        return 0.0
    pred = set(as_set(response))
    return _share(pred, set(as_set(gold)), len(pred))


def jaccard_ignoring_case(response: Any, gold: Any) -> float:
    """Jaccard index of texts without case, or of tuples of texts without case, spaces and light punctuation."""
    if response is None:
        return 0.0
    pred, wanted = as_set(response), as_set(gold)
    first = listed(wanted)[0]
    if isinstance(first, str):
        return _jaccard({as_text(item).lower() for item in pred}, {item.lower() for item in wanted})
    if isinstance(first, tuple):
        return _jaccard({_loose(item) for item in pred}, {_loose(item) for item in wanted})
    return 0.0


def _loose(item: Iterable[str]) -> tuple[str, ...]:
    return tuple(part.lower().translate(_LOOSE) for part in item)


def chess_jaccard(response: Any, gold: Any) -> float:
    """Jaccard index of chess moves without a final ``!`` or ``#``."""
    return 0.0 if response is None else _jaccard(_moves(response), _moves(gold))


def _moves(text: Any) -> set[str]:
    return {move.removesuffix("!").removesuffix("#") for move in to_container(set, text)}


def sequence_equality(response: Any, gold: Any) -> float:
    """1 when both lists are the same."""
    return float(to_container(list, as_text(response)) == to_container(list, gold))


def sequence_equality_ignoring_case(response: Any, gold: Any) -> float:
    """`sequence_equality` on lower-case texts."""
    answered = [
        item.lower() if isinstance(item, str) else as_text(item) for item in to_container(list, as_text(response))
    ]
    return float(answered == [item.lower() for item in to_container(list, gold)])


def sequence_accuracy(response: Any, gold: Any) -> float:
    """Share of the positions that are right; 0 for another length."""
    answered, wanted = to_container(list, response), to_container(list, gold)
    if len(answered) != len(wanted):
        return 0.0
    return sum(map(_same_item, answered, wanted)) / len(wanted)


def _same_item(answered: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(answered.lower() == wanted.lower())
    return isinstance(wanted, Number) and isinstance(answered, Number) and answered == wanted


def common_prefix_share(response: Any, gold: Any) -> float:
    """Length of the longest common prefix of two lists over the length of the gold list."""
    answered, wanted = to_container(list, response), to_container(list, gold)
    common = 0
    for one, other in zip(answered, wanted, strict=False):
        if one != other:
            break
        common += 1
    return common / len(wanted)


def dict_equality(response: Any, gold: Any) -> float:
    """1 when both dictionaries are the same."""
    answered, wanted = as_dict(response), as_dict(gold)
    return float(isinstance(answered, dict) and answered == wanted)


def dict_precision(response: Any, gold: Any) -> float:
    """Share of the answered keys whose value is right (`exact`)."""
    answered, wanted = as_dict(response), as_dict(gold)
    if not isinstance(answered, dict) or not answered:
        return 0.0
    return sum(exact(value, wanted[key]) for key, value in answered.items() if key in wanted) / len(answered)


def dict_recall(response: Any, gold: Any) -> float:
    """Share of the gold keys whose value is right (`exact`)."""
    answered, wanted = as_dict(response), as_dict(gold)
    if not isinstance(answered, dict):
        return 0.0
    return sum(exact(answered.get(key), value) for key, value in wanted.items()) / len(wanted)


def over_all_keys(metric: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """A metric on values, averaged over the keys of both dictionaries; a missing value is an empty list."""

    def score(response: Any, gold: Any) -> float:
        answered, wanted = as_dict(response), as_dict(gold)
        if not isinstance(answered, dict):
            return 0.0
        keys = list(dict.fromkeys([*answered, *wanted]))
        return sum(metric(answered.get(key, []), wanted.get(key, [])) for key in keys) / len(keys)

    return score


dict_jaccard = over_all_keys(jaccard)
dict_set_equality = over_all_keys(set_equality)
dict_overlap = over_all_keys(mean_best_overlap)
