"""Where an lmms-eval task is defined, found without importing lmms-eval: its own index takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from specs_eval.errors import ConfigError

_KEY = re.compile(
    r"""^(?P<quote>["']?)(?P<key>task|group|tag|include)(?P=quote)\s*:[ \t]*(?P<value>[^\n#]*)(?P<items>(?:\n[ \t]*(?:[-#][^\n]*)?(?=\n|$))*)""",
    re.MULTILINE,
)
"""A key at the left margin, its value on the line, or the list below it with comments and blank lines in between."""

_SKIPPED_FOLDERS = ("__pycache__", ".ipynb_checkpoints")


@dataclass(slots=True)
class TaskFiles:
    """What the YAML files below a folder define."""

    tasks: dict[str, Path] = field(default_factory=dict)
    """Task name -> its YAML; of two files with one name the last in the order of `os.walk`, as in lmms-eval."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Name of a group or tag -> names of its members."""


def find_task(name: str, include_paths: Sequence[Path | str] = ()) -> Path:
    """The YAML of a task. Folders given come before lmms-eval's own tasks.

    Raises:
        ConfigError: no task has this name (the nearest are named), or it is a group of tasks, or lmms-eval is missing.
    """
    places = [task_files(str(Path(path).resolve())) for path in include_paths] + [builtin_task_files()]
    for place in places:
        if name in place.tasks:
            return place.tasks[name]
    for place in places:
        if name in place.groups:
            members = place.groups[name]
            shown = ",".join(members[:12]) + (", ..." if len(members) > 12 else "")
            raise ConfigError(f"{name!r} is a group of lmms-eval tasks; name the ones you want: {shown}")
    known = [task for place in places for task in place.tasks]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ConfigError(f"unknown task {name!r}, of ours and of lmms-eval{hint} 'specs-eval tasks' lists ours")


def builtin_task_files() -> TaskFiles:
    """The tasks that come with lmms-eval.

    Raises:
        ConfigError: lmms-eval is not installed.
    """
    spec = importlib.util.find_spec("lmms_eval")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("lmms-eval is not installed: pip install lmms-eval")
    return task_files(str(Path(spec.submodule_search_locations[0]) / "tasks"))


@cache
def task_files(folder: str) -> TaskFiles:
    """Names defined by the YAML files below a folder, read as text.

    Raises:
        ConfigError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"no such folder of lmms-eval tasks: {folder}")
    found = TaskFiles()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for file in files:
            if file.endswith(".yaml"):
                _read_names(Path(root) / file, found)
    return found


@dataclass(frozen=True, slots=True)
class _Setting:
    """What one key of a YAML file says."""

    names: list[str]
    is_list: bool


def _read_names(path: Path, found: TaskFiles) -> None:
    settings = _settings(path)
    task = settings.get("task")
    tags = [name for key in ("tag", "group") if key in settings for name in settings[key].names]
    if task is None or not task.names:
        return
    if task.is_list:
        for group in settings["group"].names if "group" in settings else ():
            found.groups[group] = task.names
        return
    found.tasks[task.names[0]] = path
    for tag in tags:
        found.groups.setdefault(tag, []).append(task.names[0])


@cache
def _settings(path: Path) -> dict[str, _Setting]:
    """The keys that name things, with those of included files below the file's own."""
    own: dict[str, _Setting] = {}
    for match in _KEY.finditer(path.read_text(encoding="utf-8-sig", errors="replace")):
        value = match["value"].strip()
        if value.startswith("["):
            items = value.strip("[]").split(",")
        else:
            items = [value] if value else match["items"].split("\n")[1:]
        names = [name for item in items if not item.lstrip().startswith("#") and (name := _plain(item))]
        own[match["key"]] = _Setting(names, is_list=value.startswith("[") or not value)
    included: dict[str, _Setting] = {}
    for name in reversed(own["include"].names if "include" in own else []):
        other = path.parent / name
        if other.is_file() and other != path:
            included |= _settings(other)
    return {**included, **own}


def _plain(item: str) -> str:
    return item.strip().removeprefix("-").split(" #")[0].strip().strip("\"'")
