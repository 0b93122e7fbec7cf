"""The best checkpoint: shares of draws, the set that cannot be told apart, and how much of the height is luck."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.analysis.best_checkpoint import (
    Contender,
    best_checkpoint,
    best_set,
    selection_optimism,
    shares_best,
)
from specs_eval.errors import ConfigError


def contenders(*gf: float) -> list[Contender]:
    return [Contender(f"c{i}", 10 * i, value, None) for i, value in enumerate(gf)]


def noise(values: np.ndarray, spread: float, n_draws: int = 2000, seed: int = 0) -> np.ndarray:
    return values[:, None] + np.random.default_rng(seed).normal(0, spread, (len(values), n_draws))


def test_shares_count_draws_and_split_ties() -> None:
    draws = np.array([[0.5, 0.5, 0.1, 0.3], [0.5, 0.4, 0.2, 0.3], [0.1, 0.1, 0.1, 0.3]])
    assert shares_best(draws) == pytest.approx([(0.5 + 1 + 1 / 3) / 4, (0.5 + 1 + 1 / 3) / 4, (1 / 3) / 4])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 2**20))
def test_shares_sum_to_one_and_the_highest_may_always_be_best(values: list[float], seed: int) -> None:
    gf = np.array(values)
    draws = noise(gf, 0.1, 200, seed)
    assert shares_best(draws).sum() == pytest.approx(1)
    kept = best_set(gf, draws, 0.95)
    assert kept[gf.argmax()]
    order = np.random.default_rng(seed).permutation(len(gf))
    assert (best_set(gf[order], draws[order], 0.95) == kept[order]).all()
    assert shares_best(draws[order]) == pytest.approx(shares_best(draws)[order])
    assert selection_optimism(gf, draws) >= 0


def test_a_clear_winner_and_a_close_race() -> None:
    gf = np.array([0.3, 0.9, 0.5])
    clear = best_checkpoint(contenders(*gf), noise(gf, 0.01))
    assert (clear.checkpoint, clear.step, clear.gf, clear.share_best) == ("c1", 10, 0.9, 1.0)
    assert clear.not_told_apart == () and clear.optimism == pytest.approx(0, abs=0.001)
    gf = np.array([0.3, 0.90, 0.895])
    close = best_checkpoint(contenders(*gf), noise(gf, 0.02))
    assert [one.checkpoint for one in close.not_told_apart] == ["c2"]
    assert close.share_best is not None and 0.5 < close.share_best < 0.7
    # E max of two normals: the closed form for equal means is spread * sqrt(1 / pi).
    assert close.optimism == pytest.approx(0.02 / np.pi**0.5, rel=0.15)
    json.dumps(close.to_dict(), allow_nan=False)


def test_pairing_tells_apart_what_moves_together() -> None:
    gf = np.array([0.80, 0.82])
    common = np.random.default_rng(0).normal(0, 0.05, 2000)
    together = gf[:, None] + common + np.random.default_rng(1).normal(0, 0.002, (2, 2000))
    assert best_set(gf, together, 0.95).tolist() == [False, True]
    assert best_set(gf, noise(gf, 0.05), 0.95).tolist() == [True, True]


def test_draws_that_do_not_vary_are_certain() -> None:
    assert best_set(np.array([0.0, 0.0]), np.zeros((2, 100)), 0.95).tolist() == [True, True]
    assert best_set(np.array([0.0, 0.1]), np.array([[0.0] * 100, [0.1] * 100]), 0.95).tolist() == [False, True]


def test_the_earliest_of_equals_is_named_and_the_others_are_not_hidden() -> None:
    found = best_checkpoint(contenders(0.5, 0.5), noise(np.array([0.5, 0.5]), 0.1))
    assert found.checkpoint == "c0" and [one.checkpoint for one in found.not_told_apart] == ["c1"]


def test_without_candidates_or_draws() -> None:
    nobody = best_checkpoint([], np.zeros((0, 100)))
    assert nobody.checkpoint is None and nobody.candidates == () and "no checkpoint" in str(nobody.reason)
    blind = best_checkpoint(contenders(0.4, 0.6), np.full((2, 100), np.nan), no_draws="a single cluster")
    assert (blind.checkpoint, blind.share_best, blind.optimism, blind.reason) == ("c1", None, None, "a single cluster")
    assert all(one.may_be_best for one in blind.candidates)
    with pytest.raises(ConfigError):
        best_checkpoint(contenders(0.5), np.zeros((1, 100)), level=95)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [[0.5] * 8, [0.5, 0.49, 0.48, 0.3], [0.5, 0.5, 0.1]])
def test_the_set_holds_the_true_best_as_often_as_it_says(truth: list[float]) -> None:
    generator, held, spread = np.random.default_rng(5), 0, 0.03
    for _ in range(2000):
        found = np.array(truth) + generator.normal(0, spread, len(truth))
        draws = found[:, None] + generator.normal(0, spread, (len(truth), 600))
        held += best_set(found, draws, 0.95)[0]
    assert held / 2000 >= 0.94
    if truth[1] == truth[0]:
        assert held / 2000 <= 0.985, "it holds by telling little apart"


@pytest.mark.slow
def test_naming_only_the_winner_would_hold_far_less() -> None:
    generator = np.random.default_rng(6)
    found = 0.5 + generator.normal(0, 0.03, (2000, 8))
    assert (found.argmax(axis=1) == 0).mean() < 0.2
