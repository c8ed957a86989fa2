"""Weak labels from hand-made numbers: what agreement is worth to the model that would learn it."""

import math

import numpy as np
import pytest

from rekindle.signals.agreement_signal import agreement_finding
from signals.lookups import refused, row

NAN = math.nan


def test_answers_that_are_not_there_do_not_disagree():
    none, right = np.zeros(100, dtype=bool), np.ones(100)
    scores = {"weak_P": right, "own_P": right, "sampled_P": right}
    found = agreement_finding(none, **scores, answered_P=none)
    assert (found.state, found.remedy, found.against) == ("not-measurable", None, ())
    half = np.arange(100) < 50
    found = agreement_finding(half, **scores, answered_P=half)
    assert row(found, "agree").value == 1
    assert row(found, "unanswered").value == 50
    assert {row(found, f"right/{name}").n for name in ("weak", "own", "agreed")} == {50}


def unsure(sampled=0.5, **more):
    """Half agreed and right, half disagreed and wrong by both."""
    same = np.arange(200) % 2 == 0
    right = same.astype(float)
    gen = np.random.default_rng(0)
    samples = np.where(same, gen.binomial(8, sampled, 200) / 8, 0.0)
    return agreement_finding(same, weak_P=right, own_P=right, sampled_P=samples, **more)


def test_agreed_answers_that_the_model_does_not_give_surely_fit_weak_to_strong():
    found = unsure()
    assert (found.state, found.remedy.what) == ("filters", "weak_to_strong")
    assert "assumed not to exist" in found.remedy.why
    assert row(found, "right/picked").value == 0.5
    assert row(found, "right/gain").value == pytest.approx(0.5, abs=0.05)
    assert row(found, "right/own/disagreed").value == 0


def test_where_there_are_solutions_and_sft_has_signal_that_comes_first():
    found = unsure(sft="alive")
    assert (found.state, found.remedy) == ("filters", None)
    assert "SFT on them has signal" in refused(found)["weak_to_strong"]


def test_agreed_problems_that_are_only_easier_teach_nothing():
    """What both agree on is right and known; that the rest is hard is no gain of the labels."""
    found = unsure(sampled=1.0)
    assert (found.state, found.remedy) == ("nothing-to-learn", None)
    assert row(found, "right/agreed").ci_low > row(found, "right/own").ci_high


@pytest.mark.parametrize("seed", range(5))
def test_two_sound_models_of_equal_accuracy_are_left_alone(seed):
    gen = np.random.default_rng(seed)
    own, weak = (gen.random(200) < 0.9 for _ in range(2))
    same = (own & weak) | (~own & ~weak & (gen.random(200) < 0.1))
    found = agreement_finding(
        same,
        weak_P=weak.astype(float),
        own_P=own.astype(float),
        sampled_P=gen.binomial(8, 0.9, 200) / 8,
    )
    assert (found.health, found.remedy) == ("well", None)


def test_what_the_weak_model_knows_beyond_is_said():
    same = np.arange(200) % 2 == 0
    weak = np.ones(200)
    found = agreement_finding(
        same, weak_P=weak, own_P=same.astype(float), sampled_P=same.astype(float)
    )
    assert found.remedy is None
    assert "that is new to it" in found.verdict


@pytest.mark.parametrize(
    ("agree", "state"),
    [
        (20, "few"),  # fewer than 32 agree
        (200, "no-gain"),  # all agree: nothing is filtered
        (0, "few"),
    ],
)
def test_weak_to_strong_is_refused(agree, state):
    same = np.arange(200) < agree
    nothing = np.zeros(200)
    found = agreement_finding(same, weak_P=np.ones(200), own_P=nothing, sampled_P=nothing)
    assert (found.state, found.remedy) == (state, None)
    assert set(refused(found)) == {"weak_to_strong"}


def test_where_no_draw_can_differ_there_are_no_bounds():
    ones = np.ones(100)
    found = agreement_finding(ones > 0, weak_P=ones, own_P=ones, sampled_P=ones)
    picked = row(found, "right/picked")
    assert picked.value == 0
    assert math.isnan(picked.ci_low)
    assert math.isnan(picked.ci_high)


def test_answers_without_a_verdict_stay_out_of_every_row():
    same = np.arange(100) < 50
    weak = np.where(same, 1.0, NAN)
    found = agreement_finding(same, weak_P=weak, own_P=np.ones(100), sampled_P=np.ones(100))
    assert {row(found, f"right/{name}").n for name in ("weak", "own", "picked")} == {50}
    assert row(found, "right/picked").value == 0
