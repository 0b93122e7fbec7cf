"""One response judged by an lmms-eval task: filters, its ``process_results``, and a share in [0, 1] out of that."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.task import Score
from specs_eval.tasks.lmms.environment import random_state_kept, running_lmms_eval

logger = logging.getLogger(__name__)

REASONING_TAGS = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
"""Cut out before scoring unless the task says otherwise: the default of lmms-eval's command line."""

GUESSED = "no answer: the task's scorer guessed at random, and a guess earns nothing"
"""Reason beside the score of a response on which the scorer's random draws decide."""

GUESS_DRAWS = 8
"""How often a scorer that drew random numbers is asked; the worst score counts."""

PROBED_DOCS = 8
"""Documents whose gold answers are scored to learn which metric is a number and on which scale."""

_ANSWER_KEYS = ("parsed_pred", "pred_answer", "prediction", "pred", "extraction", "answer_pred")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the task's scorer said."""

    values: dict[str, Any]
    """Metric -> value as the task gave it; ``metric@filter`` for all filters but the first."""
    filtered: Any
    """What the first filter made of the response."""
    guessed: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """How the task's metrics become a score."""

    main: str
    """The metric that is the score where a document has it; else the next of `candidates` that the document has."""
    candidates: tuple[str, ...]
    """Metrics better when higher, in the task's order, without those that never are a number."""
    scales: dict[str, float | None]
    """Metric -> value of a perfect response, None: neither 1 nor 100; only metrics that a gold answer showed."""
    note: str | None
    """What a reader must know about the total, if anything."""

    def scale(self, metric: str) -> float | None:
        """Value of a perfect response; metrics that no gold answer showed are taken to be like the main one."""
        return self.scales.get(metric.split("@")[0], self.scales[self.main])


def judge(task: Any, sample_id: str, doc: Any, response: str, stop: Sequence[str], draw: int = 0) -> Judgement:
    """Run a task's filters and scorer on one response, as lmms-eval's command line does.

    Args:
        task: lmms-eval's task object.
        sample_id: the document's name: what a scorer's random numbers are seeded by, with the response.
        doc: the document.
        response: the model's text; cut before the first of `stop`.
        stop: the task's stop strings.
        draw: number of the draw, where the scorer draws random numbers.

    Raises:
        Exception: whatever the task's code raises.
    """
    text = response
    for mark in stop:
        text = text.split(mark, 1)[0]
    seed = int.from_bytes(
        hashlib.blake2b(f"{draw}\0{sample_id}\0{response}".encode("utf-8", "replace")).digest()[:4], "little"
    )
    with running_lmms_eval(), random_state_kept(seed):
        before = _random_state()
        values: dict[str, Any] = {}
        first: Any = None
        for number, ensemble in enumerate(task._filters):
            filtered = _filtered(task, ensemble, doc, text)
            results = task.process_results(doc, [filtered])
            if number == 0:
                first = filtered
            values |= {name if number == 0 else f"{name}@{ensemble.name}": value for name, value in results.items()}
        return Judgement(values, first, guessed=_random_state() != before)


def measure(task: Any, golds: Sequence[tuple[str, Any, str]], stop: Sequence[str]) -> Measure:
    """Learn the main metric and the scales from gold answers.

    The main metric is the first of the task's ``metric_list`` that gives a number for a single response and is better
    when higher. Some tasks give each document another metric by its kind; the first that a document has is its score. A perfect response is worth 1, or 100 when a gold answer gets 100.

    Args:
        task: lmms-eval's task object.
        golds: sample id, document and gold answer of some documents.
        stop: the task's stop strings.

    Raises:
        ConfigError: no metric gives a number for one response, or the scale is neither 1 nor 100.
    """
    judgements, problem = [], None
    for sample_id, doc, gold in golds:
        try:
            judgements.append(judge(task, sample_id, doc, gold, stop))
        except Exception as error:  # noqa: BLE001 - the task's own code
            problem = f"{type(error).__name__}: {error}"
            logger.debug("gold answer not scored: %r", error)
    if not judgements:
        raise ConfigError(f"{task.config.task}: the task's scorer fails on its own gold answers: {problem}")
    seen = {name for judged in judgements for name in judged.values}
    numbers = {
        name: [found for judged in judgements if (found := number(task, name, judged.values.get(name))) is not None]
        for name in task.aggregation()
    }
    better = task.higher_is_better()
    candidates = tuple(name for name in numbers if better.get(name, True) and (numbers[name] or name not in seen))
    main = next((name for name in candidates if numbers[name]), None)
    if main is None:
        raise ConfigError(
            f"{task.config.task}: none of its metrics ({', '.join(numbers)}) gives a number, better when higher, for a "
            "single response; such a task can only be run with lmms-eval itself"
        )
    scales = {name: _scale(values) for name, values in numbers.items() if values}
    if scales[main] is None:
        raise ConfigError(
            f"{task.config.task}: {main} of a gold answer is neither up to 1 nor 100; its scale is unknown"
        )
    return Measure(main, candidates, scales, _note(task, main))


def to_score(task: Any, judged: Judgement, measure: Measure) -> Score:
    """The judgement as our `Score`; None with a reason where the document's main metric is no share."""
    main = next((name for name in measure.candidates if name in judged.values), measure.main)
    rule, answer = f"lmms-eval:{main}", _answer(judged, main)
    further: dict[str, float] = {}
    for name, value in judged.values.items():
        # A value per response of a precision, say, is no precision: only plain means survive being averaged by us.
        if name != main and is_plain_mean(task, name.split("@")[0]):
            share = _share(number(task, name, value), measure.scale(name))
            further |= {} if share is None else {name: share}
    value = judged.values.get(main)
    score = _share(number(task, main, value), measure.scale(main))
    if score is None:
        return Score(
            None, answer, rule, f"{main} is {str(value)[:100]!r}, no share of {measure.scale(main):g}", further
        )
    return Score(score, answer, rule, metrics=further)


def without_luck(scores: Sequence[Score]) -> Score:
    """What a scorer that draws random numbers is worth: its worst score over several draws.

    A scorer that guesses when it finds no answer gives a model that says nothing a quarter of the points, and a pass@64
    of 1. Where the draws do not matter (some scorers shuffle) every draw agrees, and the score stands.
    """
    worst = min(scores, key=lambda score: -1.0 if score.score is None else score.score)
    if all(score.score == worst.score for score in scores):
        return worst
    return Score(worst.score, None, worst.rule, GUESSED, dict.fromkeys(worst.metrics, 0.0))


def is_plain_mean(task: Any, metric: str) -> bool:
    """Whether lmms-eval totals this metric by the mean over documents."""
    from lmms_eval.api.metrics import mean

    return task.aggregation().get(metric) is mean


def number(task: Any, metric: str, value: Any) -> float | None:
    """A metric's value for one response as a number; None when it is not one.

    A mapping counts with its ``score`` (or what the task's ``score_key`` names); other structured values with what the
    task's own aggregation makes of that one value, unless it writes submission files.
    """
    found = _plain(value)
    if found is None and isinstance(value, Mapping):
        found = _plain(value.get(task.config.score_key, value.get("score")))
    if found is None and isinstance(value, Mapping | list | tuple) and value:
        found = _plain(_aggregate_of_one(task, metric, value))
    return found


def _plain(value: Any) -> float | None:
    if isinstance(value, str | bytes) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _aggregate_of_one(task: Any, metric: str, value: Any) -> Any:
    aggregate = task.aggregation().get(metric)
    if aggregate is None or "args" in inspect.signature(aggregate).parameters:
        return None
    with running_lmms_eval():
        try:
            return aggregate([copy.deepcopy(value)])
        except Exception as error:  # noqa: BLE001 - the task's own code, written for many values
            logger.debug("%s does not aggregate one value: %r", metric, error)
            return None


def _filtered(task: Any, ensemble: Any, doc: Any, text: str) -> Any:
    from lmms_eval.api.instance import Instance
    from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags

    metadata = {"task": task.config.task, "doc_id": 0, "repeats": 1}
    instance = Instance("generate_until", ("", {}), 0, metadata=metadata, resps=[text])
    ensemble.apply([instance], [doc])
    filtered = instance.filtered_resps[ensemble.name]
    tags = parse_reasoning_tags_config(task_value=task.config.reasoning_tags or REASONING_TAGS)
    if tags is None:
        return filtered
    if isinstance(filtered, str):
        return strip_reasoning_tags(filtered, tags)
    if isinstance(filtered, list):
        return [strip_reasoning_tags(item, tags) if isinstance(item, str) else item for item in filtered]
    return filtered


def _scale(golds: Sequence[float]) -> float | None:
    best = max(golds)
    return 1.0 if best <= 1 else 100.0 if best == 100 else None


def _share(value: float | None, scale: float | None) -> float | None:
    if value is None or scale is None:
        return None
    share = value / scale
    return min(max(share, 0.0), 1.0) if -1e-9 <= share <= 1 + 1e-9 else None


def _note(task: Any, main: str) -> str | None:
    if is_plain_mean(task, main):
        return None
    aggregate = task.aggregation()[main]
    shown = getattr(aggregate, "__name__", type(aggregate).__name__)
    return (
        f"{task.config.task}: totals are means over samples of {main} of each response; lmms-eval itself totals it "
        f"with {shown}"
    )


def _answer(judged: Judgement, main: str) -> str | None:
    value = judged.values.get(main)
    if isinstance(value, Mapping):
        for key in _ANSWER_KEYS:
            if isinstance(value.get(key), str | int | float):
                return str(value[key])[:1000]
    filtered = judged.filtered[0] if isinstance(judged.filtered, list) and judged.filtered else judged.filtered
    return filtered.strip()[:1000] if isinstance(filtered, str) else None


def _random_state() -> tuple[object, ...]:
    import numpy as np

    state: Any = np.random.get_state()
    return (random.getstate(), state[1].tobytes(), *state[2:])
