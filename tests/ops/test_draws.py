"""Random numbers by address, and the tokens that they pick."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from rekindle.ops import draws
from rekindle.ops.draws import draw, greedy, stream_keys, uniforms

WORD = 2**64


def by_hand(seed, problem, sample, position):
    """The same number from Python's own integers."""
    digest = hashlib.blake2b(f"{seed}\x1f{sample}\x1f{problem}".encode(), digest_size=16).digest()
    low, high = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
        return x ^ (x >> 31)

    return (mix(mix((low + (position + 1) * 0x9E3779B97F4A7C15) % WORD) ^ high) >> 11) / 2**53


def test_numbers_depend_on_their_address_only():
    names = [("a", 0), ("a", 1), ("b", 0), ("ü#2", 7)]
    table_TB = uniforms(stream_keys(3, names), start=0, count=100)
    for b, (problem, sample) in enumerate(names):
        for position in (0, 1, 63, 99):
            assert table_TB[position, b] == by_hand(3, problem, sample, position)
    later_TB = uniforms(stream_keys(3, names[2:]), start=60, count=40)
    assert np.array_equal(later_TB, table_TB[60:, 2:])


def test_other_seed_sample_problem_or_position_is_another_number():
    base = by_hand(0, "a", 0, 0)
    others = [by_hand(1, "a", 0, 0), by_hand(0, "a", 1, 0), by_hand(0, "b", 0, 0)]
    assert len({base, *others, by_hand(0, "a", 0, 1)}) == 5


def test_numbers_are_uniform_and_unrelated():
    """Moments and correlations of 10^6 numbers within five standard errors."""
    names = [(f"p{problem}", sample) for problem in range(250) for sample in range(8)]
    u_TB = uniforms(stream_keys(0, names), start=0, count=500)
    assert u_TB.min() >= 0.0
    assert u_TB.max() < 1.0
    counts, _ = np.histogram(u_TB, bins=256, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 1e-4
    centred = (u_TB - 0.5) * np.sqrt(12)
    bound = 5 / np.sqrt(u_TB.size)
    assert abs((centred[1:] * centred[:-1]).mean()) < bound  # along a sample
    assert abs((centred[:, 1:] * centred[:, :-1]).mean()) < bound  # between samples
    assert abs((centred[:, 8:] * centred[:, :-8]).mean()) < bound  # between problems


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
def test_each_token_holds_its_share_of_the_unit_interval(temperature, gen):
    """Inverse of the cumulative distribution, walked through on a grid: exact up to one cell."""
    logits_V = torch.randn(40, generator=gen, dtype=torch.float64) * 2
    grid = torch.arange(20_000, dtype=torch.float64) / 20_000
    drawn = draw(logits_V.expand(len(grid), -1), grid, temperature=temperature)
    prob_V = torch.softmax(logits_V / temperature, -1)
    share_V = torch.bincount(drawn.tokens_B, minlength=40) / len(grid)
    assert (share_V - prob_V).abs().max() <= 1 / len(grid)
    assert torch.allclose(drawn.logprobs_B, prob_V.log()[drawn.tokens_B], atol=1e-12)
    assert (drawn.tokens_B.diff() >= 0).all()


def test_a_token_without_probability_is_never_drawn():
    logits_BV = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(3, -1)
    edges = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    for top_p in (1.0, 0.9):
        tokens = draw(logits_BV, edges, temperature=1.0, top_p=top_p).tokens_B.tolist()
        assert set(tokens) <= {1, 3}
        assert len(set(tokens)) == 2


def test_top_p_keeps_the_smallest_set_that_reaches_it_and_renormalises():
    """p = .5 .3 .15 .05: 0.5 keeps one token, 0.6 and 0.8 two, 0.81 three."""
    prob_V = torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64)
    grid = torch.arange(10_000, dtype=torch.float64) / 10_000
    logits_BV = prob_V.log().expand(len(grid), -1)
    for top_p, kept in ((0.49, [1]), (0.6, [1, 3]), (0.79, [1, 3]), (0.81, [1, 3, 0])):
        drawn = draw(logits_BV, grid, temperature=1.0, top_p=top_p)
        share_V = torch.bincount(drawn.tokens_B, minlength=4) / len(grid)
        expected_V = torch.zeros(4, dtype=torch.float64)
        expected_V[kept] = prob_V[kept] / prob_V[kept].sum()
        assert (share_V - expected_V).abs().max() <= 1.01 / len(grid)
        assert torch.allclose(drawn.logprobs_B, prob_V.log()[drawn.tokens_B])  # before top-p


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_large_vocabularies_go_by_rows_and_draw_the_same(top_p, gen, monkeypatch):
    logits_BV = torch.randn(23, 50, generator=gen)
    uniform_B = torch.rand(23, generator=gen, dtype=torch.float64)
    whole = draw(logits_BV, uniform_B, temperature=0.8, top_p=top_p)
    monkeypatch.setattr(draws, "_CPU_CHUNK", 200)
    parts = draw(logits_BV, uniform_B, temperature=0.8, top_p=top_p)
    assert torch.equal(whole.tokens_B, parts.tokens_B)
    assert torch.equal(whole.logprobs_B, parts.logprobs_B)


def test_greedy_takes_the_likeliest_with_its_log_prob(gen):
    logits_BV = torch.randn(9, 30, generator=gen)
    drawn = greedy(logits_BV)
    expected_BV = torch.log_softmax(logits_BV.double(), -1)
    assert torch.equal(drawn.tokens_B, logits_BV.argmax(-1))
    assert torch.allclose(drawn.logprobs_B, expected_BV.max(-1).values, atol=1e-12)


def test_non_finite_logits_give_nan_not_a_token_silently():
    logits_BV = torch.tensor([[0.0, torch.nan, 1.0], [0.0, 1.0, 2.0]])
    half_B = torch.full((2,), 0.5, dtype=torch.float64)
    for drawn in (
        draw(logits_BV, half_B, temperature=1.0),
        draw(logits_BV, half_B, temperature=1.0, top_p=0.5),
        greedy(logits_BV),
    ):
        assert torch.isnan(drawn.logprobs_B).tolist() == [True, False]


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 0.9999999])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 9.0])
def test_looking_among_the_likeliest_first_draws_the_same(top_p, spread, gen, monkeypatch):
    """Flat and peaked rows, ties within and across the edge of what is looked at."""
    logits_BV = (torch.randn(40, 400, generator=gen) * spread).round(decimals=1)
    uniform_B = torch.rand(40, generator=gen, dtype=torch.float64)
    whole = draw(logits_BV, uniform_B, temperature=1.0, top_p=top_p)
    for likeliest in (1, 2, 20, 99):
        monkeypatch.setattr(draws, "_LIKELIEST", likeliest)
        for rows in (1, 40):
            monkeypatch.setattr(draws, "_CPU_CHUNK", rows * 400)
            drawn = draw(logits_BV, uniform_B, temperature=1.0, top_p=top_p)
            assert torch.equal(drawn.tokens_B, whole.tokens_B)
            assert torch.equal(drawn.logprobs_B, whole.logprobs_B)


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("drawable", [1, 19, 20])
def test_ids_that_may_not_be_drawn_leave_the_log_probs_alone(top_p, drawable, gen):
    """The likeliest ids are the last ones; log-probs are over all, shares among the first."""
    logits_V = torch.randn(20, generator=gen, dtype=torch.float64)
    logits_V[drawable:] += 5
    grid = torch.arange(5_000, dtype=torch.float64) / 5_000
    drawn = draw(
        logits_V.expand(len(grid), -1), grid, temperature=0.7, top_p=top_p, drawable=drawable
    )
    full_V = torch.log_softmax(logits_V / 0.7, -1)
    assert drawn.tokens_B.max() < drawable
    assert torch.allclose(drawn.logprobs_B, full_V[drawn.tokens_B], atol=1e-12)
    if top_p == 1.0:
        share_V = torch.bincount(drawn.tokens_B, minlength=drawable) / len(grid)
        expected_V = torch.softmax(logits_V[:drawable] / 0.7, -1)
        assert (share_V - expected_V).abs().max() <= 1 / len(grid)


@pytest.mark.parametrize("drawable", [1, 19, 20])
def test_greedy_never_takes_an_id_that_may_not_be_drawn(drawable, gen):
    logits_BV = torch.randn(6, 20, generator=gen, dtype=torch.float64)
    logits_BV[:, drawable:] += 9
    drawn = greedy(logits_BV, drawable=drawable)
    assert torch.equal(drawn.tokens_B, logits_BV[:, :drawable].argmax(-1))
    full_BV = torch.log_softmax(logits_BV, -1)
    expected_B = full_BV.gather(-1, drawn.tokens_B[:, None]).squeeze(-1)
    assert torch.allclose(drawn.logprobs_B, expected_B, atol=1e-12)


@pytest.mark.parametrize("drawable", [1, 2, 3])
def test_a_row_that_is_not_finite_is_nan_wherever_the_fault_is(drawable):
    logits_BV = torch.tensor([[0.0, 1.0, torch.nan], [torch.nan, 1.0, 0.0]])
    half_B = torch.full((2,), 0.5, dtype=torch.float64)
    for top_p in (1.0, 0.5):
        drawn = draw(logits_BV, half_B, temperature=1.0, top_p=top_p, drawable=drawable)
        assert drawn.logprobs_B.isnan().all()
        assert drawn.tokens_B.max() < drawable
