"""The oracle control: the true check, as noisy as it is told, and missing where the check is."""

from statistics import NormalDist, fmean, stdev

import pytest
import torch

from rekindle.ops.ranking import auc
from rekindle.records import Problem, Score
from rekindle.rewards.controls import OracleScores, RandomScores

PROBLEM = Problem(id="p", prompt="1+1=", answer="2")


def check(problem, text):
    return Score(None, "too long") if text == "?" else Score(float(int(text) % 2 == 0))


def test_its_auc_is_the_one_that_its_noise_implies():
    """Right minus wrong is N(1, 2 noise^2), above 0 with probability Phi(1 / (noise sqrt 2))."""
    texts = [str(i) for i in range(4000)]
    for noise in (0.4, 0.7, 2.0):
        scores = OracleScores(check, "t", noise).score([(PROBLEM, text) for text in texts])
        right = torch.tensor([float(int(text) % 2 == 0) for text in texts])
        found = auc(torch.tensor([s.value for s in scores]), right)
        assert found == pytest.approx(NormalDist().cdf(1 / (noise * 2**0.5)), abs=0.025)


def test_without_noise_it_is_the_check_and_a_missing_verdict_stays_missing():
    exact = OracleScores(check, "t", 0.0)
    assert [s.value for s in exact.score([(PROBLEM, "2"), (PROBLEM, "3")])] == [1.0, 0.0]
    assert exact.score([(PROBLEM, "?")]) == [Score(None, "too long")]


def test_its_noise_is_that_of_the_random_control_and_hangs_on_the_seed():
    asked = [(PROBLEM, str(i)) for i in range(2000)]
    noise = [s.value for s in RandomScores(3).score(asked)]
    assert (fmean(noise), stdev(noise)) == (pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05))
    noisy = OracleScores(check, "t", 0.5, seed=3).score(asked)
    exact = OracleScores(check, "t", 0.0).score(asked)
    for found, truth, shift in zip(noisy, exact, noise, strict=True):
        assert found.value == pytest.approx(truth.value + 0.5 * shift)
    assert OracleScores(check, "t", 0.5, seed=4).score(asked) != noisy
    prints = {
        OracleScores(check, t, n, s).fingerprint() for t in "ab" for n in (0, 1) for s in (0, 1)
    }
    assert len(prints) == 8
