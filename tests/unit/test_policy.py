"""Policy files: what they can say, and where a wrong one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs_eval.errors import ConfigError
from specs_eval.policy import Policy, load_policy

GOOD = """
alpha = 0.01
undecided = "warn"

[[gates]]
metric = "score"
task = "mmmu[domain=Science]"
max_drop = 0.01

[[gates]]
name = "generalizes"
metric = "gf"
id = "formats_id"
ood = "formats_ood"
min = 0.6
"""


def write(folder: Path, text: str, name: str = "specs-eval.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_policy_is_read_with_its_defaults(tmp_path: Path) -> None:
    policy, path = load_policy(write(tmp_path, GOOD))
    assert path == tmp_path / "specs-eval.toml"
    assert (policy.alpha, policy.beta, policy.undecided) == (0.01, 0.05, "warn")
    first, second = policy.gates
    assert (first.kind, first.bound, first.on_change) == ("max_drop", 0.01, True)
    assert (second.title, second.on_change) == ("generalizes", False)
    assert first.title == "score of mmmu[domain=Science]: max_drop 0.01"


def test_the_project_file_serves_too_and_the_nearest_one_is_found(tmp_path: Path) -> None:
    table = GOOD.replace("[[gates]]", "[[tool.specs-eval.gates]]").strip()
    write(tmp_path, f"[project]\nname = 'x'\n\n[tool.specs-eval]\n{table}", "pyproject.toml")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert load_policy(start=inner)[1] == tmp_path / "pyproject.toml"
    write(tmp_path / "a", GOOD)
    assert load_policy(start=inner)[1] == tmp_path / "a" / "specs-eval.toml"


def test_no_policy_says_where_one_could_be(tmp_path: Path) -> None:
    write(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")
    with pytest.raises(ConfigError, match="no policy: neither specs-eval.toml"):
        load_policy(start=tmp_path)
    with pytest.raises(ConfigError, match="has no table"):
        load_policy(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("alpha = 0.01", "alpha = 0.7", 2, "less than 0.5"),
        ("alpha = 0.01", "alpha = 0", 2, "greater than 0"),
        ('undecided = "warn"', 'undecided = "maybe"', 3, "'fail', 'warn' or 'pass'"),
        ("max_drop = 0.01", "max_drop = 0.01\nmin = 0.5", 5, "exactly one bound of max_drop"),
        ("max_drop = 0.01", "", 5, "none is given"),
        ("max_drop = 0.01", "max_drop = -1", 8, "greater than or equal to 0"),
        ("max_drop = 0.01", "max_fall = 0.01", 8, "unknown key; the keys are name, metric"),
        ("min = 0.6", "min = 0.6\nbeta2 = 2", 16, "unknown key"),
        ('id = "formats_id"', "", 10, "names its tasks with id and ood"),
        ('metric = "score"', 'metric = "pass@zero"', 5, "a number from 1 on"),
        ('metric = "score"', 'metric = "rbf@8"', 5, "only pass@k, unsolvable@k, maj@k"),
        ('metric = "score"', 'metric = "pass"', 5, "needs a k, such as pass@8"),
        ('task = "mmmu[domain=Science]"', "", 5, "names its task"),
        ('task = "mmmu[domain=Science]"', 'task = "mmmu"\nbase = "b"', 5, "are for gates on gf"),
    ],
)
def test_a_wrong_policy_is_told_by_line_with_the_choices(
    tmp_path: Path, old: str, new: str, line: int, told: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert told in str(caught.value)


def test_gates_need_different_names_and_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two gates are called"):
        load_policy(write(tmp_path, GOOD + GOOD[GOOD.index("[[gates]]") :]))
    with pytest.raises(ConfigError, match=r"gates"):
        load_policy(write(tmp_path, "gates = []"))


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        load_policy(write(tmp_path, "alpha = = 1"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_policy(tmp_path / "nowhere.toml")


def test_a_policy_survives_a_round_trip() -> None:
    policy = Policy.model_validate({"gates": [{"metric": "pass@8", "task": "mmmu", "min_gain": -0.02}]})
    assert Policy.model_validate(policy.model_dump()) == policy
