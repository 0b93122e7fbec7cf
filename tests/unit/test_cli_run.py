"""``specs-eval run`` as its user meets it, with a fake engine: plumbing, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import Parrot, write_checkpoint

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.store import RunStore


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    backend = Parrot()
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: backend)
    return backend


def specs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run(tmp_path: Path, *more: str | Path, ckpt: str | Path | None = None, tasks: str = "formats_id") -> Result:
    ckpt = ckpt or write_checkpoint(tmp_path / "model")
    return specs("run", "--ckpt", ckpt, "--tasks", tasks, "--limit", "6", "--store", tmp_path / "runs", *more)


def test_a_series_on_two_tasks_and_json(tmp_path: Path, engine: Parrot) -> None:
    for step in (10, 5):
        write_checkpoint(tmp_path / "dpo" / f"checkpoint-{step}", bytes([step]) * 8)
    result = run(tmp_path, "--rollouts", "2", "--json", ckpt=tmp_path / "dpo", tasks="formats_id,specs_formats_ood")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [(r["checkpoint"], r["task"]) for r in facts["runs"]] == [
        (f"dpo/checkpoint-{step}", f"easyvqa_formats_{kind}") for step in (5, 10) for kind in ("id", "ood")
    ]
    first = facts["runs"][0]
    assert first["n_samples"] == 6 and first["n_rollouts"] == 2 and first["n_failed"] == 0 and facts["problems"] == []
    assert first["metrics"]["format"]["value"] == 1.0 and facts["runs"][1]["metrics"]["lock_in"]["value"] == 1.0
    frame = load_runs(tmp_path / "runs")
    assert len(frame) == 4 * 6 * 2
    needed = [
        "checkpoint",
        "series",
        "step",
        "task",
        "sample_id",
        "rollout",
        "response",
        "score",
        "reason",
        "n_tokens",
        "entropy",
        "nucleus",
    ]
    assert set(needed) <= set(frame.columns)
    assert frame["step"].tolist()[0] in (5, 10) and frame["entropy"].eq(0.5).all()


def test_the_table_when_piped_has_no_escape_codes_and_stderr_tells_progress(tmp_path: Path, engine: Parrot) -> None:
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "100.0" in result.stdout and "easyvqa_formats_id" in result.stdout and "\x1b" not in result.output
    assert "6 rollouts owed of 6" in result.stderr and "tokens/s" in result.stderr
    again = run(tmp_path)
    assert "all 6 rollouts are in the store" in again.stderr and again.stdout == result.stdout


def test_failed_rollouts_exit_3_unless_allowed(tmp_path: Path, engine: Parrot) -> None:
    from specs_eval.tasks.registry import get_task

    engine.fail_samples = {get_task("formats_id").samples()[0].sample_id}
    result = run(tmp_path)
    assert result.exit_code == 3 and "1 failed" in result.output
    assert run(tmp_path, "--max-unscored", "0.5").exit_code == 0
    row = load_runs(tmp_path / "runs").iloc[0]
    assert row["score"] != row["score"] and "does not decode" in row["reason"]


def test_a_broken_checkpoint_among_good_ones_exits_3_and_is_named(tmp_path: Path, engine: Parrot) -> None:
    write_checkpoint(tmp_path / "s" / "checkpoint-1")
    write_checkpoint(tmp_path / "s" / "checkpoint-2", b"\1" * 8)
    (tmp_path / "s" / "checkpoint-2" / "config.json").unlink()
    result = run(tmp_path, ckpt=tmp_path / "s")
    assert result.exit_code == 3 and "checkpoint-2 has no config.json" in result.stderr
    assert len(RunStore.open(tmp_path / "runs").runs()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "formats_od"), "did you mean 'formats_ood'"),
        (("--tasks", ","), "names no task"),
        (("--rollouts", "0"), "--rollouts must be >= 1"),
        (("--rollouts", "4", "--temperature", "0"), "makes all rollouts the same"),
        (("--limit", "-1"), "--limit must be >= 1"),
        (("--temperature", "nan"), "finite"),
        (("--ckpt", "nowhere-*"), "matches no folder"),
    ],
)
def test_usage_errors_exit_2_with_a_hint(
    tmp_path: Path, engine: Parrot, arguments: tuple[str, ...], message: str
) -> None:
    result = run(tmp_path, *arguments)
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.output


def test_unknown_backend_is_named_with_the_known_ones(tmp_path: Path) -> None:
    result = run(tmp_path, "--backend", "hff")
    assert result.exit_code == 2 and "did you mean 'hf'" in result.stderr


@pytest.mark.parametrize(
    ("argument", "message"), [("verify", "KEY=VALUE"), ("layout=odd", "layout=auto|shared|repeated")]
)
def test_backend_settings_are_checked(tmp_path: Path, argument: str, message: str) -> None:
    result = run(tmp_path, "--backend-arg", argument)
    assert result.exit_code == 2 and message in result.stderr


def test_several_checkpoints_as_a_shell_expands_them(tmp_path: Path, engine: Parrot) -> None:
    folders = [write_checkpoint(tmp_path / "s" / f"checkpoint-{n}", bytes([n]) * 8) for n in (1, 2, 3)]
    result = run(tmp_path, folders[1], folders[2], ckpt=folders[0])
    assert result.exit_code == 0 and len(RunStore.open(tmp_path / "runs").runs()) == 3


def test_interrupted_by_the_user_says_how_to_go_on(tmp_path: Path, engine: Parrot) -> None:
    engine.die_after = 3
    result = run(tmp_path)
    assert result.exit_code == 130 and "the same command continues" in result.stderr
    engine.die_after = None
    assert run(tmp_path).exit_code == 0


def test_a_checkpoint_that_does_not_load_does_not_stop_the_others(tmp_path: Path, engine: Parrot) -> None:
    from specs_eval.errors import CheckpointError

    good = engine.load

    def load(checkpoint):  # type: ignore[no-untyped-def]
        if checkpoint.step == 1:
            raise CheckpointError("missing weights: lm_head")
        good(checkpoint)

    engine.load = load  # type: ignore[method-assign]
    for step in (1, 2):
        write_checkpoint(tmp_path / "s" / f"checkpoint-{step}", bytes([step]) * 8)
    result = run(tmp_path, ckpt=tmp_path / "s")
    assert result.exit_code == 3 and "s/checkpoint-1: missing weights: lm_head" in result.stderr
    assert "s/checkpoint-2" in result.stdout


def test_an_engine_that_breaks_ends_its_checkpoint_and_not_the_sweep(tmp_path: Path, engine: Parrot) -> None:
    good = engine.generate

    def generate(requests, spec):  # type: ignore[no-untyped-def]
        if engine.loaded[-1] == "s/checkpoint-1":
            yield next(iter(good(requests, spec)))
            raise RuntimeError("device-side assert")
        yield from good(requests, spec)

    engine.generate = generate  # type: ignore[method-assign]
    for step in (1, 2):
        write_checkpoint(tmp_path / "s" / f"checkpoint-{step}", bytes([step]) * 8)
    result = run(tmp_path, ckpt=tmp_path / "s")
    assert result.exit_code == 3 and "s/checkpoint-1: RuntimeError: device-side assert" in result.stderr
    assert "Traceback" not in result.output and "s/checkpoint-2" in result.stdout
    assert engine.loaded[:3] == ["s/checkpoint-1", "closed", "s/checkpoint-2"], "a broken engine is not used again"
    runs = {stored.manifest.checkpoint.step: stored for stored in RunStore.open(tmp_path / "runs").runs()}
    assert not runs[1].complete and runs[1].table().num_rows == 1 and runs[2].complete


def test_unwritable_store_exits_2(tmp_path: Path, engine: Parrot) -> None:
    (tmp_path / "runs").write_text("a file")
    result = run(tmp_path)
    assert result.exit_code == 2 and "choose another --store" in result.stderr
