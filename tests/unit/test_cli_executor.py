"""``--executor`` and what belongs to it, without a cluster."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import write_checkpoint

from specs_eval.cli import main


def run(tmp_path: Path, *more: str) -> Result:
    ckpt = write_checkpoint(tmp_path / "model")
    arguments = ["run", "--ckpt", str(ckpt), "--tasks", "formats_id", "--limit", "4", "--store", str(tmp_path / "runs")]
    return CliRunner().invoke(main, [*arguments, *more])


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(tmp_path, "--executor", "ray")
    assert result.exit_code == 2 and "pip install 'specs-eval[ray]'" in result.stderr


@pytest.mark.parametrize("more", [("--ray-address", "auto"), ("--workers", "2"), ("--gpus-per-worker", "2")])
def test_options_of_ray_without_ray_are_refused(tmp_path: Path, more: tuple[str, str]) -> None:
    result = run(tmp_path, *more)
    assert result.exit_code == 2 and "need --executor ray" in result.stderr


def test_an_endpoint_needs_no_workers(tmp_path: Path) -> None:
    result = run(tmp_path, "--executor", "ray", "--backend", "openai", "--base-url", "http://127.0.0.1:9/v1")
    assert result.exit_code == 2 and "needs no workers" in result.stderr


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_without_a_cluster_is_told_at_once(tmp_path: Path, form: str) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and never listening
        address = form.format(taken.getsockname()[1])
        result = run(tmp_path, "--executor", "ray", "--ray-address", address)
    assert result.exit_code == 2 and f"nothing answers at --ray-address {address}" in result.stderr
