from __future__ import annotations

from pathlib import Path

import pytest

from specs_eval.errors import ConfigError
from specs_eval.tasks.lmms.find import builtin_task_files, find_task, task_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text('"task" : "alpha"  # comment\ntag: greek\n')
    (tmp_path / "b.yaml").write_text("dataset_path: x\ntask: beta\ntag:\n  - greek\n  - second\n")
    (tmp_path / "mmmu.yaml").write_text("task: mmmu_val\n")
    (tmp_path / "both.yaml").write_text("group: both\ntask:\n  # the first\n  - alpha\n\n  - beta # too\n")
    (tmp_path / "flow.yaml").write_text("group: flow\ntask: [alpha, 'beta']\n")
    (tmp_path / "base.yaml").write_text("dataset_path: x\nmetadata:\n  task: inner\n")
    (tmp_path / "template").write_text("task: delta\ntag: greek\n")
    (tmp_path / "d.yaml").write_text("include: template\ntest_split: x\n")
    (tmp_path / "e.yaml").write_text("\ufefftask: epsilon\ninclude: template\n")
    (tmp_path / "not_a_task.txt").write_text("task: gamma\n")
    return tmp_path


def test_names_are_read_from_all_files_below(folder: Path) -> None:
    files = task_files(str(folder))
    assert {name: path.name for name, path in files.tasks.items()} == {
        "alpha": "a.yaml",
        "beta": "b.yaml",
        "delta": "d.yaml",
        "epsilon": "e.yaml",
        "mmmu_val": "mmmu.yaml",
    }
    assert files.groups["both"] == files.groups["flow"] == ["alpha", "beta"]
    assert sorted(files.groups["greek"]) == ["alpha", "beta", "delta", "epsilon"]


def test_a_given_folder_wins_over_lmms_eval(folder: Path) -> None:
    assert find_task("mmmu_val", [folder]) == folder / "mmmu.yaml"
    assert find_task("mmmu_val").name == "mmmu_val.yaml"


def test_unknown_names_get_suggestions(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        find_task("alhpa", [folder])
    with pytest.raises(ConfigError, match="unknown task"):
        find_task("nothing like any of these names at all")


def test_a_group_is_answered_with_its_members(folder: Path) -> None:
    with pytest.raises(ConfigError, match="group of lmms-eval tasks.*alpha,beta"):
        find_task("both", [folder])


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        find_task("alpha", [tmp_path / "nowhere"])


def test_lmms_evals_own_tasks_are_there() -> None:
    assert len(builtin_task_files().tasks) > 1000
