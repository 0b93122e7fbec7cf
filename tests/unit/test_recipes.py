"""The recipes of docs/recipes, executed: the very commands of the files, in a repository with a store of known numbers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stored_runs import FakeRun, write_run

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
POLICY = '[[gates]]\nname = "keeps its score"\nmetric = "score"\ntask = "t"\nmax_drop = 0.05\n'
BETTER, WORSE, UNCLEAR = "dpo/checkpoint-20", "dpo/checkpoint-30", "dpo/checkpoint-40"
CANDIDATES = [(BETTER, 0), (WORSE, 1), (UNCLEAR, 3)]

Environment = dict[str, str]


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    """Where ``specs-eval`` is on PATH, after a folder for stand-ins, and nothing of this machine's CI or git settings."""
    (tmp_path / "bin").mkdir()
    scripts = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_", "SLURM_"))}
    return kept | {
        "PATH": f"{tmp_path / 'bin'}:{scripts}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def repository(tmp_path: Path, env: Environment) -> Path:
    """A repository with policy, pinned baseline and a store, pushed to a bare remote."""
    folder = tmp_path / "project"
    folder.mkdir()
    for step, share in ((10, 0.7), (20, 0.72), (30, 0.5), (40, 0.66)):
        scores = (np.random.default_rng(0).permutation(400) < 400 * share).astype(float)[:, None]
        write_run(folder / "runs", FakeRun("t", scores, f"dpo/checkpoint-{step}"))
    (folder / "specs-eval.toml").write_text(POLICY)
    (folder / ".gitignore").write_text("runs\n")
    run(["specs-eval", "baseline", "save", "main", "dpo/10"], folder, env)
    run(["git", "init", "-q", "-b", "main"], folder, env)
    commit(folder, env)
    run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "remote.git")], folder, env)
    run(["git", "remote", "add", "origin", str(tmp_path / "remote.git")], folder, env)
    run(["git", "push", "-q", "origin", "main"], folder, env)
    return folder


def run(command: list[str], folder: Path, env: Environment, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    return done


def commit(folder: Path, env: Environment) -> None:
    run(["git", "add", "-A"], folder, env)
    run(["git", "commit", "-q", "-m", "a change"], folder, env)


def stand_in(tmp_path: Path, name: str, script: str) -> None:
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def promote(folder: Path, env: Environment, checkpoint: str) -> None:
    run(["specs-eval", "baseline", "save", "main", checkpoint], folder, env)
    commit(folder, env)


def remote_head(folder: Path, env: Environment) -> str:
    return run(["git", "ls-remote", "origin", "refs/heads/main"], folder, env).stdout.split()[0]


def workflow() -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((RECIPES / "github-actions.yml").read_text())["jobs"]["check"]
    return facts


@pytest.mark.parametrize(("candidate", "code"), CANDIDATES)
def test_the_github_workflow_step_by_step(
    tmp_path: Path, repository: Path, env: Environment, candidate: str, code: int
) -> None:
    stand_in(tmp_path, "python", f'echo "$@" >> {tmp_path}/installed')
    job = workflow()
    values = {"inputs.candidate": candidate, "inputs.baseline || 'main'": "main", "vars.SPECS_EVAL_DATA": ""}
    values["vars.SPECS_EVAL_STORE || 'runs'"] = "runs"
    summary = tmp_path / "summary.md"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    variables = {name: values[text.removeprefix("${{ ").removesuffix(" }}")] for name, text in job["env"].items()}
    steps = [step for step in job["steps"] if "run" in step]
    assert [step["name"] for step in steps] == ["Install", "What will be evaluated", "Check"]
    output = ""
    for step in steps:
        script = tmp_path / "step.sh"
        script.write_text(step["run"])
        # As GitHub calls it.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        wanted = code if step["name"] == "Check" else 0
        done = run(command, repository, env | variables | github, wanted)
        output = done.stdout + done.stderr
        if step["name"] == "What will be evaluated":
            assert "nothing is missing" in output
    assert (tmp_path / "installed").read_text() == "-m pip install --quiet specs-eval\n"
    uploaded = job["steps"][-1]["with"]["path"].split()
    assert all((repository / name).is_file() for name in uploaded)
    assert summary.read_text() == (repository / "specs-eval.md").read_text()
    assert ("::error title=specs-eval%3A keeps its score::" in output) == (code != 0)
    cases = list(ET.parse(repository / "specs-eval.xml").getroot().iter("testcase"))
    assert len(cases) == 1


def test_no_expression_stands_in_a_command_of_the_workflow() -> None:
    for step in workflow()["steps"]:
        assert "${{" not in step.get("run", ""), "an input could end the quotes and run anything"


@pytest.mark.parametrize(("candidate", "code"), CANDIDATES)
def test_the_gitlab_job(tmp_path: Path, repository: Path, env: Environment, candidate: str, code: int) -> None:
    stand_in(tmp_path, "python", "exit 0")
    job = yaml.safe_load((RECIPES / "gitlab-ci.yml").read_text())["checkpoint-check"]
    script = "\n".join([*job["before_script"], *job["script"]])
    variables = {name: str(value) for name, value in job["variables"].items()}
    run(["bash", "-eo", "pipefail", "-c", script], repository, env | variables | {"CANDIDATE": candidate}, code)
    reports = job["artifacts"]["reports"]
    for name in (reports["junit"], reports["metrics"], *job["artifacts"]["paths"]):
        assert (repository / name).stat().st_size > 0
    passed = f'specs_eval_gate_passed{{gate="keeps its score"}} {int(code == 0)}'
    assert passed in (repository / reports["metrics"]).read_text()
    assert job["allow_failure"]["exit_codes"] == [3]


@pytest.fixture
def hooked(repository: Path) -> Path:
    shutil.copy(RECIPES / "pre-push.sh", repository / ".git" / "hooks" / "pre-push")
    (repository / ".git" / "hooks" / "pre-push").chmod(0o755)
    return repository


def test_a_push_that_promotes_a_better_checkpoint_goes_through(hooked: Path, env: Environment) -> None:
    promote(hooked, env, BETTER)
    done = run(["git", "push", "origin", "main"], hooked, env)
    assert "baseline 'main' changes, asking the gates" in done.stderr
    assert "may replace dpo/checkpoint-10" in done.stderr
    assert remote_head(hooked, env) == run(["git", "rev-parse", "HEAD"], hooked, env).stdout.strip()


@pytest.mark.parametrize("candidate", [WORSE, UNCLEAR])
def test_a_push_whose_gate_does_not_pass_is_refused(hooked: Path, env: Environment, candidate: str) -> None:
    before = remote_head(hooked, env)
    # The pusher may not loosen the rules in the same push.
    (hooked / "specs-eval.toml").write_text(POLICY.replace("0.05", "0.9"))
    promote(hooked, env, candidate)
    done = run(["git", "push", "origin", "main"], hooked, env, 1)
    assert "specs-eval: not pushed" in done.stderr
    assert remote_head(hooked, env) == before
    run(["git", "push", "-q", "--no-verify", "origin", "main"], hooked, env)


def test_pushes_that_promote_nothing_are_not_held_up(hooked: Path, env: Environment) -> None:
    (hooked / "notes.txt").write_text("x")
    commit(hooked, env)
    assert "asking" not in run(["git", "push", "origin", "main"], hooked, env).stderr
    promote(hooked, env, WORSE)
    run(["git", "push", "-q", "origin", "main:refs/heads/topic"], hooked, env)
    run(["git", "push", "-q", "origin", ":refs/heads/topic"], hooked, env)


def test_the_hook_refuses_what_it_cannot_judge(tmp_path: Path, hooked: Path, env: Environment) -> None:
    (hooked / "specs-eval-baselines.toml").unlink()
    commit(hooked, env)
    assert "removes the baseline 'main'" in run(["git", "push", "origin", "main"], hooked, env, 1).stderr
    run(["git", "reset", "-q", "--hard", "HEAD^"], hooked, env)
    promote(hooked, env, BETTER)
    (hooked / "runs").rename(hooked / "elsewhere")
    assert "no run store at" in run(["git", "push", "origin", "main"], hooked, env, 1).stderr
    moved = env | {"SPECS_EVAL_STORE": "elsewhere"}
    without = moved | {"PATH": os.pathsep.join(_without_specs_eval(env["PATH"]))}
    assert "not installed here" in run(["git", "push", "origin", "main"], hooked, without, 1).stderr
    run(["git", "push", "-q", "origin", "main"], hooked, moved)


def _without_specs_eval(path: str) -> list[str]:
    return [folder for folder in path.split(os.pathsep) if not (Path(folder) / "specs-eval").exists()]


@pytest.mark.parametrize(("candidate", "code"), CANDIDATES)
def test_the_slurm_job(tmp_path: Path, repository: Path, env: Environment, candidate: str, code: int) -> None:
    stand_in(tmp_path, "srun", 'exec "$@"')
    # A queue that runs jobs at once: options first, then the script and its arguments.
    stand_in(tmp_path, "sbatch", f'echo "$@" >> {tmp_path}/queue; SLURM_JOB_ID=7 exec bash "$@"')
    next_job = tmp_path / "train_rl.sh"
    next_job.write_text('echo "training from $1"\n')
    command = ["sbatch", str(RECIPES / "slurm.sh"), candidate, str(next_job), candidate]
    done = run(command, repository, env, code)
    assert (repository / "check-7.md").is_file()
    queue = (tmp_path / "queue").read_text().splitlines()
    assert len(queue) == (2 if code == 0 else 1)
    assert ("training from" in done.stdout) == (code == 0)


def test_the_slurm_job_is_queued_again_before_its_time_is_over(
    tmp_path: Path, repository: Path, env: Environment
) -> None:
    stand_in(tmp_path, "srun", f"touch {tmp_path}/started; sleep 30")
    stand_in(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/requeued')
    command = ["bash", str(RECIPES / "slurm.sh"), BETTER]
    job = subprocess.Popen(command, cwd=repository, env=env | {"SLURM_JOB_ID": "7"}, start_new_session=True)
    try:
        while not (tmp_path / "started").exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=30) > 128
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_the_slurm_job_needs_a_candidate(repository: Path, env: Environment) -> None:
    assert "usage: sbatch" in run(["bash", str(RECIPES / "slurm.sh")], repository, env, 1).stderr


@pytest.mark.parametrize("name", ["pre-push.sh", "slurm.sh"])
def test_shell_recipes_parse_and_can_be_executed(name: str) -> None:
    assert os.access(RECIPES / name, os.X_OK)
    subprocess.run(["bash", "-n", str(RECIPES / name)], check=True)
