"""docs/checks.md says what there is: every key, metric, option and file, and its policies are legal."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from specs_eval.analysis.checks.measures import COMPUTED
from specs_eval.cli.check import check
from specs_eval.cli.plan import plan
from specs_eval.policy import Gate, Policy, load_policy

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "checks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_its_policies_are_legal(tmp_path: Path, number: int) -> None:
    file = tmp_path / "specs-eval.toml"
    file.write_text(EXAMPLES[number])
    policy, _ = load_policy(file)
    assert policy.gates


def test_the_example_of_each_metric_is_legal(tmp_path: Path) -> None:
    rows = re.findall(r"^\| .*\| (`metric = .*`) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 11
    for row in rows:
        file = tmp_path / "specs-eval.toml"
        file.write_text("[[gates]]\n" + "\n".join(re.findall(r"`([^`]+)`", row)) + "\n")
        load_policy(file)


@pytest.mark.parametrize("key", [*Policy.model_fields, *Gate.model_fields])
def test_every_key_is_explained(key: str) -> None:
    assert re.search(rf"^\| (`\w+`, )*`{key}`", PAGE, re.MULTILINE), key


@pytest.mark.parametrize("metric", [*COMPUTED, "gf", "score", "format", "accuracy", "lock_in"])
def test_every_metric_is_named(metric: str) -> None:
    assert f"`{metric}`" in PAGE


@pytest.mark.parametrize("command", [check, plan], ids=["check", "plan"])
def test_every_option_is_named(command: click.Command) -> None:
    options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts if name[:2] == "--"}
    options -= {"--help"}
    missing = sorted(name for name in options if not re.search(rf"{name}(?![\w-])", PAGE))
    assert not missing


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (DOCS / target).exists(), target
    recipes = {path.name for path in (DOCS / "recipes").iterdir() if path.is_file()}
    assert recipes == set(re.findall(r"\]\(recipes/([^)]+)\)", PAGE))
