"""The vllm backend against a stand-in for vLLM: what is asked, with which noise, in which order, and what goes wrong."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import torch
from fakes import FakeTask, ListObserver
from hf_tiny_models import requests_for
from PIL import Image
from safetensors.torch import load_file, save_file

from specs_eval.backends.base import BackendOptions, Request, Response
from specs_eval.backends.hf.choosing import Distribution, choose
from specs_eval.backends.hf.token_statistics import entropy_nats, nucleus_sizes
from specs_eval.backends.registry import create_backend
from specs_eval.backends.vllm import VLLMBackend, rollouts
from specs_eval.chat import Chat, ImagePart, user_chat
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, ConfigError, GenerationError
from specs_eval.runner import RunRequest, evaluate
from specs_eval.sampling import SamplingSpec, rollout_uniforms
from specs_eval.store import RunStore
from specs_eval.training.tiny import checkpoint_path

SPEC = SamplingSpec(1.0, 7, seed=3)


@pytest.fixture
def vllm() -> Iterator[type[fake_vllm.LLMEngine]]:
    with fake_vllm.installed() as engine:
        yield engine


def image(edge: int = 64, shade: int = 90) -> ImagePart:
    return ImagePart(Image.new("RGB", (edge, edge), (shade, 20, 200 - shade)))


def chats(n: int = 5) -> list[Chat]:
    return [
        user_chat(image(64, 10 * i), f"What color is shape {i}?") if i % 2 else user_chat(f"{i}?") for i in range(n)
    ]


def checkpoint_of(folder: Path, base: Path | None = None) -> Checkpoint:
    return Checkpoint(folder, folder.name, folder.name, None, f"fingerprint of {folder}", base)


def loaded(folder: Path | None = None, **extra: Any) -> VLLMBackend:
    backend = VLLMBackend(BackendOptions(dtype="float32", extra={k: str(v) for k, v in extra.items()}))
    backend.load(checkpoint_of(folder or checkpoint_path()))
    return backend


def answers(
    backend: VLLMBackend, requests: Sequence[Request], spec: SamplingSpec = SPEC
) -> dict[tuple[str, int], Response]:
    found = list(backend.generate(requests, spec))
    assert sorted(request.sample_id for request, _ in found) == sorted(request.sample_id for request in requests)
    for request, responses in found:
        assert tuple(response.rollout for response in responses) == request.rollouts
    return {(request.sample_id, one.rollout): one for request, responses in found for one in responses}


def engine_of(backend: VLLMBackend) -> Any:
    assert backend._loaded is not None
    return backend._loaded.engine._live


def other_weights(folder: Path, factor: float = 1.5) -> Path:
    """A checkpoint of the same architecture with other weights."""
    shutil.copytree(checkpoint_path(), folder)
    tensors = {name: tensor * factor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# --- what is drawn -----------------------------------------------------------------------------------------------------


def drawn_alone(
    backend: VLLMBackend, request: Request, number: int, spec: SamplingSpec
) -> tuple[list[int], list[float], list[int]]:
    """Tokens, entropies and nucleus sizes by the definition: one rollout, position by position."""
    engine, loaded_now = engine_of(backend), backend._loaded
    assert loaded_now is not None
    prompt = engine._render([loaded_now.prompts.prompt_of(request.chat)])[0]
    one = fake_vllm._Request("alone", prompt, fake_vllm.SamplingParams(), None)
    uniforms = rollout_uniforms(spec.seed, request.key, number, spec.max_new_tokens)
    entropies, sizes = [], []
    for position in range(spec.max_new_tokens):
        distribution = Distribution(engine._logits(one)[None])
        entropies.append(float(entropy_nats(distribution)))
        sizes.append(int(nucleus_sizes(distribution)))
        token = int(choose(distribution, torch.tensor([uniforms[position]]), spec, noise=0.0).tokens)
        one.output.append(token)
        if token in loaded_now.eos:
            break
    return one.output, entropies, sizes


@pytest.mark.parametrize("runner", [1, 2])
@pytest.mark.parametrize("spec", [SPEC, SamplingSpec(0.7, 7, seed=-(2**70), top_p=0.8)])
def test_draws_and_statistics_are_those_of_each_rollout_alone(vllm: Any, runner: int, spec: SamplingSpec) -> None:
    vllm.runner = runner
    backend = VLLMBackend(BackendOptions(dtype="float32", per_position=True))
    backend.load(checkpoint_of(checkpoint_path()))
    requests = requests_for(chats(), n_rollouts=3)
    found = answers(backend, requests, spec)
    decode = backend._loaded.tokenizer.decode  # type: ignore[union-attr]
    for request in requests:
        for number in request.rollouts:
            tokens, entropies, sizes = drawn_alone(backend, request, number, spec)
            one = found[request.sample_id, number]
            ended = tokens[-1] in backend._loaded.eos  # type: ignore[union-attr]
            assert one.text == decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
            assert (one.n_tokens, one.finish_reason) == (len(tokens), "stop" if ended else "length")
            assert one.entropies == pytest.approx(entropies, abs=1e-5) and one.nucleus_sizes == tuple(sizes)
            assert one.entropy == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)
            assert one.nucleus == pytest.approx(sum(sizes) / len(sizes), abs=1e-6)


def test_nothing_depends_on_batch_order_or_company(vllm: Any) -> None:
    requests = requests_for(chats(6), n_rollouts=4)
    wide = answers(loaded(max_num_seqs=64), requests)
    narrow = answers(loaded(max_num_seqs=2), list(reversed(requests)))
    alone = answers(loaded(), [Request(requests[3].sample_id, requests[3].key, requests[3].chat, (2,))])
    assert wide == narrow
    assert alone == {key: one for key, one in wide.items() if key == (requests[3].sample_id, 2)}
    assert len({one.text for one in wide.values()}) > 20


def test_greedy_is_left_to_the_engine_and_measured(vllm: Any) -> None:
    backend = loaded()
    found = answers(backend, requests_for(chats(3), n_rollouts=1), SamplingSpec(0.0, 5))
    assert all(one.entropy is not None and one.nucleus is not None for one in found.values())
    assert {params.temperature for params in engine_of(backend).seen} == {0.0}


def test_native_sampling_gives_each_rollout_its_own_seed_whatever_else_is_owed(vllm: Any) -> None:
    requests = requests_for(chats(3), n_rollouts=4)
    backend = loaded(sampling="native")
    whole = answers(backend, requests, SamplingSpec(0.8, 5, seed=1, top_p=0.9))
    seeds = [params.seed for params in engine_of(backend).seen]
    assert len(set(seeds)) == 12 and all(params.temperature == 0.8 for params in engine_of(backend).seen)
    with_gap = [Request(r.sample_id, r.key, r.chat, (1, 3)) for r in requests]
    again = answers(loaded(sampling="native"), with_gap, SamplingSpec(0.8, 5, seed=1, top_p=0.9))
    assert again == {key: whole[key] for key in again} and len(again) == 6
    assert backend.numerics == "vllm/float32/sampling=native"


# --- how it is asked -----------------------------------------------------------------------------------------------------


def test_an_image_is_prepared_once_for_all_rollouts(vllm: Any) -> None:
    backend = loaded()
    answers(backend, requests_for(chats(4), n_rollouts=8))
    assert engine_of(backend).n_rendered == 4


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes are fetched as soon as a rollout has ended, however fast the stand-in is."""
    monkeypatch.setattr(rollouts, "FETCH_SECONDS", 0.0)


def test_samples_come_back_as_they_are_whole_and_the_engine_is_not_flooded(vllm: Any, at_once: None) -> None:
    backend = loaded(max_num_seqs=2)
    engine, n_queued = engine_of(backend), []
    step = engine.step

    def counting_step() -> Any:
        n_queued.append(len(engine.queue) + sum(one is not None for one in engine.rows))
        return step()

    engine.step = counting_step
    stream = backend.generate(requests_for(chats(12), n_rollouts=2), SPEC)
    next(stream)
    assert engine.n_rendered < 12
    assert len(list(stream)) == 11 and max(n_queued) <= 2 * 2 + 1


def test_an_answer_that_nobody_wants_any_more_leaves_nothing_behind(vllm: Any, at_once: None) -> None:
    backend = loaded(max_num_seqs=2)
    requests = requests_for(chats(6), n_rollouts=2)
    stream = backend.generate(requests, SPEC)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    engine = engine_of(backend)
    assert not engine.queue and not [one for one in engine.rows if one is not None]
    assert engine.calls[-1] == "specs_eval_forget"
    assert answers(backend, requests) == answers(loaded(), requests)


def test_requests_without_rollouts(vllm: Any) -> None:
    request = requests_for(chats(1), n_rollouts=1)[0]
    assert list(loaded().generate([Request("s", 1, request.chat, ())], SPEC)) == [
        (Request("s", 1, request.chat, ()), [])
    ]
    assert list(loaded().generate([], SPEC)) == []


def test_engine_arguments(vllm: Any) -> None:
    loaded(tensor_parallel_size=2, gpu_memory_utilization=0.5, quantization="fp8")
    args = vllm.started[-1]
    assert (args.tensor_parallel_size, args.gpu_memory_utilization, args.quantization) == (2, 0.5, "fp8")
    assert (args.load_format, args.trust_remote_code, args.dtype) == ("safetensors", False, "float32")
    assert args.enable_prefix_caching and args.generation_config == "vllm"


def test_what_changes_more_than_rounding_is_part_of_the_identity() -> None:
    def numerics(**extra: str) -> str:
        return VLLMBackend(BackendOptions(dtype="bfloat16", extra=extra)).numerics

    assert numerics() == numerics(tensor_parallel_size="4", max_num_seqs="9", statistics="none") == "vllm/bfloat16"
    assert numerics(quantization="fp8") == 'vllm/bfloat16/quantization="fp8"'


def test_stop_strings_are_read_by_the_engine_and_cut_by_us(vllm: Any) -> None:
    backend = loaded()
    requests = requests_for(chats(4), n_rollouts=3)
    plain = answers(backend, requests)
    letter = max("aeiou ", key=lambda one: sum(one in response.text for response in plain.values()))
    stopped = answers(backend, requests, SamplingSpec(1.0, 7, seed=3, stop=(letter,)))
    assert {key: one.text for key, one in stopped.items()} == {
        key: one.text.split(letter)[0] for key, one in plain.items()
    }
    assert engine_of(backend).seen[-1].stop == [letter] and engine_of(backend).seen[-1].detokenize


def test_statistics_from_the_likeliest_tokens_are_exact_or_absent(vllm: Any, caplog: pytest.LogCaptureFixture) -> None:
    requests = requests_for(chats(5), n_rollouts=2)
    exact = answers(loaded(), requests)
    whole = answers(loaded(statistics="topk", top_logprobs=575), requests)
    for key, one in exact.items():
        assert (whole[key].text, whole[key].nucleus) == (one.text, one.nucleus)
        assert whole[key].entropy in (None, pytest.approx(one.entropy, abs=1e-5))
    with caplog.at_level(logging.WARNING):
        few_backend = loaded(statistics="topk", top_logprobs=20)
        few = answers(few_backend, requests)
        answers(few_backend, requests)
    assert all(one.nucleus in (None, exact[key].nucleus) and one.entropy is None for key, one in few.items())
    assert any(one.nucleus is None for one in few.values())
    assert sum("no nucleus size" in record.message for record in caplog.records) == 1
    none = answers(loaded(statistics="none"), requests)
    assert {key: one.text for key, one in none.items()} == {key: one.text for key, one in exact.items()}
    assert all(one.entropy is None and one.nucleus is None for one in none.values())


# --- many checkpoints ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_in_place_equals_a_fresh_one_and_caches_go(vllm: Any, tmp_path: Path) -> None:
    second = other_weights(tmp_path / "second")
    requests = requests_for(chats(3), n_rollouts=2)
    backend = loaded()
    first = answers(backend, requests)
    backend.load(checkpoint_of(second))
    assert len(vllm.started) == 1 and backend.load_note is None
    calls = engine_of(backend).calls
    assert [c for c in calls if c.startswith("re")] == [
        "reload_weights",
        "reset_prefix_cache",
        "reset_mm_cache",
        "reset_encoder_cache",
    ]
    there = answers(backend, requests)
    assert there == answers(loaded(second), requests) and there != first
    backend.load(checkpoint_of(checkpoint_path()))
    assert answers(backend, requests) == first


def test_weights_that_did_not_arrive_are_noticed(vllm: Any, tmp_path: Path) -> None:
    second = other_weights(tmp_path / "second")
    backend = loaded()
    vllm.takes_weights = False
    backend.load(checkpoint_of(second))
    assert len(vllm.started) == 2 and "did not take its weights" in str(backend.load_note)
    requests = requests_for(chats(2), n_rollouts=1)
    assert answers(backend, requests) == answers(loaded(second), requests)


def test_an_overwritten_folder_is_loaded_again(vllm: Any, tmp_path: Path) -> None:
    folder = other_weights(tmp_path / "one")
    backend = loaded(folder)
    before = answers(backend, requests_for(chats(2), n_rollouts=1))
    shutil.rmtree(folder)
    other_weights(folder, 0.5)
    backend.load(checkpoint_of(folder))
    assert answers(backend, requests_for(chats(2), n_rollouts=1)) != before


def test_another_architecture_gets_a_fresh_engine(vllm: Any, tmp_path: Path) -> None:
    other = other_weights(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 5000.0
    (other / "config.json").write_text(json.dumps(config))
    backend = loaded()
    first = engine_of(backend)
    backend.load(checkpoint_of(other))
    assert len(vllm.started) == 2 and "its configuration differs" in str(backend.load_note)
    assert first.calls[-1] == "shutdown"


def adapter(folder: Path, rank: int = 4) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "peft_type": "LORA"}))
    return folder


def test_adapters_share_one_engine_with_their_base(vllm: Any, tmp_path: Path) -> None:
    base, requests = checkpoint_path(), requests_for(chats(2), n_rollouts=1)
    backend = VLLMBackend(BackendOptions(dtype="float32"))
    backend.load(checkpoint_of(adapter(tmp_path / "a", 4), base))
    one = answers(backend, requests)
    backend.load(checkpoint_of(adapter(tmp_path / "b", 8), base))
    other = answers(backend, requests)
    backend.load(checkpoint_of(base))
    plain = answers(backend, requests)
    assert len(vllm.started) == 1 and vllm.started[0].max_lora_rank == 8
    assert one != other != plain != one and not engine_of(backend).adapters
    backend.load(checkpoint_of(adapter(tmp_path / "c", 40), base))
    assert len(vllm.started) == 2 and vllm.started[1].max_lora_rank == 64 and "rank 64" in str(backend.load_note)


def test_an_adapter_that_vllm_would_take_in_part_is_refused(vllm: Any, tmp_path: Path) -> None:
    vllm.lora_gaps = ("visual.blocks.0.qkv",)
    with pytest.raises(CheckpointError, match=r"leave 1 of the adapter's modules out \(visual"):
        VLLMBackend(BackendOptions()).load(checkpoint_of(adapter(tmp_path / "a"), checkpoint_path()))


# --- what goes wrong -----------------------------------------------------------------------------------------------------


def test_missing_old_and_broken_vllm() -> None:
    with pytest.raises(ConfigError, match=r"needs vLLM 0.31 or newer, which is not installed: pip install"):
        loaded()
    with fake_vllm.installed("0.30.2"), pytest.raises(ConfigError, match=r"vLLM 0.30.2 is installed .* prompts are"):
        loaded()
    with fake_vllm.installed("0.99.0"):
        import vllm

        del vllm.LLMEngine
        with pytest.raises(ConfigError, match=r"not laid out as this backend expects"):
            loaded()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"extra": {"max_num_seq": "4"}}, "did you mean max_num_seqs"),
        ({"extra": {"trust_remote_code": "true"}}, "no code of a checkpoint"),
        ({"extra": {"data_parallel_size": "2"}}, "--shard I/N"),
        ({"extra": {"statistics": "some"}}, "one of exact, topk, none"),
        ({"extra": {"top_logprobs": "0"}}, "whole number from 1"),
        ({"batch_size": 4}, "max_num_seqs"),
        ({"device": "mps"}, "cpu and cuda"),
        ({"device": "cuda:1", "extra": {"tensor_parallel_size": "2"}}, "leave it out"),
        ({"dtype": "int8"}, "float32, bfloat16"),
    ],
)
def test_options_without_a_meaning(vllm: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        create_backend("vllm", BackendOptions(**options)).load(checkpoint_of(checkpoint_path()))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu_memory_utilization"),
        (ValueError("No available memory for the cache blocks."), "gpu_memory_utilization"),
        (ValueError("Model architectures ['X'] are not supported for now"), r"does not serve this model \(Qwen2_5"),
        (RuntimeError("Engine core initialization failed. See root cause above."), "the cause stands above"),
    ],
)
def test_an_engine_that_does_not_start(vllm: Any, error: Exception, text: str) -> None:
    vllm.start_error = error
    with pytest.raises(CheckpointError, match=text):
        loaded()


def test_an_engine_that_dies_ends_the_checkpoint_and_the_next_one_gets_a_fresh_one(vllm: Any) -> None:
    backend = loaded()
    vllm.step_error = RuntimeError("CUDA out of memory")
    with pytest.raises(GenerationError, match=r"failed while generating: .*gpu_memory_utilization"):
        list(backend.generate(requests_for(chats(2), n_rollouts=1), SPEC))
    vllm.step_error = None
    with pytest.raises(GenerationError, match="no checkpoint loaded"):
        list(backend.generate([], SPEC))
    backend.load(checkpoint_of(checkpoint_path()))
    assert len(vllm.started) == 2 and len(answers(backend, requests_for(chats(2), n_rollouts=1))) == 2


def test_a_bad_sample_fails_alone(vllm: Any) -> None:
    good = requests_for(chats(3), n_rollouts=2)
    bad = [
        Request("broken", 1, user_chat(ImagePart(b"no image"), "?"), (0, 1)),
        Request("spelled", 2, user_chat("a <|image_pad|> b"), (0, 1)),
        Request("long", 3, user_chat("word " * 9000), (0, 1)),
    ]
    found = answers(loaded(), [bad[0], good[0], bad[1], good[1], bad[2], good[2]])
    reasons = {key[0]: one.error for key, one in found.items() if one.error is not None}
    assert "does not decode" in str(reasons["broken"]) and "spells the model's image token" in str(reasons["spelled"])
    assert "max_model_len" in str(reasons["long"]) and len(reasons) == 3
    assert {key: one for key, one in found.items() if one.error is None} == answers(loaded(), good)


def test_a_response_that_the_engine_cuts_short_is_no_answer(vllm: Any) -> None:
    request = requests_for(chats(2), n_rollouts=1)[1]
    probe = loaded()
    assert probe._loaded is not None
    n_prompt = len(engine_of(probe)._render([probe._loaded.prompts.prompt_of(request.chat)])[0]["prompt_token_ids"])
    (one,) = answers(loaded(max_model_len=n_prompt + 3), [request], SamplingSpec(1.0, 50, seed=5)).values()
    assert one.finish_reason == "error" and "raise --backend-arg max_model_len" in str(one.error)


def test_other_prompt_tokens_than_the_processors_are_refused_unless_asked_for(vllm: Any) -> None:
    vllm.extra_prompt_token = 17
    with pytest.raises(CheckpointError, match=r"makes other prompt tokens .* parting at position"):
        list(loaded().generate(requests_for(chats(1), n_rollouts=1), SPEC))
    assert len(answers(loaded(check_prompts="no"), requests_for(chats(1), n_rollouts=1))) == 1


def test_logits_that_are_not_finite_fail_the_rollout(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fake_vllm.LLMEngine._logits

    def logits(self: Any, one: Any) -> torch.Tensor:
        found = plain(self, one)
        return torch.full_like(found, float("nan")) if len(one.prompt["prompt_token_ids"]) > 30 else found

    monkeypatch.setattr(fake_vllm.LLMEngine, "_logits", logits)
    found = answers(loaded(), requests_for(chats(2), n_rollouts=1))
    assert [one.error is None for one in found.values()].count(False) == 1
    assert any("not finite" in str(one.error) for one in found.values())


# --- in a run ------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_one_that_was_not_interrupted(vllm: Any, tmp_path: Path) -> None:
    def run(store: str, die_after: int | None) -> list[tuple[Any, ...]]:
        backend = VLLMBackend(BackendOptions(dtype="float32"))
        if die_after is not None:
            generate = backend.generate

            def dying(requests: Any, spec: Any) -> Any:
                for n, answer in enumerate(generate(requests, spec)):
                    if n == die_after:
                        raise KeyboardInterrupt
                    yield answer

            backend.generate = dying  # type: ignore[method-assign]
        request = RunRequest([FakeTask(9)], n_rollouts=3, max_new_tokens=5)
        try:
            evaluate(
                [checkpoint_of(checkpoint_path())], request, RunStore.create(tmp_path / store), backend, ListObserver()
            )
        except KeyboardInterrupt:
            return run(store, None)
        (stored,) = RunStore.create(tmp_path / store).runs()
        return sorted((r["sample_id"], r["rollout"], r["response"], r["entropy"]) for r in stored.table().to_pylist())

    whole = run("whole", None)
    assert run("broken", 4) == whole and len(whole) == 27
