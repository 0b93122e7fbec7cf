"""Exchanging the weights of a server: in which order, what is refused, and that nothing is asked of the wrong ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_checkpoint
from judge_server import serving
from reload_server import ReloadServer

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.endpoint import EndpointBackend
from specs_eval.chat import user_chat
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.sampling import SamplingSpec
from specs_eval.transport import NoReply

EXCHANGE = [
    "/pause",
    "reload_weights",
    "specs_eval_pack_again",
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/reset_encoder_cache",
    "/resume",
    "specs_eval_weights",
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.transport.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "first")


@pytest.fixture
def server(first: Path) -> Iterator[ReloadServer]:
    with serving(ReloadServer(first)) as ready:
        yield ready


def backend(server: ReloadServer, **extra: str) -> EndpointBackend:
    return EndpointBackend(BackendOptions(extra={"base_url": server.url, "reload": "yes", "attempts": "1", **extra}))


def checkpoint(folder: Path, base: Path | None = None) -> Checkpoint:
    if base is None:
        write_checkpoint(folder)
    else:
        folder.mkdir()
    return Checkpoint(folder, folder.name, "s", None, f"{folder.name:0<64}", base)


def test_each_checkpoint_is_put_there_proven_and_asked_by_the_servers_name(
    server: ReloadServer, first: Path, tmp_path: Path
) -> None:
    engine, one, two = backend(server), checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    engine.load(one)
    assert server.calls == ["specs_eval_weights", *EXCHANGE] and set(server.held.values()) == {str(one.path)}
    engine.load(one)
    assert len(server.calls) == 1 + len(EXCHANGE)  # it is there already
    engine.load(two)
    assert server.calls[1 + len(EXCHANGE) :] == EXCHANGE and set(server.held.values()) == {str(two.path)}
    ((_, (response,)),) = engine.generate([Request("s", 1, user_chat("what?"), (0,))], SamplingSpec(0.0, 8))
    assert response.error is None and {body["model"] for body in server.bodies} == {"tiny"}
    engine.close()
    assert set(server.held.values()) == {str(first)}  # what it lists is true again


def test_what_the_server_cannot_do_says_how_to_start_it(server: ReloadServer, tmp_path: Path) -> None:
    server.has_extension = False
    with pytest.raises(ConfigError, match=r"specs_eval_weights.*--worker-extension-cls specs_eval"):
        backend(server).load(checkpoint(tmp_path / "one"))
    assert server.calls == ["specs_eval_weights"] and not server.bodies  # nothing was changed, nothing asked
    server.has_dev_mode = False
    with pytest.raises(ConfigError, match="VLLM_SERVER_DEV_MODE=1"):
        backend(server).load(checkpoint(tmp_path / "two"))


@pytest.mark.parametrize("stale", ["lm_head", "model.a"])
def test_weights_that_did_not_arrive_are_refused_and_the_server_goes_on(
    server: ReloadServer, tmp_path: Path, stale: str
) -> None:
    server.stale = {stale}
    engine, one = backend(server), checkpoint(tmp_path / "one")
    for _ in range(2):  # nor is it believed the second time
        with pytest.raises(CheckpointError, match=rf"1 of 3 tensors are not what it computes with \({stale}\)"):
            engine.load(one)
    assert not server.bodies and server.calls.count("/pause") == server.calls.count("/resume") == 2
    server.stale = set()
    engine.load(one)


def test_a_server_that_another_run_left_with_other_weights_has_to_take_all(
    server: ReloadServer, first: Path, tmp_path: Path
) -> None:
    server.held, server.stale = dict.fromkeys(server.held, "elsewhere"), {"lm_head"}
    with pytest.raises(CheckpointError, match="lm_head"):
        backend(server).load(checkpoint(tmp_path / "one"))


def test_what_a_server_keeps_from_its_start_must_be_the_same(server: ReloadServer, first: Path, tmp_path: Path) -> None:
    shape, tokens, ends = (checkpoint(tmp_path / name) for name in ("shape", "tokens", "ends"))
    config = {"model_type": "qwen2_5_vl", "text_config": {"hidden_size": 64}}
    (shape.path / "config.json").write_text(json.dumps(config))
    (tokens.path / "chat_template.jinja").write_text("{{ messages }}")
    (ends.path / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    engine = backend(server)
    for wrong, reason in ((shape, "hidden_size"), (tokens, "chat template differs"), (ends, "end tokens differ")):
        with pytest.raises(CheckpointError, match=reason):
            engine.load(wrong)
    assert server.calls == []


def test_a_server_of_folders_elsewhere_and_models_by_name_are_refused(server: ReloadServer, tmp_path: Path) -> None:
    server.models[0]["root"] = "org/model"
    with pytest.raises(CheckpointError, match="no folder here"):
        backend(server).load(checkpoint(tmp_path / "one"))
    (by_name,) = resolve_checkpoints(["served:tiny"], Fingerprinter(), may_be_served=True).checkpoints
    with pytest.raises(ConfigError, match="puts folders into a server"):
        backend(server).load(by_name)
    with pytest.raises(ConfigError, match="one --base-url"):
        backend(server, base_url=f"{server.url},http://127.0.0.1:1/v1")


def test_a_server_that_was_started_again_is_not_believed(server: ReloadServer, first: Path, tmp_path: Path) -> None:
    engine = backend(server)
    engine.load(checkpoint(tmp_path / "one"))
    assert engine.client.check is not None
    engine.client.check(server.url)
    server.held = dict.fromkeys(server.held, str(first))
    with pytest.raises(NoReply, match="came back without the weights"):
        engine.client.check(server.url)


def test_adapters_are_switched_on_their_base(server: ReloadServer, first: Path, tmp_path: Path) -> None:
    engine = backend(server)
    for name in ("one", "two"):
        engine.load(checkpoint(tmp_path / name, base=first))
        ((served, path),) = server.adapters.items()
        assert path == str(tmp_path / name) and server.bodies[-1]["model"] == served
    assert server.calls.count("reload_weights") == 1  # the base, once
    engine.load(checkpoint(tmp_path / "whole"))
    assert not server.adapters and server.bodies[-1]["model"] == "tiny"
    engine.load(checkpoint(tmp_path / "three", base=first))
    engine.close()
    assert not server.adapters and set(server.held.values()) == {str(first)}


def test_adapters_that_are_not_taken_whole_are_refused(server: ReloadServer, first: Path, tmp_path: Path) -> None:
    server.gaps = ["visual.blocks.0"]
    with pytest.raises(CheckpointError, match=r"leave 1 of the adapter's modules out \(visual.blocks.0\)"):
        backend(server).load(checkpoint(tmp_path / "one", base=first))
    assert not server.adapters and not server.bodies
    server.switches_adapters = False
    with pytest.raises(ConfigError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"):
        backend(server).load(checkpoint(tmp_path / "two", base=first))


def test_a_server_that_cannot_be_given_its_weights_back_is_told(
    server: ReloadServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = backend(server)
    engine.load(checkpoint(tmp_path / "one"))
    server.stale = {"model.b"}
    with caplog.at_level(logging.WARNING):
        engine.close()
    assert "keeps other weights" in caplog.text
