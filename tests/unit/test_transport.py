"""One request over HTTP: connections that are kept, proxies, what a refusal says, and what never leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from endpoint_server import EndpointServer
from judge_server import serving

from specs_eval.errors import ConfigError
from specs_eval.transport import Limits, NoReply, fetch_json, key_from_environment, token_count, wait_before_next

LIMITS = Limits(5.0)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving(EndpointServer("m")) as ready:
        yield ready


def test_connections_are_kept_also_after_a_refusal_and_not_shared_with_a_fork(server: EndpointServer) -> None:
    for _ in range(5):
        assert fetch_json(f"{server.url}/models", None, LIMITS)["data"][0]["id"] == "m"
    assert server.n_connections == 1
    child = os.fork()
    if child == 0:
        try:
            fetch_json(f"{server.url}/models", None, LIMITS)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert server.n_connections == 2
    fetch_json(f"{server.url}/models", None, LIMITS)
    assert server.n_connections == 2


def test_a_refusal_says_why_on_one_line_and_without_the_key(server: EndpointServer) -> None:
    body = b'{"error": {"message": "no\\n\\u001b[31m such k-secret"}}'
    server.plan = [lambda handler: handler.send(body, 400, {"Retry-After": "7"})]
    with pytest.raises(NoReply) as refused:
        fetch_json(f"{server.url}/chat/completions", "k-secret", LIMITS, b'{"messages": [{"content": "x"}]}')
    error = refused.value
    assert (error.status, error.wait, error.again, error.endpoint_is_down) == (400, 7.0, False, False)
    assert error.detail == "no [31m such ***" and str(error) == "HTTP 400 Bad Request"


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'{"error": 5}', b"\xff" * 9, b"[" * 4000, b"<html>no</html>"])
def test_a_refusal_may_say_anything(server: EndpointServer, body: bytes) -> None:
    server.plan = [lambda handler: handler.send(body, 500)]
    with pytest.raises(NoReply) as refused:
        fetch_json(f"{server.url}/chat/completions", None, LIMITS, b'{"messages": [{"content": "x"}]}')
    assert refused.value.status == 500 and refused.value.again and len(refused.value.detail) <= 300


def test_the_proxy_of_the_environment_is_used(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{server.server_address[1]}")
    with pytest.raises(NoReply, match="HTTP 404"):  # the server as a proxy is asked for the whole address
        fetch_json("http://far.away.invalid/v1/models", None, LIMITS)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch_json(f"{server.url}/models", None, LIMITS)["data"]


def test_waits_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [wait_before_next(NoReply("x"), attempt, lambda: 1.0) for attempt in range(6)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert wait_before_next(NoReply("x"), 0, lambda: 0.0) == 0.5
    assert wait_before_next(NoReply("x", wait=30.0), 0, lambda: 0.0) == 30.0
    assert wait_before_next(NoReply("x", wait=1e9), 0, lambda: 0.0) is None
    assert wait_before_next(NoReply("x", again=False), 0, lambda: 0.0) is None


def test_keys_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "a\nsecret")
    with pytest.raises(ConfigError, match="K holds characters") as refused:
        key_from_environment("K")
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("K", " \n")
    assert key_from_environment("K") is None
    assert [token_count(value) for value in (5, 0, True, -1, 10**9, "5", None)] == [5, 0] + [None] * 5
