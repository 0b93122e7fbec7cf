"""The vllm backend with a real vLLM on the CPU, held against the hf backend on the shipped checkpoint.

Runs in the environment that ``make test-vllm`` builds; elsewhere it is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")

import torch
from hf_tiny_models import checkpoint_folder, checkpoint_of, mixed_chats, requests_for, responses_by_key
from tiny_series import LANGUAGE, VISION, moved_checkpoint, write_adapter

from specs_eval import load_runs
from specs_eval.backends.base import BackendOptions, Request, Response
from specs_eval.backends.hf import HFBackend
from specs_eval.backends.hf.probe import plain_logits
from specs_eval.backends.vllm import VLLMBackend
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError
from specs_eval.sampling import SamplingSpec, noise_key
from specs_eval.tasks.registry import parse_task_list
from specs_eval.training.tiny import checkpoint_path

SPEC = SamplingSpec(1.0, 24, seed=7)
EXTRA = {"enforce_eager": "yes", "max_num_seqs": "64", "max_model_len": "1024"}


_LIVE: dict[tuple[object, ...], VLLMBackend] = {}


def close_all() -> None:
    while _LIVE:
        _LIVE.popitem()[1].close()


def loaded(folder: Path, dtype: str = "float32", **extra: str) -> VLLMBackend:
    """The only backend that is alive: a process cannot hold two engines."""
    close_all()
    backend = VLLMBackend(BackendOptions(dtype=dtype, per_position=True, extra={**EXTRA, **extra}))
    _LIVE[folder, dtype, tuple(extra.items())] = backend
    backend.load(checkpoint_of(folder))
    return backend


def loaded_hf(folder: Path, dtype: str = "float32") -> HFBackend:
    backend = HFBackend(BackendOptions(device="cpu", dtype=dtype, per_position=True))
    backend.load(checkpoint_of(folder))
    return backend


ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # A core in a process of its own takes half a minute more to start; one test below has it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """One thread, one process, and no engine left behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield
        close_all()


@pytest.fixture
def backend() -> VLLMBackend:
    """The shipped checkpoint, loaded again only if something else was loaded since."""
    return _LIVE.get((checkpoint_path(), "float32", ())) or loaded(checkpoint_path())


def asked(n_samples: int, n_rollouts: int = 1, task: str = "easyvqa") -> list[Request]:
    (loaded_task,) = parse_task_list(task, None, (), "official", None)
    numbers = tuple(range(n_rollouts))
    samples = loaded_task.samples()[:n_samples]
    return [Request(s.sample_id, noise_key(task, s.sample_id), s.chat, numbers) for s in samples]


def share_alike(one: dict[Any, Response], other: dict[Any, Response]) -> float:
    assert one.keys() == other.keys() and all(r.error is None for r in (*one.values(), *other.values()))
    return sum(one[key].text == other[key].text for key in one) / len(one)


# --- the same answers as the hf backend ------------------------------------------------------------------------------


def test_prompt_tokens_are_the_processors(backend: VLLMBackend) -> None:
    loaded_now = backend._loaded
    assert loaded_now is not None
    for request in [*asked(30), *asked(20, task="formats_ood"), *requests_for(mixed_chats())]:
        prepared = loaded_now.engine.prepare(loaded_now.prompts.prompt_of(request.chat))
        assert loaded_now.prompts.difference(request.chat, list(prepared["prompt_token_ids"])) is None


@pytest.mark.parametrize("spec", [SPEC, SamplingSpec(0.0, 24), SamplingSpec(0.8, 24, seed=1, top_p=0.9)])
def test_texts_and_statistics_are_those_of_the_hf_backend(backend: VLLMBackend, spec: SamplingSpec) -> None:
    requests = asked(60, 1 if spec.temperature == 0 else 4, task="formats_id")
    ours = responses_by_key(backend, requests, spec)
    theirs = responses_by_key(loaded_hf(checkpoint_path()), requests, spec)
    assert share_alike(ours, theirs) >= 0.99
    for key, one in ours.items():
        other = theirs[key]
        if one.text == other.text:
            assert (one.n_tokens, one.finish_reason) == (other.n_tokens, other.finish_reason)
            assert one.entropies == pytest.approx(other.entropies, abs=1e-4)
            assert one.nucleus == pytest.approx(other.nucleus, abs=0.05)


@pytest.mark.parametrize(("dtype", "middle", "most"), [("float32", 1e-5, 1e-3), ("bfloat16", 0.02, 0.3)])
def test_log_probabilities_agree(dtype: str, middle: float, most: float) -> None:
    """Of each token of greedy responses, against forward passes without a cache."""
    backend, hf = loaded(checkpoint_path(), dtype), loaded_hf(checkpoint_path(), dtype)
    now = backend._loaded
    assert now is not None
    params = now.engine.vllm.sampling_params(
        temperature=0.0, max_tokens=12, logprobs=1, detokenize=False, output_kind=now.engine.vllm.final_only
    )
    requests = asked(20, task="formats_id")
    for request in requests:
        now.engine.add(request.sample_id, now.engine.prepare(now.prompts.prompt_of(request.chat)), params, None)
    outputs: dict[str, Any] = {}
    while len(outputs) < len(requests):
        outputs |= {output.request_id: output.outputs[0] for output in now.engine.step()}
    differences = []
    for request in requests:
        output = outputs[request.sample_id]
        tokens = torch.tensor(list(output.token_ids))
        with torch.inference_mode():
            logits = plain_logits(hf.engine.model, hf.engine.encoder.encode(request.chat), tokens)
        expected = logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1).tolist()
        found = [position[token].logprob for position, token in zip(output.logprobs, output.token_ids, strict=True)]
        differences += [abs(a - b) for a, b in zip(found, expected, strict=True)]
    assert len(differences) > 100
    assert sorted(differences)[len(differences) // 2] <= middle and max(differences) <= most


def test_scores_agree_over_500_samples_in_bfloat16(tmp_path: Path) -> None:
    arguments = ["--tasks", "easyvqa", "--limit", "500", "--temperature", "1", "--dtype", "bfloat16"]
    served = scores(run(tmp_path / "vllm", *arguments, "--backend", "vllm"))
    local = scores(run(tmp_path / "hf", *arguments, "--backend", "hf", "--device", "cpu"))
    difference = served - local
    assert len(difference) == 500 and 0.5 < local.mean() < 1
    assert abs(difference.mean()) <= 2.6 * difference.std() / len(difference) ** 0.5 + 1e-9


def scores(frame: pd.DataFrame) -> pd.Series[float]:
    return frame.groupby("sample_id")["score"].mean()


def run(store: Path, *arguments: str, **environment: str) -> pd.DataFrame:
    extra = [part for key, value in EXTRA.items() for part in ("--backend-arg", f"{key}={value}")]
    more = extra if "vllm" in arguments else []
    subprocess.run(
        command(store, *arguments, *more), check=True, env=os.environ | environment, stdout=subprocess.DEVNULL
    )
    return load_runs(store)


def command(store: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "specs_eval",
        "run",
        "--ckpt",
        str(checkpoint_path()),
        "--store",
        str(store),
        *arguments,
    ]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "idefics3"])
def test_other_families(family: str) -> None:
    folder = checkpoint_folder(family, head_dim=32)
    requests = requests_for(mixed_chats(), n_rollouts=3)
    backend = loaded(folder)
    ours = responses_by_key(backend, requests, SPEC)
    assert share_alike(ours, responses_by_key(loaded_hf(folder), requests, SPEC)) >= 0.93


# --- nothing depends on the batch -----------------------------------------------------------------------------------


def test_800_rollouts_in_another_order_and_another_batch(backend: VLLMBackend) -> None:
    requests = asked(200, 4)
    wide = responses_by_key(backend, requests, SPEC)
    narrow = loaded(checkpoint_path(), max_num_seqs="5", max_num_batched_tokens="64")
    other = responses_by_key(narrow, list(reversed(requests)), SPEC)
    assert len(wide) == 800 and share_alike(wide, other) >= 0.99
    backend = loaded(checkpoint_path())
    few = [Request(r.sample_id, r.key, r.chat, (1, 3)) for r in requests[::10]]
    again = responses_by_key(backend, few, SPEC)
    assert share_alike(again, {key: wide[key] for key in again}) >= 0.97


def test_native_sampling_gives_a_rollout_the_same_tokens_alone() -> None:
    # On the CPU, seeds of single requests together with chunked prefill have killed the engine.
    native = loaded(checkpoint_path(), sampling="native", enable_chunked_prefill="no", max_num_batched_tokens="8192")
    requests = asked(30, 4, task="formats_id")
    together = responses_by_key(native, requests, SPEC)
    alone = responses_by_key(native, [Request(r.sample_id, r.key, r.chat, (2,)) for r in requests[:10]], SPEC)
    assert share_alike(alone, {key: together[key] for key in alone}) >= 0.9
    assert len({together[r.sample_id, n].text for r in requests for n in range(4)}) > 60
    assert all(one.nucleus is not None for one in together.values())


# --- many checkpoints, one engine ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The shipped checkpoint and two whose weights, those of the vision tower among them, are others."""
    root = tmp_path_factory.mktemp("series")
    return [checkpoint_path(), *(moved_checkpoint(root / f"checkpoint-{number}", number) for number in (1, 2))]


def test_three_checkpoints_through_one_engine_equal_fresh_loads(three: Sequence[Path]) -> None:
    requests = asked(40, 2, task="formats_id")
    fresh = []
    for folder in three:
        backend = loaded(folder)
        fresh.append(responses_by_key(backend, requests, SPEC))
    assert share_alike(fresh[0], fresh[1]) < 0.9 and share_alike(fresh[1], fresh[2]) < 0.9
    one = loaded(three[0], max_num_seqs="48")
    engine, seconds = one._loader._engine, []  # type: ignore[union-attr]
    for number in (0, 1, 2, 0, 2):
        started = time.monotonic()
        one.load(checkpoint_of(three[number]))
        seconds.append(time.monotonic() - started)
        assert one.load_note is None and one._loader._engine is engine  # type: ignore[union-attr]
        found = responses_by_key(one, requests, SPEC)
        assert share_alike(found, fresh[number]) >= 0.99
    print("seconds of a change in place:", [round(value, 2) for value in seconds])


def test_another_architecture_gets_a_fresh_engine(three: Sequence[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(three[1], other)
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 20000.0
    (other / "config.json").write_text(json.dumps(config))
    one = loaded(three[0], max_num_seqs="48")
    one.load(checkpoint_of(other))
    assert "its configuration differs" in str(one.load_note)
    requests = asked(10, 2)
    found = responses_by_key(one, requests, SPEC)
    assert share_alike(found, responses_by_key(loaded_hf(other), requests, SPEC)) >= 0.95


def adapter(folder: Path, seed: int, targets: str) -> Checkpoint:
    write_adapter(folder, seed, targets)
    return Checkpoint(folder, folder.name, "lora", seed, f"lora {folder}", checkpoint_path())


def adapted_backend() -> VLLMBackend:
    close_all()
    backend = VLLMBackend(BackendOptions(dtype="float32", extra=EXTRA))
    _LIVE["adapted",] = backend
    return backend


def test_adapters_are_switched_on_one_engine(tmp_path: Path) -> None:
    one, hf = adapted_backend(), HFBackend(BackendOptions(device="cpu"))
    requests = asked(25, 2, task="formats_id")
    found = []
    for seed in (1, 2):
        checkpoint = adapter(tmp_path / f"checkpoint-{seed}", seed, LANGUAGE)
        one.load(checkpoint)
        hf.load(checkpoint)
        found.append(responses_by_key(one, requests, SPEC))
        # The hf backend merges, which rounds otherwise.
        assert share_alike(found[-1], responses_by_key(hf, requests, SPEC)) >= 0.9
        assert one.load_note is None
    assert share_alike(found[0], found[1]) < 0.9


def test_an_adapter_of_the_vision_tower_is_not_left_out_in_silence(tmp_path: Path) -> None:
    checkpoint = adapter(tmp_path / "vision", 3, VISION)
    one = adapted_backend()
    with pytest.raises(CheckpointError, match="of the adapter's modules out"):
        one.load(checkpoint)


# --- a process of its own, killed ----------------------------------------------------------------------------------------


def test_a_killed_run_continues_and_equals_one_that_was_not(tmp_path: Path) -> None:
    """With the engine's core in a process of its own, as it is by default."""
    arguments = ("--tasks", "formats_id", "--limit", "150", "--rollouts", "4", "--backend", "vllm")
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    whole = run(tmp_path / "whole", *arguments, **environment)
    extra = [part for key, value in EXTRA.items() for part in ("--backend-arg", f"{key}={value}")]
    killed = subprocess.Popen(command(tmp_path / "killed", *arguments, *extra), env=os.environ | environment)
    try:
        deadline = time.monotonic() + 300
        while n_lines(tmp_path / "killed") < 60:
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        engine = psutil.Process(killed.pid).children(recursive=True)
    finally:
        killed.kill()
        killed.wait()
    # The engine's processes are not told, and would hold on to a GPU.
    assert engine and not psutil.wait_procs(engine, timeout=60)[1]
    assert 60 <= n_lines(tmp_path / "killed") < 600
    both = whole.merge(run(tmp_path / "killed", *arguments, **environment), on=["sample_id", "rollout"])
    assert len(whole) == len(both) == 600
    assert (both["response_x"] == both["response_y"]).mean() >= 0.99


def n_lines(store: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in store.glob("*/journal.jsonl"))
