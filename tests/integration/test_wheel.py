"""The wheel, in an environment of its own: what ships is complete and works away from the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh venv with the wheel; dependencies come from the development environment through a .pth file.

    A .pth file found through another one is not read, so the editable install of the repository stays out.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", folder / "dist", "-Cbuild-dir=" + str(folder / "build"), ROOT], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert wheel.stat().st_size < 4_000_000
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "--python", folder / "venv" / "bin" / "python", "install", "--quiet"]
    subprocess.run([*install, "--no-deps", wheel], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv"


def call(environment: Path, *arguments: str, cwd: Path) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(environment / "bin" / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_and_data_file_is_in_the_wheel(environment: Path, tmp_path: Path) -> None:
    where = Path(
        call(environment, "python", "-c", "import specs_eval; print(specs_eval.__file__)", cwd=tmp_path)
    ).parent
    assert where.is_relative_to(environment)
    for room, target in (
        ("specs_eval", where),
        ("tasks", where / "tasks"),
        ("analysis", where / "analysis"),
        ("training", where / "training"),
    ):
        wanted = [p for p in (ROOT / room).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        missing = [p for p in wanted if not (target / p.relative_to(ROOT / room)).exists()]
        assert not missing, missing


def test_the_wheel_evaluates_its_own_checkpoint(environment: Path, tmp_path: Path) -> None:
    tiny = call(environment, "specs-eval", "tiny", "path", cwd=tmp_path)
    assert Path(tiny).is_relative_to(environment)
    assert list(Path(call(environment, "specs-eval", "tasks", "--path", cwd=tmp_path)).rglob("specs_*.yaml"))
    run = ("specs-eval", "run", "--ckpt", tiny, "--tasks", "easyvqa", "--limit", "20", "--json")
    (facts,) = json.loads(call(environment, *run, cwd=tmp_path))["runs"]
    assert facts["n_failed"] == 0 and facts["metrics"]["score"]["value"] > 0.5
