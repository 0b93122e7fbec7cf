"""What a run sees of the hf backend: options, ends, stop strings, failures, memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hf_tiny_models import checkpoint_folder, loaded_backend, mixed_chats, random_image, requests_for, responses_by_key

from specs_eval.backends.base import Backend, BackendOptions, Request
from specs_eval.backends.hf import HFBackend, rollouts
from specs_eval.backends.hf.engine import Engine
from specs_eval.backends.hf.layouts import SharedLayout
from specs_eval.backends.hf.memory import Room, cache_bytes_per_token, final_tokens
from specs_eval.backends.hf.rollouts import RolloutBatch, seat_rollouts
from specs_eval.chat import ImagePart, user_chat
from specs_eval.errors import ConfigError, GenerationError
from specs_eval.sampling import SamplingSpec

SPEC = SamplingSpec(1.0, 16, seed=3)


@pytest.fixture(scope="module")
def folder() -> Path:
    return checkpoint_folder("qwen2_5_vl")


@pytest.fixture(scope="module")
def backend(folder: Path) -> HFBackend:
    return loaded_backend(folder)


def test_it_is_a_backend(backend: HFBackend) -> None:
    as_backend: Backend = backend
    assert (as_backend.name, as_backend.numerics) == ("hf", "hf/float32")
    assert as_backend.block_size(8) == 64
    assert as_backend.block_size(1) == 512
    assert as_backend.block_size(1000) == 1
    assert HFBackend(BackendOptions(batch_size=5)).block_size(8) == 5
    assert HFBackend(BackendOptions(device="cpu", dtype="bfloat16")).numerics == "hf/bfloat16"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dtype": "int8"}, "float32"),
        ({"device": "tpu"}, "cpu"),
        ({"device": "mps"}, "cuda"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"batch_size": 0}, "--batch-size"),
        ({"extra": {"layout": "wide"}}, "layout=auto|shared|repeated"),
        ({"extra": {"speed": "max"}}, "speed=max"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace("|", r"\|")):
        HFBackend(BackendOptions(**options))


def test_generating_with_nothing_loaded() -> None:
    with pytest.raises(GenerationError, match="no checkpoint"):
        list(HFBackend(BackendOptions()).generate(requests_for(mixed_chats()), SPEC))


def test_every_request_comes_back_once_with_the_rollouts_it_owes(backend: HFBackend) -> None:
    requests = requests_for(mixed_chats())
    requests = [
        Request(r.sample_id, r.key, r.chat, owed)
        for r, owed in zip(requests, [(0,), (), (5, 2), (9,), (1,)], strict=True)
    ]
    answers = {r.sample_id: responses for r, responses in backend.generate(requests, SPEC)}
    assert {name: [a.rollout for a in found] for name, found in answers.items()} == {
        "s0": [0],
        "s1": [],
        "s2": [5, 2],
        "s3": [9],
        "s4": [1],
    }


def test_a_longer_budget_only_goes_on(backend: HFBackend) -> None:
    requests = requests_for(mixed_chats()[:3], n_rollouts=6)
    short = responses_by_key(backend, requests, SamplingSpec(1.0, 5, seed=3))
    long = responses_by_key(backend, requests, SamplingSpec(1.0, 16, seed=3))
    assert any(answer.finish_reason == "length" for answer in short.values())
    for key, answer in short.items():
        if answer.finish_reason == "stop":
            assert long[key] == answer
        else:
            assert answer.n_tokens == 5
            assert long[key].text.startswith(answer.text.rstrip("\ufffd"))


def test_seeds_samples_and_rollouts_get_noise_of_their_own(backend: HFBackend) -> None:
    chat = mixed_chats()[0]
    twins = [Request("a", 1, chat, (0, 1)), Request("b", 2, chat, (0, 1))]
    texts = {answer.text for answer in responses_by_key(backend, twins, SPEC).values()}
    texts |= {answer.text for answer in responses_by_key(backend, twins, SamplingSpec(1.0, 16, seed=4)).values()}
    assert len(texts) == 8


def test_end_tokens_stop_and_are_not_text(backend: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a quarter of the vocabulary as end tokens, rollouts end everywhere, and some at once.
    engine = backend.engine
    ends = range(40, 120)
    monkeypatch.setattr(engine, "eos_ids", torch.tensor(list(ends)))
    monkeypatch.setattr(engine, "eos_set", frozenset(ends))
    decoded: list[list[int]] = []
    decode = Engine.decode
    monkeypatch.setattr(Engine, "decode", lambda self, ids: decoded.extend(ids) or decode(self, ids))
    answers = responses_by_key(backend, requests_for(mixed_chats(), 16), SamplingSpec(1.0, 80, seed=3))
    assert {a.finish_reason for a in answers.values()} == {"stop"}
    assert [len(ids) + 1 for ids in decoded] == [a.n_tokens for a in answers.values()]
    assert not any(token in ends for ids in decoded for token in ids)
    empty = [a for a in answers.values() if a.n_tokens == 1]
    assert empty and all(a.text == "" and a.error is None and a.entropy is not None for a in empty)


def test_stop_strings_cut_the_text(backend: HFBackend) -> None:
    requests = requests_for(mixed_chats(), n_rollouts=8)
    free = responses_by_key(backend, requests, SPEC)
    letters = [character for answer in free.values() for character in answer.text if character.isascii()]
    stop = max(set(letters), key=letters.count)
    stopped = responses_by_key(backend, requests, SamplingSpec(1.0, 16, seed=3, stop=(stop, "never seen")))
    hits = 0
    for key, answer in free.items():
        before, found, _ = answer.text.partition(stop)
        assert stopped[key].text == (before if found else answer.text)
        if found:
            hits += 1
            assert stopped[key].finish_reason == "stop"
            assert (stopped[key].n_tokens or 99) <= (answer.n_tokens or 0)
    assert hits > 3


def test_statistics_by_position_only_when_asked(backend: HFBackend, folder: Path) -> None:
    requests = requests_for(mixed_chats()[:1])
    plain = responses_by_key(backend, requests, SPEC)["s0", 0]
    assert plain.nucleus_sizes is None and plain.entropies is None
    full = responses_by_key(loaded_backend(folder, per_position=True), requests, SPEC)["s0", 0]
    assert full.n_tokens == len(full.nucleus_sizes or ()) == len(full.entropies or ())
    assert full.nucleus == pytest.approx(sum(full.nucleus_sizes or ()) / (full.n_tokens or 1), abs=1e-6)


def test_a_bad_image_fails_its_request_only(backend: HFBackend, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    requests = requests_for(mixed_chats(), n_rollouts=2)
    good = responses_by_key(backend, requests, SPEC)
    for bad in (ImagePart(tmp_path / "cut.png"), ImagePart(tmp_path / "missing.png"), ImagePart(b"text")):
        requests[1] = Request("s1", 0, user_chat(bad, "What is this?"), (0, 1))
        answers = responses_by_key(backend, requests, SPEC)
        for rollout in (0, 1):
            failed = answers.pop(("s1", rollout))
            assert failed.finish_reason == "error" and "does not decode" in (failed.error or "")
            assert failed.text == "" and failed.n_tokens is None and failed.entropy is None
        assert len(answers) == 8 and same_texts(answers, good)


def same_texts(some: dict[Any, Any], all_of: dict[Any, Any]) -> bool:
    return all(answer.text == all_of[key].text for key, answer in some.items())


def test_a_prompt_that_spells_the_image_token_fails_its_request_only(backend: HFBackend) -> None:
    question = "what is <|image_pad|>?"
    requests = requests_for([mixed_chats()[0], user_chat(random_image(64, 64, 9), question), user_chat(question)])
    answers = responses_by_key(backend, requests, SPEC)
    assert answers["s0", 0].error is None
    assert "processor refused" in (answers["s1", 0].error or "")
    assert "image" in (answers["s2", 0].error or "") and answers["s2", 0].finish_reason == "error"


def test_text_survives_noise_that_flips_it_without_verification(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding is too small to be seen in a test, so it is exaggerated: every step's logits are moved."""
    noise, step = 2e-3, SharedLayout.step
    generator = torch.Generator().manual_seed(0)

    def noisy(self: SharedLayout, tokens: torch.Tensor) -> torch.Tensor:
        logits = step(self, tokens)
        moves = (torch.rand(logits.shape, generator=generator) * 2 - 1) * 0.9 * noise
        return logits + moves * logits.abs().amax(dim=-1, keepdim=True)

    requests = requests_for(mixed_chats(), n_rollouts=4)
    still = {
        temperature: responses_by_key(loaded_backend(folder), requests, SamplingSpec(temperature, 16))
        for temperature in (0.0, 1.0)
    }
    monkeypatch.setattr(SharedLayout, "step", noisy)
    monkeypatch.setattr(rollouts, "LOGIT_NOISE", noise)
    for temperature, expected in still.items():
        backend = loaded_backend(folder, extra={"layout": "repeated"})
        backend.engine.layout = "shared"
        answers = responses_by_key(backend, requests, SamplingSpec(temperature, 16))
        assert same_texts(answers, expected)
        assert 0 < backend.engine.n_settled < backend.engine.n_draws
    backend.engine.settings = HFBackend(BackendOptions(extra={"verify": "off"}))._settings
    assert not same_texts(responses_by_key(backend, requests, SamplingSpec(1.0, 16)), still[1.0])


def test_logits_that_are_not_finite_fail_the_rollout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = SharedLayout.step

    def broken(self: SharedLayout, tokens: torch.Tensor) -> torch.Tensor:
        logits = step(self, tokens)
        logits[0] = float("nan")
        return logits

    expected = responses_by_key(loaded_backend(folder), requests_for(mixed_chats()[:2], 2), SPEC)
    for verify, error in (("auto", None), ("off", "the model's logits are not finite at position 1")):
        backend = loaded_backend(folder, extra={"verify": verify})
        monkeypatch.setattr(SharedLayout, "step", broken)
        answers = responses_by_key(backend, requests_for(mixed_chats()[:2], 2), SPEC)
        monkeypatch.setattr(SharedLayout, "step", step)
        # With verification the sequence is computed again, alone, and found to be fine.
        assert answers["s0", 0].error == error
        assert same_texts({k: a for k, a in answers.items() if a.error is None}, expected)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_out_of_memory_halves_the_batch(folder: Path, error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, run, sizes = loaded_backend(folder), RolloutBatch.answers, []
    requests = requests_for(mixed_chats(), n_rollouts=2)
    expected = responses_by_key(backend, requests, SPEC)

    def limited(self: RolloutBatch) -> Any:
        sizes.append(len(self._questions))
        if len(self._questions) > 2:
            raise error
        return run(self)

    def midway(self: RolloutBatch) -> Any:
        for number, answer in enumerate(run(self)):
            if number == 1 and len(self._questions) == 5:
                raise error
            yield answer

    monkeypatch.setattr(RolloutBatch, "answers", limited)
    assert same_texts(responses_by_key(backend, requests, SPEC), expected)
    assert sizes == [5, 2, 3, 1, 2]
    monkeypatch.setattr(RolloutBatch, "answers", midway)
    assert same_texts(responses_by_key(backend, requests, SPEC), expected)

    def never(self: RolloutBatch) -> Any:
        raise error

    monkeypatch.setattr(RolloutBatch, "answers", never)
    answers = responses_by_key(backend, requests, SPEC)
    assert len(answers) == 10
    assert all("out of memory" in (answer.error or "") for answer in answers.values())


def test_a_sample_that_the_model_chokes_on_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, run = loaded_backend(folder), RolloutBatch.answers
    requests = requests_for(mixed_chats(), n_rollouts=2)
    expected = responses_by_key(backend, requests, SPEC)

    def choking(self: RolloutBatch) -> Any:
        if any(question.request.sample_id == "s3" for question in self._questions):
            raise ValueError("image features and image tokens do not match")
        return run(self)

    monkeypatch.setattr(RolloutBatch, "answers", choking)
    answers = responses_by_key(backend, requests, SPEC)
    failed = [answers.pop(("s3", rollout)) for rollout in (0, 1)]
    assert all("do not match" in (answer.error or "") for answer in failed)
    assert len(answers) == 8 and same_texts(answers, expected)


def test_bugs_and_broken_devices_are_not_taken_for_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = loaded_backend(folder)
    for error in (torch.AcceleratorError("device-side assert"), AttributeError("a bug")):

        def broken(self: RolloutBatch, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(RolloutBatch, "answers", broken)
        with pytest.raises(type(error)):
            list(backend.generate(requests_for(mixed_chats()), SPEC))


def test_a_small_memory_splits_a_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, run, sizes = loaded_backend(folder), RolloutBatch.answers, []
    requests = requests_for(mixed_chats(), n_rollouts=2)
    expected = responses_by_key(backend, requests, SPEC)

    def counted(self: RolloutBatch) -> Any:
        sizes.append(len(self._questions))
        return run(self)

    monkeypatch.setattr(RolloutBatch, "answers", counted)
    per_token = cache_bytes_per_token(backend.engine.model)
    assert per_token == 2 * 2 * 2 * 12 * 4
    monkeypatch.setattr("specs_eval.backends.hf.backend.cache_budget", lambda model: per_token * 300)
    assert same_texts(responses_by_key(backend, requests, SPEC), expected)
    assert sum(sizes) == 5 and 1 < len(sizes) <= 5


def test_room_is_for_one_sample_at_least() -> None:
    room = Room(cache=10, inputs=100)
    assert room.take(50, 1)
    assert not room.take(1, 1)
    room = Room(cache=10, inputs=100)
    assert room.take(4, 60) and room.take(6, 40)
    assert not room.take(0, 1) and room.take(0, 0)
    assert final_tokens(100, 8, 1, 50, torch.device("cpu")) == 200 + 400


def test_rollouts_are_seated_evenly() -> None:
    rows, cells = seat_rollouts([range(3), range(20), [7]], max_slots=8)
    assert rows == [0, 1, 1, 1, 2]
    assert len(cells) == 5 * 7
    seated = [cell for cell in cells if cell is not None]
    assert sorted(seated) == sorted([(0, 0), (0, 1), (0, 2), *[(1, i) for i in range(20)], (2, 7)])
    assert all(cell is None or cell[0] == rows[at // 7] for at, cell in enumerate(cells))


def test_timing_adds_up(folder: Path) -> None:
    backend = loaded_backend(folder)
    answers = responses_by_key(backend, requests_for(mixed_chats(), n_rollouts=3), SPEC)
    timing = backend.timing
    assert timing.n_rollouts == 15
    assert timing.n_tokens == sum(answer.n_tokens or 0 for answer in answers.values())
    assert min(timing.preprocess, timing.prefill, timing.decode, timing.statistics) > 0


def test_closing_frees_the_model(folder: Path) -> None:
    backend = loaded_backend(folder)
    backend.close()
    with pytest.raises(GenerationError):
        _ = backend.engine
    backend.close()


def test_many_rollouts_of_one_sample(folder: Path) -> None:
    (request,) = requests_for(mixed_chats()[:1], n_rollouts=50)
    answers = responses_by_key(loaded_backend(folder), [request], SPEC)
    few = [Request(request.sample_id, request.key, request.chat, (49, 17))]
    again = responses_by_key(loaded_backend(folder), few, SPEC)
    assert [rollout for _, rollout in answers] == list(range(50))
    assert same_texts(again, answers)
