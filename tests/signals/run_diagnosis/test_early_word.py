"""The early word: what its bets may lose, how often it is false, how soon it comes."""

import math

import numpy as np
import pytest

from rekindle.errors import ConfigError
from rekindle.signals.run_diagnosis.early_word import (
    DECAY,
    LARGEST,
    MOST_STAKED,
    EarlyWord,
    Evidence,
)


def first_word(shares, **settings):
    """The step of the first word, from 1; None: there is none."""
    early = EarlyWord(**settings)
    turns = (step for step, share in enumerate(shares, 1) if early.observe(step, share))
    return next(turns, None)


@pytest.mark.parametrize("floor", [0.05, 0.2, 0.5, 0.9])
def test_no_bet_wins_on_average_at_the_floor(floor):
    """By enumeration: over all 2^10 runs of steps that are mixed or not, each with its own chance
    of exactly p0, the mean e-value is 1, and at most 1 / 1.5 of them ever reach 1.5."""
    steps, total, reached = 10, 0.0, 0.0
    for code in range(2**steps):
        bits = [(code >> i) & 1 for i in range(steps)]
        chance = math.prod(floor if bit else 1 - floor for bit in bits)
        evidence = Evidence(floor)
        evidence.mean = floor / 2  # so that it bets from the first step on
        values = [evidence.add(float(bit)) for bit in bits]
        assert min(values) > 0
        total += chance * values[-1]
        reached += chance * (max(values) >= 1.5)
    assert total == pytest.approx(1)
    assert 0.1 < reached <= 1 / 1.5


def test_a_bet_is_fixed_before_its_step_and_is_that_of_the_reference():
    """After two steps of 0.1, by hand."""
    evidence = Evidence(0.2)
    mean, variance = 0.6, 0.2 * 0.8
    for share in (0.1, 0.1):
        off = share - mean
        variance = DECAY * variance + (1 - DECAY) * off * off
        mean += (1 - DECAY) * off
        evidence.add(share)
    assert mean > 0.2  # so far nothing was bet
    assert evidence.value == 1
    assert (evidence.mean, evidence.variance) == pytest.approx((mean, variance))
    evidence.mean, evidence.variance = 0.1, 0.09
    assert evidence.add(0.0) == pytest.approx(1 + 0.1 / (0.09 + 0.01) * 0.2)
    evidence.mean, evidence.variance, evidence.value = 0.0, 0.0, 1.0
    assert evidence.add(1.0) == pytest.approx(1 - MOST_STAKED)  # never all of the wealth


def test_a_thousand_good_steps_delay_no_word():
    """While there is signal nothing is bet, so that nothing has to be won back."""
    words = [first_word([0.5] * good + [0.0] * 60) - good for good in (20, 1000)]
    assert words[0] == words[1] <= 32


def drift(rng, runs, steps):
    """Steps of 8 groups whose chance falls from 0.9 to the floor and stays there."""
    chance = np.clip(0.9 - 0.7 * np.arange(steps) / 100, 0.2, 1)
    return rng.binomial(8, np.broadcast_to(chance, (runs, steps))) / 8


def bursts(rng, runs, steps):
    """Whole steps are dead or alive, and how often drifts slowly, never below the floor."""
    level, shares = np.zeros(runs), np.empty((runs, steps))
    for step in range(steps):
        level = 0.95 * level + math.sqrt(1 - 0.95**2) * rng.normal(size=runs)
        chance = np.clip(0.2 + 0.1 * level, 0.2, 1)
        shares[:, step] = 0.9 * (rng.random(runs) < chance / 0.9)
    return shares


@pytest.mark.parametrize("make", [drift, bursts])
def test_false_words_are_as_rare_as_promised_with_dependent_steps(make):
    """At alpha 0.05, 600 runs of 200 steps; 30 are expected at most, 46 is three errors above."""
    shares = make(np.random.default_rng(0), 600, 200)
    words = sum(first_word(run, alpha=0.05) is not None for run in shares)
    assert 0 < words <= 46


@pytest.mark.parametrize(("left", "within"), [(0.0, 32), (0.05, 50)])
def test_a_lost_signal_is_told(left, within):
    rng = np.random.default_rng(1)
    for _ in range(20):
        shares = np.r_[rng.binomial(16, 0.5, 60), rng.binomial(16, left, 100)] / 16
        assert 60 < first_word(shares) <= 60 + within


def test_it_says_since_when_and_when_the_signal_is_back():
    early = EarlyWord()
    turns = {}
    for step, share in enumerate([0.5] * 50 + [0.02] * 50 + [0.5] * 50, 1):
        turn = early.observe(step, share)
        if turn:
            turns[turn] = (step, early.below.start, early.above.start)
    assert list(turns) == ["out", "back"]
    assert turns["out"][1] == 51
    assert 100 < turns["back"][0] <= 120
    assert turns["back"][2] == 101
    assert not early.is_out
    assert early.e_value < 2  # anew


def test_a_step_without_a_verdict_is_no_evidence_and_values_stay_numbers():
    early = EarlyWord()
    for step in range(20_000):
        early.observe(step, math.nan if step % 2 else 0.0)
    assert early.e_value == LARGEST
    assert early.is_out
    assert first_word([math.nan] * 500) is None


@pytest.mark.parametrize("settings", [{"floor": 0.0}, {"floor": 1.0}, {"alpha": 0}, {"alpha": 1.5}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="is no share"):
        EarlyWord(**settings)
