"""The openai backend against a real ``vllm serve`` of the shipped tiny checkpoint, on the CPU.

Runs where the interpreter has vLLM beside it (``make test-vllm``); elsewhere it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from vllm_serve import VLLM, vllm_serving

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.training.tiny import checkpoint_path

pytestmark = pytest.mark.skipif(not VLLM.exists(), reason="needs vLLM beside the interpreter: make test-vllm")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllm_serving(tmp_path_factory.mktemp("serve")) as address:
        yield address


def run(store: Path, *more: str, url: str | None = None, task: str = "formats_id", limit: int = 60) -> pd.DataFrame:
    served = [] if url is None else ["--backend", "openai", "--base-url", url]
    arguments = ["run", "--ckpt", f"base={checkpoint_path()}", "--tasks", task, "--limit", str(limit)]
    result = CliRunner().invoke(main, [*arguments, "--store", str(store), *served, *more])
    assert result.exit_code == 0, result.output
    assert "does not take" not in result.output  # vLLM takes everything that is asked for
    return load_runs(store)


def test_greedy_text_and_nucleus_are_those_of_the_hf_backend(url: str, tmp_path: Path) -> None:
    logprobs = ("--backend-arg", "top_logprobs=100", "--backend-arg", "raw_logprobs=yes")
    both = run(tmp_path / "served", *logprobs, url=url).merge(run(tmp_path / "hf"), on=["sample_id", "rollout"])
    same = both[both["response_x"] == both["response_y"]]
    assert len(both) == 60 and len(same) >= 54  # rounding may part a few
    assert (same["n_tokens_x"] == same["n_tokens_y"]).all()
    assert (same["finish_reason_x"] == same["finish_reason_y"]).all()
    assert same["nucleus_x"].notna().all() and (same["nucleus_x"] - same["nucleus_y"]).abs().max() < 0.05


def test_a_rollout_is_drawn_alike_alone_and_among_others(url: str, tmp_path: Path) -> None:
    together = run(tmp_path / "four", "--rollouts", "4", url=url)
    alone = ("--rollouts", "4", "--backend-arg", "n=1", "--backend-arg", "concurrency=7")
    both = together.merge(run(tmp_path / "one", *alone, url=url), on=["sample_id", "rollout"])
    assert len(both) == 240 and (both["response_x"] == both["response_y"]).mean() > 0.98
    assert together.groupby("sample_id")["response"].nunique().mean() > 1.5


def test_scores_are_those_of_the_hf_backend_within_their_error(url: str, tmp_path: Path) -> None:
    served = run(tmp_path / "served", "--rollouts", "4", url=url, task="easyvqa", limit=300)
    local = run(tmp_path / "hf", "--rollouts", "4", task="easyvqa", limit=300)
    one, other = (frame.groupby("sample_id")["score"].mean() for frame in (served, local))
    difference = one - other
    assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5 + 1e-9


def test_two_hundred_requests_at_a_time_with_four_rollouts(url: str, tmp_path: Path) -> None:
    frame = run(
        tmp_path / "runs",
        *("--rollouts", "4", "--backend-arg", "concurrency=200"),
        url=url,
        task="easyvqa",
        limit=400,
    )
    assert len(frame) == 1600 and frame["score"].notna().all() and frame["n_tokens"].notna().all()
