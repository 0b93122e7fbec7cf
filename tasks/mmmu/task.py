"""MMMU and MMMU-Pro as tasks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from specs_eval.chat import ImagePart, user_chat
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample, Score
from specs_eval.tasks.benchmark_data import Source, image_part, listed, load_records
from specs_eval.tasks.mmmu.profiles import Parser, Question, score_answer, score_official, score_reasoning
from specs_eval.tasks.mmmu.prompts import (
    LETTER_NOTE,
    OPEN_NOTE,
    PRO_VISION,
    VISION_QUESTION,
    ProMode,
    interleaved_chat,
    mmmu_options,
    mmmu_prompt,
    pro_prompt,
    pro_question,
)
from specs_eval.tasks.mmmu.scoring import option_letters
from specs_eval.tasks.mmmu.subjects import domain_of, subject_of
from specs_eval.tasks.profiles import Profile
from specs_eval.tasks.sample_sets import content_hash, fixed_random_order

logger = logging.getLogger(__name__)

Split = Literal["validation", "dev", "test"]
ProSetting = Literal["standard", "standard4", "vision"]

SCORING_VERSION = 2
NO_GOLD = "the answers of this split are not public"
_NO_ANSWER_MARKS = ("", "?")
"""How the hub marks answers that are not public."""


class _MultimodalQuestions:
    """What MMMU and MMMU-Pro have in common: records to samples, and scoring by profile."""

    name: str
    max_new_tokens: int
    profile: Profile
    data_dir: Path | None
    _parser: Parser
    _source: Source
    _make: Callable[[Mapping[str, Any], Path], Sample]

    @cached_property
    def version(self) -> str:
        """``<scoring version>-<profile>-<hash of prompts, images, options and gold answers>``."""
        return f"{self.scoring_version}-{content_hash(self.samples())}"

    @property
    def scoring_version(self) -> str:
        """The part of the version that names the rules; the rest is a hash of what is asked."""
        return f"{SCORING_VERSION}-{self.profile}"

    def samples(self) -> Sequence[Sample]:
        """All questions in a fixed shuffled order, so that every prefix is a random sample."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        records = load_records(self._source, self.data_dir)
        samples = [self._make(row, records.root) for row in records.rows]
        return fixed_random_order(samples, f"{self._source.title} in {records.root}")

    def score(self, sample: Sample, response: str) -> Score:
        """The task's profile on a whole response; None where the split has no public answers."""
        question = question_of(sample, self._parser)
        if question is None:
            return Score(None, rule="no gold answer", reason=NO_GOLD)
        return (score_reasoning if self.profile == "reasoning" else score_official)(response, question)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """The reasoning profile on an answer that was extracted already."""
        question = question_of(sample, self._parser)
        if question is None:
            return Score(None, rule="no gold answer", reason=NO_GOLD)
        return score_answer(answer, question)


class MMMU(_MultimodalQuestions):
    """MMMU (Yue et al. 2023, arXiv 2311.16502): 30 subjects, multiple choice and open questions."""

    max_new_tokens = 128

    def __init__(
        self, split: Split = "validation", data_dir: Path | None = None, *, profile: Profile = "official"
    ) -> None:
        self.name = "mmmu" if split == "validation" else f"mmmu_{split}"
        self.data_dir = data_dir
        self.profile = profile
        self._parser = "mmmu"
        self._make = _mmmu_sample
        self._source = Source(
            title=f"MMMU {split}",
            repository="MMMU/MMMU",
            folders=("mmmu", "MMMU", "MMMU/MMMU"),
            patterns=(
                f"*/{split}-*.parquet",
                f"data/{split}-*.parquet",
                f"{split}-*.parquet",
                f"{split}.parquet",
                f"*/{split}.parquet",
                f"*/{split}.json",
                f"{split}.json",
                f"{split}.jsonl",
            ),
            hub_patterns=(f"*/{split}-*.parquet",),
        )


class MMMUPro(_MultimodalQuestions):
    """MMMU-Pro (Yue et al. 2024, arXiv 2409.02813): ten options, four options, or the question inside the image."""

    def __init__(
        self,
        setting: ProSetting = "standard",
        data_dir: Path | None = None,
        *,
        mode: ProMode = "direct",
        profile: Profile = "official",
    ) -> None:
        suffix = {"standard": "", "standard4": "_standard4", "vision": "_vision"}[setting]
        self.name = f"mmmu_pro{suffix}" + ("_cot" if mode == "cot" else "")
        self.max_new_tokens = 4096 if mode == "cot" else 128
        self.data_dir = data_dir
        self.profile = profile
        self._parser = "mmmu_pro"
        self._make = lambda row, root: _pro_sample(row, root, setting, mode)
        folder = {"standard": "standard (10 options)", "standard4": "standard (4 options)", "vision": "vision"}[setting]
        self._source = Source(
            title=f"MMMU-Pro {folder}",
            repository="MMMU/MMMU_Pro",
            folders=("mmmu_pro", "MMMU_Pro", "MMMU/MMMU_Pro"),
            patterns=(
                f"{folder}/test-*.parquet",
                f"{setting}/test-*.parquet",
                f"{setting}.parquet",
                f"{setting}.json*",
            ),
            hub_patterns=(f"{folder}/test-*.parquet",),
        )


def question_of(sample: Sample, parser: Parser) -> Question | None:
    """What scoring needs of a sample; None where its answer is not public."""
    gold = sample.meta.get("gold")
    if gold is None:
        return None
    return Question(gold, tuple(map(str, sample.meta.get("options") or ())), parser)


def _mmmu_sample(row: Mapping[str, Any], root: Path) -> Sample:
    sample_id, question = _identity(row)
    multiple_choice = str(row.get("question_type", "multiple-choice")) == "multiple-choice"
    options = [str(option) for option in listed(row.get("options"), sample_id)] if multiple_choice else []
    images = _images(row, root, sample_id)
    note = LETTER_NOTE if options else OPEN_NOTE
    bare = f"{question}\n\n{mmmu_options(options)}" if options else question
    subject = subject_of(sample_id) or str(row.get("_file", ""))
    category = {"question_type": "multiple-choice" if options else "open"}
    for name in ("topic_difficulty", "subfield"):
        if row.get(name):
            category[name] = str(row[name])
    gold = _gold(row, sample_id, options)
    return Sample(
        sample_id=sample_id,
        chat=interleaved_chat(mmmu_prompt(question, options), images, sample_id),
        question=interleaved_chat(f"{bare}\n{note}", images, sample_id),
        target=_target(gold),
        category={**_subject(subject), **category},
        meta={"options": options, "gold": gold},
    )


def _pro_sample(row: Mapping[str, Any], root: Path, setting: ProSetting, mode: ProMode) -> Sample:
    if setting == "vision":
        return _vision_sample(row, root, mode)
    sample_id, question = _identity(row)
    options = [str(option) for option in listed(row.get("options"), sample_id)]
    images = _images(row, root, sample_id)
    gold = _gold(row, sample_id, options)
    return Sample(
        sample_id=sample_id,
        chat=interleaved_chat(pro_prompt(question, options, mode), images, sample_id),
        question=interleaved_chat(f"{pro_question(question, options)}\n{LETTER_NOTE}", images, sample_id),
        target=_target(gold),
        category=_pro_category(row, sample_id),
        meta={"options": options, "gold": gold},
    )


def _vision_sample(row: Mapping[str, Any], root: Path, mode: ProMode) -> Sample:
    sample_id = str(row.get("id") or "")
    image = image_part(row.get("image"), root, sample_id)
    if not sample_id or image is None:
        raise TaskDataError(f"MMMU-Pro record {sample_id!r}: no id or no image")
    options = [str(option) for option in listed(row.get("options"), sample_id)]
    gold = _gold(row, sample_id, options)
    return Sample(
        sample_id=sample_id,
        chat=user_chat(PRO_VISION[mode], image),
        question=user_chat(image, f"{VISION_QUESTION}\n{LETTER_NOTE}"),
        target=_target(gold),
        category=_pro_category(row, sample_id),
        meta={"options": options, "gold": gold},
    )


def _identity(row: Mapping[str, Any]) -> tuple[str, str]:
    sample_id, question = str(row.get("id") or ""), row.get("question")
    if not sample_id or not isinstance(question, str):
        raise TaskDataError(f"MMMU record {sample_id!r}: no id or no question")
    return sample_id, question


def _images(row: Mapping[str, Any], root: Path, sample_id: str) -> dict[int, ImagePart]:
    found = {number: image_part(row.get(f"image_{number}"), root, sample_id) for number in range(1, 8)}
    return {number: part for number, part in found.items() if part is not None}


def _gold(row: Mapping[str, Any], sample_id: str, options: Sequence[str]) -> str | list[str] | None:
    """The answer: a letter, text, or a list of texts that the data set stores as the text of a list."""
    answer = row.get("answer")
    if answer is None or (isinstance(answer, str) and answer.strip() in _NO_ANSWER_MARKS):
        return None
    if isinstance(answer, (list, tuple)) or (isinstance(answer, str) and not options and answer.startswith("[")):
        return [str(item) for item in listed(answer, sample_id)]
    if options and str(answer) not in option_letters(len(options)):
        logger.warning(
            "%s: the answer %.80r is not one of %d options: it cannot be right", sample_id, answer, len(options)
        )
    return str(answer)


def _target(gold: str | list[str] | None) -> str:
    if gold is None:
        return ""
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False)


def _subject(subject: str) -> dict[str, str]:
    return {"domain": domain_of(subject), "subject": subject}


def _pro_category(row: Mapping[str, Any], sample_id: str) -> dict[str, str]:
    subject = str(row.get("subject") or subject_of(sample_id))
    category = _subject(subject)
    if row.get("topic_difficulty"):
        category["topic_difficulty"] = str(row["topic_difficulty"])
    return category
