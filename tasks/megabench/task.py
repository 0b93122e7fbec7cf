"""MEGA-Bench as a task: core, open and their single-image subsets, images and video frames where the text puts them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from specs_eval.chat import ImagePart, Part, TextPart, images_of, user_chat
from specs_eval.errors import ScoringError, TaskDataError
from specs_eval.task import JUDGE_FAILED, Sample, Score
from specs_eval.tasks.benchmark_data import Source, load_records
from specs_eval.tasks.megabench.breakdown import task_cards, task_category
from specs_eval.tasks.megabench.fields import Query
from specs_eval.tasks.megabench.judge import QueryJudge, asks_judge
from specs_eval.tasks.megabench.literals import LITERAL_ERRORS
from specs_eval.tasks.megabench.media import FOLDERS, media_parts
from specs_eval.tasks.megabench.parsing import SINGLE_FIELD_PARSERS, Parsed, parse_response
from specs_eval.tasks.megabench.rows import (
    NO_ANSWER,
    QueryScore,
    answer_metrics,
    parse_reasoning,
    score_parsed,
    silenced,
    written,
)
from specs_eval.tasks.profiles import Profile, judge_mark
from specs_eval.tasks.sample_sets import content_hash, fixed_random_order

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

Subset = Literal["core", "open", "core_single_image", "open_single_image"]

SCORING_VERSION = 2
_PLACEHOLDER = re.compile(r"(<image>|<video>)")
_TEXT_COLUMNS = ("task_description", "example_text", "query_text")
_MEDIA_COLUMNS = ("global_media", "example_media", "query_media")


class MegaBench:
    """MEGA-Bench (Chen et al. 2024, arXiv 2410.10563): 440 core and 65 open tasks with 1-shot examples."""

    max_new_tokens = 2048

    def __init__(
        self,
        subset: Subset = "core",
        data_dir: Path | None = None,
        *,
        profile: Profile = "official",
        allow_code: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self.name = "megabench" if subset == "core" else f"megabench_{subset}"
        self.subset = subset
        self.data_dir = data_dir
        self.profile = profile
        self.allow_code = allow_code
        self.judge = judge
        self.scoring_threads = 1 if judge is None else judge.options.concurrency
        self._source = Source(
            title=f"MEGA-Bench {subset}",
            repository="TIGER-Lab/MEGA-Bench",
            folders=FOLDERS,
            patterns=(f"{subset}/test-*.parquet", f"{subset}/*.parquet", f"{subset}.parquet", f"{subset}.json*"),
            hub_patterns=(f"{subset}/test-*.parquet", "data.zip"),
        )

    @cached_property
    def version(self) -> str:
        """``<scoring version>-<profile>-<hash of prompts, media, gold answers and metric configurations>``."""
        return f"{self.scoring_version}-{content_hash(self.samples())}"

    @property
    def scoring_version(self) -> str:
        """The part of the version that names the rules; the rest is a hash of what is asked."""
        code = "-code" if self.allow_code else ""
        return f"{SCORING_VERSION}-{self.profile}{code}{judge_mark(self.judge)}"

    def samples(self) -> Sequence[Sample]:
        """All queries in a fixed shuffled order, so that every prefix is a random sample."""
        return self._samples

    @cached_property
    def _samples(self) -> list[Sample]:
        records = load_records(self._source, self.data_dir)
        configurations: dict[str, Mapping[str, Any]] = {}
        samples = []
        for row in records.rows:
            name = _text(row, "task_name")
            # the official code takes the metrics of a task from its first query
            configuration = configurations.setdefault(name, _dictionary(row, "metric_info"))
            samples.append(_sample(row, name, configuration, records.root))
        return fixed_random_order(samples, f"{self._source.title} in {records.root}")

    def score(self, sample: Sample, response: str) -> Score:
        """The profile's rules on a whole response; None where a judge or a sandbox would be needed and is not there."""
        query, configuration = self._query(sample)
        parser = str(configuration.get("response_parse_function"))
        try:
            if self.profile == "reasoning":
                parsed, rule = parse_reasoning(parser, response, query.gold)
                result = silenced(score_parsed(parsed, query, configuration), query)
            else:
                rule = parser
                result = score_parsed(parse_response(parser, response, query.gold), query, configuration)
            return _as_score(result, rule, answer_metrics(result, query, self.profile))
        except (ScoringError, *LITERAL_ERRORS) as error:
            return Score(None, rule=parser, reason=str(error))

    def score_answer(self, sample: Sample, answer: str) -> Score:
        """The official rules on an answer that was extracted already; nothing for an empty one."""
        query, configuration = self._query(sample, strict=True)
        parser = str(configuration.get("response_parse_function"))
        text = f"Answer: {answer}" if parser in SINGLE_FIELD_PARSERS else answer
        try:
            parsed = parse_response(parser, text, query.gold) if answer.strip() else Parsed({}, ok=False)
            result = silenced(score_parsed(parsed, query, configuration), query)
            return _as_score(result, parser, answer_metrics(result, query, "reasoning"))
        except (ScoringError, *LITERAL_ERRORS) as error:
            return Score(None, rule=parser, reason=str(error))

    def _query(self, sample: Sample, *, strict: bool = False) -> tuple[Query, Mapping[str, Any]]:
        configuration = sample.meta["metric_config"]
        query = Query(
            gold=sample.meta["gold"],
            metrics=configuration.get("field_score_function") or {},
            auxiliary=configuration.get("global_aux_metrics") or {},
            context=sample.meta["eval_context"],
            judge_scores={},
            allow_code=self.allow_code,
            judge=None if self.judge is None else self._query_judge(self.judge, sample, strict),
        )
        return query, configuration

    def _query_judge(self, judge: Judge, sample: Sample, strict: bool) -> QueryJudge | None:
        facts = sample.meta.get("judge")
        if facts is None:
            return None
        images, n_images = images_of(sample.chat), facts["n_images"]
        found = images[len(images) - n_images :] if len(images) >= n_images else []
        return QueryJudge(
            judge=judge,
            configuration=sample.meta["metric_config"].get("gpt4o_eval_configs") or {},
            question=facts["question"],
            images=found,
            n_missing=n_images - len(found),
            gold=sample.meta["gold"],
            context=sample.meta["eval_context"],
            strict=strict or self.profile == "reasoning",
        )


def _as_score(result: QueryScore, rule: str, metrics: Mapping[str, float]) -> Score:
    """A query that the official code does not count adds 0 to its task, so it scores 0 here."""
    metrics = {"coverage": result.coverage, **metrics}
    answer = json.dumps(written(result.parsed.value), ensure_ascii=True, sort_keys=True)
    score, reason = result.score, result.reason
    if score is not None and score < 0:
        score, reason = 0.0, reason or "not counted by the official code"
    if result.judge_failed:
        return Score(None, answer, JUDGE_FAILED, reason, metrics)
    if reason == NO_ANSWER:
        return Score(score, None, rule, reason, metrics)
    return Score(score, answer, rule, reason, metrics)


def _sample(row: Mapping[str, Any], name: str, configuration: Mapping[str, Any], root: Path) -> Sample:
    identity = str(row.get("id", ""))
    gold = _dictionary(row, "answer")
    card = task_cards().get(name)
    prompt, n_query_images = _prompt(row, f"{name}/{identity}", root)
    meta = {
        "gold": gold,
        "metric_config": dict(configuration),
        "eval_context": _dictionary(row, "eval_context"),
        "skills": list(card.keywords["skills"]) if card is not None else [],
    }
    if asks_judge(configuration):
        meta["judge"] = {"question": str(row.get("query_text") or ""), "n_images": n_query_images}
    return Sample(
        sample_id=f"{name}/{identity}",
        chat=user_chat(*prompt),
        target=json.dumps(gold, ensure_ascii=True),
        category=dict(task_category(name)),
        group=name,
        meta=meta,
    )


def _prompt(row: Mapping[str, Any], sample_id: str, root: Path) -> tuple[list[Part], int]:
    """Description, example and query, each with its media in the place of their marks; how many images are the query's."""
    parts: list[Part] = []
    before_query = 0
    for text_column, media_column in zip(_TEXT_COLUMNS, _MEDIA_COLUMNS, strict=True):
        chunks = _PLACEHOLDER.split(str(row.get(text_column) or ""))
        media = _list(row, media_column)
        marks = len(chunks) // 2
        before_query = len(parts)
        if marks != len(media):
            raise TaskDataError(
                f"{sample_id}: {text_column} has {marks} marks for {len(media)} files in {media_column}"
            )
        for index, chunk in enumerate(chunks):
            if index % 2:
                parts += media_parts(media[index // 2], sample_id, root)
            elif chunk.strip():
                parts.append(TextPart(chunk.strip()))
    return _spaced(parts), sum(isinstance(part, ImagePart) for part in parts[before_query:])


def _spaced(parts: list[Part]) -> list[Part]:
    """Texts that follow each other are set apart by a line break."""
    spaced: list[Part] = []
    for part in parts:
        if spaced and isinstance(part, TextPart) and isinstance(spaced[-1], TextPart):
            spaced[-1] = TextPart(f"{spaced[-1].text}\n{part.text}")
        else:
            spaced.append(part)
    return spaced


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value:
        raise TaskDataError(f"MEGA-Bench record {row.get('id')!r}: column {column} must hold text")
    return value


def _dictionary(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    value = _read(row, column, {})
    if not isinstance(value, dict):
        raise TaskDataError(f"MEGA-Bench record {row.get('id')!r}: column {column} must hold a dictionary")
    return value


def _list(row: Mapping[str, Any], column: str) -> list[str]:
    value = _read(row, column, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TaskDataError(f"MEGA-Bench record {row.get('id')!r}: column {column} must hold a list of file names")
    return value


def _read(row: Mapping[str, Any], column: str, empty: Any) -> Any:
    """A column as it is, or the Python literal that it holds as text."""
    value = row.get(column)
    if value is None or value == "":
        return empty
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except LITERAL_ERRORS as error:
        raise TaskDataError(f"MEGA-Bench record {row.get('id')!r}: column {column} does not read: {error}") from error
