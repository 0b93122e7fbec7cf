"""The demo types real commands; here it is checked that each of them parses, with the engine left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import Parrot, write_checkpoint

from specs_eval.cli import main


def test_the_demo_goes_from_training_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_series(base_dir: Path, output_dir: Path, **options: object) -> list[Path]:
        return [
            write_checkpoint(Path(output_dir) / f"checkpoint-{n}", f"{output_dir}{n}".encode()[-8:]) for n in (1, 2)
        ]

    monkeypatch.setattr("specs_eval.training.tiny.series.train_series", train_series)
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: Parrot())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo", "--questions", "3", "--rollouts", "2"])
    assert result.exit_code == 0, result.output
    for said in ("$ specs-eval tiny series", "$ specs-eval gf", "GF", "pass@", "RBF", "Now with your own checkpoints"):
        assert said in result.output
    assert "Content-Security-Policy" in (tmp_path / "report.html").read_text()
    again = CliRunner().invoke(main, ["demo", "--questions", "3", "--rollouts", "2"])
    assert "rollouts are in the store" in again.output and again.exit_code == 0


def test_the_demo_refuses_nonsense(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["demo", "--questions", "0"]).exit_code == 2
