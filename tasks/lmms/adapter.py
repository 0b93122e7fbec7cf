"""Any lmms-eval generate task as a task of ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from specs_eval.errors import TaskDataError
from specs_eval.lmms_models.identity import name_docs
from specs_eval.lmms_models.requests import DEFAULT_MAX_NEW_TOKENS, stop_strings
from specs_eval.task import Sample, Score
from specs_eval.tasks.lmms.content import content_digest
from specs_eval.tasks.lmms.documents import DocSamples
from specs_eval.tasks.lmms.loading import load_task
from specs_eval.tasks.lmms.scoring import GUESS_DRAWS, PROBED_DOCS, judge, measure, to_score, without_luck

logger = logging.getLogger(__name__)

SCORING_VERSION = 1


class LmmsEvalTask:
    """A task of lmms-eval by name: its documents, its prompts for chat models, its scorer on single responses.

    The score is the first of the task's metrics that gives a number for one response, as a share in [0, 1]. Totals are
    means over samples; `note` says so where lmms-eval totals in another way. The scorer is the task's own code: it may
    be wrong, and it is not ours to defend against what a model writes.
    """

    def __init__(self, name: str, include_paths: Sequence[Path | str] = ()) -> None:
        """Find and load the task, and learn from a few gold answers how it scores.

        Args:
            name: lmms-eval's name of the task.
            include_paths: folders with further task YAMLs; they win over lmms-eval's own.

        Raises:
            ConfigError: no such task (the nearest names are suggested), not a task of single-turn generation from text
                and images, or none of its metrics judges a single response.
            TaskDataError: its data cannot be loaded, or there is none.
        """
        self.name = name
        self._task = load_task(name, include_paths)
        self._samples = DocSamples(self._task, name_docs(self._task.eval_docs, name))
        if not len(self._samples):
            raise TaskDataError(f"lmms-eval task {name!r} has no documents")
        settings = self._task.config.generation_kwargs or {}
        tokens = settings.get("max_new_tokens") or settings.get("max_gen_toks") or DEFAULT_MAX_NEW_TOKENS
        self.max_new_tokens = int(tokens)
        self.stop = stop_strings(settings.get("until"))
        """The response counts up to the first of these strings."""
        probed = range(0, len(self._samples), -(-len(self._samples) // PROBED_DOCS))
        golds = [(f"gold {number}", self._doc(number), self._samples.gold_response(number)) for number in probed]
        self._measure = measure(self._task, golds, self.stop)
        if self.note is not None:
            logger.warning("%s", self.note)

    @property
    def note(self) -> str | None:
        """What a reader must know about the totals, if anything."""
        return self._measure.note

    @cached_property
    def version(self) -> str:
        """Changes with documents, pictures, settings, the task's code and lmms-eval's version."""
        return f"{SCORING_VERSION}-{content_digest(self._task, self._samples)[:12]}"

    def samples(self) -> Sequence[Sample]:
        """The documents in lmms-eval's order, so that a limit is the same prefix."""
        return self._samples

    def score(self, sample: Sample, response: str) -> Score:
        """The task's own judgement of a response; None with a reason when its code fails or gives no share."""
        try:
            doc = self._doc(sample.meta["doc_id"])
            judged = judge(self._task, sample.sample_id, doc, response, self.stop)
            draws = range(1, GUESS_DRAWS) if judged.guessed else ()
            others = [judge(self._task, sample.sample_id, doc, response, self.stop, draw) for draw in draws]
        except Exception as error:  # noqa: BLE001 - the task's own code on hostile text: an unscored rollout
            reason = f"the task's scorer failed: {type(error).__name__}: {error}"[:500]
            logger.warning("%s %s: %s", self.name, sample.sample_id, reason)
            return Score(None, rule=f"lmms-eval:{self._measure.main}", reason=reason)
        return without_luck([to_score(self._task, one, self._measure) for one in (judged, *others)])

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """The task's judgement of a bare answer."""
        return self.score(sample, answer)

    def _doc(self, number: int) -> Any:
        return self._samples.plain_docs[number]
