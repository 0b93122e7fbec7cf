"""``specs-eval rescore``: new scores from stored responses, nothing else changed, killed or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import FakeBackend, FakeTask, ListObserver, fake_checkpoint

from specs_eval.cli import rescore as command
from specs_eval.errors import StoreError
from specs_eval.rescoring import rescore, save
from specs_eval.runner import RunRequest, evaluate
from specs_eval.store import RunStore, StoredRun
from specs_eval.task import Sample, Score


class StricterTask(FakeTask):
    """The rules of tomorrow: an answer of even samples must be followed by a newline."""

    def score(self, sample: Sample, response: str) -> Score:
        old = super().score(sample, response)
        if sample.category["parity"] == "0" and not response.endswith("\n"):
            return replace(old, score=0.0, rule="newline asked for", reason="no newline")
        return old


def stored(root: Path, *, fail: str | None = None) -> StoredRun:
    backend = FakeBackend()
    backend.fail_samples = {fail} if fail else set()
    request = RunRequest(tasks=[FakeTask()], n_rollouts=4)
    return evaluate([fake_checkpoint()], request, RunStore.create(root), backend, ListObserver()).runs[0]


def test_the_same_rules_change_nothing(tmp_path: Path) -> None:
    run = stored(tmp_path, fail="s0003")
    before = {path.name: path.read_bytes() for path in run.directory.iterdir() if path.is_file()}
    rescored = rescore(run, FakeTask())
    assert rescored.changes == () and rescored.n_updated == 0 and rescored.before == rescored.after
    save(RunStore.open(tmp_path), rescored, "1-fake", keep_old=False, on_wait=print)
    assert {path.name: path.read_bytes() for path in run.directory.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("version", ["1-fake", "2-fake"])
def test_other_rules_give_what_a_run_under_them_gives(tmp_path: Path, version: str) -> None:
    run = stored(tmp_path / "a", fail="s0003")
    rescored = rescore(run, StricterTask(version=version))
    assert rescored.changes and {change.rule_after for change in rescored.changes} == {"newline asked for"}
    assert {change.why for change in rescored.changes} == {"equal -> newline asked for"}
    new = save(RunStore.open(tmp_path / "a"), rescored, version, keep_old=False, on_wait=print)

    backend = FakeBackend()
    backend.fail_samples = {"s0003"}
    request = RunRequest(tasks=[StricterTask(version=version)], n_rollouts=4)
    store = RunStore.create(tmp_path / "b")
    fresh = evaluate([fake_checkpoint()], request, store, backend, ListObserver()).runs[0]
    assert new.run_id == fresh.run_id and new.complete
    assert new.table().equals(fresh.table())
    assert (new.directory / "results.json").read_bytes() == (fresh.directory / "results.json").read_bytes()
    assert [one.run_id for one in RunStore.open(tmp_path / "a").runs()] == [fresh.run_id]
    assert rescored.after == pytest.approx(new.results().metrics["score"].mean)  # type: ignore[union-attr]


def test_another_version_can_stay_beside_the_old_one(tmp_path: Path) -> None:
    run = stored(tmp_path)
    save(RunStore.open(tmp_path), rescore(run, StricterTask()), "2-fake", keep_old=True, on_wait=print)
    versions = {one.manifest.task_version for one in RunStore.open(tmp_path).runs()}
    assert versions == {"1-fake", "2-fake"}
    assert {one.manifest.started for one in RunStore.open(tmp_path).runs()} == {run.manifest.started}


def test_a_run_that_is_not_complete_stays_so(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.die_after = 5
    with pytest.raises(KeyboardInterrupt):
        evaluate([fake_checkpoint()], RunRequest([FakeTask()], 4), RunStore.create(tmp_path), backend, ListObserver())
    (run,) = RunStore.open(tmp_path).runs()
    new = save(RunStore.open(tmp_path), rescore(run, StricterTask()), "1-fake", keep_old=False, on_wait=print)
    assert not new.complete and new.table().num_rows == 5 * 4


def test_killed_in_the_middle_the_run_is_not_complete_but_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(tmp_path)
    rescored = rescore(run, StricterTask())
    monkeypatch.setattr("specs_eval.store.OpenRun.finish", lambda *_: (_ for _ in ()).throw(StoreError("killed")))
    with pytest.raises(StoreError):
        save(RunStore.open(tmp_path), rescored, "1-fake", keep_old=False, on_wait=print)
    (left,) = RunStore.open(tmp_path).runs()
    assert not left.complete
    scores = {(row.sample_id, row.rollout): row.score for row in left.rollouts()}
    assert scores == {(row.sample_id, row.rollout): row.score for row in rescored.rollouts}
    monkeypatch.undo()
    request = RunRequest(tasks=[FakeTask()], n_rollouts=4)
    evaluate([fake_checkpoint()], request, RunStore.create(tmp_path), FakeBackend(), ListObserver())
    assert RunStore.open(tmp_path).runs()[0].complete


def test_the_command_shows_what_changed_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(tmp_path)
    monkeypatch.setattr(
        "specs_eval.tasks.registry.get_task", lambda name, data_dir, profile, judge: StricterTask(name=name)
    )
    shown = CliRunner().invoke(command.rescore, ["--store", str(tmp_path), "--dry-run"])
    assert shown.exit_code == 0 and "equal -> newline asked for" in shown.output and "no newline" in shown.output
    assert rescore(RunStore.open(tmp_path).runs()[0], FakeTask()).changes == (), "nothing was written"
    told = CliRunner().invoke(command.rescore, [str(run.directory), "--json"])
    facts = json.loads(told.output)["runs"][0]
    assert facts["n_changed"] == len(facts["changes"]) > 0 and facts["mean_after"] < facts["mean_before"]
    again = CliRunner().invoke(command.rescore, [run.run_id, "--store", str(tmp_path), "--json"])
    assert json.loads(again.output)["runs"][0]["n_changed"] == 0
    unknown = CliRunner().invoke(command.rescore, ["nothing", "--store", str(tmp_path)])
    assert unknown.exit_code != 0
    profiled = CliRunner().invoke(command.rescore, ["--store", str(tmp_path), "--profile", "reasoning"])
    assert profiled.exit_code != 0


class ProfiledTask(FakeTask):
    """Two profiles: the second gives nothing for answers without a newline."""

    def __init__(self, name: str = "fake", profile: str = "official") -> None:
        super().__init__(name=name)
        self.profile = profile

    @property
    def version(self) -> str:  # type: ignore[override]
        return f"1-{self.profile}-hash"

    @version.setter
    def version(self, value: str) -> None:
        pass

    def score(self, sample: Sample, response: str) -> Score:
        old = super().score(sample, response)
        strict = self.profile == "reasoning" and not response.endswith("\n")
        return replace(old, score=0.0, rule="strict") if strict else replace(old, rule=self.profile)


def test_a_profile_is_a_run_beside_and_is_kept_when_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(
        [fake_checkpoint()], RunRequest([ProfiledTask()], 4), RunStore.create(tmp_path), FakeBackend(), ListObserver()
    )
    monkeypatch.setattr(
        "specs_eval.tasks.registry.get_task", lambda name, data_dir, profile, judge: ProfiledTask(name, profile)
    )
    for options in (["--profile", "reasoning"], [], []):
        assert CliRunner().invoke(command.rescore, ["--store", str(tmp_path), *options]).exit_code == 0
        rules = {run.manifest.task_version: {r.rule for r in run.rollouts()} for run in RunStore.open(tmp_path).runs()}
        assert rules["1-official-hash"] == {"official"} and "strict" in rules["1-reasoning-hash"]
