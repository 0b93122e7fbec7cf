"""lmms-eval's own command line with our model and tasks, against our runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import ListObserver
from lmms_toys import write_toys

import specs_eval.tasks
import specs_eval.training.tiny
from specs_eval.backends.base import BackendOptions
from specs_eval.backends.registry import create_backend
from specs_eval.lmms_models.model import find_checkpoint
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore
from specs_eval.tasks.registry import parse_task_list

TINY = Path(specs_eval.training.tiny.__path__[0]) / "checkpoint"
TASKS = "specs_easyvqa,specs_formats_id"


def lmms_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lmms-eval")
    command = [str(program), "--model", "specs_hf", "--include_path", specs_eval.tasks.__path__[0], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not (TINY / "model.safetensors").exists(), reason="the tiny checkpoint is not built")
def test_both_command_lines_agree_rollout_for_rollout(tmp_path: Path) -> None:
    options = ["--limit", "24", "-n", "3", "--gen_kwargs", "temperature=1.0", "--log_samples"]
    model = ["--model_args", f"pretrained={TINY},seed=5,batch_size=7"]
    done = lmms_eval(*model, "--tasks", TASKS, *options, "--output_path", str(tmp_path / "lmms"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rollouts" not in done.stdout

    request = RunRequest(parse_task_list(TASKS), n_rollouts=3, temperature=1.0, limit=24, seed=5)
    engine = create_backend("hf", BackendOptions(batch_size=16))
    store = RunStore.create(tmp_path / "store")
    evaluation = evaluate([find_checkpoint(str(TINY))], request, store, engine, ListObserver())
    for run, name in zip(evaluation.runs, TASKS.split(","), strict=True):
        rows = run.table().to_pylist()
        samples = logged(tmp_path / "lmms", name)
        assert [sample["resps"] for sample in samples] == [
            [row["response"] for row in rows[start : start + 3]] for start in range(0, 72, 3)
        ]
        for sample, start in zip(samples, range(0, 72, 3), strict=True):
            assert sample["score"] == pytest.approx(sum(row["score"] for row in rows[start : start + 3]) / 3)
        totals = results(tmp_path / "lmms")[name]
        assert totals["score,none"] == pytest.approx(run.results().metrics["score"].mean)


def logged(folder: Path, task: str) -> list[dict[str, Any]]:
    (path,) = folder.rglob(f"*_samples_{task}.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    for sample in samples:
        sample.setdefault("resps", sample["filtered_resps"])
    return sorted(samples, key=lambda sample: sample["doc_id"])


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("*_results.json")
    return json.loads(path.read_text())["results"]


def test_a_checkpoint_that_does_not_load_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    done = lmms_eval("--model_args", f"pretrained={tmp_path / 'half'}", "--tasks", "specs_easyvqa", "--limit", "2")
    assert done.returncode == 2, done.stdout[-2000:]
    assert "config.json" in done.stderr


QUIET = """
import json, logging, random, sys
logging.basicConfig(stream=sys.stderr)
host = sys.argv[2] == "host"
if host:
    import loguru
    kept = []
    loguru.logger.remove()
    loguru.logger.add(kept.append)
random.seed(3)
state = random.getstate()
from PIL import ImageFile
from specs_eval.tasks.lmms.adapter import LmmsEvalTask
assert "lmms_eval" not in sys.modules
task = LmmsEvalTask("toy_guess", [sys.argv[1]])
score = task.score(task.samples()[0], "A").score
from loguru import logger
facts = {"score": score, "same state": random.getstate() == state, "truncated": ImageFile.LOAD_TRUNCATED_IMAGES}
if host:
    logger.warning("of the host")
    facts["kept"] = any("of the host" in line for line in kept)
with open(sys.argv[3], "w") as file:
    json.dump(facts, file)
"""


@pytest.mark.parametrize("host", ["host", "alone"])
def test_nothing_reaches_standard_output_and_the_process_stays_as_it_was(tmp_path: Path, host: str) -> None:
    facts = tmp_path / "facts.json"
    toys = write_toys(tmp_path / "toys")
    command = [sys.executable, "-c", QUIET, str(toys), host, str(facts)]
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    expected = {"score": 1.0, "same state": True, "truncated": False}
    assert json.loads(facts.read_text()) == expected | ({"kept": True} if host == "host" else {})
