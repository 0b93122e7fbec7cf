"""The package list is true, and imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "specs_eval": "specs_eval",
    "tasks": "specs_eval.tasks",
    "analysis": "specs_eval.analysis",
    "training": "specs_eval.training",
}
ALLOWED = {
    "specs_eval": {"specs_eval"},
    "tasks": {"specs_eval", "tasks"},
    "analysis": {"specs_eval", "analysis"},
    "training": {"specs_eval", "tasks", "analysis", "training"},
}
FACE = "specs_eval/__init__.py"
"""Lazily shows what users call, from whatever room; `test_light_things_stay_light` holds that it imports none of it."""
COMPOSITION_ROOTS = ("specs_eval/cli/", "specs_eval/__main__.py", "specs_eval/lmms_models/")


def modules(room: str) -> Iterator[Path]:
    return (path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "specs_eval":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "specs_eval"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_with_modules_is_a_declared_package() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = set()
    for room, package in ROOMS.items():
        for path in modules(room):
            relative = path.parent.relative_to(ROOT / room)
            found.add(".".join((package, *relative.parts)))
            assert (path.parent / "__init__.py").exists(), f"{path.parent} has modules but no __init__.py"
    assert found == declared


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    for path in modules(room):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(COMPOSITION_ROOTS):
            continue
        for module in imported(path):
            target = room_of(module)
            assert target is None or target in ALLOWED[room] or name == FACE, f"{name} imports {module}"
            assert not module.startswith("specs_eval.cli"), f"{name} imports the composition root"


HEAVY = ("torch", "transformers", "lmms_eval", "pandas", "scipy", "plotly", "datasets", "trl", "PIL")


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import specs_eval", (*HEAVY, "numpy", "pyarrow", "rich", "pydantic")),
        (
            "from specs_eval.cli import main; main(['--help'], standalone_mode=False)",
            (*HEAVY, "numpy", "pyarrow", "rich"),
        ),
        ("import specs_eval.cli.gf, specs_eval.analysis.generalization, specs_eval.store", HEAVY),
        ("from specs_eval.tasks.registry import get_task; get_task('formats_ood').samples()", HEAVY[:-1]),
    ],
)
def test_light_things_stay_light(code: str, forbidden: tuple[str, ...]) -> None:
    check = f"import sys\n{code}\nprint([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout
