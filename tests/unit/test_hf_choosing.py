import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.backends.base import NUCLEUS_MASS
from specs_eval.backends.hf import choosing, token_statistics
from specs_eval.backends.hf.choosing import Distribution, choose
from specs_eval.backends.hf.token_statistics import entropy_nats, nucleus_sizes
from specs_eval.sampling import SamplingSpec


def logits_of(seed: int, n_rows: int, n_vocabulary: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, n_vocabulary, generator=generator) * spread


def naive_draw(logits: torch.Tensor, uniform: float, spec: SamplingSpec) -> int:
    """One row, straight from the definition, in float64."""
    probs = torch.softmax(logits.double() / spec.temperature, dim=-1).numpy()
    order = np.argsort(-probs, kind="stable")
    mass, kept = 0.0, []
    for token in order:
        kept.append(int(token))
        mass += probs[token]
        if mass >= spec.top_p:
            break
    share = np.zeros_like(probs)
    share[kept] = probs[kept] / probs[kept].sum()
    return int(np.argmax(np.cumsum(share) > uniform))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_vocabulary=st.sampled_from([2, 7, 300, 2500]),
    spread=st.floats(0.1, 8),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_p=st.sampled_from([1.0, 0.9, 0.5]),
)
def test_draws_are_those_of_the_definition(
    seed: int, n_vocabulary: int, spread: float, temperature: float, top_p: float
) -> None:
    spec = SamplingSpec(temperature, 1, top_p=top_p)
    logits = logits_of(seed, 20, n_vocabulary, spread)
    uniforms = torch.from_numpy(np.random.default_rng(seed).random(20))
    choice = choose(Distribution(logits), uniforms, spec, noise=1e-6)
    for row in range(20):
        if not choice.doubtful[row]:
            assert int(choice.tokens[row]) == naive_draw(logits[row], float(uniforms[row]), spec)


def test_frequencies_are_the_softmax() -> None:
    logits = logits_of(3, 1, 12, 1.0)
    n = 40_000
    uniforms = torch.from_numpy(np.random.default_rng(0).random(n))
    tokens = choose(Distribution(logits.expand(n, -1)), uniforms, SamplingSpec(1.0), 0.0).tokens
    expected = torch.softmax(logits[0].double(), dim=-1).numpy() * n
    observed = np.bincount(tokens.numpy(), minlength=12)
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < 31.3  # 99.9 % point at 11 degrees of freedom


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    top_p=st.sampled_from([1.0, 0.8]),
    n_vocabulary=st.sampled_from([50, 1500]),
)
def test_a_draw_that_is_not_doubtful_survives_noise(
    seed: int, temperature: float, top_p: float, n_vocabulary: int
) -> None:
    noise = 1e-3
    spec = SamplingSpec(temperature, 1, top_p=top_p)
    logits = logits_of(seed, 200, n_vocabulary, 3.0)
    generator = torch.Generator().manual_seed(seed + 1)
    signs = torch.randint(0, 2, logits.shape, generator=generator) * 2.0 - 1
    moved = logits + signs * noise * 0.9 * logits.abs().amax(dim=-1, keepdim=True)
    uniforms = torch.from_numpy(np.random.default_rng(seed).random(200)) if temperature else None
    choice = choose(Distribution(logits), uniforms, spec, noise)
    again = choose(Distribution(moved), uniforms, spec, noise)
    assert int(choice.doubtful.sum()) < 200
    sure = ~choice.doubtful
    assert torch.equal(choice.tokens[sure], again.tokens[sure])


def test_worst_noise_on_both_sides_of_a_boundary() -> None:
    # All tokens up to the drawn one move up, the others down: the largest shift of a cumulative probability.
    noise, spec = 1e-3, SamplingSpec(1.0, 1)
    logits = logits_of(5, 1, 40, 1.0)
    ends = torch.softmax(logits[0].double(), dim=-1).cumsum(0)
    scale = float(logits.abs().max())
    for token in (3, 20, 33):
        moved = logits.clone()
        moved[0, : token + 1] -= noise * scale
        moved[0, token + 1 :] += noise * scale
        moved_end = float(torch.softmax(moved[0].double(), dim=-1).cumsum(0)[token])
        between = torch.tensor([(moved_end + float(ends[token])) / 2], dtype=torch.float64)
        assert bool(choose(Distribution(logits), between, spec, noise).doubtful)


def test_greedy_takes_the_first_of_equals_and_doubts_them() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [0.0, 1.0, 3.0, 2.0]])
    choice = choose(Distribution(logits), None, SamplingSpec(0.0), 1e-5)
    assert choice.tokens.tolist() == [1, 2]
    assert choice.doubtful.tolist() == [True, False]
    assert not choose(Distribution(logits), None, SamplingSpec(0.0), 0.0).doubtful.any()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_that_are_not_finite_are_doubtful(temperature: float) -> None:
    logits = torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [float("inf"), 1.0], [float("-inf"), 1.0]])
    uniforms = torch.full((4,), 0.5, dtype=torch.float64) if temperature else None
    choice = choose(Distribution(logits), uniforms, SamplingSpec(temperature), 0.0)
    assert choice.doubtful.tolist() == [False, True, True, False]
    assert int(choice.tokens[3]) == 1


def test_the_ends_of_the_unit_interval() -> None:
    logits = logits_of(1, 1, 3000, 1.0)
    last = float(np.nextafter(1.0, 0.0))
    for uniform, token in ((0.0, 0), (last, 2999)):
        uniforms = torch.tensor([uniform], dtype=torch.float64)
        assert int(choose(Distribution(logits), uniforms, SamplingSpec(1.0), 0.0).tokens) == token


def test_two_levels_agree_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = logits_of(2, 500, 5000, 4.0)
    uniforms = torch.from_numpy(np.random.default_rng(1).random(500))
    two = choose(Distribution(logits), uniforms, SamplingSpec(1.0), 0.0).tokens
    monkeypatch.setattr(choosing, "BLOCK", 10_000)
    assert torch.equal(two, choose(Distribution(logits), uniforms, SamplingSpec(1.0), 0.0).tokens)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_vocabulary=st.sampled_from([2, 5, 300, 6000]),
    spread=st.floats(0, 12),
)
def test_entropy_and_nucleus_against_the_definition(seed: int, n_vocabulary: int, spread: float) -> None:
    logits = logits_of(seed, 8, n_vocabulary, spread)
    probs = torch.softmax(logits.double(), dim=-1)
    entropy = torch.special.entr(probs).sum(-1)
    assert torch.allclose(entropy_nats(Distribution(logits)).double(), entropy, atol=2e-5)
    sizes = nucleus_sizes(Distribution(logits))
    ends = probs.sort(dim=-1, descending=True).values.cumsum(-1)
    for row in range(8):
        size = int(sizes[row])
        # Rounding may move a mass that equals the threshold; anything else must be exact.
        assert float(ends[row, size - 1]) >= NUCLEUS_MASS - 1e-6
        assert size == 1 or float(ends[row, size - 2]) < NUCLEUS_MASS + 1e-6


def test_nucleus_of_known_distributions() -> None:
    uniform = Distribution(torch.zeros(1, 100))
    assert nucleus_sizes(uniform).tolist() == [95]
    assert float(entropy_nats(uniform)) == pytest.approx(np.log(100), abs=1e-5)
    certain = Distribution(torch.tensor([[50.0, 0.0, 0.0]]))
    assert nucleus_sizes(certain).tolist() == [1]
    assert float(entropy_nats(certain)) == pytest.approx(0, abs=1e-6)
    flat = Distribution(torch.zeros(1, 50_000))
    assert 47_499 <= int(nucleus_sizes(flat)) <= 47_501


@pytest.mark.parametrize("n_numbers", [1, 6_000, 50_000])
def test_statistics_do_not_depend_on_how_many_rows_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, n_numbers: int
) -> None:
    scales = torch.tensor([0.5, 2.0, 8.0, 30.0]).repeat(4)[:, None]
    distribution = Distribution(torch.randn(16, 5000, generator=torch.Generator().manual_seed(0)) * scales)
    entropies, sizes = entropy_nats(distribution), nucleus_sizes(distribution)
    assert int(sizes.min()) < 8 and int(sizes.max()) > 256  # every way of counting is taken
    monkeypatch.setattr(token_statistics, "PART_NUMBERS", n_numbers)
    assert torch.equal(nucleus_sizes(distribution), sizes)
    assert torch.allclose(entropy_nats(distribution), entropies, atol=1e-6)
