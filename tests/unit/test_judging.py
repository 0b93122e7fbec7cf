"""The judge against a server on this machine that fails in every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from specs_eval.cli.score import score
from specs_eval.errors import ConfigError
from specs_eval.tasks.judging import Judge, JudgeOptions
from specs_eval.tasks.mathvista.judge_prompt import extraction_prompt


class Server(ThreadingHTTPServer):
    """Answers ``B`` unless a plan says otherwise: status codes, or bytes to send as they are."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[int | bytes] = []
        self.prompts: list[str] = []
        self.headers: list[str | None] = []
        self.busy = self.most_busy = 0
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
            self.server.prompts.append(body["messages"][0]["content"])
            self.server.headers.append(self.headers.get("Authorization"))
            step = self.server.plan.pop(0) if self.server.plan else 200
        facts: dict[str, Any] = {
            "choices": [{"message": {"content": "B"}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1},
        }
        data = step if isinstance(step, bytes) else json.dumps(facts).encode()
        self.send_response(step if isinstance(step, int) else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        with self.server.guard:
            self.server.busy -= 1

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()


def judge(server: Server, **options: Any) -> Judge:
    return Judge(JudgeOptions(server.url, "m", **{"timeout": 5.0, **options}), sleep=lambda _: None)


def test_replies_in_order_bounded_and_counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    asked = judge(server, concurrency=3)
    replies = asked.ask_all([f"q{i % 10}" for i in range(30)])
    assert [reply.text for reply in replies] == ["B"] * 30 and sorted(server.prompts) == [f"q{i}" for i in range(10)]
    assert server.most_busy <= 3 and set(server.headers) == {"Bearer k"}
    assert (asked.cost.n_asked, asked.cost.prompt_tokens, asked.cost.completion_tokens) == (10, 70, 10)


def test_failures_are_tried_again_within_a_limit(server: Server) -> None:
    server.plan = [500, 429, 503]
    assert judge(server, attempts=4).ask("q").text == "B"
    server.plan = [500] * 10
    asked = judge(server, attempts=3)
    reply = asked.ask("q")
    assert reply.text is None and "HTTP 500" in str(reply.error) and asked.cost.n_tries == 3
    server.plan = [401]
    asked = judge(server, attempts=3)
    assert asked.ask("q").text is None and asked.cost.n_tries == 1, "a wrong key does not get better"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}', b"x" * 1_100_000]
)
def test_replies_of_another_form_are_failures(server: Server, data: bytes) -> None:
    server.plan = [data] * 2
    reply = judge(server, attempts=2).ask("q")
    assert reply.text is None and reply.error


def test_no_server_is_a_failure_and_no_endless_loop() -> None:
    options = JudgeOptions("http://127.0.0.1:9/v1", "m", attempts=3, timeout=0.5)
    asked = Judge(options, sleep=lambda _: None)
    assert asked.ask("q").text is None and asked.cost.n_failed == 1


def test_replies_are_kept_on_disk_and_damaged_files_are_asked_again(server: Server, tmp_path: Path) -> None:
    judge(server, cache=tmp_path / "c").ask("q")
    again = judge(server, cache=tmp_path / "c")
    assert again.ask("q").cached and again.cost.prompt_tokens == 0 and len(server.prompts) == 1
    (kept,) = (tmp_path / "c").iterdir()
    kept.write_text("{")
    assert not judge(server, cache=tmp_path / "c").ask("q").cached
    server.plan = [400]
    judge(server, cache=tmp_path / "c").ask("other")
    assert len(list((tmp_path / "c").iterdir())) == 1, "failures are not kept"


def test_long_and_broken_prompts_are_sent(server: Server) -> None:
    assert judge(server).ask("x" * 1_000_000 + "\ud800").text == "B"
    assert len(server.prompts[0]) < 110_000


def test_options_are_checked() -> None:
    for wrong in ({"url": "file:///etc/passwd"}, {"model": ""}, {"concurrency": 0}, {"attempts": 0}):
        with pytest.raises(ConfigError):
            JudgeOptions(**{"url": "http://x/v1", "model": "m", **wrong})  # type: ignore[arg-type]


ROW = {
    "benchmark": "mathvista",
    "model": "m",
    "question": "Which?",
    "question_type": "multi_choice",
    "answer_type": "text",
    "choices": ["cat", "dog"],
    "gold": "dog",
    "precision": None,
}


def test_score_asks_the_judge_only_where_the_official_code_asks_a_model(server: Server, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    texts = ("dog", "", "surely that dog", "cat", "I think not")
    rows = [{**ROW, "sample_id": str(index), "response": text} for index, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--from", "response", "--judge", server.url, "--judge-model", "m", "--json"]
    result = CliRunner().invoke(score, [str(source), "-o", str(target), *options])
    assert result.exit_code == 0, result.output
    scored = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["score"] for row in scored] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert scored[2]["rule"] == "official: judge, letter"
    assert sorted(prompt.rsplit("\n\n", 2)[1] for prompt in server.prompts) == ["I think not", "surely that dog"]
    assert json.loads(result.output)["judge"]["completion_tokens"] == 2
    assert server.prompts[0].startswith("Please read the following example.")


def test_rows_that_the_judge_fails_on_are_unscored(server: Server, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({**ROW, "sample_id": "1", "response": "a dog it is"}) + "\n")
    server.plan = [403]
    options = ["--from", "response", "--judge", server.url, "--judge-model", "m"]
    result = CliRunner().invoke(score, [str(source), "-o", str(target), *options])
    (row,) = [json.loads(line) for line in target.read_text().splitlines()]
    assert result.exit_code == 3 and row["score"] is None and "HTTP 403" in row["reason"]


def test_the_official_prompt() -> None:
    text = extraction_prompt("Q", "R")
    assert text.startswith("Please read the following example.") and text.endswith("\n\nQ\n\nR\n\nExtracted answer: ")
    assert text.count("Extracted answer:") == 6
