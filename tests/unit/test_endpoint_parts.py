"""Parts of the openai backend against naive definitions: statistics, balancing, images, names, workers."""

from __future__ import annotations

import base64
import io
import math
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from specs_eval.backends.endpoint.balancing import FIRST_PAUSE, Balancer
from specs_eval.backends.endpoint.messages import data_url, messages_of
from specs_eval.backends.endpoint.replies import reply_of, top_logprobs
from specs_eval.backends.endpoint.requests import pieces
from specs_eval.backends.endpoint.served import is_that_model
from specs_eval.backends.endpoint.statistics import statistics_of
from specs_eval.backends.endpoint.workers import as_done
from specs_eval.chat import ImagePart, Message, TextPart, user_chat
from specs_eval.checkpoints import resolve_checkpoints
from specs_eval.errors import ConfigError, GenerationError
from specs_eval.fingerprint import Fingerprinter


def position(logprobs: list[float]) -> dict[str, Any]:
    return {"top_logprobs": [{"token": "x", "logprob": value} for value in logprobs]}


def naive(probabilities: np.ndarray) -> tuple[int, float]:
    mass = np.cumsum(np.sort(probabilities)[::-1])
    return int(np.argmax(mass >= 0.95)) + 1, float(-(probabilities * np.log(probabilities)).sum())


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(0.1, 6.0), st.integers(1, 60), st.booleans())
def test_statistics_are_those_of_the_whole_distribution_or_none(
    seed: int, n: int, sharpness: float, k: int, drawn_in_place: bool
) -> None:
    """Also where the server puts a drawn token in the place of the last one of the most probable."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=n) * sharpness
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    size, entropy = naive(probabilities)
    mass = np.cumsum(np.sort(probabilities)[::-1])
    if abs(mass[size - 1] - 0.95) < 1e-9:
        return  # on the edge, rounding decides
    order = np.argsort(probabilities)[::-1]
    given_tokens = list(order[:k])
    if drawn_in_place and k < n:
        given_tokens = [int(order[generator.integers(k, n)]), *given_tokens[:-1]]
    found = statistics_of([position([math.log(probabilities[token]) for token in given_tokens])], 1)
    assert found.nucleus_sizes in (None, (size,))
    if found.entropies is not None:
        assert found.entropies[0] == pytest.approx(entropy, abs=2e-6)
    if k >= n:
        whole = statistics_of([position(list(np.log(probabilities)))], 1, whole=True)
        assert whole.nucleus_sizes == (size,) and whole.entropy == pytest.approx(entropy, abs=1e-6)
    elif not drawn_in_place and k > size:
        assert found.nucleus_sizes == (size,)  # nothing is thrown away that could be told


def test_a_rollout_has_a_statistic_when_all_its_positions_have() -> None:
    sure, wide = position([math.log(0.99)]), position([math.log(0.3)] * 2)
    assert statistics_of([sure, sure], 2).nucleus == 1.0
    assert statistics_of([sure, wide], 2).nucleus is None
    assert statistics_of([sure], 2).nucleus is None and statistics_of([], 0).nucleus is None
    whole = [position([math.log(0.5)] * 2), position([0.0, -9999.0, -math.inf])]
    found = statistics_of(whole, None, whole=True)
    assert found.entropy == pytest.approx(math.log(2) / 2, abs=1e-6) and found.nucleus == 1.5
    assert statistics_of([position([math.log(0.5)])], 1, whole=True).entropy is None  # it is not the whole


@pytest.mark.parametrize(
    "broken",
    [
        None,
        5,
        {},
        {"top_logprobs": None},
        {"top_logprobs": []},
        position([math.nan]),
        position([0.5]),
        {"top_logprobs": [{"logprob": "0"}]},
        {"top_logprobs": [{"logprob": True}]},
        {"top_logprobs": [5]},
    ],
)
def test_broken_log_probabilities_are_none(broken: Any) -> None:
    assert top_logprobs(broken) is None and statistics_of([broken], 1).nucleus is None


def test_requests_go_to_the_least_busy_and_a_failing_address_rests() -> None:
    now = [0.0]
    balancer = Balancer(["a", "b"], clock=lambda: now[0])
    taken = [balancer.take() for _ in range(4)]
    assert [one.url for one in taken] == ["a", "b", "a", "b"]
    for one in taken:
        if one.url == "b":
            balancer.done(one)
    assert balancer.take().url == "b"
    a = taken[0]
    balancer.failed(a, down=True)
    balancer.failed(a, down=True)
    extra = balancer.take()
    assert extra.url == "a" and not extra.on_trial  # twice is no more than bad luck
    balancer.failed(extra, down=True)
    assert {balancer.take().url for _ in range(5)} == {"b"} and not balancer.all_failing()
    now[0] = FIRST_PAUSE + 0.1
    trial = [balancer.take() for _ in range(3)]
    assert [one.url for one in trial] == ["a", "b", "b"] and trial[0].on_trial  # one request tries it, no more
    balancer.failed(trial[0], down=True)
    now[0] += FIRST_PAUSE + 0.1
    assert balancer.take().url == "b"  # the second pause is twice as long
    now[0] += FIRST_PAUSE
    back = balancer.take()
    assert back.url == "a"
    balancer.done(back)
    assert [balancer.take().url for _ in range(3)] == ["a"] * 3


def test_an_address_that_asks_for_rest_gets_it_and_one_left_out_is_tried_later() -> None:
    now = [0.0]
    balancer = Balancer(["a", "b"], clock=lambda: now[0])
    balancer.failed(balancer.take(), down=False, rest=30.0)
    assert {balancer.take().url for _ in range(5)} == {"b"}
    now[0] = 31.0
    assert balancer.take().url == "a"
    lonely = Balancer(["a"], clock=lambda: now[0])
    lonely.leave_out("a")
    assert not lonely.has_ready() and lonely.all_failing()
    assert lonely.take().on_trial  # there is nothing else to try


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("RGB", "WEBP"), ("L", "PNG")])
def test_plain_images_are_sent_as_they_are(mode: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    Image.new(mode, (9, 7), 3).save(path, kind)
    assert data_url(ImagePart(path)) == f"data:image/{kind.lower()};base64,{encoded(path.read_bytes())}"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def turned() -> bytes:
    image, exif, stream = Image.new("RGB", (9, 7), "red"), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        turned(),
        saved(Image.new("RGBA", (3, 3), (1, 2, 3, 0)), "PNG"),
        saved(Image.new("P", (3, 3), 1), "PNG", transparency=1),
        saved(Image.new("RGB", (3, 3), "red"), "BMP"),
        saved(Image.new("RGB", (3, 3), "red"), "GIF"),
        saved(Image.new("I;16", (3, 3), 999), "PNG"),
    ],
    ids=["turned", "transparent", "palette", "BMP", "GIF", "16 bit"],
)
def test_images_that_servers_read_differently_are_sent_as_the_pixels_of_every_backend(data: bytes) -> None:
    url = data_url(ImagePart(data))
    assert url.startswith("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert sent.mode == "RGB" and sent.tobytes() == ImagePart(data).load().tobytes()


def test_broken_images_fail_and_lone_surrogates_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", False)  # lmms-eval sets it for the whole process
    for data in (b"", b"GIF89a", saved(Image.new("RGB", (99, 99), "red"), "PNG")[:200]):
        with pytest.raises(GenerationError, match="image does not decode"):
            messages_of(user_chat("x", ImagePart(data)))
    (message,) = messages_of((Message("user", (TextPart("a\ud800"), TextPart("b"))),))
    assert message["content"] == "a\ufffdb"


@given(st.lists(st.integers(0, 40), unique=True).map(sorted), st.integers(1, 9))
def test_pieces_hold_every_rollout_once_in_runs(rollouts: list[int], most: int) -> None:
    groups = list(pieces(rollouts, most))
    assert [number for group in groups for number in group] == rollouts
    assert all(group == tuple(range(group[0], group[0] + len(group))) and len(group) <= most for group in groups)
    for one, other in pairwise(groups):
        assert other[0] != one[-1] + 1 or len(one) == most  # no more requests than needed


def test_choices_go_by_their_numbers_where_these_can_be_trusted() -> None:
    def facts(*indices: Any, total: int | None = None, tokens: bool = True) -> dict[str, Any]:
        choices = [{"index": i, "message": {"content": f"{i}"}, "finish_reason": "stop"} for i in indices]
        for choice in choices:
            choice |= {"token_ids": [1, 2]} if tokens else {}
        return {"choices": choices, "usage": {"completion_tokens": total}}

    assert {i: c.text for i, c in reply_of(facts(2, 0), 3).choices.items()} == {2: "2", 0: "0"}
    for untrusted in ((0, 0), (0, 7), (True, 0), (None, None), (-1, 0)):
        assert list(reply_of(facts(*untrusted), 3).choices) == [0, 1]
    assert len(reply_of(facts(*range(9)), 3).choices) == 3  # more than asked for
    assert [c.n_tokens for c in reply_of(facts(0, 1, total=4), 2).choices.values()] == [2, 2]
    assert [c.n_tokens for c in reply_of(facts(0, 1, total=5), 2).choices.values()] == [None, None]
    assert [c.n_tokens for c in reply_of(facts(0, total=5, tokens=False), 1).choices.values()] == [5]
    assert reply_of(facts(0, total=-5), 1).completion_tokens == 2


def test_another_size_is_another_model() -> None:
    for reported in ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o:latest", "gpt-4o-0613", "gpt-4o-20240806"):
        assert is_that_model(reported, "gpt-4o"), reported
    for reported in ("gpt-4o-mini", "gpt-4", "gpt-4o-7b", "gpt-4omni", "", "x/gpt-4o"):
        assert not is_that_model(reported, "gpt-4o"), reported
    assert is_that_model("Q", "org/Q") and is_that_model("/models/q", "q-name", "/models/q")


def test_a_served_model_is_known_by_its_name(tmp_path: Path) -> None:
    def resolve(*arguments: str, served: bool = True) -> Any:
        return resolve_checkpoints(arguments, Fingerprinter(), may_be_served=served)

    found = resolve("served:m", "a=served:dpo/checkpoint-7", "served:m", "served:org/model", "b=org/model").checkpoints
    assert [(c.name, c.series, c.step, c.served_name) for c in found] == [
        ("m", "m", None, "m"),
        ("a/checkpoint-7", "a", 7, "dpo/checkpoint-7"),
        ("org/model", "model", None, "org/model"),
    ]
    assert len({c.fingerprint for c in found}) == 3 and str(found[2].path) == "served:org/model"
    found[0].assert_unchanged()
    assert resolve("served:m").checkpoints[0].fingerprint == found[0].fingerprint
    (note,) = resolve("org/model").notes
    assert "by its name alone" in note
    for wrong in ("served:", "served:a//b", "served:\x00", "served:" + "x" * 600):
        with pytest.raises(ConfigError, match="comes the name"):
            resolve(wrong)
    with pytest.raises(ConfigError, match="needs --backend openai"):
        resolve("served:m", served=False)


def test_work_is_bounded_and_ends_with_its_taker() -> None:
    busy, most, pulled, guard = 0, 0, 0, threading.Lock()
    gate = threading.Event()

    def items() -> Any:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield number

    def work(number: int) -> int:
        nonlocal busy, most
        with guard:
            busy += 1
            most = max(most, busy)
        gate.wait(0.002)
        with guard:
            busy -= 1
        return number

    assert sorted(as_done(items(), work, 7)) == list(range(100)) and most == 7
    pulled = 0
    source = as_done(items(), work, 3)
    next(source)
    source.close()  # type: ignore[attr-defined]
    assert pulled <= 7
    with pytest.raises(ZeroDivisionError):
        list(as_done(range(9), lambda number: 1 // (number - 4), 2))
    assert list(as_done([], work, 4)) == []
