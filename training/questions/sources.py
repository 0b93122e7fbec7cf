"""Question sets by the name that a user types: ``easyvqa``, ``orsta:PATH``, ``virl:PATH``, ``mathvista:PATH``, ``jsonl:PATH``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from specs_eval.chat import images_of, text_of
from specs_eval.errors import ConfigError
from specs_eval.tasks.easyvqa.task import COLORS, SHAPES, EasyVQA
from specs_eval.training.questions import layouts
from specs_eval.training.questions.question import Question, UnusableQuestion
from specs_eval.training.questions.reading import (
    Budget,
    Layout,
    QuestionSet,
    Row,
    collect,
    data_files,
    file_rows,
    questions_of,
)

LAYOUTS: dict[str, tuple[Layout, tuple[str, ...]]] = {
    "orsta": (layouts.orsta, (".parquet",)),
    "virl": (layouts.virl, (".parquet",)),
    "mathvista": (layouts.mathvista, (".json", ".parquet", ".jsonl")),
    "jsonl": (layouts.jsonl, (".jsonl",)),
}
"""Name -> how a row is read, and which files of a folder are looked for."""

EASYVQA = "easyvqa"
EASYVQA_ALTERNATIVES = {"shape": SHAPES, "color": COLORS, "yes/no": ("yes", "no")}
EASYVQA_BUDGET = Budget(EasyVQA.max_new_tokens, EasyVQA.reasoning_tokens)


def load_questions(source: str, limit: int | None = None) -> QuestionSet:
    """The questions of a source.

    Args:
        source: ``easyvqa`` (the train split), or a layout and where its files are; a path that ends in ``.jsonl`` is
            enough for the plain format.
        limit: only the first so many, in an order that is fixed for the source.

    Raises:
        ConfigError: the source is not understood, or the limit is below 1.
        TaskDataError: there is no such file, it is damaged, or none of its rows is usable.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be >= 1, not {limit}")
    if source == EASYVQA:
        return collect("easyvqa", _easyvqa(), place="easy-VQA train", limit=limit, budget=EASYVQA_BUDGET)
    name, path, files = find_source(source)
    layout = LAYOUTS[name][0]
    rows = (question for file in files for question in _of_file(file, layout, several=len(files) > 1))
    return collect(f"{name}_{_slug(Path(path).stem)}", rows, place=path, limit=limit)


def find_source(source: str) -> tuple[str, str, list[Path]]:
    """(layout, place, files) of a source as it is typed; nothing is read yet.

    Raises:
        ConfigError: the source is not understood.
        TaskDataError: there is no such file.
    """
    if source == EASYVQA:
        return EASYVQA, "", []
    name, colon, path = source.partition(":")
    if not colon and source.endswith(".jsonl"):
        name, path = "jsonl", source
    if name not in LAYOUTS or not path:
        known = ", ".join([EASYVQA, *(f"{layout}:PATH" for layout in LAYOUTS)])
        raise ConfigError(f"questions {source!r} are not understood; write one of {known}")
    return name, path, data_files(Path(path), LAYOUTS[name][1])


def _of_file(file: Path, layout: Layout, *, several: bool) -> Iterator[Question | UnusableQuestion]:
    prefix = hashlib.sha256(file.name.encode()).hexdigest()[:6] + "_" if several else ""

    def numbered(row: Row, root: Path, number: str) -> Question:
        return layout(row, root, prefix + number)

    return questions_of(file_rows(file), numbered, file.parent)


def _easyvqa() -> Iterator[Question]:
    for sample in EasyVQA("train").samples():
        asked = sample.question or sample.chat
        yield Question(
            question_id=sample.sample_id,
            text=text_of(asked).removeprefix("<image>\n"),
            images=tuple(images_of(asked)),
            answer=sample.target,
            alternatives=EASYVQA_ALTERNATIVES[sample.category["kind"]],
            group=sample.group,
        )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "set"
