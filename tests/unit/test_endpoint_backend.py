"""The openai backend against a server on this machine: what is asked, what is read, what is refused."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import EndpointServer, drawn_text
from judge_server import serving
from PIL import Image

from specs_eval.backends.base import BackendOptions, Request, Response
from specs_eval.backends.endpoint import EndpointBackend
from specs_eval.backends.endpoint.requests import request_seed
from specs_eval.backends.registry import create_backend
from specs_eval.chat import Chat, ImagePart, Message, TextPart, user_chat
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.errors import CheckpointError, ConfigError, GenerationError
from specs_eval.fingerprint import Fingerprinter
from specs_eval.sampling import SamplingSpec

SPEC = SamplingSpec(temperature=1.0, max_new_tokens=32, seed=3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specs_eval.transport.FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving(EndpointServer("m", "dpo/checkpoint-20")) as ready:
        yield ready


def served(name: str = "m") -> Checkpoint:
    (checkpoint,) = resolve_checkpoints([f"served:{name}"], Fingerprinter(), may_be_served=True).checkpoints
    return checkpoint


def backend(*servers: EndpointServer, name: str = "m", per_position: bool = False, **extra: str) -> EndpointBackend:
    extra = {"base_url": ",".join(one.url for one in servers), "timeout": "5", **extra}
    made = create_backend("openai", BackendOptions(per_position=per_position, extra=extra))
    assert isinstance(made, EndpointBackend)
    made.load(served(name))
    return made


def requests(n: int = 1, rollouts: tuple[int, ...] = (0,), chat: Chat | None = None) -> list[Request]:
    return [Request(f"s{i}", 1000 + i, chat or user_chat(f"what is {i}?"), rollouts) for i in range(n)]


def answers(engine: EndpointBackend, asked: list[Request], spec: SamplingSpec = SPEC) -> dict[str, list[Response]]:
    found = {request.sample_id: responses for request, responses in engine.generate(asked, spec)}
    assert found.keys() == {request.sample_id for request in asked}
    return found


def test_what_is_sent_says_everything_about_how_to_draw(server: EndpointServer) -> None:
    spec = SamplingSpec(0.7, 99, seed=3, top_p=0.9, stop=("END",))
    (responses,) = answers(backend(server), requests(1, (0, 1, 2, 3)), spec).values()
    (body,) = server.questions
    assert body["temperature"] == 0.7 and body["top_p"] == 0.9 and body["max_tokens"] == 99 and body["stop"] == ["END"]
    assert body["n"] == 4 and body["seed"] == request_seed(3, 1000, 0)
    assert body["top_k"] == -1 and body["repetition_penalty"] == 1.0  # else the server's own defaults would apply
    assert [r.rollout for r in responses] == [0, 1, 2, 3] and all(r.error is None for r in responses)
    assert [r.text for r in responses] == [drawn_text(body, body["seed"] + i) for i in range(4)]


def test_images_go_as_data_urls_in_reading_order(server: EndpointServer) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(stream, "PNG")
    see_through = Image.new("RGBA", (2, 2), (0, 0, 255, 0))
    parts = (TextPart("first "), ImagePart(stream.getvalue()), TextPart(" then "), ImagePart(see_through))
    answers(backend(server), requests(chat=(Message("system", (TextPart("be brief"),)), Message("user", parts))))
    system, user = server.questions[0]["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text", "image_url"]
    urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    assert urls[0] == "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    again = Image.open(io.BytesIO(base64.b64decode(urls[1].partition(",")[2])))
    assert again.mode == "RGB" and again.getpixel((0, 0)) == (0, 0, 255)  # the pixels that other backends see


def test_an_image_that_does_not_decode_fails_its_sample_alone(server: EndpointServer, tmp_path: Path) -> None:
    asked = [*requests(2), Request("bad", 5, user_chat("x", ImagePart(tmp_path / "none.png")), (0, 1))]
    found = answers(backend(server), asked)
    assert [r.finish_reason for r in found["bad"]] == ["error", "error"] and "none.png" in str(found["bad"][0].error)
    assert found["s0"][0].error is None and len(server.questions) == 2


def test_a_rollout_is_drawn_alike_alone_and_among_others(server: EndpointServer) -> None:
    (together,) = answers(backend(server), requests(1, tuple(range(8)))).values()
    (gaps,) = answers(backend(server), requests(1, (1, 2, 5))).values()
    (single,) = answers(backend(server, n="1"), requests(1, (0, 5))).values()
    texts = [r.text for r in together]
    assert len(set(texts)) > 2
    assert [r.text for r in gaps] == [texts[1], texts[2], texts[5]] and [r.text for r in single] == [texts[0], texts[5]]
    assert sorted(body.get("n", 1) for body in server.questions) == [1, 1, 1, 2, 8]


def test_seeds_depend_on_seed_sample_and_rollout_alone() -> None:
    seeds = {request_seed(seed, key, rollout) for seed in range(20) for key in range(20) for rollout in (0, 1000)}
    assert len(seeds) == 800 and all(0 <= seed < 2**31 for seed in seeds)
    assert request_seed(0, 7, 5) - request_seed(0, 7, 2) == 3
    assert request_seed(0, 2**63, 0) == 192843621  # a change of this number is a change of results


def test_tokens_are_those_of_each_choice_or_unknown(server: EndpointServer) -> None:
    (known,) = answers(backend(server), requests(1, (0, 1, 2))).values()
    assert [r.n_tokens for r in known] == [1 + len(r.text.split()) for r in known]
    server.refused_fields = {"return_token_ids"}
    plain = backend(server)
    (unknown,) = answers(plain, requests(1, (0, 1, 2))).values()
    assert [r.n_tokens for r in unknown] == [None] * 3  # the total of three says nothing about one
    (single,) = answers(plain, requests(1, (0,))).values()
    assert single[0].n_tokens == 1 + len(single[0].text.split())


@pytest.mark.parametrize("field", ["n", "seed", "top_k", "top_logprobs", "max_tokens"])
def test_what_an_endpoint_refuses_is_left_out_and_said_once(
    server: EndpointServer, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused_fields = {field}
    engine = backend(server, top_logprobs="5")
    found = answers(engine, requests(3, (0, 1)))
    assert all(r.error is None for responses in found.values() for r in responses)
    assert all(field not in body for body in server.questions)
    assert len(server.questions) == (6 if field == "n" else 3)
    warnings = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert len(warnings) == 1
    assert ("top_k" in warnings[0]) == (field == "top_k")


def test_an_endpoint_that_ignores_n_is_asked_for_one_at_a_time(server: EndpointServer) -> None:
    server.most_choices = 1
    (found,) = answers(backend(server), requests(1, (0, 1, 2, 3))).values()
    assert all(r.error is None for r in found) and len({r.text for r in found}) > 1
    assert [body.get("n", 1) for body in server.questions] == [1, 1, 1, 1]


def test_missing_choices_are_asked_for_again_with_their_own_seeds(server: EndpointServer) -> None:
    engine = backend(server)
    (whole,) = answers(engine, requests(1, tuple(range(8)))).values()
    server.fault_rate, server.faults = 1.0, ("fewer",)
    (pieced,) = answers(engine, requests(1, tuple(range(8)))).values()
    assert [r.text for r in pieced] == [r.text for r in whole] and len(server.questions) > 2


def test_statistics_are_exact_or_none(server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    (enough,) = answers(backend(server, top_logprobs="8"), requests()).values()
    assert enough[0].nucleus == 5.0 and enough[0].entropy is None and enough[0].nucleus_sizes is None
    (each,) = answers(backend(server, top_logprobs="8", per_position=True), requests()).values()
    assert each[0].nucleus_sizes == (5,) * (each[0].n_tokens or 0)
    (fine,) = answers(backend(server, top_logprobs="40"), requests()).values()
    assert fine[0].entropy == pytest.approx(2 * 0.693147, abs=2e-6)  # of the geometric distribution: 2 ln 2
    assert not caplog.records
    engine = backend(server, top_logprobs="4")
    found = answers(engine, requests(3))
    assert all(r.nucleus is None and r.error is None for responses in found.values() for r in responses)
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == ["3 of 3 responses have no nucleus size"]


def test_statistics_need_the_models_own_distribution(server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    cold = SamplingSpec(temperature=0.5)
    (found,) = answers(backend(server, top_logprobs="8"), requests(), cold).values()
    assert found[0].nucleus is None and "logprobs" not in server.questions[0] and "temperature 1" in caplog.text
    (found,) = answers(backend(server, top_logprobs="8", raw_logprobs="yes"), requests(), cold).values()
    assert found[0].nucleus == 5.0


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": None}, "stop", "holds no text (finish reason stop)"),
        ({"content": None, "tool_calls": [{"function": {"name": "rm"}}]}, "tool_calls", "finish reason tool_calls"),
        ({"content": ["B"]}, "stop", "holds no text"),
        ({"content": "B"}, "content_filter", "filtered"),
        (None, None, "holds no text (finish reason none)"),
        ({"content": None}, "\x1b[31m" * 99, "finish reason none"),
    ],
)
def test_what_is_no_text_is_a_failed_rollout(server: EndpointServer, message: Any, finish: Any, expected: str) -> None:
    engine = backend(server)
    server.change = lambda facts: facts["choices"][0].update(message=message, finish_reason=finish)
    (found,) = answers(engine, requests()).values()
    assert found[0].error is not None and expected in found[0].error and found[0].text == ""


def test_hostile_text_arrives_as_it_is_and_reasoning_is_told(
    server: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    engine = backend(server)
    nasty = "NUL \x00 lone \ud800 end"
    server.change = lambda facts: facts["choices"][0].update(message={"content": nasty})
    assert answers(engine, requests())["s0"][0].text == nasty
    message = {"content": None, "reasoning_content": "let me think"}
    server.change = lambda facts: facts["choices"][0].update(message=message, finish_reason="length")
    found = answers(engine, requests())["s0"][0]
    assert (found.text, found.finish_reason, found.error) == ("", "length", None) and "reasoning" in caplog.text


def test_a_stop_string_that_the_server_left_in_ends_the_text(server: EndpointServer) -> None:
    engine = backend(server)
    server.change = lambda facts: facts["choices"][0].update(message={"content": "one END two STOP"})
    assert answers(engine, requests(), SamplingSpec(stop=("STOP", "END")))["s0"][0].text == "one "


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'{"choices": []}',
        b'{"choices": 5}',
        b'{"choices": [5]}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * 17_000_000,
    ],
)
def test_replies_that_are_none_are_tried_again_and_then_failed(server: EndpointServer, data: bytes) -> None:
    engine = backend(server, attempts="3")
    server.change = lambda facts: data
    (found,) = answers(engine, requests(1, (0, 1))).values()
    assert [r.finish_reason for r in found] == ["error", "error"] and len(server.questions) == 3
    server.change = None
    assert answers(engine, requests())["s0"][0].error is None


def test_a_question_that_is_refused_is_not_asked_again_and_says_why(server: EndpointServer) -> None:
    engine = backend(server)
    reason = json.dumps({"error": {"message": "maximum context length is 10 tokens\n"}}).encode()
    server.plan = [lambda handler: handler.send(reason, 400)]
    (found,) = answers(engine, requests()).values()
    assert found[0].error == (
        "the endpoint gave no response: HTTP 400 Bad Request: maximum context length is 10 tokens"
    )
    assert len(server.questions) == 1


def test_a_wrong_key_is_said_at_once(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.key = "right"
    with pytest.raises(ConfigError, match="wants a key; set OPENAI_API_KEY"):
        backend(server)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-wrong")
    with pytest.raises(ConfigError, match="refuses the key in OPENAI_API_KEY") as refused:
        backend(server)
    assert "secret" not in str(refused.value) and not server.bodies
    monkeypatch.setenv("MY_KEY", "right")
    engine = backend(server, key_variable="MY_KEY")
    assert answers(engine, requests())["s0"][0].error is None
    server.key = "changed"
    before = len(server.questions)
    with pytest.raises(ConfigError, match="refuses the key in MY_KEY"):
        answers(engine, requests())
    assert len(server.questions) == before + 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_endpoint_that_is_down_from_the_start() -> None:
    made = create_backend("openai", BackendOptions(extra={"base_url": f"http://127.0.0.1:{free_port()}/v1"}))
    with pytest.raises(ConfigError, match=r"no endpoint answers; is the server running\? http://127.0.0.1:\d+/v1: "):
        made.load(served())


def test_an_endpoint_that_goes_away_ends_the_run_and_not_the_samples(server: EndpointServer) -> None:
    engine = backend(server, attempts="2", concurrency="2")
    server.plan = [200, 200] + [500] * 10_000
    done = []
    with pytest.raises(GenerationError, match="no endpoint answers any more"):
        done.extend(engine.generate(requests(2000), SPEC))
    assert len(done) < 20 and done[0][1][0].error is None


def test_another_model_than_asked_is_refused(server: EndpointServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not serve 'n'; it serves 'm', 'dpo/checkpoint-20'"):
        backend(server, name="n")
    server.reports = "another-13b"
    with pytest.raises(CheckpointError, match="answers as 'another-13b'"):
        backend(server)
    assert answers(backend(server, check_model="no"), requests())["s0"][0].error is None
    server.reports = "m-2024-08-06"  # a version of what was asked for
    engine = backend(server)
    server.reports = "another-13b"
    with pytest.raises(GenerationError, match="answers as 'another-13b' now"):
        answers(engine, requests())


def test_a_folder_is_found_by_where_the_server_took_it_from(server: EndpointServer, tmp_path: Path) -> None:
    folder = tmp_path / "dpo" / "checkpoint-5"
    folder.mkdir(parents=True)
    local = Checkpoint(folder, "dpo/checkpoint-5", "dpo", 5, "f" * 64)
    options = BackendOptions(extra={"base_url": server.url})
    made = create_backend("openai", options)
    with pytest.raises(CheckpointError, match="does not say that it serves .*checkpoint-5.*model=NAME"):
        made.load(local)
    server.models.append({"id": "latest", "root": str(folder)})
    made.load(local)
    list(made.generate(requests(), SPEC))
    assert server.questions[-1]["model"] == "latest"
    named = create_backend("openai", BackendOptions(extra={"base_url": server.url, "model": "m"}))
    named.load(local)
    with pytest.raises(CheckpointError, match="several checkpoints"):
        named.load(Checkpoint(tmp_path, "dpo/checkpoint-6", "dpo", 6, "e" * 64))


def test_a_server_that_lists_no_models_is_believed_and_told(
    server: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.lists_models = False
    assert answers(backend(server), requests())["s0"][0].error is None
    assert "not checked" in caplog.text


def test_several_addresses_share_the_work_and_a_dead_one_is_left_out(server: EndpointServer) -> None:
    with serving(EndpointServer("m")) as other:
        server.seconds = other.seconds = 0.002
        engine = backend(server, other, concurrency="8")
        answers(engine, requests(100))
        shares = len(server.questions), len(other.questions)
        assert sum(shares) == 100 and min(shares) > 30
        other.fault_rate, other.faults = 1.0, ("500",)
        found = answers(engine, requests(100))
        assert all(r.error is None for responses in found.values() for r in responses)
        assert len(other.questions) - shares[1] < 20
    other_model = EndpointServer("m")
    other_model.models[0]["root"] = "/elsewhere"
    with serving(other_model), pytest.raises(CheckpointError, match="serve different models"):
        backend(server, other_model)


def test_two_hundred_at_a_time_with_four_rollouts_over_few_connections(server: EndpointServer) -> None:
    engine = backend(server, concurrency="200", timeout="60")
    server.seconds = 0.05
    found = answers(engine, requests(600, (0, 1, 2, 3)))
    assert all(len(responses) == 4 and not any(r.error for r in responses) for responses in found.values())
    assert 20 < server.most_busy <= 200 and server.n_connections <= 202
    assert engine.client.usage.n_requests == 601 and engine.timing.n_rollouts == 2400
    total = sum(r.n_tokens or 0 for responses in found.values() for r in responses)
    assert 0 < engine.timing.n_tokens - total < 50  # and those of the request that found out what is understood


def test_left_early_nothing_new_is_asked(server: EndpointServer) -> None:
    engine = backend(server, concurrency="2")
    source = engine.generate(requests(500), SPEC)
    next(source)
    source.close()  # type: ignore[attr-defined]
    asked = len(server.questions)
    assert asked < 20
    assert answers(engine, requests(3))["s2"][0].error is None


def test_usage_is_counted_and_priced(server: EndpointServer) -> None:
    engine = backend(server, price="1000000,0")
    assert engine.client.usage.prompt_tokens == 9
    server.plan = [500]
    answers(engine, requests(2))
    line = engine.usage_line() or ""
    assert "4 requests (1 of them tried again, 0 given up), 27 prompt" in line and "cost 27.0000 at" in line
    untouched = create_backend("openai", BackendOptions(extra={"base_url": server.url}))
    assert untouched.usage_line() is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"base_url": "localhost:8000"}, "http"),
        ({"base_url": "http://user:secret@host/v1"}, "neither a user"),
        ({"base_url": " , "}, "http"),
        ({"concurrency": "0"}, "whole number from 1"),
        ({"concurrency": "many"}, "whole number"),
        ({"timeout": "nan"}, "at least 0"),
        ({"timeout": "0"}, "above 0"),
        ({"price": "1"}, "two numbers"),
        ({"raw_logprobs": "true"}, "yes or no"),
        ({"key_variable": "sk-123"}, "never a key"),
        ({"api_key": "sk-123"}, "does not know api_key"),
    ],
)
def test_settings_that_mean_nothing_are_refused(extra: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        create_backend("openai", BackendOptions(extra=extra))
    assert "secret" not in str(refused.value)


def test_options_that_the_server_decides_are_refused_and_the_address_may_be_in_the_environment(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in (BackendOptions(device="cpu"), BackendOptions(dtype="float16"), BackendOptions(batch_size=2)):
        with pytest.raises(ConfigError, match="decided by the server"):
            create_backend("openai", options)
    made = create_backend("openai", BackendOptions())
    assert made.numerics == "openai/served" and made.block_size(8) == 0
    with pytest.raises(ConfigError, match="--base-url"):
        made.load(served())
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    made = create_backend("openai", BackendOptions())
    made.load(served("dpo/checkpoint-20"))


def test_threads_end(server: EndpointServer) -> None:
    engine = backend(server, concurrency="4")
    answers(engine, requests(20))
    engine.close()
    for thread in threading.enumerate():
        if thread.name.startswith("endpoint-"):
            thread.join(2)
            assert not thread.is_alive()
