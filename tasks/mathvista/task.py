"""MathVista as a task: 1,000 (testmini) or 5,141 (test) questions over figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from specs_eval.chat import ImagePart, text_of, user_chat
from specs_eval.errors import TaskDataError
from specs_eval.splits import VALUE_SEPARATOR
from specs_eval.task import Sample, Score
from specs_eval.tasks.benchmark_data import Source, image_part, load_records
from specs_eval.tasks.mathvista.judge_prompt import extraction_prompt
from specs_eval.tasks.mathvista.profiles import (
    official_extraction,
    score_answer,
    score_judged,
    score_official,
    score_reasoning,
)
from specs_eval.tasks.mathvista.prompts import PromptStyle, build_prompt, build_question
from specs_eval.tasks.mathvista.scoring import Problem, parse_problem, quick_extraction
from specs_eval.tasks.profiles import Profile, judge_mark
from specs_eval.tasks.sample_sets import content_hash, fixed_random_order

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Split = Literal["testmini", "test"]

SCORING_VERSION = 2
NO_GOLD = "the answers of this split are not public"
_CATEGORIES = ("category", "task", "context", "grade", "source", "language")


class MathVista:
    """MathVista (Lu et al. 2023, arXiv 2310.02255): multiple choice and free-form answers over 31 sources."""

    max_new_tokens = 1024

    def __init__(
        self,
        split: Split = "testmini",
        data_dir: Path | None = None,
        *,
        profile: Profile = "official",
        prompt: PromptStyle = "query",
        judge: Judge | None = None,
    ) -> None:
        self.split: Split = split
        self.data_dir = data_dir
        self.profile: Profile = profile
        self.prompt: PromptStyle = prompt
        # Only the official path asks a model: under other rules a judge changes nothing, and is no part of the version.
        self.judge = judge if profile == "official" else None
        self.scoring_threads = 1 if self.judge is None else self.judge.options.concurrency
        suffix = "" if prompt == "query" else f"_{prompt}"
        self.name = f"mathvista{suffix}" if split == "testmini" else f"mathvista_test{suffix}"

    @cached_property
    def version(self) -> str:
        """``<scoring version>-<profile>-<hash of prompts, images, choices and gold answers>``."""
        return f"{self.scoring_version}-{content_hash(self.samples())}"

    @property
    def scoring_version(self) -> str:
        """The part of the version that names the rules; the rest is a hash of what is asked."""
        return f"{SCORING_VERSION}-{self.profile}{judge_mark(self.judge)}"

    def samples(self) -> Sequence[Sample]:
        """All questions in a fixed shuffled order, so that every prefix is a random sample of the split."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        records = load_records(_source(self.split), self.data_dir)
        queries = _official_queries(records.root)
        rows = ({"query": queries.get(str(row.get("pid"))), **row} for row in records.rows)
        samples = [_sample(row, records.root, self.prompt) for row in rows]
        return fixed_random_order(samples, f"MathVista {self.split} in {records.root}")

    def score(self, sample: Sample, response: str) -> Score:
        """The task's profile on a whole response; None where the split has no public answers."""
        problem = problem_of(sample)
        if problem is None:
            return Score(None, rule="no gold answer", reason=NO_GOLD)
        if self.profile == "reasoning":
            return score_reasoning(response, problem)
        if self.judge is not None and quick_extraction(response, problem) is None:
            prompt = extraction_prompt(text_of(sample.chat).removeprefix("<image>\n"), response)
            return score_judged(self.judge.ask(prompt), self.judge.options.model, problem)
        return score_official(official_extraction(response, problem), problem)

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """The reasoning profile on an answer that was extracted already."""
        problem = problem_of(sample)
        if problem is None:
            return Score(None, rule="no gold answer", reason=NO_GOLD)
        return score_answer(answer, problem)


def problem_of(sample: Sample) -> Problem | None:
    """What scoring needs of a sample; None where its answer is not public."""
    if not sample.target:
        return None
    try:
        return parse_problem({**sample.meta, "gold": sample.meta.get("gold", sample.target)})
    except ValueError as error:
        raise TaskDataError(f"MathVista {sample.sample_id}: {error}") from error


def _source(split: Split) -> Source:
    return Source(
        title=f"MathVista {split}",
        repository="AI4Math/MathVista",
        folders=("mathvista", "MathVista", "AI4Math/MathVista"),
        patterns=(
            f"data/{split}-*.parquet",
            f"{split}-*.parquet",
            f"{split}.parquet",
            f"{split}.json",
            f"data/{split}.json",
        ),
        hub_patterns=(f"data/{split}-*.parquet",),
    )


def _official_queries(root: Path) -> dict[str, str]:
    """The official query.json beside the records, where there is one: pid -> prompt."""
    for path in (root / "query.json", root / "data" / "query.json"):
        if path.is_file():
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise TaskDataError(f"cannot read {path}: {error}; download it again") from error
            if isinstance(facts, dict):
                return {str(pid): query for pid, query in facts.items() if isinstance(query, str)}
    return {}


def _sample(row: Mapping[str, Any], root: Path, style: PromptStyle) -> Sample:
    pid = str(row.get("pid") or "")
    if not pid or not isinstance(row.get("question"), str):
        raise TaskDataError(f"MathVista record {pid!r}: no pid or no question")
    image = _image(row, root, pid)
    recorded = row.get("query")
    text = recorded if style == "query" and isinstance(recorded, str) and recorded else build_prompt(row, style)
    facts = {name: row.get(name) for name in ("question_type", "answer_type", "choices", "unit")}
    precision = row.get("precision")
    facts["precision"] = None if precision is None else float(precision)
    metadata = row.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    skills = [str(skill) for skill in known.get("skills") or ()]
    category = {name: str(known[name]) for name in _CATEGORIES if known.get(name)}
    gold = row.get("answer")
    sample = Sample(
        sample_id=pid,
        chat=user_chat(image, text),
        question=user_chat(image, build_question(row)),
        target="" if gold is None else str(gold),
        category={
            **category,
            "question_type": str(row.get("question_type")),
            "answer_type": str(row.get("answer_type")),
            "skills": VALUE_SEPARATOR.join(skills),
        },
        meta={**facts, "gold": gold, "skills": skills},
    )
    return _with_readable_target(sample)


def _with_readable_target(sample: Sample) -> Sample:
    """The target as its option letter where the text of the right choice would be read as another option's letter."""
    problem = problem_of(sample)
    if problem is None or score_answer(sample.target, problem).score == 1.0:
        return sample
    if not problem.multiple_choice or problem.gold not in problem.choices:
        raise TaskDataError(
            f"MathVista {sample.sample_id}: the gold answer {sample.target!r:.80} is not a possible answer"
        )
    return replace(sample, target=chr(ord("A") + problem.choices.index(str(problem.gold))))


def _image(row: Mapping[str, Any], root: Path, pid: str) -> ImagePart:
    decoded = row.get("decoded_image")
    part = image_part(decoded, root, f"MathVista {pid}") if decoded is not None else None
    part = part or image_part(row.get("image"), root, f"MathVista {pid}")
    if part is None:
        raise TaskDataError(f"MathVista {pid}: the record has no image")
    return part
