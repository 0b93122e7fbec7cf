"""What the openai backend costs a request over a bare loop, on a server that answers at once.

Ways to the same replies, one after the other in one process, ratios printed. The server is another process and answers
every request after `--delay` seconds with the same text:

1. aiohttp, httpx: an asyncio loop that posts plain bodies, `--concurrency` at a time, and parses the JSON;
2. openai: the same with the openai package;
3. backend: our `generate` (seeds, data URLs, reading, balancing, retries, counting);
4. run: everything that `specs-eval run` does, into a fresh store.

Packages that are not installed are left out. Images are PNG files in memory; only our ways decode them, to find broken
ones. With a delay of 0 the client is all there is to see. CPU seconds are of this process alone: they say how many
requests a core can serve, and unlike wall time they hardly depend on what else the machine does.

python benchmarks/bench_endpoint.py [--samples 1000] [--delay 0] [--concurrency 32] [--images]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench_overhead import Quiet
from PIL import Image

from specs_eval.backends.base import BackendOptions, Request
from specs_eval.backends.endpoint import EndpointBackend
from specs_eval.chat import Chat, ImagePart, TextPart, user_chat
from specs_eval.checkpoints import Checkpoint, resolve_checkpoints
from specs_eval.fingerprint import Fingerprinter
from specs_eval.runner import RunRequest, evaluate
from specs_eval.sampling import noise_key
from specs_eval.store import RunStore
from specs_eval.task import Sample, Score


def completion(n: int) -> bytes:
    """A reply with n responses."""
    message = {"role": "assistant", "content": "<answer>blue</answer>"}
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(n)]
    usage = {"prompt_tokens": 50, "completion_tokens": 8 * n, "total_tokens": 50 + 8 * n}
    return json.dumps({"object": "chat.completion", "model": "m", "choices": choices, "usage": usage}).encode()


REPLY, TWO_REPLIES = completion(1), completion(2)
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "root": "m", "owned_by": "bench"}]}).encode()


class Server(asyncio.Protocol):
    """As little HTTP as the clients here need."""

    def __init__(self, delay: float) -> None:
        self.delay, self.data = delay, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.data[:end])
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            size = end + 4 + (int(lengths[0][15:]) if lengths else 0)
            if len(self.data) < size:
                return
            body = bytes(self.data[end:size][-300:])
            del self.data[:size]
            reply = MODELS if head.startswith(b"GET") else TWO_REPLIES if b'"n":2' in body else REPLY
            asyncio.get_running_loop().call_later(self.delay, self.answer, reply)

    def answer(self, reply: bytes) -> None:
        """Send."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(reply)
            self.transport.write(head + reply)  # type: ignore[attr-defined]


def serve(delay: float, ready: Connection) -> None:
    """The server's process."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Server(delay), "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


class Questions:
    """A task of questions about squares, each right."""

    name, version, max_new_tokens = "bench", "1", 64

    def __init__(self, n: int, *, images: bool) -> None:
        stream = io.BytesIO()
        Image.effect_noise((512, 512), 20).convert("RGB").save(stream, "PNG")
        parts = [ImagePart(stream.getvalue())] if images else []
        self._samples = [Sample(f"s{i:05d}", user_chat(*parts, f"{'x' * 500} {i}?"), "blue") for i in range(n)]

    def samples(self) -> Sequence[Sample]:
        """The questions."""
        return self._samples

    def score(self, sample: Sample, response: str) -> Score:
        """Right."""
        return Score(1.0, "blue", "bench")

    score_answer = score


def plain_messages(chat: Chat) -> list[dict[str, Any]]:
    """What anybody would write: no check of the image."""
    content: list[dict[str, Any]] = []
    for part in chat[0].parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part.source, bytes):
            url = f"data:image/png;base64,{base64.b64encode(part.source).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "user", "content": content}]


def plain_body(chat: Chat) -> bytes:
    """A request."""
    facts = {"model": "m", "messages": plain_messages(chat), "temperature": 0.0, "max_tokens": 64, "seed": 0}
    return json.dumps(facts).encode()


def bare_aiohttp(url: str, task: Questions, concurrency: int) -> Callable[[], None] | None:
    """Post the bodies."""
    try:
        import aiohttp
    except ImportError:
        return None

    async def everything() -> None:
        gate = asyncio.Semaphore(concurrency)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as client:

            async def one(chat: Chat) -> None:
                headers = {"Content-Type": "application/json"}
                async with (
                    gate,
                    client.post(f"{url}/chat/completions", data=plain_body(chat), headers=headers) as reply,
                ):
                    assert json.loads(await reply.read())["choices"][0]["message"]["content"]

            await asyncio.gather(*[one(sample.chat) for sample in task.samples()])

    return lambda: asyncio.run(everything())


def bare_httpx(url: str, task: Questions, concurrency: int) -> Callable[[], None] | None:
    """Post the bodies."""
    try:
        import httpx
    except ImportError:
        return None

    async def everything() -> None:
        gate = asyncio.Semaphore(concurrency)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def one(chat: Chat) -> None:
                async with gate:
                    reply = await client.post(
                        f"{url}/chat/completions",
                        content=plain_body(chat),
                        headers={"Content-Type": "application/json"},
                    )
                    assert json.loads(reply.content)["choices"][0]["message"]["content"]

            await asyncio.gather(*[one(sample.chat) for sample in task.samples()])

    return lambda: asyncio.run(everything())


def bare_openai(url: str, task: Questions, concurrency: int) -> Callable[[], None] | None:
    """Post through the openai package; None: it is not here."""
    try:
        import openai
    except ImportError:
        return None

    async def everything() -> None:
        gate = asyncio.Semaphore(concurrency)
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one(chat: Chat) -> None:
                async with gate:
                    reply = await client.chat.completions.create(  # type: ignore[call-overload]
                        model="m", messages=plain_messages(chat), temperature=0.0, max_tokens=64, seed=0
                    )
                    assert reply.choices[0].message.content

            await asyncio.gather(*[one(sample.chat) for sample in task.samples()])

    return lambda: asyncio.run(everything())


def _backend(url: str, concurrency: int) -> EndpointBackend:
    return EndpointBackend(BackendOptions(extra={"base_url": url, "concurrency": str(concurrency)}))


def our_backend(url: str, task: Questions, checkpoint: Checkpoint, concurrency: int) -> Callable[[], None]:
    """`generate` alone."""
    backend = _backend(url, concurrency)
    backend.load(checkpoint)
    spec = RunRequest(tasks=[task]).spec(task)
    asked = [Request(s.sample_id, noise_key(task.name, s.sample_id), s.chat, (0,)) for s in task.samples()]

    def once() -> None:
        answers = list(backend.generate(asked, spec))
        assert len(answers) == len(asked) and not any(r.error for _, responses in answers for r in responses)

    return once


def whole_run(url: str, task: Questions, checkpoint: Checkpoint, concurrency: int) -> Callable[[], None]:
    """Into a fresh store."""

    def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = RunStore.create(Path(folder) / "runs")
            evaluation = evaluate([checkpoint], RunRequest(tasks=[task]), store, _backend(url, concurrency), Quiet())
            assert not evaluation.problems and evaluation.n_failed() == 0

    return once


def measure(ways: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float, float]]:
    """Median seconds, median CPU seconds and relative spread of each way, taken in turns."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, once in ways.items():
            started, busy = time.perf_counter(), time.process_time()
            once()
            if repeat:  # the first turn warms up
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - busy)
    return {
        name: (median := statistics.median(times), statistics.median(cpu[name]), (max(times) - min(times)) / median)
        for name, times in wall.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that the server takes")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--images", action="store_true", help="an image of 512 x 512 pixels in each question")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(options.delay, there), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    (checkpoint,) = resolve_checkpoints(["served:m"], Fingerprinter(), may_be_served=True).checkpoints
    task, at_a_time = Questions(options.samples, images=options.images), options.concurrency
    bare = {"aiohttp": bare_aiohttp, "httpx": bare_httpx, "openai": bare_openai}
    ways = {name: make(url, task, at_a_time) for name, make in bare.items()}
    ways |= {"backend": our_backend(url, task, checkpoint, at_a_time)}
    ways |= {"run": whole_run(url, task, checkpoint, at_a_time)}
    found = measure({name: way for name, way in ways.items() if way is not None}, options.repeats)
    print(
        f"{options.samples} requests, {at_a_time} at a time, server delay {options.delay} s, images: {options.images}"
    )
    for name, (seconds, busy, spread) in found.items():
        per = 1e3 / options.samples
        print(f"{name:<8} {seconds * per:7.3f} ms a request, CPU {busy * per:7.3f} ms  (spread {spread:.0%})")
    for name in ("backend", "run"):
        for other in found.keys() & bare.keys():
            wall, cpu = found[name][0] / found[other][0], found[name][1] / found[other][1]
            print(f"{name} over {other}: {wall:.2f}x wall, {cpu:.2f}x CPU")
    server.terminate()


if __name__ == "__main__":
    main()
