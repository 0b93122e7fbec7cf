"""docs/worked_example.md runs as it stands, on checkpoints that are trained and evaluated by its own commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "worked_example.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the page have run."""
    path = tmp_path_factory.mktemp("worked")
    lines = [line.removeprefix("    ") for line in PAGE.read_text().splitlines() if line.startswith("    specs-eval ")]
    more = [line.removeprefix("    ") for line in PAGE.read_text().splitlines() if line.startswith("        --tasks ")]
    commands = iter(more)
    script = "\n".join(line + ("\n" + next(commands) if line.endswith("\\") else "") for line in lines)
    script = f'export PATH="{Path(sys.executable).parent}:$PATH"\nset -e\n{script}\n'
    done = subprocess.run(["bash", "-c", script], cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def test_every_block_runs_and_gives_what_the_text_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert list(names["frame"].columns[:4]) == ["run_id", "checkpoint", "series", "step"]
    assert len(names["frame"]) == 5 * (30 + 180) * 4
    assert names["mean"].n_samples == 180
    assert names["mean"].n_clusters < 180
    assert names["curves"]["mixed"].gain == "difference"
    assert [point.step for point in names["curves"]["mixed"].points] == [0, 10, 20]
    assert names["found"].rbf.value >= 1
    assert [at.k for at in names["found"].at_k] == [1, 2, 4]
    assert len(names["stuck"]) == int(names["modes"].stuck.sum())
    difference = names["curves"]["mixed"].points[-1].ood.value - names["curves"]["sft"].points[-1].ood.value
    assert names["result"].difference.value == pytest.approx(difference)
    assert 0 <= names["test"].p_pass <= 1
