"""Which tasks there are: ours by name, format-following views of any task, and everything that lmms-eval has."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from specs_eval.errors import ConfigError
from specs_eval.task import Task
from specs_eval.task_names import ALIASES, ID_SUFFIX, OOD_SUFFIX, canonical_task_name
from specs_eval.tasks.profiles import Profile

if TYPE_CHECKING:
    from specs_eval.tasks.judging import Judge

TaskMaker = Callable[[Path | None, Profile, "Judge | None"], Task]
"""Data folder (None: the task's default place), scoring profile and judge -> the task."""


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task of ours."""

    name: str
    description: str
    create: TaskMaker


def _easyvqa(data_dir: Path | None, profile: Profile, judge: Judge | None) -> Task:
    from specs_eval.tasks.easyvqa.task import EasyVQA

    return EasyVQA("test")


def _mathvista(split: Literal["testmini", "test"]) -> TaskMaker:
    def create(data_dir: Path | None, profile: Profile, judge: Judge | None) -> Task:
        from specs_eval.tasks.mathvista.task import MathVista

        return MathVista(split, data_dir, profile=profile, judge=judge)

    return create


def _mmmu(split: Literal["validation", "dev", "test"]) -> TaskMaker:
    def create(data_dir: Path | None, profile: Profile, judge: Judge | None) -> Task:
        from specs_eval.tasks.mmmu.task import MMMU

        return MMMU(split, data_dir, profile=profile)

    return create


def _mmmu_pro(setting: Literal["standard", "standard4", "vision"], mode: Literal["direct", "cot"]) -> TaskMaker:
    def create(data_dir: Path | None, profile: Profile, judge: Judge | None) -> Task:
        from specs_eval.tasks.mmmu.task import MMMUPro

        return MMMUPro(setting, data_dir, mode=mode, profile=profile)

    return create


def _megabench(
    subset: Literal["core", "open", "core_single_image", "open_single_image"],
) -> TaskMaker:
    def create(data_dir: Path | None, profile: Profile, judge: Judge | None) -> Task:
        from specs_eval.tasks.megabench.task import MegaBench

        return MegaBench(subset, data_dir, profile=profile, judge=judge)

    return create


_OURS = (
    TaskEntry("easyvqa", "easy-VQA test split: 9,673 one-word questions on 1,000 images, offline", _easyvqa),
    TaskEntry("mathvista", "MathVista testmini: 1,000 questions", _mathvista("testmini")),
    TaskEntry("mathvista_test", "MathVista test: 5,141 questions, answers not public", _mathvista("test")),
    TaskEntry("megabench", "MEGA-Bench core: 440 tasks, 6,531 questions scored by rule", _megabench("core")),
    TaskEntry("megabench_open", "MEGA-Bench open: 65 tasks, 1,158 questions, mostly for a judge", _megabench("open")),
    TaskEntry("megabench_core_single_image", "MEGA-Bench core, one image a question", _megabench("core_single_image")),
    TaskEntry("megabench_open_single_image", "MEGA-Bench open, one image a question", _megabench("open_single_image")),
    TaskEntry("mmmu", "MMMU validation: 900 questions of 30 subjects", _mmmu("validation")),
    TaskEntry("mmmu_dev", "MMMU dev: 150 questions", _mmmu("dev")),
    TaskEntry("mmmu_test", "MMMU test: 10,500 questions, answers not public", _mmmu("test")),
    TaskEntry("mmmu_pro", "MMMU-Pro, standard, 10 options, answer directly", _mmmu_pro("standard", "direct")),
    TaskEntry("mmmu_pro_cot", "MMMU-Pro, standard, 10 options, step by step", _mmmu_pro("standard", "cot")),
    TaskEntry("mmmu_pro_standard4", "MMMU-Pro, standard, 4 options, answer directly", _mmmu_pro("standard4", "direct")),
    TaskEntry("mmmu_pro_standard4_cot", "MMMU-Pro, standard, 4 options, step by step", _mmmu_pro("standard4", "cot")),
    TaskEntry("mmmu_pro_vision", "MMMU-Pro, question inside the image, answer directly", _mmmu_pro("vision", "direct")),
    TaskEntry("mmmu_pro_vision_cot", "MMMU-Pro, question inside the image, step by step", _mmmu_pro("vision", "cot")),
)

TASKS = {entry.name: entry for entry in _OURS}


def task_names() -> dict[str, str]:
    """Name -> description of our tasks, their format-following pairs and the aliases."""
    names = {}
    for entry in TASKS.values():
        names[entry.name] = entry.description
        names[entry.name + ID_SUFFIX] = f"{entry.name} under the trained instruction (think/answer tags)"
        names[entry.name + OOD_SUFFIX] = f"{entry.name} under six changed format instructions"
    names |= {alias: f"short for {name}" for alias, name in ALIASES.items()}
    return names


def get_task(
    name: str,
    data_dir: Path | None = None,
    include_paths: Sequence[Path] = (),
    profile: Profile = "official",
    judge: Judge | None = None,
) -> Task:
    """The task of this name.

    Args:
        name: one of `task_names`, with or without ``specs_``; any lmms-eval generate task; either of them with
            ``_formats_id`` or ``_formats_ood`` appended.
        data_dir: where benchmark data lies.
        include_paths: folders with lmms-eval task YAMLs of the user's own.
        profile: how MathVista, MMMU and MEGA-Bench score responses (`specs_eval.tasks.profiles`).
        judge: asked where MathVista and MEGA-Bench officially ask a model; part of their version.

    Raises:
        ConfigError: no such task; the nearest names are suggested.
        TaskDataError: the task's data cannot be found or read.
    """
    canonical = canonical_task_name(name)
    if canonical in TASKS:
        return TASKS[canonical].create(data_dir, profile, judge)
    for suffix in (ID_SUFFIX, OOD_SUFFIX):
        if canonical.endswith(suffix) and canonical != suffix:
            base = canonical.removesuffix(suffix)
            # A view finds the answer itself: only MEGA-Bench asks a judge about an answer that was found.
            judging = judge if base.startswith("megabench") else None
            return _format_view(canonical, get_task(base, data_dir, include_paths, profile, judging), suffix)
    return _lmms_task(canonical, include_paths)


def parse_task_list(
    text: str,
    data_dir: Path | None = None,
    include_paths: Sequence[Path] = (),
    profile: Profile = "official",
    judge: Judge | None = None,
) -> list[Task]:
    """Tasks of a comma-separated list, each once.

    Raises:
        ConfigError: the list is empty or names an unknown task, or none of its tasks would ask the judge.
    """
    names = dict.fromkeys(canonical_task_name(part) for part in text.split(",") if part.strip())
    if not names:
        raise ConfigError("--tasks names no task; 'specs-eval tasks' lists them")
    tasks = [get_task(name, data_dir, include_paths, profile, judge) for name in names]
    if judge is not None and all(getattr(task, "judge", None) is None for task in tasks):
        raise ConfigError(
            "none of these tasks would ask --judge: MEGA-Bench does, and MathVista under --profile official; leave "
            "--judge out"
        )
    return tasks


def _format_view(name: str, base: Task, suffix: str) -> Task:
    from specs_eval.tasks.formats.styles import OOD_FORMATS, THINK_ANSWER
    from specs_eval.tasks.formats.task import FormatTask

    return FormatTask(name, base, (THINK_ANSWER,) if suffix == ID_SUFFIX else OOD_FORMATS)


def _lmms_task(name: str, include_paths: Sequence[Path]) -> Task:
    from specs_eval.tasks.lmms.adapter import LmmsEvalTask
    from specs_eval.tasks.lmms.find import find_task

    near = difflib.get_close_matches(name, task_names(), n=3, cutoff=0.75)
    if near:
        # More likely a slip in one of our names than a task of lmms-eval; only the latter's list can tell.
        try:
            find_task(name, include_paths)
        except ConfigError as error:
            raise ConfigError(f"unknown task {name!r}; did you mean {' or '.join(map(repr, near))}?") from error
    return LmmsEvalTask(name, include_paths)
