from __future__ import annotations

import subprocess
import sys

import pytest

CALLER = """
import atexit, sys
atexit.register(print, "other handlers ran")
code = '''
from specs_eval.errors import CheckpointError, GenerationError
from specs_eval.lmms_models.exit_status import end_with, nonzero_exit_on_error
def cli_evaluate(kind):
    try:
        with nonzero_exit_on_error():
            if kind == "end_with":
                end_with(3)
            elif kind == "checkpoint":
                raise CheckpointError("bad")
            elif kind == "generation":
                raise GenerationError("bad")
            elif kind == "foreign":
                raise KeyError("bad")
    except Exception as error:
        print("swallowed", type(error).__name__)
'''
names = {"__name__": sys.argv[1]}
exec(code, names)
names["cli_evaluate"](sys.argv[2])
sys.exit(0)
"""


def run(module: str, kind: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CALLER, module, kind]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("kind", "code"), [("nothing", 0), ("end_with", 3), ("checkpoint", 2), ("generation", 3), ("foreign", 3)]
)
def test_lmms_evals_command_line_ends_with_our_code(kind: str, code: int) -> None:
    done = run("lmms_eval.__main__", kind)
    assert done.returncode == code, done.stderr
    assert "other handlers ran" in done.stdout


def test_library_callers_keep_their_exit_code() -> None:
    assert run("somebody.evaluates", "checkpoint").returncode == 0


@pytest.mark.parametrize("module", ["specs_eval.lmms_models.manifest", "specs_eval.tasks.lmms.adapter"])
def test_what_others_import_early_is_light(module: str) -> None:
    script = (
        f"import sys, {module}; print(sorted({{'torch', 'lmms_eval', 'datasets', 'transformers'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
