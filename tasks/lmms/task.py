"""Our tasks as lmms-eval tasks: one class that a YAML of two lines names; prompts, data and scores stay where they are.

A YAML of ours says only ``task: specs_<name>``, ``class: !function specs_eval.tasks.lmms.task.SpecsTask`` and which
further metrics the task reports. Everything else comes from the `Task` of that name.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from lmms_eval.api.filter import Filter
from lmms_eval.api.instance import Instance
from lmms_eval.api.task import ConfigurableMessagesTask

from specs_eval.chat import ImagePart, Message, TextPart, chat_digest, images_of, text_of
from specs_eval.errors import ConfigError
from specs_eval.lmms_models.exit_status import nonzero_exit_on_error
from specs_eval.lmms_models.identity import ID_COLUMN, TASK_COLUMN
from specs_eval.task import Sample, Score
from specs_eval.tasks.lmms.images import strict_images
from specs_eval.tasks.registry import get_task

logger = logging.getLogger(__name__)

SPLIT = "test"
DATA_VARIABLE = "SPECS_EVAL_DATA"
"""Environment variable that says where benchmark data lies, as for ``specs-eval run --data-dir``."""
FAILED = "failed"
"""Metric beside a task's own: share of rollouts without a score."""


class KeepAll(Filter):  # type: ignore[misc] # lmms-eval is not typed
    """Hands all responses of a document to the scorer; lmms-eval's default keeps the first and drops the rest."""

    def apply(self, resps: Sequence[Any], docs: Any) -> list[list[Any]]:
        """Each document's responses as a list."""
        return [list(responses) for responses in resps]


class SpecsTask(ConfigurableMessagesTask):  # type: ignore[misc]
    """A `Task` of ours behind lmms-eval's task interface.

    Scores of k repeats are averaged per document over the rollouts that have a score. A failed rollout (None, as our
    models give it) has none: it is left out of every mean and counted in the metric ``failed``.
    """

    records_failures = True

    def __init__(self, config: dict[str, Any], model_name: str | None = None) -> None:
        """Build from a YAML's content.

        Raises:
            ConfigError: no task of ours has this name.
            TaskDataError: its data cannot be found or read.
        """
        with nonzero_exit_on_error():
            data_dir = os.environ.get(DATA_VARIABLE)
            self.source = get_task(config["task"], Path(data_dir) if data_dir else None)
            self._samples: Sequence[Sample] = self.source.samples()
            version = self.source.version
        self._metric_directions = {
            "score": True,
            **{entry["metric"]: bool(entry.get("higher_is_better", True)) for entry in config.get("metric_list", ())},
            FAILED: False,
        }
        super().__init__(config=self._lmms_config(config), model_name=model_name)
        self.VERSION = version

    def _lmms_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **{key: value for key, value in config.items() if key != "class"},
            "output_type": "generate_until",
            "test_split": SPLIT,
            "num_fewshot": 0,
            # Without "until", lmms-eval adds a blank line as stop string; with no "reasoning_tags" of the task's own, its
            # command line cuts <think> parts out before scoring.
            "generation_kwargs": {
                "max_new_tokens": self.source.max_new_tokens,
                "temperature": 0.0,
                "top_p": 1.0,
                "until": [],
            },
            "reasoning_tags": "none",
            "filter_list": [{"name": "none", "filter": [{"function": KeepAll}]}],
            "metric_list": [
                {"metric": name, "higher_is_better": better} for name, better in self._metric_directions.items()
            ],
        }

    def _prepare_metric_and_aggregation(self) -> None:
        self._metric_fn_list = dict.fromkeys(self._metric_directions)
        self._metric_fn_kwargs: dict[str, Any] = {name: {} for name in self._metric_directions}
        self._aggregation_list = dict.fromkeys(self._metric_directions, mean_of_scored)
        self._higher_is_better = dict(self._metric_directions)

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        """Documents that name the samples; images are decoded when a document is shown to a model."""
        rows = [_row(self.source.name, index, sample) for index, sample in enumerate(self._samples)]
        self.dataset = datasets.DatasetDict({SPLIT: datasets.Dataset.from_list(rows)})
        self.dataset_no_image = self.dataset

    def sample_of(self, doc: Mapping[str, Any]) -> Sample:
        """The sample that a document stands for."""
        return self._samples[int(doc["index"])]

    def doc_to_messages(self, doc: Mapping[str, Any], **_rounds: Any) -> list[dict[str, Any]]:
        """The sample's chat, parts in their order, images decoded.

        Raises:
            GenerationError: an image does not decode.
        """
        with strict_images():
            return [_lmms_message(message) for message in self.sample_of(doc).chat]

    def doc_to_text(self, doc: Mapping[str, Any]) -> str:
        """The text of the chat without its images: what lmms-eval's simple models get beside them."""
        parts = [part for message in self.sample_of(doc).chat for part in message.parts]
        return "".join(part.text for part in parts if isinstance(part, TextPart))

    def doc_to_visual(self, doc: Mapping[str, Any]) -> list[Any]:
        """The images of the chat, decoded: what lmms-eval's simple models get."""
        with strict_images():
            return [image.load() for image in images_of(self.sample_of(doc).chat)]

    def doc_to_target(self, doc: Mapping[str, Any]) -> str:
        """The gold answer."""
        return self.sample_of(doc).target

    def fewshot_context(self, doc: Mapping[str, Any], num_fewshot: int, *_: Any, **__: Any) -> str:
        """The question; our tasks have no few-shot form."""
        return self.doc_to_text(doc)

    def build_all_requests(self, **options: Any) -> None:
        """As lmms-eval does it, with a word about its cache."""
        if getattr(getattr(self, "args", None), "use_cache", None):
            logger.warning("--use_cache: lmms-eval gives old responses for a checkpoint folder that was overwritten")
        super().build_all_requests(**options)

    def construct_requests(self, doc_id: int, ctx: str, **kwargs: Any) -> Instance:
        """A chat request, or a simple one for models that only have that form."""
        sample = self._samples[doc_id]
        if not self._asked_by_simple_model():
            instance = super().construct_requests(doc_id, ctx, **kwargs)
        elif len(sample.chat) > 1:
            raise ConfigError(f"{self.config.task} asks in several turns; a simple model cannot be asked that")
        else:
            gen_kwargs = dict(self.config.generation_kwargs)
            arguments = (ctx, gen_kwargs, self.doc_to_visual, doc_id, self.config.task, SPLIT)
            instance = Instance("generate_until", arguments, 0, **kwargs)
        # lmms-eval hashes this attribute, which it never sets, into each logged sample's doc_hash.
        instance.doc = {ID_COLUMN: sample.sample_id, "prompt": chat_digest(sample.chat), "target": sample.target}
        return instance

    def _asked_by_simple_model(self) -> bool:
        # lmms-eval tells tasks with a class of their own neither model nor kind; its command line leaves its options.
        options = getattr(self, "args", None)
        if options is None or not isinstance(getattr(options, "model", None), str):
            return False
        from lmms_eval.models import MODEL_REGISTRY_V2

        resolved = MODEL_REGISTRY_V2.resolve(options.model, bool(getattr(options, "force_simple", False)))
        return bool(resolved.model_type == "simple")

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[Any], full_docs: Any = None
    ) -> dict[str, float | None]:
        """Metric -> mean over the document's rollouts that have a score, None when none has."""
        responses = results[0] if results and isinstance(results[0], list) else results
        sample = self.sample_of(doc)
        scores = [_score(self.source.score(sample, text) if isinstance(text, str) else None) for text in responses]
        metrics = {name: mean_of_scored([score.get(name) for score in scores]) for name in self._metric_directions}
        # "bypass" of --predict_only replaces the metrics.
        return {name: value for name, value in metrics.items() if name in self._aggregation_list}


def mean_of_scored(items: Sequence[float | None]) -> float | None:
    """Mean of what is not None; None when nothing is left."""
    scored = [item for item in items if item is not None]
    return sum(scored) / len(scored) if scored else None


def _score(score: Score | None) -> dict[str, float | None]:
    if score is None or score.score is None:
        return {FAILED: 1.0}
    return {"score": score.score, **score.metrics, FAILED: 0.0}


def _row(task: str, index: int, sample: Sample) -> dict[str, Any]:
    return {
        TASK_COLUMN: task,
        ID_COLUMN: sample.sample_id,
        "index": index,
        "question": text_of(sample.chat),
        "target": sample.target,
        "category": json.dumps(dict(sample.category), ensure_ascii=False, sort_keys=True),
        "group": sample.group or "",
    }


def _lmms_message(message: Message) -> dict[str, Any]:
    content = [
        {"type": "image", "url": part.load()} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}
