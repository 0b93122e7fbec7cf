"""What an evaluation will cost: what is owed agrees with what the runner then does, estimates say where they come from."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import FakeBackend, FakeTask, ListObserver, Parrot, fake_checkpoint, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.checkpoints import Checkpoint
from specs_eval.cli import main
from specs_eval.cost import Cost, estimate_cost, runs_at
from specs_eval.errors import ConfigError
from specs_eval.runner import RunRequest, evaluate, evaluation_units
from specs_eval.store import RunStore


def cost_of(root: Path, checkpoint: Checkpoint, request: RunRequest, numerics: str = "fake/float64") -> Cost:
    return estimate_cost(evaluation_units([checkpoint], request), request, runs_at(root), numerics)


def evaluated(
    root: Path, checkpoint: Checkpoint, request: RunRequest, backend: FakeBackend | None = None
) -> ListObserver:
    observer = ListObserver()
    evaluate([checkpoint], request, RunStore.create(root), backend or FakeBackend(), observer)
    return observer


asked = st.tuples(st.integers(1, 12), st.integers(1, 4), st.booleans())


@settings(max_examples=25, deadline=None)
@given(first=asked, second=asked, die_after=st.integers(0, 12))
def test_what_is_owed_is_what_the_runner_finds_owed(
    tmp_path_factory: pytest.TempPathFactory,
    first: tuple[int, int, bool],
    second: tuple[int, int, bool],
    die_after: int,
) -> None:
    root = tmp_path_factory.mktemp("store") / "runs"
    for number, (limit, rollouts, renamed) in enumerate((first, second)):
        request = RunRequest([FakeTask(12)], rollouts, temperature=1.0, limit=limit)
        checkpoint = fake_checkpoint("other" if renamed else "base")
        backend = FakeBackend()
        backend.die_after = die_after if number == 0 else None
        backend.fail_samples = {"s0002"}
        (unit,) = cost_of(root, checkpoint, request).units
        observer = ListObserver()
        with contextlib.suppress(KeyboardInterrupt):
            evaluate([checkpoint], request, RunStore.create(root), backend, observer)
        total = unit.n_samples * unit.n_rollouts
        assert observer.lines[0] == f"started {checkpoint.name} fake {unit.n_owed}/{total}"


def test_the_runs_most_alike_are_asked_first(tmp_path: Path) -> None:
    root, long, short = tmp_path / "runs", FakeTask(4, "long"), FakeTask(6, "short")
    request = RunRequest([long, short], 2)
    for name in ("dpo/1", "sft/1"):
        evaluated(root, fake_checkpoint(name, fingerprint=name[0] * 64), request)
    runs = RunStore.open(root).runs()
    for run, n_tokens, seconds in zip(runs, (100, 200, 300, 400), (1.0, 2.0, 3.0, 4.0), strict=True):
        # Totals are set by hand: dpo long, dpo short, sft long, sft short.
        facts = json.loads((run.directory / "results.json").read_text())
        (run.directory / "results.json").write_text(json.dumps(facts | {"n_tokens": n_tokens}))
        facts = json.loads((run.directory / "manifest.json").read_text())
        (run.directory / "manifest.json").write_text(json.dumps(facts | {"seconds": seconds}))
    assert [run.manifest.task for run in runs] == ["long", "short", "long", "short"]

    def estimate(series: str, task: FakeTask, numerics: str = "fake/float64") -> tuple[float | None, float | None, str]:
        checkpoint = fake_checkpoint(f"{series}/2", fingerprint="e" * 64)
        (unit,) = cost_of(root, checkpoint, RunRequest([task], 3), numerics).units
        assert unit.n_owed == len(task.samples()) * 3
        assert unit.tokens is not None
        return unit.tokens.value, None if unit.seconds is None else unit.seconds.value, unit.tokens.source

    assert estimate("dpo", long) == (100 / 8, 1 / 8, "1 run of dpo on long with fake/float64")
    assert estimate("new", long) == (400 / 16, 4 / 16, "2 runs of long with fake/float64")
    assert estimate("dpo", FakeTask(2, "other")) == (1000 / 40, 10 / 40, "4 runs of any task with fake/float64")
    assert estimate("dpo", long, "fake/float32") == (400 / 16, None, "2 runs of long with any backend")
    nothing = estimate("dpo", FakeTask(2, "other"), "fake/float32")
    assert nothing == (1000 / 40, None, "4 runs of any task with any backend")


def test_without_earlier_runs_nothing_is_estimated_and_nothing_written(tmp_path: Path) -> None:
    cost = cost_of(tmp_path / "runs", fake_checkpoint(), RunRequest([FakeTask(4)], 2))
    assert cost.units[0].tokens_owed is None and cost.units[0].seconds_owed is None
    assert (cost.total("n_owed"), cost.total("tokens_owed")) == (8, None)
    assert not (tmp_path / "runs").exists()


def test_runs_that_tell_no_time_are_left_out(tmp_path: Path) -> None:
    root, request = tmp_path / "runs", RunRequest([FakeTask(4)], 2)
    evaluated(root, fake_checkpoint(), request)
    (run,) = RunStore.open(root).runs()
    facts = json.loads((run.directory / "manifest.json").read_text())
    (run.directory / "manifest.json").write_text(json.dumps(facts | {"seconds": 0.0}))
    unit = cost_of(root, fake_checkpoint("next", "a" * 64), request).units[0]
    assert unit.seconds is None and unit.tokens is not None and unit.tokens.value == 2.0


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a run store"):
        runs_at(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        runs_at(tmp_path / "notes.txt")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    backend = Parrot()
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: backend)
    return backend


def run(tmp_path: Path, *more: str) -> Result:
    arguments = ["run", "--ckpt", str(tmp_path / "dpo"), "--tasks", "formats_id,formats_ood", "--limit", "6"]
    return CliRunner().invoke(main, [*arguments, "--store", str(tmp_path / "runs"), *more])


def series(tmp_path: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(tmp_path / "dpo" / f"checkpoint-{step}", bytes([step]) * 8)


def test_dry_run_loads_and_writes_nothing(tmp_path: Path, engine: Parrot) -> None:
    series(tmp_path, 1, 2)
    result = run(tmp_path, "--dry-run", "--rollouts", "2")
    assert result.exit_code == 0, result.output
    assert "4 units" in result.stdout and "not known, as the store has no finished run" in result.stdout
    assert engine.loaded == ["closed"] and not (tmp_path / "runs").exists()


def test_dry_run_as_json_tells_cached_owed_and_estimates(tmp_path: Path, engine: Parrot) -> None:
    series(tmp_path, 1)
    assert run(tmp_path, "--rollouts", "2").exit_code == 0
    series(tmp_path, 2)
    facts = json.loads(run(tmp_path, "--rollouts", "2", "--dry-run", "--json").stdout)
    assert facts["dry_run"] is True and facts["problems"] == [] and len(facts["units"]) == 4
    assert [unit["n_cached"] for unit in facts["units"]] == [12, 12, 0, 0]
    assert facts["units"][0]["seconds_owed"] == 0 and facts["units"][2]["tokens_owed"] == 12 * 9
    assert facts["units"][2]["tokens"]["source"] == "1 run of dpo on easyvqa_formats_id with fake/float64"
    assert facts["total"]["n_owed"] == 24 and facts["total"]["tokens_owed"] == 24 * 9
    assert "Everything is in the store" in run(tmp_path, "--rollouts", "2", "--dry-run", "--shard", "1/2").stdout


def test_shards_are_evaluated_apart_and_are_together_everything(tmp_path: Path, engine: Parrot) -> None:
    series(tmp_path, 1, 2, 3)
    seen: list[tuple[str | None, str]] = []
    for number in (1, 2, 3, 4):
        result = run(tmp_path, "--json", "--shard", f"{number}/4")
        assert result.exit_code == 0, result.output
        seen += [(row["checkpoint"], row["task"]) for row in json.loads(result.stdout)["runs"]]
    assert seen == [(f"dpo/checkpoint-{n}", f"easyvqa_formats_{kind}") for n in (1, 2, 3) for kind in ("id", "ood")]
    empty = run(tmp_path, "--shard", "1/100")
    assert empty.exit_code == 0, empty.output
