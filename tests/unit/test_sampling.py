"""Noise that depends on (seed, sample, rollout, position) and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs_eval.errors import ConfigError
from specs_eval.sampling import SamplingSpec, noise_key, rollout_uniforms


@given(seed=st.integers(-(2**70), 2**70), key=st.integers(0, 2**64 - 1), rollout=st.integers(0, 10**6))
def test_longer_sequences_start_with_the_shorter_ones(seed: int, key: int, rollout: int) -> None:
    long = rollout_uniforms(seed, key, rollout, 40)
    assert np.array_equal(long[:7], rollout_uniforms(seed, key, rollout, 7))
    assert ((long >= 0) & (long < 1)).all()


def test_every_part_of_the_key_matters_and_noise_is_uniform() -> None:
    draws = [
        rollout_uniforms(s, noise_key("t", f"q{q}"), r, 25) for s in range(2) for q in range(40) for r in range(10)
    ]
    flat = np.concatenate(draws)
    assert len(np.unique(flat)) == flat.size
    histogram = np.histogram(flat, bins=20, range=(0, 1))[0]
    expected = flat.size / 20
    assert ((histogram - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    first = np.array([d[0] for d in draws])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.12
    assert noise_key("a", "bc") != noise_key("ab", "c")


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"max_new_tokens": 0}, {"top_p": 0.0}, {"stop": ("",)}],
)
def test_impossible_settings_are_refused(options: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError):
        SamplingSpec(**options)
