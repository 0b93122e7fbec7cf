"""``specs-eval tasks`` and ``doctor``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import FakeBackend, FakeTask, ListObserver, fake_checkpoint

from specs_eval.cli import main
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore


def test_tasks_lists_names_and_the_include_path() -> None:
    listed = CliRunner().invoke(main, ["tasks"])
    assert listed.exit_code == 0 and "easyvqa_formats_ood" in listed.output
    assert "formats_id" in json.loads(CliRunner().invoke(main, ["tasks", "--json"]).output)
    path = Path(CliRunner().invoke(main, ["tasks", "--path"]).output.strip())
    assert (path / "registry.py").exists()


def make_store(root: Path) -> RunStore:
    store = RunStore.create(root)
    backend = FakeBackend()
    backend.fail_samples = {"s0001"}
    evaluate([fake_checkpoint()], RunRequest(tasks=[FakeTask(4)]), store, backend, ListObserver())
    return store


def test_doctor_reports_failures_in_the_store_and_exits_0_while_nothing_is_broken(tmp_path: Path) -> None:
    make_store(tmp_path / "runs")
    result = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path / "runs"), "--json"])
    findings = {finding["subject"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 0, [finding for finding in findings.values() if finding["state"] == "broken"]
    assert findings["hf"]["state"] == findings["easyvqa"]["state"] == findings["tiny"]["state"] == "ok"
    assert any("1 of 4 rollouts failed" in finding["detail"] for finding in findings.values())


def test_doctor_finds_a_damaged_run_and_exits_3(tmp_path: Path) -> None:
    (run,) = make_store(tmp_path / "runs").runs()
    (run.directory / "rollouts.parquet").write_bytes(b"PAR1 not really")
    result = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path / "runs")])
    assert result.exit_code == 3 and "delete it and run again" in result.output


def doctor_on_checks() -> tuple[int, dict[str, tuple[str, str]]]:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    findings = [finding for finding in json.loads(result.output) if finding["area"] == "Checks"]
    return result.exit_code, {one["subject"]: (one["state"], one["detail"]) for one in findings}


def test_doctor_knows_policy_and_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor_on_checks() == (0, {"policy": ("info", "none here"), "baselines": ("info", "none here")})
    Path("specs-eval.toml").write_text('[[gates]]\nmetric = "score"\ntask = "t"\nmax_drop = 0.05\n')
    Path("specs-eval-baselines.toml").write_text(
        '[main]\ncheckpoint = "x"\nfingerprint = "0"\nsaved = "2025-01-01"\ntasks = {}\nscores = {}\n'
    )
    code, found = doctor_on_checks()
    assert code == 0
    assert found["policy"] == ("ok", f"1 gate in {tmp_path / 'specs-eval.toml'}")
    assert found["baselines"] == ("ok", f"main in {tmp_path / 'specs-eval-baselines.toml'}")
    Path("specs-eval.toml").write_text("alpha = 7\n")
    code, found = doctor_on_checks()
    assert code == 3
    assert found["policy"][0] == "broken" and "specs-eval.toml:1: alpha" in found["policy"][1]
