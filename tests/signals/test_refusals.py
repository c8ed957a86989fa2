"""What a signal's numbers do not say: cut-off answers, controls, many levels, missing scores."""

import math

import numpy as np

from rekindle.signals.answers import share_row
from rekindle.signals.findings import Measurement
from rekindle.signals.group_signal import group_finding, shares
from rekindle.signals.reward_signal import as_control, reward_finding
from rekindle.signals.verifier_signal import verifier_finding
from signals.lookups import refused, row

NAN = math.nan


def test_answers_that_are_cut_off_are_not_too_hard():
    wrong = np.zeros((40, 8))
    ids = [f"p{i}" for i in range(40) for _ in range(8)]
    cut = share_row("truncated/wrong", [1.0] * 320, [1.0] * 320, ids, "")
    assert (cut.value, cut.n) == (1.0, 40)
    found = group_finding(wrong, cut=cut, sft="alive")
    assert (found.state, found.remedy.what) == ("all-wrong", "a longer limit")
    assert "sample.max_new_tokens" in found.remedy.why
    assert {"lens", "sft", "easier problems first"} <= set(refused(found))
    half = Measurement("truncated/wrong", 0.5, 0.4, 0.6, 40, "")
    assert group_finding(wrong, cut=half).remedy.what == "easier problems first"


def test_a_verifier_that_accepts_wrong_answers_alone_is_lax():
    """Nothing is truly right: recall is undefined, and precision is 0 of 30."""
    ids = [f"p{i}" for i in range(30)]
    found = verifier_finding([1.0] * 30, [0.0] * 30, ids)
    assert (found.state, found.health, found.remedy) == ("lax", "out", None)
    assert verifier_finding([1.0] * 3, [0.0] * 3, ids[:3]).state == "lax"
    assert verifier_finding([0.0] * 30, [0.0] * 30, ids).state == "unclear"


def test_nothing_is_recommended_on_a_control():
    ids = [f"p{i}" for i in range(40) for _ in range(2)]
    true = [1.0, 0.0] * 40
    accepted = [t * float(i % 8 == 0) for i, t in enumerate(true)]
    reward = reward_finding(true, true, accepted, ids)
    for control in ("oracle", "random"):
        found = verifier_finding(accepted, true, ids, reward=reward, control=control)
        assert (found.state, found.remedy) == ("brittle", None)
        assert "control" in refused(found)["hero"]
    leak = as_control(reward, "oracle")
    assert (leak.state, leak.health) == ("control", "between")
    assert "leaks the true check" in leak.verdict


def test_one_of_many_small_levels_is_not_out_by_chance():
    """Healthy data: 50 levels of four problems each, three problems of ten too hard."""
    levels = [f"L{i}" for i in range(50) for _ in range(4)]
    for seed in range(30):
        gen = np.random.default_rng(seed)
        chance = gen.choice([0.0, 0.5, 1.0], 200, p=[0.3, 0.5, 0.2])
        scores = (gen.random((200, 8)) < chance[:, None]).astype(float)
        found = group_finding(scores, levels=levels)
        assert (found.state, found.health) == ("healthy", "well")
    assert "and 45 more" in found.verdict
    dead = np.zeros((80, 8))
    dead[40:, :4] = 1
    found = group_finding(dead, levels=["5"] * 40 + ["3"] * 40)
    assert found.state == "all-wrong on level 5"


def test_shares_without_a_score_are_undefined():
    found = group_finding(np.full((10, 8), NAN))
    for name in ("all_wrong", "mixed", "tied", "all_right", "no_signal"):
        share = row(found, name)
        assert math.isnan(share.value)
        assert (share.ci_low, share.ci_high) == (0, 1)
    known = np.full((10, 4), NAN)
    known[:4] = [1.0, 0.0, 0.0, 0.0]
    partly = shares(known, 4)
    assert partly.mixed.value == 1  # of the problems that have a score
    assert partly.mixed.ci_low < 0.4
