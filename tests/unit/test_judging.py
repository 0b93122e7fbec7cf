"""The judge's client against a server on this machine that fails in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from judge_server import Handler, JudgeServer, Step, completion, drip, half_body, reset, running, slow
from PIL import Image

from specs_eval.chat import ImagePart
from specs_eval.errors import ConfigError, StoreError
from specs_eval.tasks.judge_questions import Question
from specs_eval.tasks.judging import GIVE_UP_AFTER, Judge, JudgeOptions, JudgeReply
from specs_eval.tasks.profiles import judge_mark, judged_by


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as ready:
        yield ready


def judge(server: JudgeServer, **options: Any) -> Judge:
    return Judge(JudgeOptions(server.url, "m", **{"timeout": 5.0, **options}), sleep=lambda _: None)


def ask_all(asked: Judge, questions: list[str], threads: int = 16) -> list[JudgeReply]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(asked.ask, questions))


def test_replies_are_bounded_counted_and_equal_questions_asked_once(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " k\n")
    server.answer, server.seconds = lambda prompt: f"to {prompt}", 0.02
    asked = judge(server, concurrency=3, price=(1e6, 2e6))
    questions = [f"q{i % 10}" for i in range(30)]
    assert [reply.text for reply in ask_all(asked, questions)] == [f"to {question}" for question in questions]
    assert sorted(server.prompts) == sorted(set(questions)) and server.most_busy <= 3
    assert set(server.headers) == {"Bearer k"}
    cost = asked.cost
    assert (cost.n_asked, cost.n_cached, cost.n_tries, cost.prompt_tokens, cost.completion_tokens) == (
        30,
        20,
        10,
        70,
        10,
    )
    assert cost.amount((1e6, 2e6)) == 90.0


@pytest.mark.parametrize("failure", [408, 429, 500, 503, half_body, reset, slow, drip, b"", b"{", b"null"])
def test_what_may_pass_is_tried_again(server: JudgeServer, failure: Step) -> None:
    server.plan = [failure]
    asked = judge(server, timeout=0.4)
    assert asked.ask("q").text == "B" and asked.cost.n_tries == 2 and asked.cost.n_failed == 0


@pytest.mark.parametrize("failure", [500, 429, reset, half_body, b'{"choices": []}'])
def test_tries_have_a_limit(server: JudgeServer, failure: Step) -> None:
    server.plan = [failure] * 10
    asked = judge(server, attempts=3)
    reply = asked.ask("q")
    assert reply.text is None and reply.error and asked.cost.n_tries == 3 and asked.cost.n_failed == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_does_not_pass_is_tried_once(server: JudgeServer, status: int) -> None:
    server.plan = [status]
    asked = judge(server)
    reply = asked.ask("q")
    assert reply.text is None and f"HTTP {status}" in str(reply.error) and asked.cost.n_tries == 1


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        completion(None),
        completion(["B"]),
        b"x" * 1_100_000,
        b"[" * 200_000,
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": []}]}',
        b"\xff\xfe",
    ],
)
def test_replies_of_another_form_are_failures(server: JudgeServer, data: bytes) -> None:
    server.plan = [data] * 2
    reply = judge(server, attempts=2).ask("q")
    assert reply.text is None and reply.error


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "x"}, {"prompt_tokens": 1e999}, {"prompt_tokens": -5}, {"a": 1}, []]
)
def test_a_wrong_count_of_tokens_loses_no_reply(server: JudgeServer, usage: object) -> None:
    server.plan = [completion("B", usage).replace(b"Infinity", b"1e999")]
    asked = judge(server)
    assert asked.ask("q").text == "B" and asked.cost.prompt_tokens in (0, 7)


def test_waits_grow_at_random_and_follow_retry_after(server: JudgeServer) -> None:
    waits: list[float] = []
    options = JudgeOptions(server.url, "m", attempts=5)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50))
    server.plan = [500, (429, {"Retry-After": "7"}), (503, {"Retry-After": soon}), (503, {"Retry-After": "never"})]
    assert Judge(options, sleep=waits.append, jitter=lambda: 0.5).ask("q").text == "B"
    assert waits[:2] == [0.75, 7.0] and 45 < waits[2] <= 50 and waits[3] == 6.0
    for jitter, wait in ((0.0, 0.5), (1.0, 1.0)):
        waits.clear()
        server.plan = [500]
        Judge(options, sleep=waits.append, jitter=lambda value=jitter: value).ask("q")  # type: ignore[misc]
        assert waits == [wait]


def test_an_endpoint_that_asks_for_too_long_a_wait_is_not_waited_for(server: JudgeServer) -> None:
    waits: list[float] = []
    server.plan = [(429, {"Retry-After": "86400"})]
    asked = Judge(JudgeOptions(server.url, "m"), sleep=waits.append)
    assert asked.ask("q").text is None and waits == []


def test_no_server_is_a_failure_and_no_endless_loop() -> None:
    asked = Judge(JudgeOptions("http://127.0.0.1:9/v1", "m", attempts=3, timeout=0.5), sleep=lambda _: None)
    assert asked.ask("q").text is None and asked.cost.n_failed == 1


def test_a_judge_that_is_down_is_probed_and_no_longer_waited_for(server: JudgeServer) -> None:
    server.plan = [503] * (GIVE_UP_AFTER + 1)
    asked = judge(server, attempts=1)
    replies = [asked.ask(f"q{i}") for i in range(2 * GIVE_UP_AFTER)]
    assert not any(reply.text for reply in replies)
    assert asked.cost.n_tries == GIVE_UP_AFTER + 1 and "in a row" in str(replies[-1].error)
    assert asked.ask("probe").text == "B", "a probe that is answered ends it"
    assert asked.ask("next").text == "B"


def test_questions_that_are_refused_do_not_make_a_judge_down(server: JudgeServer) -> None:
    server.plan = [400] * (2 * GIVE_UP_AFTER)
    asked = judge(server)
    assert all("HTTP 400" in str(asked.ask(f"q{i}").error) for i in range(2 * GIVE_UP_AFTER))


def test_stop_ends_the_waiting(server: JudgeServer) -> None:
    server.plan = [500] * 100
    asked = Judge(JudgeOptions(server.url, "m", attempts=100), jitter=lambda: 1.0)
    thread = threading.Thread(target=asked.ask, args=("q",))
    thread.start()
    while not server.bodies:
        time.sleep(0.01)
    asked.stop()
    thread.join(5)
    assert not thread.is_alive() and asked.ask("another").text is None and len(server.bodies) <= 2


def test_replies_are_kept_on_disk_and_damaged_files_are_asked_again(server: JudgeServer, tmp_path: Path) -> None:
    judge(server, cache=tmp_path / "c").ask("q")
    again = judge(server, cache=tmp_path / "c")
    assert again.ask("q").cached and again.cost.prompt_tokens == 0 and len(server.prompts) == 1
    (kept,) = (tmp_path / "c").iterdir()
    for damage in (b"{", b"", b"[1]", b'{"text": 1}', b"[" * 100_000, b"\xff"):
        kept.write_bytes(damage)
        assert not judge(server, cache=tmp_path / "c").ask("q").cached
    server.plan = [400]
    judge(server, cache=tmp_path / "c").ask("other")
    assert len(list((tmp_path / "c").iterdir())) == 1, "failures are not kept"


def test_the_cache_tells_models_questions_and_images_apart(server: JudgeServer, tmp_path: Path) -> None:
    red, blue = (ImagePart(Image.new("RGB", (2, 2), color)) for color in ("red", "blue"))
    questions = [Question("q"), Question("q", (red,)), Question("q", (blue,)), Question("q", max_tokens=9)]
    assert len({question.key(model) for question in questions for model in "mn"}) == 8
    asked = judge(server, cache=tmp_path)
    for question in questions:
        asked.ask(question)
    assert len(server.bodies) == 4 and len(list(tmp_path.iterdir())) == 4


def test_replies_that_do_not_answer_are_failures_and_not_kept(server: JudgeServer, tmp_path: Path) -> None:
    def problem(reply: str) -> str | None:
        return None if reply == "yes" else "the judge said no yes"

    server.answer = lambda prompt: "perhaps"
    asked = judge(server, cache=tmp_path)
    reply = asked.ask(Question("q", problem=problem))
    assert reply.text is None and reply.error == "the judge said no yes: 'perhaps'"
    assert list(tmp_path.iterdir()) == [] and asked.cost.n_failed == 1 and asked.cost.prompt_tokens == 7
    server.answer = lambda prompt: "yes"
    assert asked.ask(Question("q", problem=problem)).text == "yes"
    assert judge(server, cache=tmp_path).ask(Question("q", problem=lambda _: "not this")).text is None


def test_a_cache_that_cannot_be_written_is_said_at_once_or_loudly(server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the judge's cache"):
        judge(server, cache=tmp_path / "file" / "c")
    asked = judge(server, cache=tmp_path / "c")
    (tmp_path / "c").rmdir()
    (tmp_path / "c").write_text("")
    with pytest.raises((StoreError, OSError)):
        asked.ask("q")


CLIENT = """
import sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from specs_eval.tasks.judging import Judge, JudgeOptions
judge = Judge(JudgeOptions(sys.argv[1], "m", cache=Path(sys.argv[2]), timeout=20.0))
with ThreadPoolExecutor(8) as pool:
    texts = [reply.text for reply in pool.map(judge.ask, [f"q{i}" for i in range(200)])]
print(texts == [f"to q{i}" for i in range(200)])
"""


def client(server: JudgeServer, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, server.url, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_cache_survives_kill_9_and_two_processes(server: JudgeServer, tmp_path: Path) -> None:
    server.answer, server.seconds = lambda prompt: f"to {prompt}", 0.01
    first = client(server, tmp_path)
    while len(server.bodies) < 60:
        assert first.poll() is None
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    killed_at = len(server.bodies)
    pair = [client(server, tmp_path) for _ in range(2)]
    assert [one.communicate(timeout=60)[0].strip() for one in pair] == ["True", "True"]
    kept = [json.loads(path.read_bytes())["text"] for path in tmp_path.glob("[!.]*.json")]
    assert sorted(kept) == sorted(f"to q{i}" for i in range(200))
    asked_again = len(server.bodies) - killed_at
    assert asked_again <= 2 * (200 - killed_at + 8), "what was kept before the kill is not asked again"
    before = len(server.bodies)
    assert client(server, tmp_path).communicate(timeout=60)[0].strip() == "True" and len(server.bodies) == before


def test_the_key_goes_nowhere_but_to_the_judge(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    def leak(handler: Handler) -> None:
        handler.send_response(401, "wrong key sk-very-secret")
        handler.end_headers()

    with running() as elsewhere, caplog.at_level("DEBUG"):
        for status in (301, 302, 307, 308):
            server.plan = [(status, {"Location": f"{elsewhere.url}/chat/completions"})]
            assert judge(server).ask("q").text is None
        assert elsewhere.bodies == []
    server.plan = [leak]
    asked = judge(server, cache=tmp_path)
    assert "sk-very" not in str(asked.ask("q").error)
    asked.ask("q2")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret\nX: y")
    with pytest.raises(ConfigError) as raised:
        judge(server)
    assert "sk-very" not in str(raised.value)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"sk-very" not in kept and "sk-very" not in caplog.text and "sk-very" not in repr(asked.options)


def test_an_address_with_a_password_is_not_repeated() -> None:
    options = JudgeOptions("http://me:secret@127.0.0.1:9/v1?token=secret", "m", attempts=1, timeout=0.5)
    assert "secret" not in str(Judge(options).ask("q").error)


def test_long_and_broken_prompts_are_sent(server: JudgeServer) -> None:
    assert judge(server).ask("x" * 1_000_000 + "\ud800").text == "B"
    assert len(server.prompts[0]) < 110_000


def test_images_stand_before_the_text_small_and_on_white(server: JudgeServer, tmp_path: Path) -> None:
    Image.new("RGBA", (2000, 10), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "b.jpg")
    judge(server).ask(Question("q", (ImagePart(tmp_path / "a.png"), ImagePart(tmp_path / "b.jpg"))))
    first, second, text = server.bodies[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "q"}
    kinds = [part["image_url"]["url"].partition(";base64,")[0] for part in (first, second)]
    assert kinds == ["data:image/png", "data:image/jpeg"]
    seen = decoded(first["image_url"]["url"])
    assert seen.size == (1000, 5) and seen.getpixel((0, 0)) == (255, 255, 255)


def decoded(url: str) -> Image.Image:
    import base64
    import io

    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def test_an_image_that_does_not_decode_is_a_failure_and_nothing_is_sent(server: JudgeServer) -> None:
    reply = judge(server).ask(Question("q", (ImagePart(b"no image"),)))
    assert reply.text is None and "does not decode" in str(reply.error) and server.bodies == []


def test_options_are_checked() -> None:
    wrong_ones: list[dict[str, Any]] = [
        {"url": "file:///etc/passwd"},
        {"model": ""},
        {"model": "a\nb"},
        {"concurrency": 0},
        {"attempts": 0},
        {"timeout": 0},
        {"price": (1.0, float("nan"))},
        {"price": (-1.0, 0.0)},
    ]
    for wrong in wrong_ones:
        with pytest.raises(ConfigError):
            JudgeOptions(**{"url": "http://x/v1", "model": "m", **wrong})


@pytest.mark.parametrize("model", ["gpt-4o", "Qwen/Qwen2.5-VL-72B", "x-official-y", "a-judge:b", "m-0123456789ab-z"])
def test_the_judge_is_read_back_from_a_version(model: str) -> None:
    asked = Judge(JudgeOptions("http://x/v1", model))
    assert judged_by(f"1-official{judge_mark(asked)}-0123456789ab") == model
    assert judged_by("1-official-0123456789ab") is None and judge_mark(None) == ""
