"""Checkpoints and adapters put into one running ``vllm serve``: each answers as if it had been loaded afresh, or is refused."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from tiny_series import LANGUAGE, VISION, moved_checkpoint, write_adapter
from vllm_serve import VLLM, vllm_serving

from specs_eval import load_runs
from specs_eval.backends.endpoint.reloading import Reloader
from specs_eval.cli import main
from specs_eval.training.tiny import checkpoint_path

pytestmark = pytest.mark.skipif(not VLLM.exists(), reason="needs vLLM beside the interpreter: make test-vllm")

EXTENSION = ("--worker-extension-cls", "specs_eval.backends.vllm.worker.WorkerExtension")
SWITCHES = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    flags = ("--enable-lora", "--max-lora-rank", "8", "--load-format", "safetensors", *EXTENSION)
    with vllm_serving(tmp_path_factory.mktemp("serve"), *flags, **SWITCHES) as address:
        yield address


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    for step in (1, 2, 3):
        moved_checkpoint(folder / f"checkpoint-{step}", step, strength=0.4)
    return folder


def invoke(store: Path, url: str | None, *ckpts: str, limit: int = 60) -> Result:
    served = () if url is None else ("--backend", "openai", "--base-url", url, "--backend-arg", "reload=yes")
    named = [part for ckpt in ckpts for part in ("--ckpt", ckpt)]
    arguments = ["run", *named, "--tasks", "formats_id", "--limit", str(limit), "--store", str(store)]
    return CliRunner().invoke(main, [*arguments, "--rollouts", "1", *served])


def frame(store: Path, url: str | None, *ckpts: str) -> pd.DataFrame:
    result = invoke(store, url, *ckpts)
    assert result.exit_code == 0, result.output
    return load_runs(store)


def share_alike(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series[float]:
    both = one.merge(other, on=["checkpoint", "sample_id", "rollout"])
    assert len(both) == len(one) == len(other)
    return (both["response_x"] == both["response_y"]).groupby(both["checkpoint"]).mean()


def test_three_checkpoints_in_place_answer_as_fresh_loads_do(url: str, series: Path, tmp_path: Path) -> None:
    served = frame(tmp_path / "served", url, str(series), f"base={checkpoint_path()}")
    alike = share_alike(served, frame(tmp_path / "hf", None, str(series), f"base={checkpoint_path()}"))
    assert len(alike) == 4 and (alike >= 0.95).all(), alike  # rounding may part a few greedy texts
    texts = served.pivot_table(index="sample_id", columns="checkpoint", values="response", aggfunc="first")
    base = texts.pop("base")
    assert all((texts[name] == base).mean() < 0.9 for name in texts)


def test_the_server_has_its_own_weights_again_at_the_end(url: str, series: Path, tmp_path: Path) -> None:
    frame(tmp_path / "reloaded", url, str(series / "checkpoint-3"))
    plain = ("--backend", "openai", "--base-url", url)
    arguments = ["run", "--ckpt", f"base={checkpoint_path()}", "--tasks", "formats_id", "--limit", "60"]
    result = CliRunner().invoke(main, [*arguments, "--store", str(tmp_path / "plain"), *plain])
    assert result.exit_code == 0, result.output
    alike = share_alike(load_runs(tmp_path / "plain"), frame(tmp_path / "hf", None, f"base={checkpoint_path()}"))
    assert (alike >= 0.95).all()


def test_weights_that_did_not_arrive_are_refused_before_anything_is_asked(
    url: str, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., list[Any]] = Reloader._call

    def without(method: str) -> Callable[..., list[Any]]:
        return lambda self, asked, **arguments: [] if asked == method else real(self, asked, **arguments)

    for method, named in (("specs_eval_pack_again", "packed language_model.lm_head"), ("reload_weights", "model.")):
        with monkeypatch.context() as patch:
            patch.setattr(Reloader, "_call", without(method))
            result = invoke(tmp_path / method, url, str(series / "checkpoint-2"))
        assert result.exit_code == 3 and "did not take the weights" in result.output and named in result.output
        assert not list((tmp_path / method).glob("*/journal.jsonl")) or load_runs(tmp_path / method).empty


def test_a_checkpoint_of_another_shape_is_refused_and_the_others_go_on(url: str, series: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(checkpoint_path(), tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 20000.0
    (other / "config.json").write_text(json.dumps(config))
    result = invoke(tmp_path / "runs", url, str(other), str(series / "checkpoint-1"), limit=4)
    assert (
        result.exit_code == 3 and "its configuration differs" in result.output and "serve it by itself" in result.output
    )
    assert load_runs(tmp_path / "runs")["checkpoint"].str.endswith("checkpoint-1").all()


def test_adapters_are_switched_and_answer_as_merged_ones_do(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    for step in (1, 2):
        write_adapter(folder / f"checkpoint-{step}", step, LANGUAGE, strength=0.12)
    served = frame(tmp_path / "served", url, str(folder), f"base={checkpoint_path()}")
    alike = share_alike(served, frame(tmp_path / "hf", None, str(folder), f"base={checkpoint_path()}"))
    assert len(alike) == 3 and (alike >= 0.9).all(), alike
    texts = served.pivot_table(index="sample_id", columns="checkpoint", values="response", aggfunc="first")
    assert (texts["lora/checkpoint-1"] == texts["lora/checkpoint-2"]).mean() < 0.9
    with urllib.request.urlopen(f"{url}/models") as reply:
        assert len(json.load(reply)["data"]) == 1  # no adapter is left behind


def test_an_adapter_that_would_be_left_out_in_part_is_refused(url: str, tmp_path: Path) -> None:
    result = invoke(tmp_path / "runs", url, str(write_adapter(tmp_path / "vision", 3, VISION)), limit=4)
    assert result.exit_code == 3 and "of the adapter's modules out" in result.output
