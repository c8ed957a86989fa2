"""Several rewards: who carries the signal, who agrees, what a reward model knows in a group."""

import math

import numpy as np
import pytest
import torch

from rekindle.ops.ranking import auc as plain_auc
from rekindle.ops.ranking import group_auc
from rekindle.signals.run_diagnosis.rewards import (
    auc,
    auc_in_groups,
    blind_models,
    rewards_findings,
)
from rekindle.signals.run_diagnosis.within_groups import groups_of
from signals.run_diagnosis.planted import by_name, make_log


def scored(seed, *, gap, groups=60, size=8, level=0.0):
    """Right answers score `gap` higher: an AUC of Phi(gap / sqrt(2)) in groups."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    right = (rng.random(len(group)) < np.repeat(rng.beta(1, 1, groups), size)).astype(float)
    own = level * np.repeat(rng.normal(size=groups), size)
    return group, right, gap * right + own + rng.normal(size=len(group))


def phi(z):
    return 0.5 * (1 + math.erf(z / 2**0.5))


def test_pairs_of_one_group_by_hand():
    """2 of 2 pairs, 1 of 2, a tie: 3.5 of 5. Pairs of two groups do not count."""
    right = np.array([1.0, 0, 0, 1, 1, 0, 1, 0])
    score = np.array([0.9, 0.1, 0.5, 0.2, 0.4, 0.3, 0.5, 0.5])
    log = make_log(score, [0, 0, 0, 1, 1, 1, 2, 2])
    found, pairs = auc_in_groups(groups_of(log, score), score, right)
    assert (found.value, pairs, found.n) == (0.7, 5, 3)


def test_aucs_are_those_of_the_plain_formula():
    group, right, score = scored(0, gap=0.5, level=1.0)
    score = np.round(score, 1)  # ties
    log = make_log(score, group)
    tensors = torch.tensor(score), torch.tensor(right)
    assert auc(score, right, group).value == pytest.approx(plain_auc(*tensors))
    inside, _ = auc_in_groups(groups_of(log, score), score, right)
    assert inside.value == pytest.approx(group_auc(*tensors, group.tolist()))


def test_the_error_of_an_auc_by_hand():
    """Right 3, 1, 5 against wrong 2, 0: placements 1, .5, 1 and 1/3, 0 of the other kind below.

    The AUC is 5/6; pulls (1/6, -2/6, 1/6) / 3 and (1 - 1/3 - 5/6, 1 - 5/6) / 2; each row a unit.
    """
    found = auc(np.array([3.0, 1, 5, 2, 0]), np.array([1.0, 1, 1, 0, 0]), np.arange(5))
    pulls = np.array([1 / 18, -2 / 18, 1 / 18, -1 / 12, 1 / 12])
    error = np.sqrt((pulls**2).sum() * 5 / 4)
    assert found.value == pytest.approx(5 / 6)
    assert found.ci_low == pytest.approx(5 / 6 - 2.7764451 * error)  # t of 4 degrees


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_without_both_kinds_there_is_no_auc(only):
    score, right = np.arange(4.0), np.full(4, only)
    assert math.isnan(auc(score, right, np.arange(4)).value)
    log = make_log(score, [0, 0, 1, 1])
    found, pairs = auc_in_groups(groups_of(log, score), score, right)
    assert math.isnan(found.value)
    assert pairs == 0


def test_a_model_that_is_always_right_has_an_interval_all_the_same():
    right = np.tile([0.0, 1.0], 10)
    found = auc(right, right, np.repeat(np.arange(10), 2))
    assert found.value == found.ci_high == 1
    assert 0.6 < found.ci_low < 0.9


def test_the_intervals_cover_the_auc():
    """Overall the levels of prompts blur it: Phi(gap / sqrt(2 (1 + level^2)))."""
    inside = overall = 0
    trials, gap, level = 300, 0.8, 0.7
    for seed in range(trials):
        group, right, score = scored(seed, gap=gap, level=level, groups=40)
        log = make_log(score, group)
        low, high = auc_in_groups(groups_of(log, score), score, right)[0][1:3]
        inside += low <= phi(gap / 2**0.5) <= high
        low, high = auc(score, right, group)[1:3]
        overall += low <= phi(gap / (2 * (1 + level**2)) ** 0.5) <= high
    assert 0.91 < inside / trials < 0.98
    assert 0.91 < overall / trials < 0.98


def log_of(group, right, model):
    return make_log(right + model, group, parts={"verifier": right, "model": model})


def test_a_blind_model_is_found_and_a_sound_one_is_not():
    """It knows which prompts are easy, and nothing of their answers: 0.5 in groups."""
    blind = sound = 0
    for seed in range(60):
        group, right, model = scored(seed, gap=0.0, level=1.0, groups=120)
        blind += len(blind_models(rewards_findings(log_of(group, right, model), right)))
        group, right, model = scored(seed, gap=0.8, level=1.0, groups=120)  # AUC 0.71
        sound += len(blind_models(rewards_findings(log_of(group, right, model), right)))
    assert blind >= 57
    assert sound == 0


@pytest.mark.parametrize(("groups", "word"), [(6, "too few prompts"), (9, "too few pairs")])
def test_few_pairs_name_nobody(groups, word):
    group, right, model = scored(2, gap=0.0, groups=groups, size=6)
    findings = rewards_findings(log_of(group, right, model), right)
    assert not blind_models(findings)
    assert word in by_name(findings)["rewards/auc_in_groups/model"].says


def test_three_prompts_name_nobody():
    """Of three prompts an interval may be as narrow as chance has it."""
    for seed in range(40):
        group, right, model = scored(seed, gap=0.0, groups=3)
        assert not blind_models(rewards_findings(log_of(group, right, model), right)), seed


def test_a_model_that_prefers_wrong_answers_is_told():
    group, right, model = scored(0, gap=-1.0)
    findings = rewards_findings(log_of(group, right, model), right)
    found = by_name(findings)["rewards/auc_in_groups/model"]
    assert found.ci_high < 0.5
    assert "wrong answers of a group above right ones" in found.says
    assert blind_models(findings) == [found]


def test_length_format_and_the_verdict_are_no_reward_models():
    group, right, _ = scored(0, gap=0.0)
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 99, len(right)).astype(float)
    parts = {"verifier": right, "brief": -tokens, "format_xml": rng.integers(0, 6, len(right))}
    log = make_log(right - tokens, group, parts=parts, tokens=tokens)
    assert not [name for name in by_name(rewards_findings(log, right)) if "auc" in name]


def test_a_total_that_no_part_explains_is_a_reward_model():
    group, right, model = scored(0, gap=0.0, groups=120)
    found = rewards_findings(make_log(model, group, parts={"verifier": right}), right)
    assert [one.name for one in blind_models(found)] == ["rewards/auc_in_groups/total"]


def test_agreement_of_two_verifiers_by_hand():
    """Agree on 3 of 4; a alone is high on one. Expected: .75 x .5 + .25 x .5."""
    a, b = [1, 1, 1, 0], [1, 1, 0, 0]
    log = make_log([2, 2, 1, 0], [0, 0, 1, 1], parts={"a": a, "b": b})
    found = by_name(rewards_findings(log, np.array(a, dtype=float)))["rewards/agreement/a~b"]
    assert found.value == 0.75
    assert "a alone is high on 25 %, b alone on 0 %" in found.says
    assert found.null.startswith("50 %")


def test_within_wrong_answers_another_verdict_tells_them_apart():
    """HERO's condition: of answers that the verdict rejects, the model puts the true ones first."""
    group, true, model = scored(0, gap=1.0)
    rng = np.random.default_rng(2)
    right = np.where(rng.random(len(true)) < 0.5, true, 0.0)  # misses half of the true ones
    log = make_log(right + model, group, parts={"verifier": right, "true": true, "model": model})
    found = by_name(rewards_findings(log, right))
    assert found["rewards/auc_in_wrong/model/true"].ci_low > 0.6
    assert "rewards/auc_in_right/model/true" not in found  # all of these are true


def test_which_reward_carries_the_signal():
    group, right, model = scored(0, gap=0.0, groups=200)
    found = by_name(rewards_findings(log_of(group, right, 0.001 * model), right))
    assert found["rewards/share/verifier"].value > 0.99
    assert sum(f.value for n, f in found.items() if "share" in n) == pytest.approx(1)
