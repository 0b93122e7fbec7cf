"""How a command ends when something outside goes wrong: the operating system refuses, the user interrupts, a file is none."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from specs_eval.cli import main
from specs_eval.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_USAGE, StoreError
from specs_eval.files import write_text_atomic

ROW = {
    "benchmark": "mmmu",
    "model": "m",
    "sample_id": "1",
    "question_type": "multiple-choice",
    "choices": ["w", "x"],
    "gold": "B",
    "response": "B",
}


def score(folder: Path, output: Path, *options: str, text: str = json.dumps(ROW) + "\n") -> Result:
    rows = folder / "rows.jsonl"
    rows.write_text(text)
    return CliRunner().invoke(main, [*options, "score", str(rows), "-o", str(output)])


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere/file")


@pytest.mark.parametrize("where", ["tempfile.mkstemp", "os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_takes_nothing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("as it was")
    monkeypatch.setattr(where, refuse)
    result = score(tmp_path, output)
    assert result.exit_code == EXIT_INCOMPLETE and "Traceback" not in result.output
    assert f"Error: cannot write {output}: Read-only file system; free space" in result.output
    assert output.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"], "nothing is left behind"


def test_what_the_system_refuses_anywhere_is_a_sentence_and_a_traceback_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specs_eval.cli.score.score_file", refuse)
    result = score(tmp_path, tmp_path / "out.jsonl")
    assert result.exit_code == EXIT_INCOMPLETE
    assert result.output.startswith("Error: somewhere/file: Read-only file system; free space or fix permissions")
    assert "Traceback" in score(tmp_path, tmp_path / "out.jsonl", "-v").output
    monkeypatch.setattr("specs_eval.cli.score.score_file", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
    assert score(tmp_path, tmp_path / "out.jsonl").output == "Error: gone\n"


def test_an_interrupt_is_no_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.cli.score.score_file", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    result = score(tmp_path, tmp_path / "out.jsonl")
    assert result.exit_code == EXIT_INTERRUPTED == 130
    assert result.output == "Interrupted.\n"


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for output in (pipe, link):
        result = score(tmp_path, output)
        assert result.exit_code == EXIT_INCOMPLETE and "is not a file" in result.output
        assert pipe.is_fifo() and link.is_symlink()
    with pytest.raises(StoreError, match="is not a file"):
        write_text_atomic(tmp_path, "a folder")


def test_streams_that_the_caller_closed_are_no_fault(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("sample_id,score,task,checkpoint\n1,1,t,a\n")
    specs = f"{shlex.quote(sys.executable)} -m specs_eval"
    for command, closed in (("import rows.csv", ">&-"), ("results", ">&-"), ("results", ">&- 2>&-")):
        ended = subprocess.run(
            f"{specs} {command} {closed}", shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
    assert "100" in CliRunner().invoke(main, ["results", "--store", str(tmp_path / "runs")]).output


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_a_mistake(tmp_path: Path, text: str) -> None:
    result = score(tmp_path, tmp_path / "out.jsonl", text=text)
    assert result.exit_code == EXIT_USAGE and "rows.jsonl holds no rows" in result.output
    assert not (tmp_path / "out.jsonl").exists()


def test_a_fault_of_ours_is_shown_and_cannot_be_taken_for_a_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("specs_eval.cli.score.score_file", lambda *_: 1 // 0)
    result = score(tmp_path, tmp_path / "out.jsonl")
    assert result.exit_code == EXIT_INCOMPLETE
    assert "a fault in specs-eval, please report it" in result.output
    assert "ZeroDivisionError" in result.output


@pytest.mark.parametrize(
    ("stop", "code"), [(KeyboardInterrupt(), EXIT_INTERRUPTED), (ValueError("x"), EXIT_INCOMPLETE)]
)
def test_the_demo_ends_with_the_step_that_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, code: int
) -> None:
    def interrupted(*_: Any, **__: Any) -> NoReturn:
        raise stop

    monkeypatch.setattr("specs_eval.training.pipeline.train", interrupted)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == code
    assert result.output.count("$ specs-eval") == 1
